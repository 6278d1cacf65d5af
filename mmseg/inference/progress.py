"""Progress of inference: a bar for files, frames per second for cameras and streams."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from mmseg.io.streams import Stream
from mmseg.system.printing import say, text_column

# The rate is that of the last frames.
RATED_FRAMES = 30
# Seconds between lines where there is no terminal
LINE_SECONDS = 5.0


@contextmanager
def files_progress(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Yield a function that advances the progress bar, which is only shown on a terminal."""
    columns = (
        text_column(),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("predicting", total=total or None)
        yield lambda: progress.advance(bar)


@contextmanager
def live_progress(
    console: Console, stream: Stream, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], None]]:
    """Yield a function that counts a frame; frames per second are shown in place, or in lines without a terminal."""
    times: deque[float] = deque([clock()], maxlen=RATED_FRAMES)
    count, shown = 0, clock()

    with Progress(text_column(), console=console, disable=not console.is_terminal) as progress:
        line = progress.add_task(f"{stream.shown}: waiting for frames; Ctrl-C ends it", total=None)

        def advance() -> None:
            nonlocal count, shown
            count += 1
            now = clock()
            rate = len(times) / max(now - times[0], 1e-9)
            times.append(now)
            text = f"{stream.shown}: {count:,} frames, {rate:.1f} frames/s, {max(stream.came - count, 0):,} passed over"
            progress.update(line, description=f"{text}; Ctrl-C ends it")
            if not console.is_terminal and now - shown >= LINE_SECONDS:
                say(console, text)
                shown = now

        yield advance
