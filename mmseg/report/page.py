"""A report as one self-contained HTML file. Everything that comes from files is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from mmseg import __version__
from mmseg.io.files import write_text
from mmseg.report.charts import charts_of, training_section
from mmseg.report.confusion import confusion_section
from mmseg.report.data import MAX_FRAMES, Report, collect
from mmseg.report.frames import frames_section
from mmseg.report.gallery import frame_pictures
from mmseg.report.regions import regions_section
from mmseg.report.scores import classes_section, page_header, summary_section


def write_report(folders: Sequence[str | Path], path: str | Path, max_frames: int = MAX_FRAMES) -> Report:
    """Write the report of test folders or work dirs.

    Args:
        folders: see :func:`mmseg.report.data.collect`.
        path: file to write.
        max_frames: maximum number of frames to show.

    Raises:
        CMDAError: nothing to report, or a file cannot be read.
        OSError: the report cannot be written.
    """
    report = collect(folders, max_frames)
    write_text(path, render(report))
    return report


def render(report: Report) -> str:
    """The whole page."""
    # Encoded once per frame; all else on the page is text and numbers.
    pictures = {name: frame_pictures(report, name) for name in report.frames}
    sections = [
        ("summary", "Summary", summary_section(report)),
        ("classes", "Classes", classes_section(report.tests)),
        ("regions", "Light and edges", regions_section(report.tests)),
        ("confusion", "Confusion", confusion_section(report.tests)),
        ("curves", "Training", training_section(report)),
        ("gallery", "Frames", frames_section(report, pictures)),
    ]
    present = [(key, title, content) for key, title, content in sections if content]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in present)
    main = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
        for key, title, content in present
    )
    body = (
        f'<header class="top"><div class="wide">{page_header(report)}</div></header>'
        f'<nav class="bar" aria-label="Sections"><ul class="wide">{links}</ul></nav>'
        f'<main id="content" class="wide" tabindex="-1">{main}</main>'
        f'<footer class="wide">Made with CMDA {__version__}. This file is self-contained.</footer>'
    )
    package = files(__package__)
    script = package.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(package.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{report.title} · CMDA report"),
        version=__version__,
        style=package.joinpath("page.css").read_text(encoding="utf-8"),
        body=body,
        data=_script_safe(_data(report)),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _script_safe(data: Any) -> str:
    """JSON that cannot close the HTML element that contains it."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(report: Report) -> dict[str, Any]:
    """Data for the script of the page."""

    def rounded(value: float) -> float | None:
        return None if math.isnan(value) else round(100 * float(value), 2)

    frames = []
    for name in report.frames:
        scores = [test.frames.get(name) for test in report.tests]
        pixels = next((s.label_pixels for s in scores if s is not None), np.zeros(0))
        frames.append(
            {
                "name": name,
                "classes": np.flatnonzero(pixels).tolist(),
                "mean": [None if s is None else rounded(s.mean_iou) for s in scores],
                "iou": [None if s is None else [rounded(value) for value in s.iou] for s in scores],
            }
        )
    charts = [
        {str(run): [line.iterations, line.values] for run, line in chart.lines.items()}
        for chart in charts_of(report.runs)
    ]
    return {
        "classes": report.classes.names,
        "colors": report.classes.palette,
        "tests": [test.label for test in report.tests],
        "runs": [run.name for run in report.runs],
        "frames": frames,
        "charts": charts,
    }
