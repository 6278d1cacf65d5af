"""Names of runs and of the files in their folders. They are made and parsed only here. Light to import."""

from __future__ import annotations

import os
import re
import time
import uuid
from pathlib import Path

from mmseg.errors import ConfigError
from mmseg.io.files import ASIDE, visible
from mmseg.system.text import without_note

# The checkpoint that the paper's numbers are of.
PUBLISHED_ITERATION = 40_000
PREDICTIONS = "preds"
# The longest suffix of files that are named after their run.
LONGEST_ENDING = ".log.json"
_RUN_NAME = re.compile(r"\d{6}_\d{4}_(?P<experiment>.+)_[0-9a-f]{5}(?P<note>\[.*)?")
_CHECKPOINT = re.compile(r"iter_(\d+)\.pth")


def new_run_name(experiment: str) -> str:
    """``<yymmdd_HHMM>_<experiment>_<5 hex>``, unique even within a minute."""
    return f"{time.strftime('%y%m%d_%H%M')}_{experiment}_{uuid.uuid4().hex[:5]}"


def experiment_of(run_name: str) -> str:
    """Name of a run without date, number and note; any other name as it is."""
    match = _RUN_NAME.fullmatch(run_name)
    return match["experiment"] if match else run_name


def is_run_of(run_name: str, experiment: str) -> bool:
    """Whether a name is one that :func:`new_run_name` gives to runs of an experiment."""
    match = _RUN_NAME.fullmatch(run_name)
    return match is not None and match["note"] is None and match["experiment"] == experiment


def iteration_of(path: Path) -> int:
    """Iteration in the name of a checkpoint ``iter_<n>.pth``, -1 for any other file."""
    match = _CHECKPOINT.fullmatch(path.name)
    return int(match[1]) if match else -1


def iteration_at_end(checkpoint: str) -> int | None:
    """Iteration that the path of a checkpoint ends with, including those of the best; None where it has none."""
    match = re.search(r"iter_(\d{1,12})\.pth$", checkpoint)
    return int(match[1]) if match else None


class TestFolder:
    """Results of one test.

    Attributes:
        path: the folder.
        metrics: scores and what was tested.
        details: scores by frame, for reports.
        report: the HTML page.
        color, panels: folders with a picture per frame.
        submission, archive: folder for the Dark Zurich server, and the same packed.
        record, frames: of pseudo-labels: what was predicted, and a line per image.
        confidence, overlay: of pseudo-labels: folders with a picture per image.
    """

    __test__ = False  # pytest would collect it by its name

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metrics = self.path / "metrics.json"
        self.details = self.path / "details.json"
        self.report = self.path / "report.html"
        self.color = self.path / "color"
        self.panels = self.path / "panels"
        self.submission = self.path / "submission"
        self.archive = self.path / "submission.zip"
        self.record = self.path / "pseudo_labels.json"
        self.frames = self.path / "frames.jsonl"
        self.confidence = self.path / "confidence"
        self.overlay = self.path / "overlay"

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def prediction(self, frame: str) -> Path:
        """Label map of a frame, in train ids."""
        return self.path / f"{frame}.png"

    def color_prediction(self, frame: str) -> Path:
        """The same in the Cityscapes colours."""
        return self.color / f"{frame}.png"

    def panel(self, frame: str) -> Path:
        """Inputs, prediction and label of a frame side by side."""
        return self.panels / f"{frame}.png"

    def pseudo_label(self, frame: str) -> tuple[Path, Path, Path]:
        """Label, confidence and overlay of an image."""
        name = f"{frame}.png"
        return self.path / name, self.confidence / name, self.overlay / name

    def holds_result(self, path: Path) -> bool:
        """Whether a path in this folder is named like something that a test writes."""
        if path.is_dir() and not path.is_symlink():
            return path in (self.color, self.panels, self.submission, self.confidence, self.overlay)
        files = (self.metrics, self.details, self.report, self.archive, self.record, self.frames)
        return path in files or path.suffix == ".png"


