"""Running several trainings, one after another or one on each GPU, with a table at the end."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from mmseg.engine.interruptions import Interruptions
from mmseg.engine.progress import duration
from mmseg.errors import CMDAError, ConfigError, Interrupted
from mmseg.io.files import open_bytes_to_append
from mmseg.launcher.child import Child
from mmseg.report.comparison import validation_records
from mmseg.system.console import steady_console
from mmseg.system.extensions import extension_environment
from mmseg.system.printing import TextTable, say, text_column
from mmseg.system.program import command_line
from mmseg.system.signals import PARENT_VARIABLE, StopNow, signal_name
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.log_file import read_record

POLL_SECONDS = 0.5
STOP_POLL_SECONDS = 0.05
STOP_SECONDS = 180


@dataclass
class Run:
    """A planned, running or finished run.

    Attributes:
        state: ``waiting``, ``running``, ``done``, ``failed``, ``refused``, ``stopped`` or ``not started``.
        message: why it failed.
        gpu: value of ``CUDA_VISIBLE_DEVICES``, None for the launcher's own.
        started: time of the start on the monotonic clock, 0 before it.
    """

    child: Child
    state: str = "waiting"
    message: str = ""
    gpu: str | None = None
    seconds: float = 0.0
    started: float = 0.0

    @property
    def iterations(self) -> int:
        return self.child.resolved["runner"]["max_iters"]


@dataclass(frozen=True, eq=False)
class ActiveRun:
    """A run in progress: its process, the file that takes its output, and its progress bar.

    ``begins`` is where its own output begins in the file, after that of earlier starts.
    """

    run: Run
    process: subprocess.Popen[bytes]
    output: BinaryIO
    begins: int
    task: TaskID


def refusal(child: Child) -> str:
    """Why a training would be refused, or ''."""
    try:
        child.check()
    except CMDAError as error:
        return str(error)
    return ""


def training_command(run: Run) -> list[str]:
    """Command that trains a child config."""
    return [*command_line("tools/train.py"), str(run.child.path)]


def run_all(
    runs: Sequence[Run],
    gpus: Sequence[str] = (),
    console: Console | None = None,
    command: Callable[[Run], list[str]] = training_command,
) -> Sequence[Run]:
    """Run all, each in its own process; a failed run does not stop the others.

    The output of a run goes to ``<work dir>/output.txt``.

    Args:
        gpus: values of ``CUDA_VISIBLE_DEVICES``, one run at a time on each; without them one run after another.
        console: where progress is shown; stdout by default.
        command: returns the command of a run.

    Raises:
        Interrupted: by a signal, after the running processes have saved and exited; the same signal again kills them.
            They also save and exit if this process is killed.
    """
    console = console or steady_console()
    for run in runs:
        run.message = refusal(run.child)
        if run.message:
            run.state = "refused"
            _say(console, f"{run.child.name} refused: {run.message}")
    _note_missing_gpus(gpus, console)
    _write_configs(runs, console)
    waiting = deque(run for run in runs if run.state == "waiting")
    free: list[str | None] = [*gpus] or [None]
    active: list[ActiveRun] = []
    with _Signals() as signals, _progress(console) as progress:
        try:
            while waiting or active:
                if signals.received:
                    raise StopNow(signals.received)
                while waiting and free:
                    run = waiting.popleft()
                    run.gpu = free.pop(0)
                    started = _start(run, command(run), progress, console)
                    if started is None:
                        free.append(run.gpu)
                    else:
                        active.append(started)
                time.sleep(POLL_SECONDS)
                for one in list(active):
                    progress.update(one.task, completed=_iteration(one.run))
                    if one.process.poll() is not None:
                        _finish(one, progress, console)
                        active.remove(one)
                        free.append(one.run.gpu)
        except BaseException as error:
            _stop(active, signals)
            for run in waiting:
                run.state = "not started"
            if isinstance(error, StopNow):
                raise Interrupted(
                    f"interrupted by {signal_name(error.number)}: {len(active)} of {len(runs)} runs stopped, "
                    f"{len(waiting)} not started. Continue with --resume auto",
                    error.number,
                ) from error
            raise
    return runs


def _write_configs(runs: Sequence[Run], console: Console) -> None:
    """Write all planned configs before the first run, which may take hours."""
    for run in runs:
        if run.state == "waiting":
            try:
                run.child.write()
            except OSError as error:
                run.state, run.message = "failed", f"{run.child.path} cannot be written ({error.strerror})"
                _say(console, f"{run.child.name} failed: {run.message}")


class _Signals(Interruptions):
    """The first signal is passed on to the runs, the second kills them."""

    def leave_at_once(self, number: int) -> None:
        """Leave that to :func:`_stop`."""


def _progress(console: Console) -> Progress:
    return Progress(
        text_column(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _note_missing_gpus(gpus: Sequence[str], console: Console) -> None:
    """Note runs that will find no GPU and train on the CPU."""
    found = torch.cuda.device_count()
    for gpu in gpus:
        if gpu.isdigit() and int(gpu) >= found and not os.environ.get("CUDA_VISIBLE_DEVICES"):
            _say(console, f"note: there is no GPU {gpu} here ({found} found), its runs will train on the CPU")


def _start(run: Run, command: Sequence[str], progress: Progress, console: Console) -> ActiveRun | None:
    """Start a run; None if its files cannot be written."""
    child, environment = run.child, {**os.environ, **extension_environment(), PARENT_VARIABLE: str(os.getpid())}
    if run.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = run.gpu
    try:
        child.work_dir.mkdir(parents=True, exist_ok=True)
        output = open_bytes_to_append(WorkDir(child.work_dir).console_output)
    except OSError as error:
        run.state, run.message = "failed", f"{child.work_dir} cannot be written ({error.strerror})"
        _say(console, f"{child.name} failed: {run.message}")
        return None
    begins = os.fstat(output.fileno()).st_size
    # In its own session, the process gets a signal to the launcher's group only once: from the launcher.
    process = subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    run.state, run.started = "running", time.monotonic()
    where = "" if run.gpu is None else f" on GPU {run.gpu}"
    _say(console, f"{child.name} started{where}")
    return ActiveRun(run, process, output, begins, progress.add_task(f"{child.name}{where}", total=run.iterations))


def _iteration(run: Run) -> int:
    """Last iteration that a run logged."""
    try:
        with WorkDir(run.child.work_dir).json_log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return read_record(file.read().splitlines()[-1])["iter"]
    except (OSError, IndexError, ConfigError):
        return 0


def _finish(active: ActiveRun, progress: Progress, console: Console) -> None:
    run, code = active.run, active.process.returncode
    run.seconds = time.monotonic() - run.started
    active.output.close()
    progress.remove_task(active.task)
    run.state = "failed" if code else "done"
    if code:
        run.message = _last_words(active) or f"exit status {code}"
    _say(console, f"{run.child.name} {run.state} after {duration(run.seconds)}{': ' if code else ''}{run.message}")


def _last_words(active: ActiveRun) -> str:
    """The error that a run printed, otherwise its last line."""
    with WorkDir(active.run.child.work_dir).console_output.open("rb") as file:
        file.seek(active.begins)
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def _stop(active: Sequence[ActiveRun], signals: Interruptions) -> None:
    """Ask runs to save and exit, and wait for them; those that do not exit in time are killed."""
    for one in active:
        one.process.terminate()
    until = time.monotonic() + STOP_SECONDS
    while any(one.process.poll() is None for one in active):
        if signals.repeated or time.monotonic() > until:
            for one in active:
                one.process.kill()
                one.process.wait()
        time.sleep(STOP_POLL_SECONDS)
    for one in active:
        one.run.seconds, one.run.state = time.monotonic() - one.run.started, "stopped"
        one.output.close()
        one.run.message = _last_words(one)


def _say(console: Console, text: str) -> None:
    say(console, f"{time.strftime('%H:%M:%S')} {text}")


def summary_table(runs: Sequence[Run]) -> TextTable:
    """Name, state, time, last mIoU and work dir of every run."""
    table = TextTable(title=f"{sum(run.state == 'done' for run in runs)} of {len(runs)} runs done")
    for column in ("name", "state", "time", "mIoU", "mIoU of 18", "work dir"):
        table.add_column(column, justify="right" if column[0] == "m" else "left", overflow="fold")
    for run in runs:
        scores = (validation_records(run.child.work_dir) or [{}])[-1]
        percent = ["-" if scores.get(k) is None else f"{scores[k]:.2f}" for k in ("mIoU", "mIoU_18")]
        time_taken = duration(run.seconds) if run.started else "-"
        work_dir = str(run.child.work_dir) if run.started else "-"
        table.add_row(run.child.name, run.state, time_taken, *percent, work_dir)
    return table


def show_summary(runs: Sequence[Run], console: Console) -> bool:
    """Print the table and why runs failed; return whether all are done."""
    console.print(summary_table(runs))
    for run in runs:
        if run.message:
            where = f" (see {WorkDir(run.child.work_dir).console_output})" if run.started else ""
            say(console, f"{run.child.name}: {run.message}{where}")
    return all(run.state == "done" for run in runs)
