"""Convert the Cityscapes labels to train ids, and write class statistics and split lists."""

import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg.commands.convert_cityscapes import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
