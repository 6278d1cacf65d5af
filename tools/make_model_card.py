"""Write the model card of a run: data, config, scores, hashes, environment."""

import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.commands.model_card import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
