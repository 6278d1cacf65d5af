"""Several runs: named lists of experiments, one run after another or one on each GPU, a table at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

import mmseg
from mmseg.config.load import load_config
from mmseg.engine.interruptions import Interruptions
from mmseg.engine.progress import duration
from mmseg.errors import CMDAError, ConfigError, Interrupted, did_you_mean
from mmseg.io.files import open_bytes_to_append, visible
from mmseg.launcher.child import Child, plan_child, without_overruled
from mmseg.report.comparison import validation_records
from mmseg.system.console import steady_console
from mmseg.system.printing import TextTable, say, text_column
from mmseg.system.signals import PARENT_VARIABLE, StopNow, signal_name
from mmseg.system.text import as_name
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.log_file import read_record

REPOSITORY = Path(mmseg.__file__).resolve().parent.parent
NAMED_LISTS = Path("configs/experiments")
LIST_KEYS = {"experiments", "seeds"}
ENTRY_KEYS = {"base_config", "name", "flags", "cfg_options"}
POLL_SECONDS = 0.5
STOP_POLL_SECONDS = 0.05
STOP_SECONDS = 180


@dataclass(frozen=True)
class Experiment:
    """A base config and what is changed in it."""

    base_config: str
    name: str
    flags: Mapping[str, Any] = field(default_factory=dict)
    cfg_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """A planned, running or finished run.

    Attributes:
        state: ``waiting``, ``running``, ``done``, ``failed``, ``refused``, ``stopped`` or ``not started``.
        message: why it failed.
    """

    child: Child
    state: str = "waiting"
    message: str = ""
    gpu: str | None = None
    seconds: float = 0.0
    started: float = 0.0
    process: subprocess.Popen | None = None
    output: BinaryIO | None = None
    task: TaskID | None = None

    @property
    def iterations(self) -> int:
        return self.child.resolved["runner"]["max_iters"]


# ------------------------------------------------------------------------------------------------ lists


def named_experiments(name: str) -> tuple[list[Experiment], list[int]]:
    """Experiments and seeds of ``configs/experiments/<name>.py``, or of a file given by its path.

    Raises:
        ConfigError: no such list, or one that cannot be used.
    """
    path = Path(name)
    if not (path.suffix and path.is_file()):
        known = {p.stem: p for folder in (REPOSITORY / NAMED_LISTS, NAMED_LISTS) for p in visible(folder, "*.py")}
        if name not in known:
            raise ConfigError(
                f"--exp {name}: there is no {NAMED_LISTS / name}.py{did_you_mean(name, known)}; "
                f"known: {', '.join(known) or 'none'}"
            )
        path = known[name]
    content = load_config(path).to_dict()
    _check_keys(content, LIST_KEYS, str(path))
    entries = content.get("experiments")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} holds no list 'experiments' of dict(base_config=..., name=...)")
    experiments = []
    for number, entry in enumerate(entries):
        _check_entry(entry, f"{path}, experiments[{number}]")
        experiments.append(Experiment(**{**entry, "base_config": _config_path(entry["base_config"])}))
    seeds = content.get("seeds", [])
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"{path}: seeds is {seeds!r}; give a list of whole numbers, such as [0, 1, 2]")
    return experiments, seeds


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is {entry!r}; give dict(base_config=..., name=...)")
    _check_keys(entry, ENTRY_KEYS, where)
    if not {"base_config", "name"} <= entry.keys():
        raise ConfigError(f"{where} needs base_config and name")
    for key, value in entry.items():
        if key in ("base_config", "name"):
            if not isinstance(value, str):
                raise ConfigError(f"{where}: {key} is {value!r}; give a text")
        elif not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            example = "dict(batch_size=4)" if key == "flags" else "{'uda.alpha': 0.99}"
            raise ConfigError(f"{where}: {key} is {value!r}; give a dict of names and values, such as {example}")


def _check_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(
                f"{where}: unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(sorted(known))}"
            )


def _config_path(path: str) -> str:
    """As it stands where it exists, else below the repository."""
    inside = REPOSITORY / path
    return path if Path(path).is_file() or not inside.is_file() else str(inside)


def config_experiments(base_configs: Sequence[str]) -> list[Experiment]:
    """One experiment for each config, named after its file."""
    return [Experiment(path, as_name(Path(path).stem)) for path in base_configs]


def plan_runs(
    experiments: Iterable[Experiment],
    seeds: Sequence[int] = (),
    prefix: str | None = None,
    root_path: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    resume: str | None = None,
) -> list[Run]:
    """Runs of experiments, for each seed.

    Args:
        seeds: seeds of each experiment; none leaves it to the configs.
        prefix: put before the experiments' names; it is the name where there is one experiment alone.
        root_path: as in :func:`mmseg.launcher.child.plan_child`.
        cfg_options, flags: for every run, over those of the experiments.
        resume: as in :func:`mmseg.launcher.child.plan_child`.

    Raises:
        ConfigError: a config, flag or option that cannot be used, or a seed beside a list of seeds.
    """
    experiments, runs = list(experiments), []
    flags, cfg_options = flags or {}, cfg_options or {}
    for experiment in experiments:
        if seeds:
            _refuse_seed(seeds, experiment, flags, cfg_options)
        name = experiment.name
        if prefix:
            name = prefix if len(experiments) == 1 else f"{prefix}_{name}"
        for seed in seeds or (None,):
            chosen = {**experiment.flags, **flags, **({} if seed is None else {"seed": seed})}
            full = name if seed is None else f"{name}_s{seed}"
            try:
                own = without_overruled(experiment.cfg_options, experiment.base_config, root_path, flags)
                options = {**own, **cfg_options}
                runs.append(Run(plan_child(experiment.base_config, full, root_path, options, chosen, resume)))
            except ConfigError as error:
                raise ConfigError(f"{full}: {error}" if len(experiments) > 1 else str(error)) from error
    return runs


def _refuse_seed(
    seeds: Sequence[int], experiment: Experiment, flags: Mapping[str, Any], cfg_options: Mapping[str, Any]
) -> None:
    """Of a list of seeds and a seed, one would be lost."""
    for given, where in (
        (flags, "--seed"),
        (cfg_options, "--cfg-options seed"),
        (experiment.flags, f"the flag seed of {experiment.name!r}"),
        (experiment.cfg_options, f"the option seed of {experiment.name!r}"),
    ):
        if "seed" in given:
            raise ConfigError(
                f"a list of seeds and a seed exclude each other: seeds {', '.join(map(str, seeds))} and {where} "
                f"({given['seed']}); leave one of them out"
            )


def refusal(child: Child) -> str:
    """Why a training would be refused, or ''."""
    try:
        child.check()
    except CMDAError as error:
        return str(error)
    return ""


def show_plan(runs: Sequence[Run], console: Console) -> None:
    """Say what would run: config, changed keys, work dir, and what would be refused."""
    for number, run in enumerate(runs, 1):
        child = run.child
        say(console, f"{number}/{len(runs)} {child.name}", "bold")
        lines = [f"  config    {_from_here(child)}", f"  work dir  {child.work_dir}"]
        lines += [f"    {key} = {json.dumps(value)}" for key, value in child.changed_keys().items()]
        lines += [f"  note: {note}" for note in child.notes]
        problem = refusal(child)
        lines += [f"  would be refused: {problem}"] if problem else []
        say(console, "\n".join(lines))
    say(console, "nothing was written; the last five digits of a name are drawn anew")


def _from_here(child: Child) -> str:
    """The base config as seen from the working directory, absolute where it lies outside."""
    path = os.path.normpath(child.path.parent / child.content["_base_"])
    return os.path.abspath(path) if path.startswith(os.pardir) else path


# ------------------------------------------------------------------------------------------------ running


def training_command(run: Run) -> list[str]:
    """Command that trains a child config."""
    return [sys.executable, str(REPOSITORY / "tools" / "train.py"), str(run.child.path)]


def run_all(
    runs: Sequence[Run],
    gpus: Sequence[str] = (),
    console: Console | None = None,
    command: Callable[[Run], list[str]] = training_command,
) -> Sequence[Run]:
    """Run all, each in a process of its own; a failed run does not stop the rest.

    What a run prints goes to ``<work dir>/output.txt``.

    Args:
        gpus: values of ``CUDA_VISIBLE_DEVICES``, one run at a time on each; without them one run after another.
        console: where people read along; stdout by default.
        command: gives the command of a run.

    Raises:
        Interrupted: by a signal, after the running processes have saved and ended; the same signal again ends them at
            once. They also save and end when this process is killed.
    """
    console = console or steady_console()
    for run in runs:
        run.message = refusal(run.child)
        if run.message:
            run.state = "refused"
            _say(console, f"{run.child.name} refused: {run.message}")
    _note_missing_gpus(gpus, console)
    _write_configs(runs, console)
    waiting, free, active = deque(run for run in runs if run.state == "waiting"), list(gpus) or [None], []
    with _Signals() as signals, _progress(console) as progress:
        try:
            while waiting or active:
                if signals.received:
                    raise StopNow(signals.received)
                while waiting and free:
                    run = waiting.popleft()
                    run.gpu = free.pop(0)
                    if _start(run, command(run), progress, console):
                        active.append(run)
                    else:
                        free.append(run.gpu)
                time.sleep(POLL_SECONDS)
                for run in list(active):
                    progress.update(run.task, completed=_iteration(run))
                    if run.process.poll() is not None:
                        _finish(run, progress, console)
                        active.remove(run)
                        free.append(run.gpu)
        except BaseException as error:
            _stop(active, signals)
            for run in waiting:
                run.state = "not started"
            if isinstance(error, StopNow):
                raise Interrupted(
                    f"interrupted by {signal_name(error.number)}: {len(active)} of {len(runs)} runs stopped, "
                    f"{len(waiting)} not started. Go on with --resume auto",
                    error.number,
                ) from error
            raise
    return runs


def _write_configs(runs: Sequence[Run], console: Console) -> None:
    """Write what is planned, before the first run takes its hours."""
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
    """A training that finds no GPU takes the CPU, which should surprise nobody."""
    found = torch.cuda.device_count()
    for gpu in gpus:
        if gpu.isdigit() and int(gpu) >= found and not os.environ.get("CUDA_VISIBLE_DEVICES"):
            _say(console, f"note: there is no GPU {gpu} here ({found} found), its runs will train on the CPU")


def _start(run: Run, command: Sequence[str], progress: Progress, console: Console) -> bool:
    """Start a run; False where its files cannot be written."""
    child, environment = run.child, {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    if run.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = run.gpu
    try:
        child.work_dir.mkdir(parents=True, exist_ok=True)
        run.output = open_bytes_to_append(WorkDir(child.work_dir).console_output)
    except OSError as error:
        run.state, run.message = "failed", f"{child.work_dir} cannot be written ({error.strerror})"
        _say(console, f"{child.name} failed: {run.message}")
        return False
    # In a session of its own, a signal to the launcher's group reaches it once: by the launcher.
    run.process = subprocess.Popen(
        command,
        stdout=run.output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    run.state, run.started = "running", time.monotonic()
    where = "" if run.gpu is None else f" on GPU {run.gpu}"
    _say(console, f"{child.name} started{where}")
    run.task = progress.add_task(f"{child.name}{where}", total=run.iterations)
    return True


def _iteration(run: Run) -> int:
    """Last iteration that a run logged."""
    try:
        with WorkDir(run.child.work_dir).json_log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return read_record(file.read().splitlines()[-1])["iter"]
    except (OSError, IndexError, ConfigError):
        return 0


def _finish(run: Run, progress: Progress, console: Console) -> None:
    run.seconds = time.monotonic() - run.started
    run.output.close()
    progress.remove_task(run.task)
    code = run.process.returncode
    run.state = "failed" if code else "done"
    if code:
        run.message = _last_words(run) or f"exit status {code}"
    _say(console, f"{run.child.name} {run.state} after {duration(run.seconds)}{': ' if code else ''}{run.message}")


def _last_words(run: Run) -> str:
    """The error that a run printed, else its last line."""
    text = WorkDir(run.child.work_dir).console_output.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def _stop(runs: Sequence[Run], signals: _Signals) -> None:
    """Tell runs to stop and wait for them; they save their state before. What does not end is killed."""
    for run in runs:
        run.process.terminate()
    until = time.monotonic() + STOP_SECONDS
    while any(run.process.poll() is None for run in runs):
        if signals.repeated or time.monotonic() > until:
            for run in runs:
                run.process.kill()
                run.process.wait()
        time.sleep(STOP_POLL_SECONDS)
    for run in runs:
        run.seconds, run.state = time.monotonic() - run.started, "stopped"
        run.output.close()
        run.message = _last_words(run)


def _say(console: Console, text: str) -> None:
    say(console, f"{time.strftime('%H:%M:%S')} {text}")


# ------------------------------------------------------------------------------------------------ what came of it


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
    """Print the table and why runs failed; whether all are done."""
    console.print(summary_table(runs))
    for run in runs:
        if run.message:
            where = f" (see {WorkDir(run.child.work_dir).console_output})" if run.started else ""
            say(console, f"{run.child.name}: {run.message}{where}")
    return all(run.state == "done" for run in runs)
