"""Section of a report with the pictures of each frame, and the controls that order and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mmseg.report.data import Report, Test
from mmseg.report.gallery import INPUTS, LABEL, Picture
from mmseg.report.markup import key_mark, percent, swatch


def frames_section(report: Report, pictures: dict[str, list[Picture]]) -> str:
    """The frames of a report with their pictures by frame name; '' without frames."""
    frames = "".join(_frame(report.tests, n, name, pictures[name]) for n, name in enumerate(report.frames))
    if not frames:
        return ""
    scored = any(frame is not None for test in report.tests for frame in test.frames.values())
    order = f"worst first by the mean IoU of {escape(report.tests[0].label)}" if scored else "in order of their names"
    count = len(report.frames)
    # The script shows the order below the controls.
    intro = f"{count} frame{'s' if count > 1 else ''}<span class=without-js>, {order}</span>."
    if scored:
        intro += " The mean IoU of a frame covers the classes in its label."
    if report.left_out:
        kind = "the worst of" if scored else "an even selection of"
        intro += f" <strong>{report.left_out} more are left out</strong>: these are {kind} {count + report.left_out}."
    if not any(picture.key == "image" for shown in pictures.values() for picture in shown):
        intro += " The tests were made without panels, so there are no inputs and labels to show."
    legend = "".join(
        f"<li>{swatch(color)}{escape(name)}</li>"
        for color, name in zip(report.classes.palette, report.classes.names, strict=True)
    )
    return (
        f"<p>{intro}</p>{_toolbar(report, pictures, scored)}"
        f'<ul class="legend" aria-label="Colours of the classes">{legend}'
        '<li><span class="swatch" style="--s:#000"></span>ignored</li></ul>'
        f'<ol class="frames" id="frames">{frames}</ol>'
    )


def _toolbar(report: Report, pictures: dict[str, list[Picture]], scored: bool) -> str:
    controls = [*(_order_controls(report) if scored else []), *_overlay_controls(report.tests, pictures)]
    if not controls:
        return ""
    status = '<p class="status" id="status" role="status"></p>'
    return f'<div class="tools needs-js" role="group" aria-label="Show frames">{"".join(controls)}{status}</div>'


def _select(key: str, title: str, options: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<label>{title} <select id="{key}">{inner}</select></label>'


def _order_controls(report: Report) -> list[str]:
    """Controls that choose and sort the frames."""
    held = np.zeros(len(report.classes), np.int64)
    for name in report.frames:
        frame = next((f for f in (test.frames.get(name) for test in report.tests) if f is not None), None)
        held += 0 if frame is None else frame.label_pixels > 0
    classes = [(str(i), f"{report.classes.names[i]} ({held[i]})") for i in np.flatnonzero(held)]
    controls = [_select("class-filter", "Class", [("", "all classes"), *classes])]
    if len(report.tests) > 1:
        controls.append(_select("score-of", "Score of", [(str(n), t.label) for n, t in enumerate(report.tests)]))
    orders = [("worst", "worst first"), ("best", "best first"), ("name", "by name")]
    return [*controls, _select("order", "Order", orders)]


def _overlay_controls(tests: Sequence[Test], pictures: dict[str, list[Picture]]) -> list[str]:
    """Controls that lay one picture over another; empty if there is nothing to lay a prediction over."""
    titles = {picture.key: picture.title for shown in pictures.values() for picture in shown}
    below = [(key, titles[key]) for key in (*INPUTS, LABEL) if key in titles]
    above = [(f"test{n}", test.title) for n, test in enumerate(tests) if f"test{n}" in titles]
    if LABEL in titles:
        above += [(f"errors-{key}", f"errors of {title}") for key, title in above]
    above += [(key, title) for key, title in below if key != "image"]
    if not (below and above):
        return []
    return [
        _select("base", "Below", below),
        _select("over", "Above", above),
        _select("mode", "By", [("wipe", "wiping"), ("blend", "blending")]),
        '<label class="all">All frames <input id="all" type="range" min="0" max="100" value="50" '
        'aria-label="How much of the upper picture is shown, in all frames"></label>',
    ]


def _frame(tests: Sequence[Test], number: int, name: str, pictures: Sequence[Picture]) -> str:
    title = escape(name)
    scores = [(n, test, test.frames.get(name)) for n, test in enumerate(tests)]
    chips = "".join(
        f'<li data-test="{n}">{key_mark(test.color)}{escape(test.label)} <b>{percent(frame.mean_iou)}</b></li>'
        for n, test, frame in scores
        if frame is not None
    )
    strip = "".join(
        f'<li><label><input type="radio" name="over-{number}" value="{p.key}" class="needs-js">'
        f'<img src="{p.uri}" alt="{title}: {escape(p.title)}" data-key="{p.key}"'
        f"{' class=map' if p.classes else ''} decoding=async><span>{escape(p.title)}</span></label></li>"
        for p in pictures
    )
    missing = [test.label for n, test in enumerate(tests) if not any(p.key == f"test{n}" for p in pictures)]
    gone = f'<p class="note">No prediction here: {escape(", ".join(missing))}</p>' if missing else ""
    stage = (
        '<div class="stage needs-js" aria-hidden="true"><img class="base" alt=""><img class="over" alt="">'
        '<span class="seam"></span></div>'
        f'<input class="slide needs-js" type="range" min="0" max="100" value="50" '
        f'aria-label="How much of the upper picture is shown, {title}">'
        f'<div class="below needs-js"><p class="under">&nbsp;</p><button type="button" class="save" '
        f'aria-label="Save the picture of {title} as PNG">Save</button></div>'
        if len(pictures) > 1
        else ""
    )
    return (
        f'<li class="frame" data-frame="{number}"><h3>{title}</h3><ul class="chips">{chips}</ul>{stage}'
        f'<ul class="strip" role="group" aria-label="Pictures of {title}">{strip}</ul>{gone}</li>'
    )