class WorkDir:
    """The folder of a run.

    Args:
        path: the folder.
        name: base name of its config and logs, by default that of the folder.

    Attributes:
        environment: versions and hardware.
        identity: which run the folder was last started for.
        lock: held while a training writes into it.
        best_record: which checkpoint scored best so far.
        console_output: console output of a run that the launcher started next to others.
        tensorboard, pictures, evaluations: folders.
        wandb_record: id of the Weights & Biases run.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name if name is None else name
        self.environment = self.path / "environment.json"
        self.identity = self.path / "run_identity.json"
        self.lock = self.path / "running.lock"
        self.best_record = self.path / "best.json"
        self.console_output = self.path / "output.txt"
        self.tensorboard = self.path / "tensorboard"
        self.pictures = self.path / "pictures"
        self.evaluations = self.path / "evaluations"
        self.wandb_record = self.path / "wandb_run.txt"

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"WorkDir({str(self.path)!r})"

    @property
    def new_config(self) -> Path:
        """Where a training writes its resolved config."""
        return self.path / f"{self.name}.json"

    @property
    def config(self) -> Path:
        """The resolved config to read; it is missing if the run ended before its training began.

        It has the name of the folder, without a note such as ``[best]`` if one was added to the folder later.
        """
        name = self.path.resolve().name
        whole = self.path / f"{name}.json"
        return whole if whole.is_file() else self.path / f"{without_note(name)}.json"

    def find_config(self) -> Path | None:
        """The resolved config, if there is one.

        Raises:
            ConfigError: no such folder.
        """
        if not self.path.is_dir():
            state = "is a file; give its folder" if self.path.exists() else "does not exist"
            raise ConfigError(f"work dir {self.path} {state}")
        return self.config if self.config.is_file() else None

    @property
    def text_log(self) -> Path:
        """Log for people."""
        return self.path / f"{self.name}.log"

    @property
    def json_log(self) -> Path:
        """Log in JSON lines."""
        return self.path / f"{self.name}{LONGEST_ENDING}"

    def json_logs(self) -> list[Path]:
        """All logs in JSON lines, even if the folder was renamed since."""
        return visible(self.path, f"*{LONGEST_ENDING}")

    def holds_run(self) -> bool:
        """Whether a run left a log or a config here."""
        return bool(self.json_logs()) or self.config.is_file()

    def checkpoint(self, iteration: int) -> Path:
        """``iter_<n>.pth``."""
        return self.path / f"iter_{iteration}.pth"

    def checkpoints(self) -> list[Path]:
        """Existing checkpoints by ascending iteration."""
        found = [path for path in self.path.glob("iter_*.pth") if iteration_of(path) >= 0 and path.is_file()]
        return sorted(found, key=iteration_of)

    def best_checkpoint(self, score: str, iteration: int) -> Path:
        """``best_<score>_iter_<n>.pth``."""
        return self.path / f"best_{score}_iter_{iteration}.pth"

    def best_checkpoints(self) -> list[Path]:
        """Existing checkpoints of the best score, sorted by name."""
        return sorted(self.path.glob("best_*_iter_*.pth"))

    def broken_batch(self, iteration: int, rank: int = 0) -> Path:
        """Batch of an iteration (from 1) whose loss or gradient is not finite, as the process ``rank`` saw it."""
        return self.path / f"nonfinite_iter_{iteration}{f'_rank{rank}' if rank else ''}.pth"

    def picture(self, iteration: int) -> Path:
        """Picture of a training step or sample sheet; the iteration counts from 1."""
        return self.pictures / f"iter_{iteration:06d}.png"

    def evaluation(self, iteration: int) -> TestFolder:
        """Results of the evaluation after an iteration."""
        return TestFolder(self.evaluations / f"iter_{iteration}")

    def existing_evaluations(self) -> list[TestFolder]:
        """Evaluations that left scores, by ascending iteration."""
        found = [TestFolder(path.parent) for path in self.evaluations.glob("iter_*/metrics.json")]
        return sorted(found, key=lambda folder: _first_number(folder.path.name))

    def predictions(self, choices: tuple[str, ...] = ()) -> TestFolder:
        """Results of a test: ``preds``, followed by what was chosen for it."""
        return TestFolder(self.path / "_".join([PREDICTIONS, *choices]))

    def existing_predictions(self) -> list[TestFolder]:
        """Tests that left scores, sorted by name."""
        found = (path.parent for path in sorted(self.path.glob(f"{PREDICTIONS}*/metrics.json")))
        return [TestFolder(folder) for folder in found if ASIDE not in folder.name]


def _first_number(text: str) -> int:
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else -1
