"""Speed and remaining time of a training, its log lines and its progress bar."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from mmseg.system.printing import text_column

if TYPE_CHECKING:
    from torch import Tensor

# The first iterations try algorithms, compile and fill queues; estimates ignore them.
WARM_UP = 2
# Number of recent iterations that determine the speed.
RECENT = 100


class Pace:
    """Clock of a training, which stops during evaluations, checkpoints and pictures.

    Args:
        period: iterations after which pauses recur; an early pause does not count as one per iteration.
        clock: seconds, from any origin.
    """

    def __init__(self, period: int = 1, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._period = clock, period
        self._iterations = 0
        self._paused = 0.0
        self._held: float | None = None
        self._ends: deque[float] = deque(maxlen=RECENT + 1)

    def now(self) -> float:
        """Seconds of training, from any origin."""
        return (self._clock() if self._held is None else self._held) - self._paused

    def hold(self) -> None:
        """Stop the clock: what follows is not part of an iteration."""
        self._held = self._clock()

    def go_on(self) -> None:
        """Restart the clock."""
        if self._held is not None:
            self._paused += self._clock() - self._held
            self._held = None

    def tick(self) -> None:
        """Count a finished iteration."""
        self._iterations += 1
        if self._iterations >= WARM_UP:
            self._ends.append(self.now())

    def seconds(self) -> float | None:
        """Seconds per iteration over recent ones; None during warm-up."""
        if len(self._ends) < 2:
            return None
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)

    def remaining(self, iterations: int) -> float | None:
        """Estimated seconds for further iterations, with pauses as so far; None during warm-up."""
        seconds = self.seconds()
        if seconds is None:
            return None
        return iterations * (seconds + self._paused / max(self._iterations, self._period))


@dataclass
class LogWindow:
    """Sums of the metrics since the last log line, kept on the device, and the number of steps that had each."""

    pace: Pace
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    data_time: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.pace.now()

    def add(self, logs: Mapping[str, Tensor], data_time: float) -> None:
        for key, value in logs.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value
        self.counts.update(logs.keys())
        self.steps += 1
        self.data_time += data_time

    def means(self) -> dict[str, float]:
        """Fetch the means; ``time`` and ``data_time`` are in seconds per iteration, without pauses.

        A metric that only some steps have, such as those of a fusion that is drawn at random, is averaged over these.
        """
        values = {key: value.item() / self.counts[key] for key, value in self.sums.items()}
        values["time"] = (self.pace.now() - self.started) / self.steps
        values["data_time"] = self.data_time / self.steps
        return values


def progress_bar(console: Console) -> Progress:
    """Bar on a terminal. Its tasks have the fields ``remaining``, see :func:`remaining_text`, and ``shown``."""
    return Progress(
        text_column(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        text_column("{task.fields[remaining]}"),
        text_column("{task.fields[shown]}"),
        console=console,
        disable=not console.is_terminal,
    )


def remaining_text(seconds: float | None) -> str:
    """Remaining time for a log line or the bar; empty while it is unknown."""
    return "" if seconds is None else f"remaining {duration(seconds)}"


# Metrics shown next to the progress bar: log key -> label.
SHOWN = {
    "decode.loss_seg": "source",
    "mix.decode.loss_seg": "mixed",
    "masked.decode.loss_seg": "masked",
    "mix.pseudo_weight": "certain",
    "time": "s/it",
    "data_time": "data",
    "memory_gib": "GiB",
}


def short(values: Mapping[str, float]) -> str:
    """Text next to the bar."""
    return "  ".join(f"{short} {values[name]:.3g}" for name, short in SHOWN.items() if name in values)


def log_line(done: int, last: int, values: Mapping[str, float], remaining: float | None) -> str:
    """Log line of an iteration, without the cross entropies of single streams."""
    shown = {name: value for name, value in values.items() if ".ce_" not in name}
    parts = [*(f"{name} {value:.4g}" for name, value in shown.items()), remaining_text(remaining)]
    return f"iteration {done}/{last}: {', '.join(filter(None, parts))}"


def duration(seconds: float) -> str:
    """Short text such as ``2 d 3 h`` or ``4 min 5 s``."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in pairwise(units):
        if seconds >= size:
            rest = int(seconds % size // next_size)
            return f"{int(seconds // size)} {name} {rest} {next_name}"
    return f"{seconds:.0f} s"
