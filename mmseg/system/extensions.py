"""Modules from outside that register components, and their import in processes that this one starts."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping

# Names of modules, separated by commas, that a config read as data may import; ANY_MODULE for all of them.
# Processes that this one starts inherit it.
CONSENT = "CMDA_CUSTOM_IMPORTS"
ANY_MODULE = "*"
# module -> folder of its top-level package
_modules: dict[str, str] = {}


def allow_extensions() -> None:
    """Give consent to the modules that configs which are read as data want to import."""
    os.environ[CONSENT] = ANY_MODULE


def refused_extensions(names: Iterable[str]) -> list[str]:
    """Modules without the user's consent."""
    allowed = [name.strip() for name in os.environ.get(CONSENT, "").split(",")]
    return [] if ANY_MODULE in allowed else [name for name in names if name not in allowed]


def note_extension(name: str) -> None:
    """Remember a module that was imported for the components it registers."""
    package = sys.modules[name.split(".")[0]]
    places = [*getattr(package, "__path__", ()), getattr(package, "__file__", None) or ""]
    _modules[name] = os.path.dirname(os.path.abspath(places[0])) if places[0] else ""


def extensions() -> dict[str, str]:
    """Modules of :func:`note_extension` and where they are, to be handed to a process."""
    return dict(_modules)


def extension_environment() -> dict[str, str]:
    """Environment in which a script that this process starts may import the modules that this process imported."""
    if not _modules or os.environ.get(CONSENT) == ANY_MODULE:
        return {}
    given = [name for name in os.environ.get(CONSENT, "").split(",") if name]
    # Relative entries are refused for a config that is data.
    folders = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}
    return {CONSENT: ",".join(dict.fromkeys([*given, *_modules])), **path}


def import_extensions(modules: Mapping[str, str]) -> None:
    """Import modules in a process that was spawned; a forked one has them already.

    Args:
        modules: of :func:`extensions`; a module of the same name in another folder is not taken.
    """
    for name, folder in modules.items():
        if name not in sys.modules:
            before = sys.path[:]
            sys.path[:0] = [folder] if folder else []
            try:
                importlib.import_module(name)
            finally:
                sys.path[:] = before
        _modules[name] = folder
