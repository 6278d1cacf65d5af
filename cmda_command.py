"""Entry point of ``cmda``: refuses to run where another package is called ``mmseg``, before that is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

REMEDY = (
    "Install CMDA into an environment of its own: python -m venv cmda-env, then cmda-env/bin/pip install with what "
    "you installed here"
)


def main() -> None:
    """Run ``cmda``.

    Raises:
        SystemExit: 2, after one line on stderr, if the package ``mmseg`` is not ours.
    """
    fault = conflict()
    if fault:
        print(f"error: {fault}. {REMEDY}", file=sys.stderr)
        raise SystemExit(2)
    from mmseg.commands.main import main as run

    run()


def conflict() -> str:
    """Why ``mmseg`` may not be ours; '' if it is."""
    try:
        version = importlib.metadata.version("mmsegmentation")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        return (
            f"MMSegmentation {version} is installed in this environment ({sys.prefix}) too. Its package is also called "
            "mmseg: each replaces files of the other"
        )
    found = importlib.util.find_spec("mmseg")
    ours = Path(__file__).with_name("mmseg") / "__init__.py"
    if found is None or found.origin is None or os.path.realpath(found.origin) != os.path.realpath(ours):
        return f"the package mmseg of {found.origin if found else 'nowhere'} hides that of CMDA, {ours.parent}"
    return ""
