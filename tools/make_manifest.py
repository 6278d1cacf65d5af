"""Make a manifest of your own images or video, or of a published data set, with or without events and labels."""

import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.commands.make_manifest import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
