"""The commands of ``cmda``, and how a message names them: as scripts of a clone, or as commands.

Needs the standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Folder of the package
PACKAGE = Path(__file__).resolve().parents[1]
# Heading of the help -> command -> script that runs the same module, mmseg.commands.<name with underscores>
GROUPS: dict[str, dict[str, str]] = {
    "train and test": {
        "train": "tools/train.py",
        "run-experiments": "my_run_experiments.py",
        "test": "tools/test.py",
        "test-run": "my_test.py",
        "compare": "tools/compare_runs.py",
        "report": "tools/report.py",
        "figure": "tools/figure.py",
        "model-card": "tools/make_model_card.py",
        "check-submission": "tools/check_submission.py",
        "benchmark": "tools/benchmark.py",
    },
    "use a trained network": {
        "infer": "tools/infer.py",
        "export": "tools/export.py",
    },
    "data and weights": {
        "check-data": "tools/check_data.py",
        "convert-cityscapes": "tools/convert_datasets/cityscapes.py",
        "dsec-lists": "create_dsec_dataset_txt.py",
        "make-image-change": "tools/make_image_change.py",
        "warp-images": "tools/warp_images.py",
        "cache-events": "tools/cache_events.py",
        "make-manifest": "tools/make_manifest.py",
        "manifest-statistics": "tools/manifest_statistics.py",
        "weights": "tools/weights.py",
        "convert-weights": "tools/convert_weights.py",
        "make-style-transfer-data": "tools/make_style_transfer_data.py",
        "train-style-transfer": "tools/train_style_transfer.py",
    },
    "toy city": {
        "demo": "tools/demo.py",
        "toy": "tools/make_toy_data.py",
    },
}
SCRIPTS = {name: script for group in GROUPS.values() for name, script in group.items()}
_NAMES = {script: name for name, script in SCRIPTS.items()}
_MENTION = re.compile(
    rf"(?P<starter>torchrun (?:--?\S+ \S+ )*?)?(?:python )?(?<![\w/.-])(?P<script>{'|'.join(map(re.escape, _NAMES))})"
)
# Guides that messages name; an installed package holds them too
_GUIDE = re.compile(r"(?<![\w/.-])(?:data|pretrained)/README\.md")
_STARTED: list[str] = []


def is_installed() -> bool:
    """Whether this package was installed by pip from a wheel, which holds the configs; False in a clone."""
    return (PACKAGE / "configs").is_dir()


def start_as(command: str) -> None:
    """Note that this process runs a command of ``cmda``, so that messages name commands instead of scripts."""
    _STARTED[:] = [command]
    sys.argv[0] = f"cmda {command}".strip()


def name_of_program() -> str:
    """What the usage shows: ``train.py``, or ``cmda train``."""
    return f"cmda {_STARTED[0]}".strip() if _STARTED else Path(sys.argv[0]).name


def spelled(text: str) -> str:
    """A message as it helps where this process runs.

    In a process of ``cmda``, ``cmda <command>`` takes the place of each script; in an installed package, the path of a
    guide that of its place in a clone.
    """
    if _STARTED and ".py" in text:
        text = _MENTION.sub(_as_command, text)
    if "/README.md" in text and is_installed():
        text = _GUIDE.sub(lambda guide: str(PACKAGE / "guides" / guide[0]), text)
    return text


def _as_command(mention: re.Match[str]) -> str:
    starter = f"{mention['starter']}--no-python " if mention["starter"] else ""
    return f"{starter}cmda {_NAMES[mention['script']]}"


def command_line(script: str) -> list[str]:
    """Words that start a script in a process of its own: the script in a clone, else the command of the same code."""
    if is_installed():
        return [sys.executable, str(PACKAGE / "commands"), _NAMES[script]]
    return [sys.executable, str(PACKAGE.parent / script)]
