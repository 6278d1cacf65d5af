"""Tables, charts, figures and confidence intervals for papers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.command_tools import load_script, parse
from helpers.report_tools import CAR, HEIGHT, WIDTH, make_run
from PIL import Image

from mmseg.classes import PALETTE
from mmseg.errors import ConfigError
from mmseg.report.bootstrap import FrameCounts, difference_table, differences, draws, frame_counts, mean_ious
from mmseg.report.bootstrap import paired_bootstrap as bootstrap
from mmseg.report.comparison import Row, Score, compare, read_run
from mmseg.report.data import read_test
from mmseg.report.latex import escaped, latex
from mmseg.report.picture_grid import draw_grid, make_grid, read_tests
from mmseg.report.plots import class_bars, save_figure, score_curves


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "261122_1200_night_0a1b2", ("fusion", "image"))


@pytest.fixture(scope="module")
def rows(work_dir) -> list[Row]:
    return [row for row in compare([read_run(work_dir)]) if row.output != "-"]


def row(name: str, means: list[float], **classes: list[float]) -> Row:
    """A row with one seed per mean, scored twice."""
    series = tuple((Score(10, {"mIoU": mean / 2}), Score(20, {"mIoU": mean})) for mean in means)
    return Row(name, tuple(range(len(means))), "student", "fusion", (20,), {"mIoU": means}, {}, classes, {}, series)


# Confidence intervals


def one_class(hits: list[int], union: list[int]) -> FrameCounts:
    hits, union = np.array(hits)[:, None], np.array(union)[:, None]
    return FrameCounts(tuple(f"f{n}" for n in range(len(hits))), hits, union, hits)


def test_interval_of_two_frames_by_hand():
    """Frames (1, 1), (1, 2), (2, 1), (2, 2) are equally likely: differences 0.5, 0, 0, -0.25."""
    first, second = one_class([1, 3], [2, 4]), one_class([2, 2], [2, 4])
    of_draws = np.array([[2, 0], [1, 1], [0, 2]])
    np.testing.assert_allclose(mean_ious(first, of_draws), [1 / 2, 4 / 6, 3 / 4])
    np.testing.assert_allclose(mean_ious(second, of_draws), [1, 4 / 6, 1 / 2])
    found = bootstrap([first], [second], resamples=4000, seed=1)
    assert (found.difference, found.low, found.high) == pytest.approx((0, -0.25, 0.5))
    assert found.other_sign == pytest.approx(0.75, abs=0.03)
    assert found == bootstrap([first], [second], resamples=4000, seed=1)
    # the mean of both, as of two seeds, is half as far from the first
    both = bootstrap([first], [first, second], resamples=4000, seed=1)
    assert (both.low, both.high) == pytest.approx((-0.125, 0.25))


def test_draws_are_those_of_their_seed_and_keep_the_number_of_frames():
    drawn = np.concatenate(list(draws(7, 1500, seed=3)))
    assert drawn.shape == (1500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(drawn[:1000], next(draws(7, 1000, seed=3)))


def test_class_that_a_resample_lacks_is_in_no_mean():
    hits = np.array([[4, 0], [1, 1]])
    counts = FrameCounts(("a", "b"), hits, np.array([[4, 0], [2, 1]]), np.array([[4, 0], [1, 2]]))
    np.testing.assert_allclose(mean_ious(counts, np.array([[2, 0], [1, 1]])), [1.0, (5 / 6 + 1 / 2) / 2])


def test_interval_of_tests(work_dir, rows):
    fusion, image = rows
    (found,) = differences(rows, resamples=300)
    expected = image.final["mIoU_18"][0] - fusion.final["mIoU_18"][0]
    assert 100 * found.difference == pytest.approx(expected)
    assert found.low < found.difference < found.high < 0
    assert found.other_sign == 0
    table = difference_table(rows, resamples=300)
    assert str(table.columns[3]._cells[0]) == f"{expected:+.2f}"


def test_counts_of_earlier_versions_come_from_the_pictures(work_dir, tmp_path):
    stored = frame_counts(read_test(work_dir / "preds"))
    old = shutil.copytree(work_dir / "preds", tmp_path / "preds")
    details = json.loads((old / "details.json").read_text())
    for frame in details["frames"]:
        del frame["hits"], frame["predicted_pixels"]
    (old / "details.json").write_text(json.dumps(details))
    counted = frame_counts(read_test(old))
    for key in ("hits", "labelled", "predicted"):
        np.testing.assert_array_equal(getattr(counted, key), getattr(stored, key))
    shutil.rmtree(old / "panels")
    with pytest.raises(ConfigError, match="without panels; test the run again"):
        frame_counts(read_test(old))


def test_tests_of_other_frames_are_not_compared(rows, tmp_path):
    other = make_run(tmp_path / "other", ("fusion",), frames=3)
    (other_row, *_) = compare([read_run(other)])
    gone = replace(rows[0], series=((Score(20, {"mIoU": 1.0}),),))
    assert differences([rows[0], other_row, gone], resamples=100) == [
        "the tests are of different frames",
        f"{rows[0].name}: the files of a test are gone; test the run again",
    ]
    with pytest.raises(ConfigError, match="needs two rows"):
        difference_table(rows[:1])


@pytest.mark.parametrize("change", [{"hits": [1]}, {"hits": [10**9] * 19}, {"predicted_pixels": [-1] * 19}])
def test_broken_counts_are_named(work_dir, tmp_path, change):
    broken = shutil.copytree(work_dir / "preds", tmp_path / "preds")
    details = json.loads((broken / "details.json").read_text())
    details["frames"][0] |= change
    (broken / "details.json").write_text(json.dumps(details))
    with pytest.raises(ConfigError, match=r"details\.json does not hold what a test writes"):
        read_test(broken)


# LaTeX


def test_latex():
    table = latex([row("a_b", [50.0, 52.0], road=[80.0], sky=[0.0]), row("c", [40.0], road=[70.0], sky=[0.0])])
    lines = table.splitlines()
    assert lines[1] == r"\begin{tabular}{lrrr}"
    assert lines[3] == r" & \rotatebox{90}{road} & \rotatebox{90}{sky} & mIoU \\"
    assert lines[5] == r"a\_b, fusion & \textbf{80.0} & 0.0 & \textbf{51.0} {\scriptsize $\pm$ 1.4} \\"
    assert lines[6] == r"c, fusion & 70.0 & 0.0 & 40.0 \\"
    named = latex([row("a", [50.0]), row("b", [40.0])], [r"\textsc{Cmda}~\cite{x}", "b"])
    assert r"\textsc{Cmda}~\cite{x} & \textbf{50.0} \\" in named


def test_latex_escapes_names():
    assert escaped("50% of a_b & {c}\n\\d~^") == (
        r"50\% of a\_b \& \{c\} \textbackslash{}d\textasciitilde{}\textasciicircum{}"
    )


# Charts


def test_charts_are_written_alike_again(tmp_path):
    rows = [row("cost $5 of $6", [50.0, 52.0], road=[80.0, 82.0]), row("b", [40.0], road=[70.0])]
    path = tmp_path / "x.svg"
    for draw in (class_bars, score_curves):
        save_figure(draw(rows), path)
        content = path.read_bytes()
        save_figure(draw(rows), path)
        assert path.read_bytes() == content
        assert b"cost $5 of $6, fusion" in content
    for name, start in (("x.PDF", b"%PDF"), ("x.png", b"\x89PNG")):
        save_figure(score_curves(rows), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 3


def test_curves_have_bands_over_seeds():
    (axes,) = score_curves([row("a", [50.0, 52.0]), row("b", [40.0])]).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[25.5, 51.0], [20.0, 40.0]]
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((25.5 - 0.5**0.5, 51 + 2**0.5))
    with pytest.raises(ConfigError, match="no run has scores"):
        score_curves([row("a", [])])


def test_every_row_is_drawn_and_named():
    teacher = replace(row("a", [60.0]), model="teacher")
    rows = [row("a", [50.0], road=[70.0]), teacher, row("a", [40.0])]
    labels = ["a, fusion", "a, teacher, fusion", "a, fusion"]
    (axes,) = score_curves(rows).axes
    assert [line.get_label() for line in axes.lines] == labels
    assert [line.get_ydata()[-1] for line in axes.lines] == [50, 60, 40]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels
    (axes,) = class_bars(rows).axes
    assert [bars.get_label() for bars in axes.containers] == labels
    assert [line.split(" & ")[0] for line in latex(rows).splitlines()[5:8]] == labels
    (axes,) = score_curves(rows, ["same"] * 3).axes
    assert len(axes.lines) == 3


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.pdf, \.svg or \.png"):
        save_figure(None, tmp_path / "x.eps")


# Figures


def test_grid_of_frames_and_runs(work_dir, tmp_path):
    tests = read_tests([work_dir, work_dir / "preds_image"])
    grid = make_grid(tests, limit=2)
    assert grid.rows == ("night_04", "night_03")
    assert grid.columns == ("image", "events", "fusion", "image", "label")
    assert all(picture.shape == (HEIGHT, WIDTH, 3) for line in grid.pictures for picture in line)
    assert tuple(grid.pictures[1][4][35, 15]) == PALETTE[CAR]
    named = make_grid(tests, ["night_01"], inputs=["image"], column_names=["ours", "theirs"], row_names=["rain"])
    assert (named.rows, named.columns) == (("rain",), ("image", "ours", "theirs", "label"))
    assert make_grid(tests, ["night_01"], inputs=[], column_names=["a", "b", "c"]).columns == ("a", "b", "c")
    save_figure(draw_grid(named, width=4, legend=True), tmp_path / "x.png", dpi=100)
    width, height = Image.open(tmp_path / "x.png").size
    assert abs(width - 400) < 60
    assert 80 < height < 200


def test_wrong_frames_and_names_of_a_figure(work_dir, tmp_path):
    tests = read_tests([work_dir])
    with pytest.raises(ConfigError, match="no test has a frame night_1, did you mean 'night_01'"):
        make_grid(tests, ["night_1"])
    with pytest.raises(ConfigError, match="3 names for 1 runs and 4 columns"):
        make_grid(tests, column_names=["a", "b", "c"])
    with pytest.raises(ConfigError, match="1 row names for 4 frames"):
        make_grid(tests, row_names=["a"])
    with pytest.raises(ConfigError, match="holds no test; test the run first"):
        read_tests([make_run(tmp_path / "run", ())])


# Scripts


def run(script: str, *arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [script, *map(str, arguments)])
        load_script(script).main()


def test_compare_script(work_dir, tmp_path, capsys):
    run("tools/compare_runs.py", work_dir, "--rows", 2, 1, "--names", "Ours", "Base", "--bootstrap", 100,
        "--latex", tmp_path / "t.tex", "--plot", tmp_path / "p.svg")  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p_classes.svg", "p_curves.svg", "t.tex"]
    assert "Ours & " in (tmp_path / "t.tex").read_text()
    printed = capsys.readouterr().out
    assert "100 resamples" in printed
    assert printed.index("Ours") < printed.index("Base")
    for words, message in (
        (["--rows", 9], "--rows 9: the table has 3 rows"),
        (["--names", "a"], "--names has 1 names for 3 rows"),
        (["--plot", "x.gif"], "ends in .pdf, .svg or .png"),
    ):
        with pytest.raises(ConfigError, match=message):
            run("tools/compare_runs.py", work_dir, *words)


def test_figure_script(work_dir, tmp_path, capsys):
    run("tools/figure.py", work_dir, "--out", tmp_path / "x.pdf", "--count", 2, "--legend")
    assert capsys.readouterr().out == f"wrote {tmp_path / 'x.pdf'} (2 frames, 4 columns)\n"
    with pytest.raises(ConfigError, match="cannot be written"):
        run("tools/figure.py", work_dir, "--out", tmp_path / "no" / "x.png")
    with pytest.raises(SystemExit):
        parse("tools/figure.py", ["run", "--width", "0"])
