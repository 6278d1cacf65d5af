"""Scores against golden case 16, and the files of an evaluation."""

import json

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN, GoldenArrays, load_json, u01
from PIL import Image

from mmseg.classes import CLASSES, DSEC_ABSENT_CLASSES
from mmseg.datasets.dsec_frames import read_frame_list
from mmseg.evaluation.metrics import ConfusionMatrix, nan_mean, scores


def golden_pairs():
    for i, size in enumerate([(40, 60), (50, 30), (64, 64)]):
        prediction = np.floor(u01(f"input:metric:pred{i}", size) * 19).astype(np.int64)
        label = np.floor(u01(f"input:metric:label{i}", size) * 21).astype(np.int64)
        label[label >= 19] = 255
        same = (u01(f"input:metric:same{i}", size) < 0.6) & (label != 255)
        prediction[same] = label[same]
        label[(label == 14) | (label == 3)] = 255
        prediction[prediction == 3] = 4
        yield torch.from_numpy(prediction), torch.from_numpy(label)


def test_scores():
    golden = GoldenArrays("c16_eval_metrics.npz")
    confusion = ConfusionMatrix()
    for prediction, label in golden_pairs():
        confusion.update(prediction, label)
    result = scores(confusion.counts())
    assert result.all_accuracy == pytest.approx(float(golden["mIoU.aAcc"]), rel=1e-12)
    for key, values in (
        ("mIoU.IoU", result.iou),
        ("mIoU.Acc", result.accuracy),
        ("mDice.Dice", result.dice),
        ("mFscore.Fscore", result.f_score),
        ("mFscore.Precision", result.precision),
        ("mFscore.Recall", result.recall),
    ):
        np.testing.assert_allclose(values, golden[key], rtol=1e-6, err_msg=key)
    assert np.isnan(result.iou[3])
    assert result.iou[14] == 0


@pytest.mark.parametrize("truck_predicted", [True, False])
def test_scores_on_dsec_labels(monkeypatch, truck_predicted):
    """Whole evaluation of golden predictions; stored scores are rounded to 0.01 %."""
    monkeypatch.chdir(GOLDEN / "mini" / "DSEC_Night")
    confusion = ConfusionMatrix()
    frames = read_frame_list(GOLDEN / "c10_dsec_txt" / "night_test_dataset_warp.txt")
    for i, frame in enumerate(frames):
        label = np.array(Image.open(frame.label))[:440].astype(np.int64)
        blocks = [u01(f"input:evaluate:{key}{i}", (55, 80)).repeat(8, 0).repeat(8, 1) for key in ("pred", "same")]
        prediction = np.floor(blocks[0] * 19).astype(np.int64)
        same = (blocks[1] < 0.7) & (label != 255)
        prediction[same] = label[same]
        if not truck_predicted:
            prediction[prediction == 14] = 13
        confusion.update(torch.from_numpy(prediction), torch.from_numpy(label))
    result = scores(confusion.counts(), DSEC_ABSENT_CLASSES)
    summary = result.summary()
    key = "with_truck_predicted" if truck_predicted else "truck_never_predicted"
    golden = load_json("c16_dsec_evaluate.json")[f"{key}.all"]
    names = ["mIoU", "mAcc", "aAcc", "mDice", "mFscore", "mPrecision", "mRecall"] if truck_predicted else ["mIoU"]
    if truck_predicted:
        for name in names:
            assert summary[name] == pytest.approx(golden[name], abs=6e-5), name
        for i, name in enumerate(CLASSES):
            assert result.iou[i] == pytest.approx(golden[f"IoU.{name}"], abs=6e-5)
        # If a truck is predicted, the direct mean of 18 classes is the 19-class mean times 19/18 ...
        assert summary["mIoU_18"] == pytest.approx(result.mean_iou * 19 / 18)
    else:
        # ... otherwise the class is undefined and left out of both means.
        assert np.isnan(result.iou[14])
        assert summary["mIoU_18"] == summary["mIoU"]


def test_published_headline():
    golden = load_json("c16_dsec_evaluate.json")["readme"]
    iou = np.full(19, golden["mIoU"] * 19 / 18)
    iou[14] = 0
    assert iou.mean() == pytest.approx(golden["mIoU"])
    assert round(nan_mean(np.delete(iou, 14)), 2) == 60.05


def test_no_label_at_all():
    confusion = ConfusionMatrix()
    confusion.update(torch.zeros(4, 4), torch.full((4, 4), 255))
    result = scores(confusion.counts())
    assert np.isnan(result.mean_iou)
    assert json.loads(json.dumps(result.per_class()))["road"] == {"IoU": None, "Acc": None}


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        ConfusionMatrix().update(torch.zeros(4, 4), torch.zeros(4, 5))
