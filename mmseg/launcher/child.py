"""The child config of an experiment: a base config with its changes and its own name."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.config.data_root import LIST_SECTIONS, check_root, outside_root, set_root
from mmseg.config.dotted import flat, get_key, is_below, set_key
from mmseg.config.files import GENERATED_CONFIGS
from mmseg.config.keys import DATA_PATH_KEYS
from mmseg.config.load import (
    check_values,
    dump_config,
    effective,
    load_config,
    plain,
)
from mmseg.config.published import find_config
from mmseg.config.section_kinds import without_other_kinds
from mmseg.engine.build import check_effective
from mmseg.engine.environment import choose_device, git_revision
from mmseg.engine.numerics import check_numerics
from mmseg.engine.resuming import AUTO
from mmseg.errors import CMDAError, ConfigError
from mmseg.io.files import LONGEST_NAME, write_text
from mmseg.io.json_files import read_json
from mmseg.launcher.flag_rules import WIDE_CHANNELS, Base
from mmseg.launcher.flags import flag_changes, flag_notes, name_prefix, naming_flags, read_flags
from mmseg.system.text import name_fault
from mmseg.uda.streams import check_method, uses_isr_fusion
from mmseg.work_dir.layout import LONGEST_ENDING, WorkDir, is_run_of, new_run_name
from mmseg.work_dir.lock import in_use, running_holder

WORK_DIRS = Path("work_dirs/local-basic")
GENERATOR = "uda.cyclegan_itrd2en_path"
FUSION, ISR_FUSION = "model.fusion_module", "model.fusion_isr_module"
# Keys of a child config that are not settings.
RECORD_KEYS = ("_base_", "name", "work_dir", "git_rev", "resume_from")


@dataclass(frozen=True)
class Child:
    """A planned child config, not written yet.

    Attributes:
        name: ``<yymmdd_HHMM>_<name>_<5 hex>``.
        content: its ``_base_`` and the differences to it.
        resolved: the whole config.
        notes: messages on flags that nothing reads.
        flags: values of the flags it was planned with.
        root: folder below which its paths were set, if any.
        options: dotted keys given by the user.
    """

    name: str
    content: dict[str, Any]
    resolved: Config
    notes: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Its file, below the working directory."""
        return GENERATED_CONFIGS / f"{self.name}.json"

    @property
    def work_dir(self) -> Path:
        """Folder of its run, below the working directory."""
        return WORK_DIRS / self.name

    def changed_keys(self) -> dict[str, Any]:
        """Dotted key -> value of everything that differs from the base config."""
        return dict(flat({key: value for key, value in self.content.items() if key not in RECORD_KEYS}))

    def check(self) -> None:
        """Check the config as a training does, before anything is built or written.

        Raises:
            CMDAError: naming the key, and the flag that wrote it. The content of data files is not checked.
            WorkDirInUse: the run that it would resume is still running.
        """
        if self.resolved.get("resume_from") == AUTO and self.work_dir.is_dir():
            holder = running_holder(self.work_dir)
            if holder is not None:
                raise in_use(self.work_dir, holder)
        with _naming_flags(self.flags):
            cfg = effective(self.resolved)
            # Before the files: flags that exclude each other should be reported before missing data.
            check_method(cfg)
            if self.root:
                check_root(self.resolved, self.root, self.options)
            check_numerics(check_effective(cfg).numerics, choose_device())

    def write(self) -> Path:
        """Write the whole config and return its path; later edits of the base do not change a planned run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, dump_config(self.resolved))
        return self.path


def write_child_config(
    base_config: str | Path,
    name: str,
    root_path: str | None,
    cfg_options: Mapping[str, Any],
    flags: Mapping[str, Any] | None = None,
) -> Path:
    """Write the child config of :func:`plan_child` and return its path."""
    return plan_child(base_config, name, root_path, cfg_options, flags).write()


def plan_child(
    base_config: str | Path,
    name: str,
    root_path: str | None,
    cfg_options: Mapping[str, Any],
    flags: Mapping[str, Any] | None = None,
    resume: str | None = None,
) -> Child:
    """Child config ``configs/generated/local-basic/<experiment name>.json`` below the working directory.

    As in the published runs, the second fusion module is not built if nothing uses it, and no generator is named if
    there is nothing to translate.

    Args:
        base_config: config to derive it from, by path or name.
        name: name of the experiment.
        root_path: folder with ``data/`` and ``pretrained/``; None leaves paths as they are.
        cfg_options: dotted key -> value; they override flags.
        flags: flag of ``mmseg.launcher.flag_table`` -> its text or number, True for a switch.
        resume: ``auto`` resumes the newest run of this name with these settings, if there is one; a checkpoint or a
            work dir starts a new run from there.

    Raises:
        ConfigError: the base cannot be read or has a bad value, the name cannot be a file name, or a flag cannot be
            used.
    """
    base_config = find_config(base_config)
    values = read_flags(flags or {})
    fault = name_fault(name) or name_fault(name_prefix(values) + name)
    if fault:
        raise ConfigError(f"--name {name!r} cannot be a file name: {fault}")
    name = name_prefix(values) + name
    full_name = new_run_name(name)
    too_long = len(os.fsencode(f"{full_name}{LONGEST_ENDING}")) - LONGEST_NAME
    if too_long > 0:
        raise ConfigError(f"--name {name!r} is {too_long} bytes too long for the names of the run's files; shorten it")
    resolved = load_config(base_config)
    cfg_options, replaced = without_other_kinds(resolved, cfg_options)
    base = load_config(base_config, cfg_options) if cfg_options else resolved.copy()
    # flags read values of the base, so these must be valid
    check_values(base)
    changes = _changes(base, str(base_config), root_path, cfg_options, values)
    child: dict[str, Any] = {
        "_base_": Path(os.path.relpath(base_config, GENERATED_CONFIGS)).as_posix(),
        "name": full_name,
        "work_dir": (WORK_DIRS / full_name).as_posix(),
        "git_rev": git_revision() or "",
    }
    for key, value in changes.items():
        set_key(child, key, _over(resolved, key, plain(value)))
    resolved.merge_from_dict(copy.deepcopy({key: value for key, value in child.items() if key != "_base_"}))
    if resume:
        full_name = (_earlier_run(name, resolved) if resume == AUTO else None) or full_name
        again = {"name": full_name, "work_dir": (WORK_DIRS / full_name).as_posix(), "resume_from": resume}
        child |= again
        resolved.merge_from_dict(again)
    notes = [*replaced, *flag_notes(values, Base(resolved.to_dict()))]
    if root_path:
        notes += outside_root(resolved, root_path, cfg_options)
    return Child(full_name, child, resolved, tuple(notes), values, root_path, cfg_options)


@contextmanager
def _naming_flags(values: Mapping[str, Any]) -> Iterator[None]:
    """Prefix errors about config keys with the flags that wrote them."""
    try:
        yield
    except CMDAError as error:
        raise type(error)(naming_flags(str(error), values)) from error


def _earlier_run(name: str, config: Config) -> str | None:
    """Name of the newest run of an experiment that has the settings of a config."""
    settings = _settings(config.to_dict())
    # dates come first in the names
    for folder in sorted(WORK_DIRS.glob("*"), reverse=True):
        if not is_run_of(folder.name, name):
            continue
        try:
            found = read_json(WorkDir(folder).new_config)
        except CMDAError:
            continue
        if _settings(found) == settings:
            return folder.name
    return None


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain(config).items() if key not in RECORD_KEYS}


def without_overruled(
    options: Mapping[str, Any], base_config: str | Path, root_path: str | None, flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Options without the keys that flags write, for flags that override them.

    Args:
        options: dotted key -> value.
        base_config, root_path, flags: as in :func:`plan_child`.

    Raises:
        ConfigError: the base cannot be read, or a flag cannot be used.
    """
    if not options or not flags:
        return dict(options)
    base = load_config(base_config, options)
    check_values(base)
    for key in _flag_changes(base, str(base_config), root_path, options, read_flags(flags)):
        options = _without(options, key)
    return dict(options)


