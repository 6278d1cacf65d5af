"""Any sequences of DSEC (Gehrig et al., RA-L 2021) as a target without labels; its nights by default."""

from __future__ import annotations

from pathlib import Path

from mmseg.datasets.dsec_frames import read_timestamps
from mmseg.preparation.dsec_lists import HELD_OUT_FRAMES
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import Lines, thinned
from mmseg.preparation.layouts.dsec_sequences import TIMES, Frame, add_frames, find_sequences, warped_images
from mmseg.preparation.manifests import ManifestContent

# The nights of DSEC. Those of DSEC Night are the sequences 09; 12_a is of DSEC's test split.
NIGHTS = (
    "zurich_city_03_a",
    *HELD_OUT_FRAMES,
    "zurich_city_10_a",
    "zurich_city_10_b",
    "zurich_city_12_a",
)
HELD_OUT = "they are kept for the test of DSEC Night"
NO_TIME = "timestamps.txt has no line for them"


def find(root: Path, selection: Selection) -> ManifestContent:
    """Images of sequences, with the events since the image before, as in the published training.

    Images around the labelled ones of DSEC Night are left out, as there.

    Raises:
        DataError: a sequence or one of its files is missing or damaged, or nothing is left.
    """
    lines = Lines("DSEC")
    for sequence in find_sequences(root, NIGHTS, selection.sequences):
        times = read_timestamps(sequence / TIMES).tolist()
        held_out = HELD_OUT_FRAMES.get(sequence.name, range(0))
        frames: list[Frame] = []
        for number, image in sorted(warped_images(sequence).items()):
            if number in held_out:
                lines.content.left_out[HELD_OUT] += 1
            elif not 0 < number < len(times):
                lines.content.left_out[NO_TIME if number else "no image precedes them"] += 1
            else:
                frames.append(Frame(image, times[number], {"since": times[number - 1]}))
        add_frames(lines, sequence, thinned(frames, selection))
    lines.content.header["events"] = {"mapping": "rectify_map"}
    return lines.done()
