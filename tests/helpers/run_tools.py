"""Work dirs with scores, in the format of a training."""

import json
from pathlib import Path


def metrics(miou: float, road: float | None, output: str = "fusion", **tested) -> dict:
    scores = {"mIoU": miou, "mIoU_18": miou + 0.01, "mAcc": 0.5}
    per_class = {"road": {"IoU": road, "Acc": 0.9}, "truck": {"IoU": None, "Acc": None}}
    return {"model": "student", **tested, "output": output, "samples": 5, "scores": scores, "per_class": per_class}


def make_run(folder: Path, name: str, seed: int = 0, first: float = 0.2, last: float = 0.3, **config) -> Path:
    """Work dir with two evaluations, after 2 and 4 iterations."""
    work_dir = folder / f"261122_1200_{name}_0a1b{seed}"
    settings = {"name": work_dir.name, "work_dir": str(work_dir), "git_rev": str(seed), "seed": seed, **config}
    settings["data"] = {"val": {"outputs": ["label", "image"] if seed else ["image", "label"]}}
    write(work_dir / f"{work_dir.name}.json", settings)
    lines = [{"mode": "train", "iter": 1, "loss": 1.0}]
    for iteration, miou in ((2, first), (4, last)):
        of = metrics(miou, 2 * miou, iteration=iteration)
        write(work_dir / "evaluations" / f"iter_{iteration}" / "metrics.json", of)
        lines.append({"mode": "val", "iter": iteration, **of["scores"]})
    (work_dir / f"{work_dir.name}.log.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return work_dir


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
