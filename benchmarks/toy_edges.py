"""How much of the scene events and content maps show at night: the share of label edges next to a strong value.

Measured on the test frames of a toy city. An edge is a pixel whose left or upper neighbour has another label; a value
is strong if it is above ``--threshold`` (both inputs have values from -1 to 1) and at most two pixels away. Next to it
stands the share of strong values inside objects, where texture and noise are.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser
from mmseg.errors import run_as_script

REACH = 2
INPUTS = ("events", "content map")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/toy_edges.py data/toy_city",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("city", type=Path, help="folder of a toy city, see tools/make_toy_data.py")
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="values above it are strong (default: %(default)s)"
    )
    return parser.parse_args()


def frames(city: Path) -> Iterator[tuple]:
    """Yield label, grey levels, voxel grid and content map of every test frame, each (H, W)."""
    import numpy as np
    import torch

    from mmseg.datasets.dsec_night import DSECDataset
    from mmseg.extractors.content import NIGHT_PARAMS, content_map, grey_level
    from mmseg.io.image_files import open_image

    dataset = DSECDataset(
        dataset_txt_path=str(city / "night_test_dataset_warp.txt"), outputs=["warp_image", "events_vg", "label"]
    )
    for index, frame in enumerate(dataset.frames):
        sample = dataset[index]
        label = sample["label"].squeeze().numpy()
        image = np.asarray(open_image(frame.warp_image, "RGB"))[: len(label)]
        grey = grey_level(torch.from_numpy(image.copy()).permute(2, 0, 1))
        content = content_map(grey, NIGHT_PARAMS, "rightdown").abs().numpy()
        yield label, grey.numpy(), sample["events_vg"].abs().amax(dim=0).numpy(), content


def count(city: Path, threshold: float) -> Counter:
    """Pixels by (region, what, input or ``all``)."""
    import cv2
    import numpy as np

    from mmseg.classes import IGNORE_LABEL
    from mmseg.evaluation.regions import DARK_BELOW, GLARE_FROM

    def near(mask: np.ndarray) -> np.ndarray:
        side = 2 * REACH + 1
        return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0

    found: Counter = Counter()
    for label, grey, events, content in frames(city):
        labelled = label != IGNORE_LABEL
        edges = np.zeros(label.shape, bool)
        edges[:, 1:] |= (label[:, 1:] != label[:, :-1]) & labelled[:, 1:] & labelled[:, :-1]
        edges[1:] |= (label[1:] != label[:-1]) & labelled[1:] & labelled[:-1]
        inside = labelled & ~near(edges)
        levels = {"dark": grey < DARK_BELOW, "glare": grey >= GLARE_FROM}
        regions = {"all": labelled, "dark": levels["dark"], "middle": ~levels["dark"] & ~levels["glare"]}
        for region, mask in (regions | {"glare": levels["glare"]}).items():
            found[region, "edges", "all"] += int((edges & mask).sum())
            found[region, "inside", "all"] += int((inside & mask).sum())
            for name, values in zip(INPUTS, (events, content), strict=True):
                strong = values > threshold
                found[region, "edges", name] += int((near(strong) & edges & mask).sum())
                found[region, "inside", name] += int((strong & inside & mask).sum())
    return found


def main() -> None:
    """Print a table in Markdown."""
    args = parse_args()
    found = count(args.city, args.threshold)
    columns = [(what, name) for what in ("edges", "inside") for name in INPUTS]
    print("| pixels | " + " | ".join(f"{what}: {name}" for what, name in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for region in dict.fromkeys(region for region, _, _ in found):
        shares = [100 * found[region, what, name] / max(1, found[region, what, "all"]) for what, name in columns]
        print(f"| {region} | " + " | ".join(f"{share:.0f} %" for share in shares) + " |")


if __name__ == "__main__":
    run_as_script(main)
