"""``cmda`` without an installation: ``python <path of this folder> train CONFIG``, or ``python -m mmseg.commands``."""

import sys
from pathlib import Path

if not __package__:
    # Started by its path. Modules here must not hide others of the same name, such as test, nor another mmseg ours.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mmseg.commands.main import main

if __name__ == "__main__":
    main()
