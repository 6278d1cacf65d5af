"""Demonstrate CMDA on a generated toy city: data, day network, adaptation to the night, test, comparison."""

import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.commands.demo import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
