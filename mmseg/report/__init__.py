"""Reports of tests and trainings: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmseg.io.files import write_text
from mmseg.report.data import MAX_FRAMES, Report, collect
from mmseg.report.page import render

__all__ = ["MAX_FRAMES", "Report", "collect", "render", "write_report"]


def write_report(folders: Sequence[str | Path], path: str | Path, max_frames: int = MAX_FRAMES) -> Report:
    """Write the report of test folders or work dirs.

    Args:
        folders: see :func:`mmseg.report.data.collect`.
        path: file to write.
        max_frames: number of frames to show at most.

    Raises:
        CMDAError: nothing to report, or a file cannot be read.
        OSError: the report cannot be written.
    """
    report = collect(folders, max_frames)
    write_text(path, render(report))
    return report
