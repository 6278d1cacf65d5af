"""Messages for a Python that is too old or lacks a package.

Imports only what an old standard library has too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

OLDEST = (3, 11)
REPOSITORY = Path(__file__).resolve().parents[2]


def check_version() -> None:
    """Exit with one line if Python is too old.

    Raises:
        SystemExit: 2.
    """
    if sys.version_info >= OLDEST:
        return
    least = ".".join(map(str, OLDEST))
    _, remedy = _remedies()
    print(f"error: this is {_running()}; {least} or newer is needed: {remedy}", file=sys.stderr)
    raise SystemExit(2)


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Message for a package that cannot be imported; None if the module belongs to this project."""
    package = (error.name or "mmseg").partition(".")[0]
    if package == "mmseg":
        return None
    remedy, _ = _remedies()
    return f"the package {package!r} is not installed in {_running()}: {remedy}"


def _running() -> str:
    return f"Python {'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})"


def _remedies() -> tuple[str, str]:
    """Remedies for a missing package and for an old Python."""
    environment = REPOSITORY / ".venv"
    python = environment / "bin" / "python"
    if not python.exists():
        mine = f"{sys.executable} -m pip install -r {REPOSITORY / 'requirements.txt'}"
        make = f"'make -C {REPOSITORY} install' makes an environment in {environment}"
        return f"{make}; to use this Python, {mine}", f"{make}, with PYTHON=<a newer python> where it finds an old one"
    if os.path.realpath(sys.prefix) == os.path.realpath(environment):
        again = f"'make -C {REPOSITORY} install'"
        return f"{again} installs what is missing", f"remove {environment}, then {again} PYTHON=<a newer python>"
    activate = f"activate the environment of the project, 'source {environment}/bin/activate', or run {python}"
    return activate, activate
