"""A model card: what a checkpoint is, from the files of its run, as Markdown to publish next to it.

Imports torch only to read whose checkpoints a folder holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from mmseg.config.class_sets import class_set_of
from mmseg.config.dotted import get_key
from mmseg.config.fields import build
from mmseg.config.keys import value_of
from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError
from mmseg.io.json_files import read_json
from mmseg.report.comparison import compare, markdown, read_run
from mmseg.system.text import markdown_cell
from mmseg.uda.streams import CITYSCAPES, DSEC, VARIANT_KEY, stream_plan, variant_of
from mmseg.work_dir.identity import read_identity
from mmseg.work_dir.layout import WorkDir

REMEDY = "restore it or train again"
# Folders at which paths of the machine that trained are cut
ANCHORS = ("data", "pretrained", "configs", "work_dirs")
BLOCK = 1 << 20
# What no file of a run tells
AUTHOR_ENTRIES = (
    ("Authors and contact", "who trained it, and where questions go"),
    ("Licence of the weights", "mind the licences of the data sets and of the pretrained encoder"),
    ("Warp images", "the published version 1 or 2, or made with tools/warp_images.py and which options"),
    ("Intended use", "what it is for, and what it must not be used for"),
    ("Limitations", "scenes, cameras and classes on which it fails"),
)


def write_card(work_dir: str | Path) -> str:
    """Text of the card of a run.

    Raises:
        ConfigError: the folder is not a work dir, or a file in it cannot be read.
    """
    run = WorkDir(work_dir)
    if run.find_config() is None:
        raise ConfigError(f"{work_dir} is not a work dir: it has no {run.config.name}")
    config = read_json(run.config, REMEDY, error=ConfigError)
    environment = read_json(run.environment, REMEDY, error=ConfigError) if run.environment.is_file() else {}
    rows = [row for row in compare([read_run(work_dir)]) if row.series]
    checkpoints = checkpoints_of(run)
    sections = [
        ("Model", _table(_model(config))),
        ("Data", _table(_data(config))),
        ("Training", _table(_training(config, run))),
        ("Scores", markdown(rows) or "No test or evaluation left scores.\n"),
        ("Files", _files(run, config, checkpoints)),
        ("Environment", _table(_environment(environment))),
        ("From the authors", _table((name, f"*fill in: {what}*") for name, what in AUTHOR_ENTRIES)),
        ("How to use it", _usage(checkpoints)),
    ]
    text = "".join(f"\n## {title}\n\n{content}" for title, content in sections)
    return f"{_front_matter(config)}# {_plain(run.path.resolve().name)}\n{text}"


def _front_matter(config: Mapping[str, Any]) -> str:
    """What model hubs read."""
    tags = ["semantic-segmentation", "domain-adaptation", "night"]
    if DSEC["events"] in _read_parts(config, "target"):
        tags.append("event-camera")
    lines = ["---", "pipeline_tag: image-segmentation", "tags:", *(f"  - {tag}" for tag in tags), "---", "", ""]
    return "\n".join(lines)


def _read_parts(config: Mapping[str, Any], domain: str) -> Collection[str]:
    """Parts of the samples of ``source`` or ``target`` that the training variant has streams for.

    Where the variant or its settings are not known here, as those of another package: all that the data set gives.
    """
    try:
        variant_of(config)
        plan = stream_plan(build(UDASettings, config["uda"]))
    except ConfigError:
        outputs = get_key(config, f"data.train.{domain}.outputs")
        return outputs if isinstance(outputs, list) else []
    return {"source": plan.source_keys, "target": plan.target_keys}[domain].values()


def _uses_day_events(config: Mapping[str, Any]) -> bool:
    """Whether image changes of the source take part in the training, as they are or translated."""
    return CITYSCAPES["events"] in _read_parts(config, "source")


def _plain(value: Any) -> str:
    """A value as one line of Markdown; paths of the machine are cut at a folder of the project."""
    text = str(value)
    path = PureWindowsPath(text) if "\\" in text else PurePath(text)
    if path.is_absolute() or ".." in path.parts:
        places = [n for n, part in enumerate(path.parts) if part in ANCHORS]
        text = "/".join(path.parts[places[-1] :]) if places else path.name
    return markdown_cell(text)


def _table(entries: Iterable[tuple[str, Any]]) -> str:
    """Two columns; entries without a value are left out."""
    lines = [f"| {name} | {_plain(value)} |\n" for name, value in entries if value not in (None, "", [], {})]
    return "".join(["| | |\n|---|---|\n", *lines])


def _model(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    classes = class_set_of(config)
    encoders = {key: value_of(config, f"model.{key}.type") for key in ("backbone_image", "backbone_events")}
    if not any(encoders.values()):
        encoders = {"backbone": value_of(config, "model.backbone.type")}
    return [
        ("segmentor", value_of(config, "model.type")),
        *((key.replace("backbone", "encoder").replace("_", " of "), name) for key, name in encoders.items()),
        ("fusion", value_of(config, "model.fusion_module.type")),
        ("head", value_of(config, "model.decode_head.type")),
        ("classes", f"{len(classes)}: {', '.join(classes.names)}"),
        ("pretrained weights", value_of(config, "model.pretrained")),
    ]


def _data(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    for title, section in (("source", "data.train.source"), ("target", "data.train.target"), ("test", "data.test")):
        kind = value_of(config, f"{section}.type")
        keys = ("manifest", "dataset_txt_path", "dataset_path", "data_root", "split")
        where = [_plain(found) for found in (value_of(config, f"{section}.{key}") for key in keys) if found]
        entries.append((title, " ".join([str(kind), *where]) if kind else None))
    if _uses_day_events(config):
        is_gray = value_of(config, "data.train.source.return_GI_or_IC") == "gray_image"
        untranslated = f"{'grey images' if is_gray else 'image changes'}, untranslated"
        entries.append(("day events from", value_of(config, "uda.cyclegan_itrd2en_path") or untranslated))
    return entries


def _training(config: Mapping[str, Any], run: WorkDir) -> list[tuple[str, Any]]:
    identity = read_identity(run.path)
    keys = {
        "method": VARIANT_KEY,
        "iterations": "runner.max_iters",
        "samples per device": "data.samples_per_gpu",
        "seed": "seed",
        "optimiser": "optimizer.type",
        "learning rate": "optimizer.lr",
        "precision": "precision",
        "source only": "uda.source_only",
        "starts from": "load_from",
        "revision of the code": "git_rev",
    }
    started = [("started", identity.started)] if identity else []
    return [(title, value_of(config, key)) for title, key in keys.items()] + started


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, Any]]:
    gpu = environment.get("gpu") if isinstance(environment.get("gpu"), dict) else {}
    packages = environment.get("packages") if isinstance(environment.get("packages"), dict) else {}
    return [
        ("CMDA", environment.get("cmda")),
        ("Python", environment.get("python")),
        ("platform", environment.get("platform")),
        ("device", environment.get("device")),
        *((f"GPU {key}", value) for key, value in (gpu or {}).items()),
        *((str(name), version) for name, version in (packages or {}).items()),
    ]


def checkpoints_of(run: WorkDir) -> Sequence[Path]:
    """The last checkpoint and those of the best scores, without those of an earlier run in the folder."""
    return [*_own(run, run.checkpoints())[-1:], *_own(run, run.best_checkpoints())]


def _own(run: WorkDir, checkpoints: Sequence[Path]) -> Sequence[Path]:
    """Checkpoints of the run that the folder belongs to; as in a test, one that cannot be read counts as such."""
    identity = read_identity(run.path)
    if identity is None or not checkpoints:
        return checkpoints
    from mmseg.engine.checkpoint import checkpoint_meta

    metas = [(path, checkpoint_meta(path)) for path in checkpoints]
    return [path for path, meta in metas if meta is None or identity.owns(meta)]


def _files(run: WorkDir, config: Mapping[str, Any], checkpoints: Sequence[Path]) -> str:
    """Sizes and hashes of config, checkpoints and pretrained weights."""
    paths = [run.config, *checkpoints]
    for key in ("model.pretrained", *(["uda.cyclegan_itrd2en_path"] if _uses_day_events(config) else [])):
        named = value_of(config, key)
        if isinstance(named, str) and Path(named).is_file():
            paths.append(Path(named))
    lines = [f"| {_plain(path.name)} | {path.stat().st_size:,} | `{sha256(path)}` |\n" for path in paths]
    return "".join(["| file | bytes | sha256 |\n|---|---|---|\n", *lines])


def sha256(path: Path) -> str:
    """Hash of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    return found.hexdigest()


def _usage(checkpoints: Sequence[Path]) -> str:
    """Commands that test the first checkpoint and predict with it."""
    name = checkpoints[0].name if checkpoints else "<checkpoint>"
    return (
        "With [CMDA](https://arxiv.org/abs/2307.15942) installed, and this folder next to your data:\n\n"
        f"```\npython tools/test.py {name} --root-path .\n"
        f"python tools/infer.py my_pictures --checkpoint {name} --out results\n```\n"
    )
