"""Reports: reading results, rendering them, and handling incomplete or hostile files."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.report_tools import CAR, HEIGHT, TRAIN, WIDTH, make_run, make_test
from helpers.script_tools import run
from PIL import Image

from mmseg.apis.testing import report_of_test
from mmseg.classes import CLASSES, PALETTE
from mmseg.errors import ConfigError, DataError
from mmseg.evaluation.metrics import scores
from mmseg.report.charts import MAX_POINTS, charts_of, ticks
from mmseg.report.data import Run, choose_frames, collect, read_curves, read_test
from mmseg.report.markup import bar_cell, best_of, key_mark
from mmseg.report.page import render, write_report
from mmseg.report.pictures import class_map_uri, photo_uri, train_ids

ROOT = Path(__file__).resolve().parents[2]
VOID = {"area", "base", "br", "circle", "col", "hr", "img", "input", "line", "link", "meta", "polyline"}


class Page(HTMLParser):
    """Elements of a page; checks that every element is closed in order and ids are unique."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def all(self, tag: str, **attributes) -> list[dict]:
        """Attributes of the elements of a tag that have these values."""
        return [of for name, of in self.elements if name == tag and attributes.items() <= of.items()]


def pixels(uri: str) -> np.ndarray:
    """Pixels of a data URI, RGB."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB"))


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "261122_1200_night_0a1b2")


@pytest.fixture(scope="module")
def page(work_dir) -> Page:
    return Page(render(collect([work_dir])))


# Files of an evaluation


def test_details_of_an_evaluation(work_dir):
    details = json.loads((work_dir / "preds" / "details.json").read_text())
    metrics = json.loads((work_dir / "preds" / "metrics.json").read_text())
    assert (details["classes"], details["absent"]) == (list(CLASSES), ["truck"])
    assert details["panel"] == ["image", "events", "prediction (fusion)", "label"]
    of_all = scores(np.array(details["confusion"]), [CLASSES.index("truck")])
    assert of_all.mean_iou == metrics["scores"]["mIoU"]
    frame = details["frames"][1]
    assert (frame["name"], frame["label_pixels"][CAR]) == ("night_01", 12 * 14)
    present = [i for i, count in enumerate(frame["label_pixels"]) if count]
    assert frame["mIoU"] == pytest.approx(np.mean([frame["IoU"][i] for i in present]), abs=1e-6)
    assert frame["IoU"][TRAIN] is None
    assert sum(frame["label_pixels"]) == (HEIGHT - 2) * WIDTH
    assert not list((work_dir / "preds").glob(".*tmp*"))


def test_details_without_labels_and_panels(tmp_path):
    details = json.loads((make_test(tmp_path, labelled=False, panels=False) / "details.json").read_text())
    assert (details["confusion"], details["panel"]) == (None, None)
    assert details["frames"][0] == {"name": "night_00"}


# Reading


def test_tests_of_a_work_dir(work_dir):
    report = collect([work_dir])
    assert [test.color for test in report.tests] == [0, 1, 2]
    assert [(test.label, test.iteration) for test in report.tests] == [("fusion", 40), ("image", 40), ("events", 40)]
    assert report.runs[0].name == "night"
    assert report.runs[0].curves["train", "decode.loss_seg"].values[:2] == (2.0, 1.0)
    assert report.frames[0] == "night_04"  # the noisiest
    assert report.left_out == 0


def test_test_folder_brings_other_outputs_of_its_run(work_dir):
    report = collect([work_dir / "preds_image"])
    assert [test.label for test in report.tests] == ["image", "events", "fusion"]
    assert report.runs


def test_siblings_of_other_frames_and_copies_are_left_out(tmp_path):
    run = make_run(tmp_path / "run", ("fusion",))
    shutil.copytree(run / "preds", run / "preds_fusion")
    make_test(run / "preds_image", "image", frames=3)
    assert [test.folder.name for test in collect([run / "preds"]).tests] == ["preds"]
    assert [test.folder.name for test in collect([run]).tests] == ["preds", "preds_image"]


def test_labels_are_unique(tmp_path):
    run = make_run(tmp_path / "run", ("fusion",))
    make_test(run / "preds_teacher", noise=0.5, tested={"model": "teacher"})
    make_test(run / "preds_train_isr_parms", noise=0.1)
    assert [t.label for t in collect([run]).tests] == [
        "fusion · preds",
        "fusion · preds_train_isr_parms",
        "fusion · teacher",
    ]
    make_test(run / "preds_train_isr_parms", noise=0.1, tested={"checkpoint": "iter_20.pth"})
    assert [t.label for t in collect([run]).tests][:2] == ["fusion · iteration 40", "fusion · iteration 20"]


def test_last_evaluation_stands_in_for_tests(tmp_path):
    run = make_run(tmp_path / "run", ())
    for iteration in (5, 40, 10):
        make_test(run / "evaluations" / f"iter_{iteration}", tested={"iteration": iteration})
    assert [test.iteration for test in collect([run]).tests] == [40]


def test_run_is_found_by_the_checkpoint(tmp_path):
    run = make_run(tmp_path / "run", ())
    test = make_test(tmp_path / "elsewhere" / "out", tested={"checkpoint": str(run / "iter_40.pth")})
    assert collect([test]).runs[0].folder == run


def test_results_without_details_are_refused(tmp_path):
    run = make_run(tmp_path / "run", ("fusion",), frames=1)
    (run / "preds" / "details.json").unlink()
    with pytest.raises(ConfigError, match=r"details\.json does not exist; remove it or test the run again"):
        read_test(run / "preds")


def test_log_of_a_resumed_and_of_a_running_training(tmp_path):
    lines = [{"mode": "train", "iter": i, "loss": v} for i, v in ((1, 5.0), (2, 4.0), (2, 3.0), (3, None))]
    (tmp_path / "x.log.json").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"mode": "tr')
    curve = read_curves(tmp_path)["train", "loss"]
    assert (curve.iterations, curve.values) == ((1, 2), (5.0, 3.0))


def test_frames_are_limited_to_the_worst(work_dir):
    report = collect([work_dir], max_frames=2)
    assert report.frames == ("night_04", "night_03")
    assert report.left_out == 3
    page = Page(render(report))
    assert "3 more are left out: these are the worst of 5" in page.text
    assert len([of for of in page.all("li") if "data-frame" in of]) == 2


def test_frames_without_scores_are_an_even_selection(tmp_path):
    test = read_test(make_test(tmp_path, frames=9, labelled=False))
    assert choose_frames([test], 3) == (("night_00", "night_03", "night_06"), 6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "{", "metrics.json is not valid JSON"),
        ("metrics.json", "[]", "does not hold a JSON object"),
        ("metrics.json", '{"scores": 3}', "'scores' is 3, not an object"),
        ("metrics.json", '{"scores": {"mIoU": "high"}}', "'scores.mIoU' is 'high', not a number of at least 0 and at"),
        ("metrics.json", '{"scores": {"mIoU": NaN}}', "'scores.mIoU' is nan, not a number"),
        ("metrics.json", '{"scores": {"mIoU": 1e999}}', "'scores.mIoU' is inf, not a number"),
        ("metrics.json", '{"scores": {"mIoU": 55}}', "'scores.mIoU' is 55, not a number of at least 0 and at most 1"),
        ("metrics.json", '{"per_class": {"road": 5}}', "'per_class.road' is 5, not an object"),
        ("metrics.json", '{"per_class": {"road": {"IoU": true}}}', "'per_class.road.IoU' is True, not a number"),
        ("metrics.json", '{"iteration": -4}', "'iteration' is -4, not a whole number of at least 0"),
        ("metrics.json", '{"output": ["fusion"]}', "'output' is .*, not a name"),
        ("metrics.json", '{"checkpoint": "a\\u0000b"}', "'checkpoint' is .*, not a path"),
        ("metrics.json", '{"test_set": {"outputs": 5}}', "'test_set.outputs' is 5, not a list of names"),
        ("metrics.json", '{"scores":' * 5000, "nests deeper than 64 levels"),
        ("details.json", "[" * 100_000, "nests deeper than 64 levels"),
        ("details.json", '{"frames": 5}', "does not hold what a test writes there"),
        ("details.json", '{"frames": [5]}', "does not hold what a test writes there"),
        ("details.json", '{"absent": 5}', "does not hold what a test writes there"),
        ("details.json", '{"confusion": [[1e400]]}', "does not hold what a test writes there"),
        ("details.json", json.dumps({"confusion": [[10**30] * 19] * 19}), "does not hold what a test writes there"),
        ("details.json", json.dumps({"confusion": [[-1] * 19] * 19}), "numbers below 0"),
        (
            "details.json",
            json.dumps({"frames": [{"name": "a", "IoU": [7] * 19, "label_pixels": [1] * 19}]}),
            "scores outside of 0 to 1",
        ),
        ("details.json", '{"confusion": [[1]]}', "does not hold what a test writes there"),
        ("details.json", '{"frames": [{"name": "../../secret"}]}', "is not the name of a frame"),
        (
            "details.json",
            '{"frames": [{"name": "a", "IoU": [1], "label_pixels": [1]}]}',
            "scores of another number of classes",
        ),
        ("details.json", '{"absent": ["spaceship"]}', "does not hold what a test writes there"),
        ("../run.log.json", '{"mode": 1}\n{"mode": 1}\n', "line 1 is not a line of a log"),
        ("../run.log.json", '{"mode": "val", "iter": -1}\n{}\n', "line 1 is not a line of a log"),
        ("../run.log.json", '{"mode": "val", "iter": 1e999}\n{}\n', "line 1 is not a line of a log"),
        ("../run.log.json", "[" * 100_000 + "\n{}\n", "line 1 is not a line of a log .*nests deeper"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    run = make_run(tmp_path / "run", ("fusion",), frames=1)
    (run / "preds" / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        collect([run])


def test_folder_without_anything(tmp_path):
    with pytest.raises(ConfigError, match="holds no test"):
        collect([tmp_path])
    with pytest.raises(ConfigError, match="is not a folder"):
        collect([tmp_path / "x"])


def test_prediction_that_is_not_a_picture(tmp_path):
    test = make_test(tmp_path, frames=1)
    (test / "night_00.png").write_text("x")
    with pytest.raises(DataError, match=r"night_00\.png is not a readable image"):
        render(collect([test]))


# Pictures


def test_class_maps_keep_their_colours():
    ids = np.arange(20, dtype=np.uint8).repeat(2)[None].repeat(3, 0)
    ids[ids == 19] = 255
    shown = pixels(class_map_uri(ids))
    assert shown[0, ::2].tolist() == [*map(list, PALETTE), [0, 0, 0]]
    np.testing.assert_array_equal(train_ids(shown), ids)


def test_pictures_are_small():
    noise = np.random.default_rng(0).integers(0, 60, (440, 640, 3)).astype(np.uint8)
    assert pixels(photo_uri(noise)).shape == (302, 440, 3)
    assert pixels(photo_uri(noise[:30, :40])).shape == (30, 40, 3)


# The page


def test_page_has_all_parts(page):
    for key in ("summary", "classes", "confusion", "curves", "gallery"):
        assert page.all("section", id=key)
        assert page.all("a", href=f"#{key}")
    assert "absent from this set" in page.text
    assert "18 valid classes" in page.text
    assert "runs/x/x.json" in page.text
    assert len([of for of in page.all("td") if "data-n" in of]) == 3 * 19 * 19
    assert len([of for of in page.all("svg") if "data-chart" in of]) == 6
    assert len(page.all("input", type="radio")) == 5 * 6
    titles = ["image", "events", "image output", "events output", "fusion output", "label"]
    keys = [of["data-key"] for of in page.all("img") if of.get("alt", "").startswith("night_00")]
    assert keys == ["image", "events", "test1", "test2", "test0", "label"]
    assert [of["alt"].split(": ")[1] for of in page.all("img") if of.get("alt", "").startswith("night_00")] == titles


def test_scores_on_the_page(work_dir, page):
    metrics = json.loads((work_dir / "preds" / "metrics.json").read_text())
    assert f"{100 * metrics['scores']['mIoU']:.1f} %" in page.text
    assert f"{100 * metrics['per_class']['car']['IoU']:.1f}" in page.text


def test_page_is_self_contained_and_accessible(work_dir, page):
    for tag, attributes in page.elements:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert not any(key.startswith("on") for key in attributes), attributes
        if tag == "img" and "src" in attributes:
            assert attributes["alt"]
        if tag == "input" and attributes["type"] == "range":
            assert attributes["aria-label"]
    assert page.all("html", lang="en")
    assert page.elements[[tag for tag, _ in page.elements].index("body") + 1][1]["href"] == "#content"
    text = render(collect([work_dir]))
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert len(text) < 600_000


def test_everything_from_files_is_escaped(tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'&</script><!--"
    run = make_run(tmp_path / "r&<b>un", ("fusion",), frames=1)
    folder = run / "preds"
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics |= {"config": evil, "checkpoint": evil, "model": evil, "output": evil, "samples": evil}
    metrics["test_set"] = {"type": evil, "dataset_txt_path": evil}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    name = "<b>&\"'"
    details = (folder / "details.json").read_text().replace("night_00", name.replace('"', '\\"'))
    (folder / "details.json").write_text(details)
    os.rename(folder / "night_00.png", folder / f"{name}.png")
    log = run / f"{run.name}.log.json"
    log.write_text(log.read_text() + json.dumps({"mode": "train", "iter": 1, f"loss{evil}": 1.0}) + "\n")
    text = render(collect([run]))
    page = Page(text)
    assert not page.all("b", **{}) or "<b>&" not in text
    assert evil not in text
    assert "onerror" not in {key for _, of in page.elements for key in of}
    assert evil in page.text
    assert any(of.get("alt", "").startswith(name) for of in page.all("img"))
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["frames"][0]["name"] == name
    assert evil in data["tests"][0]


def test_page_of_a_test_without_labels(tmp_path):
    page = Page(render(collect([make_test(tmp_path, frames=2, labelled=False)])))
    assert "There are no labels, so there is no score" in page.text
    assert not page.all("section", id="confusion")
    assert not page.all("section", id="classes")
    assert not page.all("select", id="class-filter")
    assert page.all("section", id="gallery")


def test_page_of_a_test_without_panels(tmp_path):
    page = Page(render(collect([make_test(tmp_path, panels=False)])))
    assert "made without panels" in page.text
    assert {of["data-key"] for of in page.all("img") if "data-key" in of} == {"test0"}


def test_page_of_a_training_without_tests(tmp_path):
    page = Page(render(collect([make_run(tmp_path / "run", ())])))
    assert [of["id"] for of in page.all("section")] == ["summary", "curves"]
    assert "No test of this run was found" in page.text


def test_page_of_several_runs(tmp_path):
    first = make_run(tmp_path / "a_toy_seed0", ("fusion", "image"))
    second = make_run(tmp_path / "b_toy_seed0", ("fusion",), frames=6)
    report = collect([first, second, first])
    assert [test.label for test in report.tests] == ["a · fusion", "a · image", "b · fusion"]
    assert [test.color for test in report.tests] == [0, 1, 2]
    assert [run.color for run in report.runs] == [0, 2]  # that of the first test
    assert len(report.frames) == 6
    page = Page(render(report))
    assert "2 runs side by side" in page.text
    keys = [of["data-key"] for of in page.all("img") if of.get("alt", "").startswith("night_00")]
    assert keys == ["image", "events", "test1", "test0", "test2", "label"]
    assert "No prediction here: a · fusion, a · image" in page.text
    assert len([of for of in page.all("polyline") if "c2" in of["class"].split()]) == 6


def test_best_of_equal_scores_is_not_bold():
    assert best_of([0.3, None, 0.5]) == 0.5
    assert best_of([0.0, 0.0]) is None
    assert best_of([0.30001, 0.30002]) is None  # equal in print
    assert best_of([0.4]) is None
    assert best_of([None, None]) is None
    assert "<b>" not in bar_cell(0.0, best_of([0.0, 0.0]), 0)


def test_colours_are_used_again_with_another_mark():
    assert key_mark(9) == '<span class="key c1 ring"></span>'


def test_ticks_are_round():
    assert ticks(0.13, 0.94) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(3, 3)[0] <= 3 < ticks(3, 3)[-1]
    assert ticks(0, 0) == [0.0, 0.25]


def test_long_curves_are_thinned(tmp_path):
    run = make_run(tmp_path / "run", (), points=1000)
    curves = Run("run", run, read_curves(run))
    chart = next(chart for chart in charts_of([curves]) if chart.title == "learning rate")
    assert len(chart.lines[0].values) == MAX_POINTS
    assert chart.lines[0].iterations[-1] == 1000
    assert chart.lines[0].values[0] == pytest.approx(1e-4)


# The script


def run_script(*arguments: object, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess:
    return run("tools/report.py", *arguments, cwd=cwd, expect=expect)


def test_script(work_dir, tmp_path):
    result = run_script(work_dir, "--out", "x.html", "--frames", 2, cwd=tmp_path)
    assert result.stdout.startswith("wrote x.html (0.")
    assert "2 frames; 3 frames left out; --frames shows more" in result.stdout
    Page((tmp_path / "x.html").read_text(encoding="utf-8"))
    result = run_script(tmp_path, cwd=tmp_path, expect=2)
    assert "holds no test" in result.stderr
    assert "Traceback" not in result.stderr


def test_report_that_cannot_be_written(work_dir, tmp_path):
    with pytest.raises(OSError, match="no"):
        write_report([work_dir], tmp_path / "no" / "x.html", max_frames=0)


def test_broken_neighbour_only_costs_the_report(tmp_path):
    run = make_run(tmp_path / "run", ("fusion", "image"), frames=1)
    assert report_of_test(run / "preds") == f"report: {run / 'preds' / 'report.html'}"
    (run / "preds_image" / "metrics.json").write_text("{")
    assert "metrics.json is not valid JSON" in report_of_test(run / "preds")


def test_report_is_next_to_its_test(tmp_path):
    test = make_test(tmp_path / "test", frames=1)
    report = write_report([test], test / "report.html")
    assert report.frames == ("night_00",)
    assert [path.name for path in test.glob("*.html")] == ["report.html"]
