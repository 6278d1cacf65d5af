"""Several runs: named lists of experiments, and the runs that are planned from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mmseg.config.load import load_config
from mmseg.config.published import PROJECT_CONFIGS, find_config
from mmseg.errors import ConfigError, did_you_mean
from mmseg.io.files import visible
from mmseg.launcher.child import Child, plan_child, without_overruled
from mmseg.launcher.running import Run, refusal
from mmseg.system.printing import say
from mmseg.system.text import as_name

NAMED_LISTS = Path("configs/experiments")
LIST_KEYS = {"experiments", "seeds"}
ENTRY_KEYS = {"base_config", "name", "flags", "cfg_options"}


@dataclass(frozen=True)
class Experiment:
    """A base config and what is changed in it."""

    base_config: str
    name: str
    flags: Mapping[str, Any] = field(default_factory=dict)
    cfg_options: Mapping[str, Any] = field(default_factory=dict)


def named_experiments(name: str) -> tuple[list[Experiment], list[int]]:
    """Experiments and seeds of ``configs/experiments/<name>.py``, or of a file given by its path.

    Raises:
        ConfigError: no such list, or one that cannot be used.
    """
    path = Path(name)
    if not (path.suffix and path.is_file()):
        known = {
            p.stem: p
            for folder in (PROJECT_CONFIGS[0] / NAMED_LISTS.name, NAMED_LISTS)
            for p in visible(folder, "*.py")
        }
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
        experiments.append(Experiment(**{**entry, "base_config": str(find_config(entry["base_config"]))}))
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
        seeds: seeds of each experiment; none for the seeds of the configs.
        prefix: put before the experiments' names; the name itself if there is only one experiment.
        root_path: as in :func:`mmseg.launcher.child.plan_child`.
        cfg_options, flags: for every run; they override those of the experiments.
        resume: as in :func:`mmseg.launcher.child.plan_child`.

    Raises:
        ConfigError: a config, flag or option that cannot be used, or both a seed and a list of seeds.
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
    """Refuse a seed together with a list of seeds: one of them would be ignored."""
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


def show_plan(runs: Sequence[Run], console: Console) -> None:
    """Print what would run: config, changed keys, work dir, and what would be refused."""
    for number, run in enumerate(runs, 1):
        child = run.child
        say(console, f"{number}/{len(runs)} {child.name}", "bold")
        lines = [f"  config    {_from_here(child)}", f"  work dir  {child.work_dir}"]
        lines += [f"    {key} = {json.dumps(value)}" for key, value in child.changed_keys().items()]
        lines += [f"  note: {note}" for note in child.notes]
        problem = refusal(child)
        lines += [f"  would be refused: {problem}"] if problem else []
        say(console, "\n".join(lines))
    say(console, "nothing was written; the last five digits of a name are drawn again")


def _from_here(child: Child) -> str:
    """The base config relative to the working directory, absolute if it lies outside."""
    path = os.path.normpath(child.path.parent / child.content["_base_"])
    return os.path.abspath(path) if path.startswith(os.pardir) else path
