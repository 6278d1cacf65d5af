"""The documentation: its links lead somewhere, its commands parse, its keys exist, and what is cheap is run."""

import inspect
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.command_tools import SCRIPTS, Command, commands_of, load_script, parse, parser_of
from helpers.golden_tools import GOLDEN, fill
from helpers.script_tools import PUBLISHED, ROOT, SMALL

from mmseg.commands.main import OWN, module_of
from mmseg.config import load as c
from mmseg.config.keys import CONFIG
from mmseg.config.sections import walk
from mmseg.launcher.flags import given_flags, read_flags
from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.system.program import SCRIPTS as COMMAND_NAMES
from mmseg.uda.cmda import DACS

PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data" / "README.md",
    ROOT / "pretrained" / "README.md",
    *PAGES,
]
COMMANDS = [command for path in DOCUMENTS for command in commands_of(path)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def code_spans(path: Path) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(path))]


# ------------------------------------------------------------------------------------------------ links


def anchors(path: Path) -> set[str]:
    """Names that GitHub gives the headings."""
    names: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.*?) *$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        names.append(f"{slug}-{names.count(slug)}" if slug in names else slug)
    return set(names)


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_and_pictures(path):
    text = re.sub(r"`[^`]*`", "code", prose(path))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(found), target


def test_every_page_is_on_the_site():
    class Loader(yaml.SafeLoader):
        """Leaves functions of the site's extensions out."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    site = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    hooks = (ROOT / "docs" / "site_hooks.py").read_text(encoding="utf-8")

    def pages(entries) -> list[str]:
        values = [value for entry in entries for value in (entry.values() if isinstance(entry, dict) else [entry])]
        return [page for value in values for page in (pages(value) if isinstance(value, list) else [value])]

    listed = pages(site["nav"])
    outside = dict(re.findall(r'"([\w/]+\.md)": "([\w/]+\.md)"', hooks))
    assert all((ROOT / source).is_file() for source in outside)
    assert sorted(listed) == sorted(
        [*outside.values(), *(path.relative_to(ROOT / "docs").as_posix() for path in PAGES)]
    )
    assert site["theme"]["font"] is False


# --------------------------------------------------------------------------------------------- commands


def check(command: Command) -> None:
    """Script there, options parse, config keys exist."""
    words = command.words
    if words[0] == "make":
        (target,) = [word for word in words[1:] if "=" not in word]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command.text
    elif words[0] == "cmda" and (command.script is None or len(words) == 2):
        # the text names commands without their arguments
        assert words[1] in (*OWN, *COMMAND_NAMES, "--help", "--version"), command.text
    elif words[1] == "-m":
        assert all((ROOT / word).exists() for word in words[3:] if word.endswith(".py")), command.text
    else:
        assert command.script in SCRIPTS, command.text
        if "--help" in words:
            return
        try:
            args = parse(command.script, command.arguments)
        except SystemExit:
            pytest.fail(f"{command.script} refuses {command.text}")
        if command.script == "my_run_experiments.py":
            read_flags(given_flags(args))
        for key in getattr(args, "cfg_options", None) or {}:
            assert key in known_keys(), f"{key} in {command.text}"
        for word in words:
            if word.startswith("configs/"):
                assert (ROOT / word).is_file(), command.text


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_parse(path):
    for command in commands_of(path):
        check(command)
    for span in code_spans(path):
        if span.startswith(("python ", "torchrun ", "make ", "cmda ")) and not re.search(
            r"SCRIPT|COMMAND|\.\.\.", span
        ):
            check(Command(name_of(path), span))


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 60
    named = {command.script for command in COMMANDS}
    assert {"my_run_experiments.py", "my_test.py", "tools/infer.py", "tools/export.py", "tools/report.py"} <= named


OPTIONS_OF_OTHERS = {
    "--nproc_per_node": "torchrun",
    "--no-python": "torchrun",
    "--gpus-per-task": "srun",
    "--no-onednn": "pytest",
    "--figures": "pytest",
    "--exhaustive": "pytest",
    "--no-deps": "pip",
    "--wheel-dir": "pip",
    "--version": "cmda",
}


# named as the spelling of the publication
PUBLISHED_OPTIONS = {"--root_path", "--base_config"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_options_and_files_in_the_text(path):
    options = {option for script in SCRIPTS for option in parser_of(script)._option_string_actions}
    options |= {option for name in OWN for option in module_of(name).make_parser()._option_string_actions}
    for span in code_spans(path):
        for option in re.findall(r"(?:^|\s)(--[a-z][\w-]*)(?![\w*-])", span):
            assert option in options | OPTIONS_OF_OTHERS.keys() | PUBLISHED_OPTIONS, span
        if re.fullmatch(r"(tools|benchmarks|configs|tests|mmseg)/[\w./+-]+\.\w+", span):
            assert (ROOT / span).is_file() or "generated" in span, span


# names of other projects that stand in code spans
NAMES_OF_OTHERS = {"ColorJitter"}


def source_words() -> set[str]:
    """Every word of the Python files, and the names of weights."""
    folders = ("mmseg", "tools", "configs", "benchmarks", "tests", "examples")
    files = [
        ROOT / "mmseg" / "weights.toml",
        *ROOT.glob("*.py"),
        *(path for folder in folders for path in (ROOT / folder).rglob("*.py")),
    ]
    return set().union(*(re.findall(r"\w+", path.read_text(encoding="utf-8")) for path in files))


def test_names_in_the_text_exist():
    words = source_words() | NAMES_OF_OTHERS
    for path in DOCUMENTS:
        for span in code_spans(path):
            if re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", span) and not re.search(r"\.(py|json|md|pdf|png)$", span):
                named = [word for word in span.split(".") if "_" in word or re.match(r"[A-Z][a-z]+[A-Z]", word)]
                assert set(named) <= words, f"{name_of(path)} names {span}"


def test_phases_of_the_step():
    """The page on architecture names the headings in the step, in their order."""
    step = inspect.getsource(DACS.train_step)
    line = next(
        line for line in (ROOT / "docs/architecture.md").read_text().splitlines() if "`DACS.train_step`" in line
    )
    assert re.findall(r"# ([A-Z][A-Z -]+)$", step, re.MULTILINE) == re.findall(r"[A-Z][A-Z -]{4,}", line)


def test_figures_of_the_demo():
    """Iterations that the pages name are those that its config trains."""
    iterations = c.load_config(ROOT / "configs" / "demo" / "cmda_toy_city.py").runner.max_iters
    quickstart = (ROOT / "docs/quickstart.md").read_text()
    assert f"seen {iterations} batches" in quickstart
    assert re.findall(r"iter_(\d+)", quickstart) == [f"{iterations}"]
    assert f"{iterations} iterations of CMDA" in (ROOT / "README.md").read_text()


# ------------------------------------------------------------------------------------------------- keys

_KEYS: set[str] = set()


def known_keys() -> set[str]:
    """Every key that a config may have."""
    if not _KEYS:
        _KEYS.update(name for name, _ in walk(CONFIG))
        for path in (PUBLISHED, "configs/fusion/cs2dz_image+raw-isr_b5.py", "configs/baselines/cs2dsec_image_b5.py"):
            _KEYS.update(_dotted(c.load_config(ROOT / path).to_dict()))
    return _KEYS


def _dotted(config: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in config.items():
        found.add(f"{prefix}{key}")
        if isinstance(value, dict):
            found |= _dotted(value, f"{prefix}{key}.")
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_config_keys_exist(path):
    sections = "data|uda|runner|optimizer|lr_config|evaluation|checkpoint_config|log_config|model"
    for span in code_spans(path):
        key = span.partition("=")[0]
        if re.fullmatch(rf"({sections})(\.[a-z]\w*)+", key) and not key.endswith((".md", ".safetensors")):
            assert key in known_keys(), span


# --------------------------------------------------------------------------------------- what is really run


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Data as they are downloaded, in miniature, and a generator."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("cityscapes", "DSEC_Night"):
        shutil.copytree(GOLDEN / "mini" / name, folder / "data" / name)
    for path in (folder / "data" / "cityscapes").glob("*.json"):
        path.unlink()
    (folder / "pretrained").mkdir()
    torch.save(fill(ResnetGenerator(width=8)).state_dict(), folder / "pretrained" / "cityscapes_ICD_to_dsec_EN.pth")
    return folder


SMALL_RUN = {**SMALL, "data.workers_per_gpu": 0, "runner.max_iters": 1}
SMALL_WORDS = [f"{key}={value}" for key, value in SMALL_RUN.items()]
NIGHT = "data/DSEC_Night/zurich_city_09_a"


def run(document: str, start: str, *more: str, run_name: str = "") -> None:
    """Run a command of the documentation in the working directory, in miniature.

    Args:
        document: its name in docs/, without suffix.
        start: the first command of the document that starts like this is taken; it must be there.
        more: further words.
        run_name: what ``<run>`` stands for.
    """
    command = next(c for c in COMMANDS if c.document == f"docs/{document}.md" and c.text.startswith(start))
    text = command.text.replace("<run>", run_name).replace("--workers 8", "--workers 1")
    text = text.replace("$NIGHT", NIGHT).replace("$RUN", f"work_dirs/local-basic/{run_name}")
    filled = Command(command.document, text)
    words: list[str] = []
    for word in filled.arguments:
        if word.startswith("configs/"):
            words.append(str(ROOT / word))
        elif "*" in word:
            words += sorted(map(str, Path().glob(word)))
        else:
            words.append(word)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [filled.script, *words, *more])
        try:
            load_script(filled.script).main()
        except SystemExit as stopped:
            status = stopped.code
        else:
            status = 0
    assert status == 0, command.text


@pytest.mark.slow
def test_the_documented_way(project, monkeypatch):
    """From the data to the report, by the commands of the documents, in their order."""
    monkeypatch.chdir(project)
    small = ("--cfg-options", *SMALL_WORDS)

    run("data", "python tools/convert_datasets/cityscapes.py")
    run("data", "python create_dsec_dataset_txt.py")
    assert (project / "data/cityscapes/sample_class_stats.json").is_file()
    assert (project / "night_dataset_warp.txt").read_text()
    run("data", "python tools/check_data.py cs2dsec", "--subset", *small)
    run("data", "python tools/cache_events.py", *small)
    assert (project / "data/cache/night_dataset_warp").is_dir()

    run("train", "python my_run_experiments.py --root-path .", *small)
    (work_dir,) = (project / "work_dirs/local-basic").glob("*_cmda_cs2dsec_?????")
    assert (work_dir / "iter_1.pth").is_file()
    run("train", "python tools/train.py work_dirs", run_name=work_dir.name)
    run("ablations", "python my_run_experiments.py --root-path <repo>/ --exp", "--dry-run")

    run("test", "python my_test.py", run_name=work_dir.name)
    made = {path.name for path in (work_dir / "preds").iterdir()}
    assert {"color", "panels", "metrics.json", "details.json", "report.html"} <= made
    run("test", "python my_test.py --work-dir work_dirs/local-basic/<run> --output image", run_name=work_dir.name)
    assert (work_dir / "preds_image/metrics.json").is_file()
    run("test", "python tools/report.py", run_name=work_dir.name)
    assert (work_dir / "report.html").is_file()
    run("test", "python tools/compare_runs.py")
    assert "cmda_cs2dsec" in (project / "table.md").read_text()

    run(
        "quickstart",
        "python tools/infer.py $NIGHT/warp_images --work-dir $RUN --out out/images",
        run_name=work_dir.name,
    )
    assert list((project / "out/images/overlay").glob("*.png"))
    run(
        "quickstart", "python tools/infer.py $NIGHT/warp_images --work-dir $RUN --out out/fused", run_name=work_dir.name
    )
    assert list((project / "out/fused").glob("*.png"))
    from_python(project, work_dir.name)


def from_python(project: Path, name: str) -> None:
    """The program of quickstart.md and of the API reference."""
    (project / "photo.png").write_bytes(next((project / NIGHT / "warp_images").glob("*.png")).read_bytes())
    for document in ("quickstart.md", "api/index.md"):
        text = (ROOT / "docs" / document).read_text(encoding="utf-8")
        block = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
        exec(block.replace("work_dirs/<run>", f"work_dirs/local-basic/{name}"), {})