def _without(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Options without a key and the keys below it; an option for a section keeps its other keys."""
    kept: dict[str, Any] = {}
    for option, value in options.items():
        if key.startswith(f"{option}."):
            inner = value if isinstance(value, Mapping) else {}
            kept |= _without({f"{option}.{name}": inner[name] for name in inner}, key)
        elif not is_below(option, (key,)):
            kept[option] = value
    return kept


def _flag_changes(
    base: Config, path: str, root_path: str | None, cfg_options: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Dotted key -> value written by flags, which look for files below the root."""
    rooted = base.copy()
    if root_path:
        set_root(rooted, root_path, cfg_options)
    return flag_changes(values, Base(rooted.to_dict(), path, Path(root_path or "")))


def _changes(
    base: Config, path: str, root_path: str | None, cfg_options: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Dotted key -> value of every difference to the base config, to which the options are already applied."""
    by_flag = _flag_changes(base, path, root_path, cfg_options, values)
    changes = {key: value for key, value in by_flag.items() if not is_below(key, cfg_options)}
    # Paths given by the user are paths of this machine.
    spelt_out = {**({GENERATOR: values["icd2en"]} if "icd2en" in values else {}), **cfg_options}
    for key, value in changes.items():
        base.merge_from_dict({key: _over(base, key, value)})
    changes |= cfg_options
    if root_path:
        keys = (*DATA_PATH_KEYS, *(f"{section}.root_path" for section in LIST_SECTIONS))
        before = {key: get_key(base, key) for key in keys}
        set_root(base, root_path, spelt_out)
        changes |= {key: get_key(base, key) for key, value in before.items() if get_key(base, key) != value}
    unused = _unused_parts(base, cfg_options)
    base.merge_from_dict(dict(unused))
    return {**changes, **unused, **_fusion_channels(base, cfg_options)}


def _unused_parts(config: Config, cfg_options: Mapping[str, Any]) -> dict[str, Any]:
    """Build the second fusion module only if it is used, and name no generator that nothing would load."""
    changes: dict[str, Any] = {}
    uda = config.get("uda", {})
    if not uses_isr_fusion(uda):
        if get_key(config, ISR_FUSION):
            changes[f"{ISR_FUSION}.type"] = ""
    elif not get_key(config, f"{ISR_FUSION}.type") and not any(key.startswith(ISR_FUSION) for key in cfg_options):
        changes[f"{ISR_FUSION}.type"] = "AttentionFusion"
    images = get_key(config, "data.train.source.outputs") or ()
    if uda.get("cyclegan_itrd2en_path") and "img_time_res" not in images and GENERATOR not in cfg_options:
        changes[GENERATOR] = ""
    return changes


def _fusion_channels(config: Config, cfg_options: Mapping[str, Any]) -> dict[str, Any]:
    """Give fusion modules the channels of the head; AverageFusion has no weights and no channels."""
    changes: dict[str, Any] = {}
    by_user: dict[str, Any] = {}
    for key, value in cfg_options.items():
        set_key(by_user, key, plain(value))
    head = get_key(config, "model.decode_head.in_channels")
    for part in (FUSION, ISR_FUSION):
        kind, channels = get_key(config, f"{part}.type"), get_key(config, f"{part}.in_channels")
        if not kind or not head or get_key(by_user, f"{part}.in_channels"):
            continue
        if kind == "AverageFusion":
            changes |= {part: {"type": kind, "_delete_": True}} if channels else {}
        elif list(channels or WIDE_CHANNELS) != list(head):
            changes[f"{part}.in_channels"] = list(head)
    return changes


def _over(config: Config, key: str, value: Any) -> Any:
    """The value to merge into a config: a section that replaces a plain value is marked with ``_delete_``."""
    section, _, last = key.rpartition(".")
    siblings = get_key(config, section) if section else config
    replaces = isinstance(value, Mapping) and isinstance(siblings, Mapping) and last in siblings
    return {**value, "_delete_": True} if replaces and not isinstance(siblings[last], Mapping) else value
