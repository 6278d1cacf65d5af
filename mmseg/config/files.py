"""Reading configs: which files are run as code, and which are read as data.

A Python file that the user names is code, and so are its bases. A JSON file is data: nothing in it is substituted, and
its ``custom_imports`` need the user's consent (:mod:`mmseg.config.custom_imports`). Its ``_base_`` may only be code
that is trusted already: a file in ``configs/`` of this project or, for child configs in the launcher's own folder, the
base that the launcher was given. The config of a work dir is resolved and names no base.
"""

from __future__ import annotations

import ast
import copy
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.config.class_sets import with_content
from mmseg.config.custom_imports import IMPORTS, import_components
from mmseg.config.foreign import refuse_foreign_keys, refuse_foreign_text
from mmseg.config.kinds import shown
from mmseg.config.published import PROJECT_CONFIGS, find_config, similar_config
from mmseg.config.section_kinds import without_other_kinds
from mmseg.errors import ConfigError, address_remedy, did_you_mean
from mmseg.io.json_files import read_json
from mmseg.system.text import without_note

# Where the launcher writes child configs, below the working directory.
GENERATED_CONFIGS = Path("configs/generated/local-basic")
BASE = "_base_"
# Nobody nests more bases.
MOST_BASES = 20


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file with its bases, import its ``custom_imports``, and apply options.

    Args:
        path: ``.py`` file, which is run, or ``.json`` file, which is read as data; or the name of a published config,
            see :func:`.find_config`.
        options: dotted key -> value.

    Raises:
        ConfigError: the file or a base is missing or cannot be read, a JSON file asks for code, or an option cannot
            be applied, or a module of ``custom_imports`` is refused or cannot be imported.
    """
    path = existing_config(path)
    if path.suffix == ".json":
        config = _json_config(path)
    elif path.suffix == ".py":
        config = _from_file(path)
    else:
        raise ConfigError(f"{path} is not a config; give a .py or .json file")
    refuse_foreign_keys(path, config.keys())
    import_components(config, str(path), path if path.suffix == ".json" else None)
    return _with_class_set(_with_options(config, options))


def existing_config(given: str | Path) -> Path:
    """Path of a config that is given by its path, or as a published one by its name.

    Raises:
        ConfigError: there is no such file.
    """
    path = find_config(given)
    if not path.is_file():
        address = address_remedy(path)
        raise ConfigError(f"config file {path} does not exist{f'; {address}' if address else _similar_file(path)}")
    return path


def config_from_data(content: Mapping[str, Any], where: str, file: Path) -> Config:
    """A resolved config from its keys and values, which are read as data.

    Args:
        where: what holds them, for messages.
        file: file that holds them.

    Raises:
        ConfigError: they ask for code, or have another layout.
    """
    _refuse_code(content, where)
    refuse_foreign_keys(where, content)
    config = _from_data(content, where)
    import_components(config, where, file)
    return config


def is_work_dir_config(path: Path) -> bool:
    """Whether a file is the config of a work dir: it is named after its folder, up to '['."""
    return path.stem == without_note(path.resolve().parent.name)


def _similar_file(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings) or similar_config(path)


def _json_config(path: Path) -> Config:
    content = _json_content(path)
    return _from_file(path) if BASE in content else _from_data(content, str(path))


def _json_content(path: Path, depth: int = 0) -> dict[str, Any]:
    """Content of a JSON config, once it and its bases were checked for anything that would run code.

    Raises:
        ConfigError: naming the file and what would run.
    """
    try:
        content = read_json(path, error=ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be read as a config: it {str(error).removeprefix(f'{path} ')}") from error
    _refuse_code({key: value for key, value in content.items() if key != BASE}, str(path))
    if BASE in content:
        _check_bases(path, content[BASE], depth)
    return content


def _refuse_code(content: Mapping[str, Any], where: str) -> None:
    """Refuse what a config framework would run or substitute.

    Raises:
        ConfigError: naming it.
    """
    if BASE in content:
        raise ConfigError(
            f"{where} has the key {BASE}={shown(content[BASE])}, which would run code: it is read as data. Remove "
            "the key or, if you trust it, give your own .py config"
        )
    for text in _texts(content):
        if "{{" in text:
            raise ConfigError(
                f"{where} holds {shown(text)}: variables in {{{{ }}}} are not substituted in a JSON file, which is "
                "read as data; write the value itself"
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _check_bases(path: Path, bases: Any, depth: int) -> None:
    """Refuse a ``_base_`` of a JSON file that could be untrusted code.

    Raises:
        ConfigError: naming file and base.
    """
    names = [bases] if isinstance(bases, str) else bases
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{path}: _base_ is {shown(bases)}; give the path of a config")
    if is_work_dir_config(path):
        raise ConfigError(
            f"{path} names the _base_ {shown(names[0])}: the config of a work dir is resolved, and read as data. "
            "Remove the key or, if you trust it, give your own .py config"
        )
    if depth == MOST_BASES:
        raise ConfigError(f"{path}: more than {MOST_BASES} configs are each the _base_ of another")
    trusted = path.resolve().parent == GENERATED_CONFIGS.resolve()
    for name in names:
        # Links are not followed, as in the framework: bases of a linked file would be looked for next to the link.
        base = Path(os.path.abspath(path.parent / name))
        if not base.is_file():
            refuse_foreign_text(path)
            raise ConfigError(f"{path}: a file that its _base_ names does not exist: {base}")
        if base.suffix == ".json":
            _json_content(base, depth + 1)
        elif base.suffix != ".py" or not (trusted or any(base.is_relative_to(place) for place in PROJECT_CONFIGS)):
            raise ConfigError(
                f"{path} names the _base_ {shown(name)}, which would be run as code: a JSON file may have .py bases "
                f"in {PROJECT_CONFIGS[0]} only. If you trust it, give a .py config with that _base_"
            )


def _refuse_yaml(path: Path, seen: frozenset[Path] = frozenset()) -> None:
    """Refuse YAML among the bases of a Python config: its tags could run code that the config does not show.

    Raises:
        ConfigError: naming both files.
    """
    for name in _named_bases(path):
        base = Path(os.path.abspath(path.parent / str(name)))
        if base.suffix in (".yml", ".yaml"):
            raise ConfigError(f"{path}: the _base_ {shown(name)} is YAML; give a .py or .json file")
        if base.suffix == ".py" and base not in seen:
            _refuse_yaml(base, seen | {base})


def _named_bases(path: Path) -> list[Any]:
    """What a Python config assigns to ``_base_``, without running it."""
    found: list[Any] = []
    try:
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == BASE for t in node.targets):
                bases = ast.literal_eval(node.value)
                found += bases if isinstance(bases, (list, tuple)) else [bases]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # running the file reports what is wrong
    return found


def _from_data(content: Mapping[str, Any], where: str) -> Config:
    try:
        return Config(copy.deepcopy(content))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be read as a config: {_one_line(error)}") from error


def _from_file(path: Path) -> Config:
    if path.suffix == ".py":
        _refuse_yaml(path)
    try:
        return Config.fromfile(str(path), import_custom_modules=False)
    except FileNotFoundError as error:
        refuse_foreign_text(path)
        raise ConfigError(f"{path}: a file that its _base_ names does not exist: {_one_line(error)}") from error
    except Exception as error:  # a Python config can raise anything
        refuse_foreign_text(path)
        raise ConfigError(f"{path} cannot be read as a config: {type(error).__name__}: {_one_line(error)}") from error


def _with_options(config: Config, options: Mapping[str, Any] | None) -> Config:
    options = dict(options or {})
    for key, value in options.items():
        if key.split(".")[0] in (BASE, IMPORTS):
            raise ConfigError(f"{key}={shown(value)} cannot be set as an option; give your own .py config")
    options, notes = without_other_kinds(config, options)
    for note in notes:
        logging.getLogger(__name__).warning("note: %s", note)
    try:
        config.merge_from_dict(copy.deepcopy(options))
    except Exception as error:  # anything: a value that does not fit the config
        culprit = next((key for key in options if not _applies(config, key, options[key])), ", ".join(options))
        raise ConfigError(f"{culprit}={shown(options.get(culprit))} cannot be set: {_one_line(error)}") from error
    return config


def _with_class_set(config: Config) -> Config:
    """A config that holds its class set itself, not the path of a file."""
    given = config.get("classes")
    held = with_content(given)
    if held is not given:
        config.classes = held
    return config


def _applies(config: Config, key: str, value: Any) -> bool:
    try:
        config.copy().merge_from_dict({key: value})
    except Exception:  # as above
        return False
    return True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
