"""Make the image changes of Cityscapes (leftImg8bit_IC1) from leftImg8bit_sequence."""

import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.commands.make_image_change import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
