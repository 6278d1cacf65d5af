"""Predictions: recorded ones equal plain ones, and what cannot be recorded is run plainly and said."""

import pytest
import torch
from helpers.prediction_tools import BrokenRecord, StandIn, TinySegmentor

from mmseg.engine import prediction
from mmseg.engine.prediction import MOST_RECORDS, MOST_SIZES, Predictor, one_behind, recorder_for

CPU = torch.device("cpu")


def streams(seed: int, height: int = 32, width: int = 40, batch: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn((batch, 3, height, width), generator=generator) for name in ("image", "events")}


@pytest.fixture
def told():
    return []


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("test_cfg", [{}, dict(mode="slide", crop_size=(32, 32), stride=(12, 20))])
@pytest.mark.parametrize("confidence", [False, True])
def test_recorded_predictions_equal_plain_ones(dtype, test_cfg, confidence, told):
    segmentor = TinySegmentor(**test_cfg).eval()
    recorder = StandIn()
    plain, recorded = Predictor(segmentor, CPU, dtype), Predictor(segmentor, CPU, dtype, recorder, told.append)
    for seed in range(5):
        for output in ("fusion", "image"):
            for size in (None, (50, 60)):
                expected = plain(streams(seed), output, size, confidence)
                found = recorded(streams(seed), output, size, confidence)
                assert expected.keys() == found.keys() == ({"label", "confidence"} if confidence else {"label"})
                assert expected["label"].shape == (1, *(size or (32, 40)))
                assert expected["label"].dtype == torch.uint8
                for name, values in expected.items():
                    assert torch.equal(found[name], values)
    assert (len(recorder.records), recorder.warmed_up, told) == (4, 4, [])


def test_classes_and_confidence_are_those_of_softmax():
    segmentor = TinySegmentor().eval()
    given = streams(0)
    probability = segmentor.predict_logits(given, "fusion").softmax(dim=1)
    label, confidence = segmentor.predict_with_confidence(given, "fusion")
    assert torch.equal(label, segmentor.predict(given, "fusion"))
    assert torch.equal(label, probability.argmax(dim=1))
    torch.testing.assert_close(confidence, probability.amax(dim=1))


def test_16_bits_are_those_of_autocast_and_leave_the_weights():
    segmentor = TinySegmentor().eval()
    before = {name: weight.clone() for name, weight in segmentor.state_dict().items()}
    given = streams(0)
    found = Predictor(segmentor, CPU, torch.bfloat16)(given, "fusion")["label"]
    with torch.autocast("cpu", torch.bfloat16):
        logits = segmentor.output_logits(given, "fusion")
    assert logits.dtype == torch.bfloat16
    resized = torch.nn.functional.interpolate(logits.float(), size=(32, 40), mode="bilinear")
    assert torch.equal(found, resized.argmax(dim=1).to(torch.uint8))
    for name, weight in segmentor.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name])


def test_a_size_is_recorded_when_it_is_met_again(told):
    """So that a folder of pictures that all differ in size is not recorded at all."""
    recorder = StandIn()
    predictor = Predictor(TinySegmentor().eval(), CPU, None, recorder, told.append)
    for number in range(2 * MOST_SIZES):
        predictor(streams(0, 32, 32 + number), "image")
    assert (recorder.records, len(predictor._met)) == ([], MOST_SIZES)
    predictor(streams(0, 32, 31 + 2 * MOST_SIZES), "image")
    assert len(recorder.records) == 1
    # a batch of another length is another size
    predictor(streams(0, 32, 31 + 2 * MOST_SIZES, batch=2), "image")
    assert len(recorder.records) == 1


def test_records_are_bounded(told):
    """The one used longest ago makes room; its size counts as new."""
    segmentor, recorder = TinySegmentor().eval(), StandIn()
    predictor = Predictor(segmentor, CPU, None, recorder, told.append)
    widths = range(32, 32 + MOST_RECORDS)
    for width in widths:
        for _ in range(2):
            predictor(streams(0, 32, width), "image")
    predictor(streams(0, 32, 32), "image")
    for _ in range(2):
        predictor(streams(0, 32, 100), "image")
    assert len(predictor._records) == MOST_RECORDS
    assert len(recorder.records) == MOST_RECORDS + 1
    # 32 was used again, so that 33 had to go
    predictor(streams(0, 32, 32), "image")
    assert recorder.warmed_up == MOST_RECORDS + 1
    for count in (1, 2):
        predictor(streams(0, 32, 33), "image")
        assert recorder.warmed_up == MOST_RECORDS + count
    assert told == []


@pytest.mark.parametrize(
    ("recorder", "message"),
    [
        (StandIn(record=BrokenRecord), "a replayed prediction differs from the plain one"),
        (StandIn(error=torch.OutOfMemoryError("CUDA out of memory")), "out of memory while a prediction is recorded"),
        (StandIn(error=RuntimeError("capture failed\nlong story")), "cannot be recorded (capture failed);"),
    ],
)
def test_what_cannot_be_recorded_runs_plainly(recorder, message, told):
    segmentor = TinySegmentor().eval()
    predictor = Predictor(segmentor, CPU, None, recorder, told.append)
    for seed in range(5):
        found = predictor(streams(seed), "fusion")["label"]
        assert torch.equal(found, segmentor.predict(streams(seed), "fusion").to(torch.uint8))
    assert len(told) == 1
    assert message in told[0]
    assert "\n" not in told[0]
    assert recorder.warmed_up == 1


def test_memory_of_the_records_is_given_up_before_a_prediction_fails(told, monkeypatch):
    segmentor = TinySegmentor().eval()
    predictor = Predictor(segmentor, CPU, None, StandIn(), told.append)
    for _ in range(2):
        predictor(streams(0), "image")
    whole = segmentor.predict

    def short_of_memory(*arguments):
        if predictor._records:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*arguments)

    monkeypatch.setattr(segmentor, "predict", short_of_memory)
    given = streams(1, 64, 64)
    assert torch.equal(predictor(given, "image")["label"], whole(given, "image").to(torch.uint8))
    assert len(told) == 1
    assert "out of memory next to the records" in told[0]
    monkeypatch.setattr(segmentor, "predict", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no memory")))
    with pytest.raises(torch.OutOfMemoryError):
        predictor(given, "image")


def test_copies_stay_when_the_next_prediction_is_replayed(told):
    segmentor = TinySegmentor().eval()
    predictor = Predictor(segmentor, CPU, None, StandIn(), told.append)
    begun = [predictor.begin(streams(seed), "fusion", confidence=True) for seed in range(4)]
    for seed, copies in enumerate(begun):
        label, confidence = segmentor.predict_with_confidence(streams(seed), "fusion")
        assert (copies.arrays()["label"] == label.numpy()).all()
        assert (copies.arrays()["confidence"] == confidence.numpy()).all()
        assert copies.seconds >= 0


def test_results_are_one_behind():
    order = []

    def begun():
        for number in range(3):
            order.append(f"begin {number}")
            yield lambda number=number: order.append(f"finish {number}") or number

    assert list(one_behind(begun())) == [0, 1, 2]
    assert order == ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "finish 2"]
    assert list(one_behind([])) == []


def test_only_a_gpu_records(monkeypatch):
    monkeypatch.setattr(prediction, "CudaRecorder", lambda device: device)
    gpu = torch.device("cuda:1")
    assert recorder_for(CPU) is recorder_for(CPU, True) is recorder_for(gpu, False) is None
    assert recorder_for(gpu) == recorder_for(gpu, None) == recorder_for(gpu, True) == gpu
