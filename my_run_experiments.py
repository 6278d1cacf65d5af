"""Train one or several experiments, derived from base configs."""

import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mmseg.commands.run_experiments import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
