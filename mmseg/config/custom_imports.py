"""``custom_imports`` of a config: modules from outside that register components when they are imported.

A Python config that the user names is code, so its modules are imported like those of any script. A JSON config, or the
config in a checkpoint, is data: its modules are imported only with the user's consent, and never from the folder that
the config came in or from the working directory.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from mmseg import registry
from mmseg.config.fields import parse
from mmseg.config.run import CustomImports
from mmseg.config.uda import describe_methods
from mmseg.errors import ConfigError
from mmseg.system.extensions import CONSENT, note_extension, refused_extensions
from mmseg.system.text import printable

IMPORTS = "custom_imports"
# Option of the scripts that gives consent.
OPTION = "--allow-custom-imports"
PAGE = "docs/extend.md"
_SHOWN_FOLDERS = 6


def import_components(config: Mapping[str, Any], where: str, data_file: Path | None = None) -> None:
    """Import the modules of ``custom_imports`` of a config.

    Args:
        config: a config with its bases.
        where: the config, for messages.
        data_file: file that holds the config, if it is read as data; None for code of the user.

    Raises:
        ConfigError: values of another kind, no consent, or a module that cannot be imported.
    """
    given = config.get(IMPORTS)
    if given is None:
        return
    imports = parse(CustomImports, IMPORTS, given)
    missing = [name for name in imports.names if name not in sys.modules]
    if data_file is not None:
        _check_consent(missing, where)
    if missing:
        _register_own()
    # of the file, and of the one that it is a link to
    came_with = () if data_file is None else (data_file.parent.resolve(), data_file.resolve().parent)
    with _search_path(came_with):
        for name in imports.names:
            try:
                if came_with and name in missing:
                    _check_origin(name, came_with)
                _import(name, where, bool(came_with))
            except ConfigError as error:
                if not imports.allow_failed_imports:
                    raise
                print(f"warning: {printable(str(error))}", file=sys.stderr)
            else:
                note_extension(name)
    describe_methods(registry.UDA.module_dict)


def _check_consent(names: Sequence[str], where: str) -> None:
    """Refuse modules that a config asks for by itself.

    Raises:
        ConfigError: naming them and the option.
    """
    refused = refused_extensions(names)
    if refused:
        listed = ", ".join(refused)
        raise ConfigError(
            f"{where} has {IMPORTS} of {listed}, which would run code, and is read as data. If you know and have "
            f"installed {'them' if len(refused) > 1 else 'it'}, add {OPTION} (or set {CONSENT}={','.join(refused)}); "
            f"see {PAGE}"
        )


def _register_own() -> None:
    """Register the components of this project first, so that a name that is taken is an error of the module."""
    for one in registry.REGISTRIES:
        one.import_from_location()


@contextmanager
def _search_path(came_with: Sequence[Path]) -> Iterator[None]:
    """Look for modules of a config that is data, from these folders, in the user's own environment only."""
    before = sys.path[:]
    if came_with:
        sys.path[:] = [entry for entry in before if not _is_strange(entry, came_with)]
    try:
        yield
    finally:
        if came_with:
            sys.path[:] = before


def _is_strange(entry: str, came_with: Sequence[Path]) -> bool:
    """Whether a folder of ``sys.path`` is the working directory, unless PYTHONPATH spells it out, or came with data."""
    folder = Path(entry or ".").resolve()
    if any(_came_with(folder, place) for place in came_with):
        return True
    spelt_out = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(part)]
    return folder == Path.cwd().resolve() and folder not in [Path(part).resolve() for part in spelt_out]


def _came_with(path: Path, folder: Path) -> bool:
    """Whether a path is in the folder of a config, and not in this Python's installation, which may be there, too."""
    installed = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return _is_in(path, folder) and not any(_is_in(path, place) for place in installed)


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _check_origin(name: str, came_with: Sequence[Path]) -> None:
    """Find a module without running it or a package above it, and refuse one that came with the config.

    Raises:
        ConfigError: naming the file.
    """
    parts = name.split(".")
    path: Sequence[str] | None = None
    for depth in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:depth]), path)
        if spec is None:
            return  # the import says what is missing
        places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else [])]
        for place in places:
            if place and any(_came_with(Path(place), folder) for folder in came_with):
                raise ConfigError(
                    f"{IMPORTS}: {name} is {place}, which came with the config: nothing in that folder is run. If you "
                    "trust it, install it elsewhere"
                )
        path = list(spec.submodule_search_locations or ())


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _import(name: str, where: str, is_data: bool) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a module can raise anything
        # The package itself is missing, not something that it imports.
        absent = isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}.")
        text = " ".join(str(error).split())[:300]
        if absent:
            limits = " (as the config is data, its folder and the current one are left out)" if is_data else ""
            raise ConfigError(
                f"{IMPORTS} of {where}: there is no module {name} ({text}) in {_folders()}{limits}; add the folder of "
                "its package to PYTHONPATH, or install it with pip install -e FOLDER"
            ) from error
        raise ConfigError(
            f"{IMPORTS} of {where}: {name} cannot be imported: {type(error).__name__}: {text}{_place(error)}"
        ) from error


def _folders() -> str:
    """The folders that were searched, without the standard library."""
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    folders = [str(Path(entry or ".").resolve()) for entry in dict.fromkeys(sys.path)]
    own = [f for f in folders if "site-packages" in f or not (_is_in(Path(f), standard) or f.endswith(".zip"))]
    more = f" and {len(own) - _SHOWN_FOLDERS} more" if len(own) > _SHOWN_FOLDERS else ""
    return ", ".join(own[:_SHOWN_FOLDERS]) + more


def _place(error: BaseException) -> str:
    """File and line that raised an error, outside of the import system."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    last = frames[-1] if frames else None
    return f" ({last.filename}, line {last.lineno})" if last and not last.filename.startswith(__file__) else ""
