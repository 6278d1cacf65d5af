"""Dark Zurich: samples against golden case 13, the outputs of a test, and submissions to the evaluation server."""

import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.golden_tools import (
    FORWARD,
    GOLDEN,
    GoldenArrays,
    assert_clear_classes,
    assert_sample,
    double,
    events_input,
    fill,
    image_input,
    load_json,
)
from helpers.script_tools import ROOT, run
from PIL import Image

from mmseg.config.load import load_config
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.errors import ConfigError, DataError
from mmseg.evaluation.submission import FOLDERS, check_submission, write_submission
from mmseg.evaluation.test_set import choose_test_set, default_output
from mmseg.extractors.content import NIGHT_PARAMS
from mmseg.models.losses import resize_logits
from mmseg.uda.segmentors import build_segmentor
from mmseg.work_dir.results import TestChoices

MINI = GOLDEN / "mini" / "dark_zurich"
PUBLISHED = "configs/fusion/cs2dz_image+raw-isr_b5.py"
TRAINED = dict(val_range=[1, 100], _threshold=0.01, _clip_range=0.1, shift_pixel=3)
TINY = {
    "model.backbone_image.type": "mit_b0",
    "model.backbone_events.type": "mit_b0",
    "model.fusion_module.in_channels": [32, 64, 160, 256],
    "model.decode_head.in_channels": [32, 64, 160, 256],
    "model.decode_head.channels": 32,
    "model.decode_head.decoder_params.embed_dims": 32,
    "data.test.image_resize_size": [240, 135],
}


def dark_zurich(**changes):
    cfg = dict(dataset_path=MINI, outputs={"image", "night_isr"}, isr_parms=TRAINED)
    return DarkZurichICDataset(**{**cfg, **changes})


def index_of(dataset: DarkZurichICDataset, part: str) -> int:
    (index,) = (i for i, name in enumerate(dataset.names) if part in name)
    return index


@pytest.mark.parametrize("seed", range(3))
def test_training_samples(seed):
    golden = GoldenArrays("c13_dark_zurich_train.npz")
    dataset = dark_zurich()
    assert len(dataset) == int(golden["len"])
    flip, x, y = (int(v) for v in golden[f"s{seed}.flip_x_y"])
    index = index_of(dataset, str(golden[f"s{seed}.image_name_contains"]))
    sample = dataset.sample(index, CropDraw(x, y, bool(flip)))
    assert sample.keys() == {"image", "night_isr"}
    assert_sample(golden, f"s{seed}", sample)


@pytest.mark.parametrize("frame", ["000321", "000324"])
def test_test_samples(frame):
    """Whole images, labels at their size, and the default parameters of the content map."""
    golden = GoldenArrays("c13_dark_zurich_test.npz")
    dataset = dark_zurich(test_mode=True, outputs=["image", "night_isr", "label"], isr_parms=None)
    assert dataset.content.params == NIGHT_PARAMS
    sample = dataset[index_of(dataset, frame)]
    assert sample["label"].shape == (1, 540, 960)
    assert_sample(golden, frame, sample)
    assert f"{sample['img_metas']['name']}.png" == golden.json(f"{frame}.img_metas")["ori_filename"]


def test_draws_lie_inside_the_resized_image():
    dataset = dark_zurich()
    draws = [dataset.draw(np.random.default_rng(i)) for i in range(200)]
    assert max(d.x for d in draws) in range(400, 960 - 512 + 1)
    assert {d.y for d in draws} == set(range(540 - 512 + 1))
    assert dataset.sample_size == dataset.sample(0, draws[0])["night_isr"].shape[1:] == (512, 512)


def test_parameters_and_shifts_of_the_content_map():
    draw = CropDraw(3, 2, False)
    assert dark_zurich(isr_parms="", dz_isr_data_type="night").content.params == NIGHT_PARAMS
    new_night = dark_zurich(isr_parms=None, dz_isr_data_type="new_night").content.params
    assert (new_night.val_range, new_night.threshold, new_night.clip_range) == ((500, 1000), 0.02, 0.12)
    expected = dark_zurich(shift_type="rightdown").sample(0, draw)["night_isr"]
    assert torch.equal(dark_zurich(shift_type="random").sample(0, draw)["night_isr"], expected)
    other = dark_zurich(shift_type="random").sample(0, CropDraw(2, 2, False))["night_isr"]
    expected = dark_zurich(shift_type="leftdown").sample(0, CropDraw(2, 2, False))["night_isr"]
    assert torch.equal(other, expected)


def test_content_map_at_the_image_s_own_size():
    """The option does not change images of the resized size; maps of others stay in range and keep their signs."""
    native = dark_zurich(high_resolution_isr=True, image_resize_size=(480, 270), image_crop_size=(128, 128))
    plain = dark_zurich(image_resize_size=(480, 270), image_crop_size=(128, 128))
    draw = CropDraw(40, 30, True)
    assert torch.equal(native.sample(1, draw)["night_isr"], plain.sample(1, draw)["night_isr"])
    enlarged = dark_zurich(high_resolution_isr=True, test_mode=True, split="train")[1]["night_isr"]
    assert enlarged.shape == (3, 540, 960)
    assert enlarged.abs().max() <= 1
    halved = torch.nn.functional.avg_pool2d(enlarged[:1], 2)
    whole = dark_zurich(test_mode=True, split="train", image_resize_size=(480, 270))[1]["night_isr"][:1]
    assert np.corrcoef(halved.flatten(), whole.flatten())[0, 1] > 0.9


@pytest.fixture
def with_test_split(tmp_path):
    """The mini tree with a test split: two sequences, without labels."""
    tree = tmp_path / "dark_zurich"
    shutil.copytree(MINI, tree)
    for i, source in enumerate(sorted((MINI / "rgb_anon" / "train").rglob("*.png"))[:2]):
        folder = tree / "rgb_anon" / "test" / "night" / f"GOPR036{i}"
        folder.mkdir(parents=True)
        shutil.copy(source, folder / f"GOPR036{i}_frame_000012_rgb_anon.png")
    return tree


def test_labels_where_the_split_has_them(with_test_split):
    asked = dict(dataset_path=with_test_split, test_mode=True, outputs={"image", "label"})
    assert "label" in DarkZurichICDataset(**asked).outputs
    dataset = DarkZurichICDataset(**asked, split="test")
    assert dataset.outputs == {"image", "img_metas"}
    assert dataset.file_names == [f"GOPR036{i}_frame_000012_rgb_anon.png" for i in range(2)]
    label = next((with_test_split / "gt" / "val").rglob("*.png"))
    full = np.zeros((1080, 1920), np.uint8)
    full[0, :2] = full[1, 0] = 255  # nearest takes the lower right of four pixels
    Image.fromarray(full).save(label)
    dataset = DarkZurichICDataset(**asked)
    assert dataset[index_of(dataset, label.parent.name + "/" + label.name[:21])]["label"].sum() == 0
    label.unlink()
    with pytest.raises(
        DataError, match=r"1 of 2 files are missing for the output 'label', the first is .*GOPR0356_frame"
    ):
        DarkZurichICDataset(**asked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(auto_threshold=True), r"auto_threshold=True is not available; set it to False"),
        (dict(shift_3_channel=True), r"shift_3_channel=True is not available"),
        (dict(image_resize_size2=(480, 270)), r"image_resize_size2=\(480, 270\) is not available; set it to None"),
        (dict(outputs={"image", "night_isd"}), r"unknown output night_isd; known: image, night_isr"),
        (dict(shift_type="up"), r"shift_type is 'up'; choose one of random"),
        (dict(split="dev"), r"split is 'dev'; choose one of train, val, test"),
        (dict(dz_isr_data_type="dusk"), r"dz_isr_data_type is 'dusk'; choose one of night, new_night"),
        (dict(dz_isr_data_type="new_night"), r"both give parameters; set isr_parms=None"),
        (dict(isr_parms=dict(val_range=[1, 2])), r"isr_parms: missing _threshold"),
        (dict(image_crop_size=(1024, 512)), r"a crop of 1024x512 does not fit into 960x540"),
    ],
)
def test_values_that_cannot_be_used(changes, message):
    with pytest.raises(ConfigError, match=message):
        dark_zurich(**changes)


def test_missing_and_duplicate_images(with_test_split):
    with pytest.raises(DataError, match=r"rgb_anon/val/night does not exist; put Dark Zurich there"):
        dark_zurich(dataset_path=with_test_split / "gt", split="val")
    first, second = sorted((with_test_split / "rgb_anon" / "test").rglob("*.png"))
    second.rename(second.parent / first.name)
    with pytest.raises(DataError, match="have the same name"):
        dark_zurich(dataset_path=with_test_split, split="test")


# Outputs of a test


@torch.no_grad()
def test_predictions():
    """Golden case 5. The reference returns its image output when asked for ``fusion``."""
    encoder = dict(type="mit_b1", style="pytorch", in_chans=3)
    model = load_json("configs/work_dir_cs2dz.json")["model"]
    segmentor = build_segmentor({**model, "pretrained": None, "backbone_image": encoder, "backbone_events": encoder})
    double(fill(segmentor).eval())
    image, isr = image_input("encdec:image", (1, 3, 64, 64)), events_input("encdec:isr", (1, 3, 64, 64))
    golden = GoldenArrays("c05_encode_decode_cs2dz_b1.npz")
    for output, key in (("image", "fusion"), ("fusion", "image_isr")):
        streams = double({"image": image, "events": isr})
        logits = resize_logits(segmentor.output_logits(streams, output), (64, 64))
        labels = segmentor.predict(streams, output)
        assert_clear_classes("c05 classes", labels, golden[f"simple_test.{key}"][None], logits, 1e-5, output)
    golden.assert_close("test.fusion", logits, FORWARD)


def test_the_image_output_is_the_default():
    model = SimpleNamespace(takes_second_input=True, decode_head=None)
    assert default_output(model, dark_zurich(test_mode=True)) == "image"


def test_choices_of_a_test(root):
    def chosen(config=PUBLISHED, **choices):
        cfg = load_config(root / config)
        output = choose_test_set(cfg, TestChoices(**choices))
        return output, cfg.data.test

    output, test_set = chosen()
    assert output is None
    assert set(test_set.outputs) == {"image", "label"}
    output, test_set = chosen(image_isr=True, split="test")
    assert output == "fusion"
    assert test_set.split == "test"
    assert "night_isr" in test_set.outputs
    assert "isr_parms" not in test_set
    _, test_set = chosen(output="events", train_isr_parms=True)
    assert "night_isr" in test_set.outputs
    assert test_set.isr_parms.to_dict() == TRAINED
    with pytest.raises(ConfigError, match="--image-isr tests the fused output of image and content map, not 'image'"):
        chosen(output="image", image_isr=True)
    dsec = "configs/fusion/cs2dsec_image+events_together_b5.py"
    for option in (dict(split="val"), dict(image_isr=True)):
        with pytest.raises(ConfigError, match=r"is for Dark Zurich; data.test.type is 'DSECDataset'"):
            chosen(dsec, **option)
    _, test_set = chosen(dsec, train_isr_parms=True)
    assert test_set.isr_parms._threshold == 0.005


# Submissions


@pytest.fixture
def predictions(tmp_path):
    """Two predictions of the size of a sample, by image name."""
    files = {}
    for i in range(2):
        array = np.random.default_rng(i).integers(0, 19, (54, 96), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        files[f"GOPR0364_frame_{i:06d}_rgb_anon.png"] = tmp_path / f"{i}.png"
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    return files


@pytest.fixture
def submission(predictions, tmp_path):
    write_submission(predictions, tmp_path / "submission")
    return tmp_path / "submission"


def test_submission(predictions, submission, tmp_path):
    archive = submission.parent / "submission.zip"
    assert check_submission(archive, predictions) == check_submission(submission) == 2
    with zipfile.ZipFile(archive) as packed:
        assert sorted(packed.namelist()) == sorted(f"{folder}/{name}" for folder in FOLDERS for name in predictions)
    name, source = next(iter(predictions.items()))
    labels, invalid, confidence = (Image.open(tmp_path / "submission" / folder / name) for folder in FOLDERS)
    assert labels.mode == invalid.mode == "L"
    assert labels.size == confidence.size == (1920, 1080)
    # twice the size, so nearest is an exact copy
    expected = np.asarray(Image.open(source)).repeat(2, 0).repeat(2, 1)
    assert (np.asarray(labels) == expected).all()
    assert (np.asarray(invalid) == expected).all()
    assert set(np.unique(np.asarray(confidence))) == {65535}
    header = (tmp_path / "submission" / "confidence" / name).read_bytes()[24:26]
    assert header == bytes([16, 0])  # 16 bit, grey


def redraw(path, mode="L", size=(1920, 1080), color=3):
    Image.new(mode, size, color).save(path)


LABELS, INVALID, CONFIDENCE = FOLDERS
# Damage to one file of a submission, and the message about it.
DAMAGES = {
    "absent": (LABELS, lambda p: p.unlink(), "missing: {file}"),
    "half size": (LABELS, lambda p: redraw(p, size=(960, 540)), "960x540 pixels, not 1920x1080: {file}"),
    "colour": (INVALID, lambda p: redraw(p, "RGB", color=(1, 2, 3)), "8-bit RGB, not 8-bit grey: {file}"),
    "ignored": (LABELS, lambda p: redraw(p, color=255), "values up to 255, not 0..18: {file}"),
    "8-bit confidence": (CONFIDENCE, redraw, "8-bit grey, not 16-bit grey: {file}"),
    "truncated": (CONFIDENCE, lambda p: p.write_bytes(p.read_bytes()[:900]), "not a readable PNG: {file}"),
    "renamed": (CONFIDENCE, lambda p: p.rename(p.parent / "x.png"), "not the name of a test image: confidence/x.png"),
    "beside": (LABELS, lambda p: (p.parent / "notes.txt").touch(), ": labelTrainIds/notes.txt"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_faults_of_a_submission_are_listed(submission, predictions, damage):
    folder, inflict, message = DAMAGES[damage]
    name = sorted(predictions)[1]
    inflict(submission / folder / name)
    with pytest.raises(DataError) as caught:
        check_submission(submission, predictions)
    assert message.format(file=f"{folder}/{name}") in str(caught.value)


def test_nothing_is_packed_when_the_check_fails(predictions, tmp_path):
    """A prediction with an ignored value; the archive of an earlier run is removed too."""
    write_submission(predictions, tmp_path / "submission")
    name, path = next(iter(predictions.items()))
    redraw(path, color=255)
    with pytest.raises(DataError, match=rf"values up to 255, not 0..18: labelTrainIds/{name}"):
        write_submission(predictions, tmp_path / "submission")
    assert not (tmp_path / "submission.zip").exists()


def change_flags(archive: Path, bit: int, method: int | None = None) -> None:
    """Set a bit of the general flags of all entries, and their compression method."""
    data = bytearray(archive.read_bytes())
    for signature, flags, packing in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        start = data.find(signature)
        while start >= 0:
            data[start + flags] |= bit
            if method is not None:
                data[start + packing] = method
            start = data.find(signature, start + 4)
    archive.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: change_flags(p, 1),  # a password
        lambda p: change_flags(p, 0, 9),  # Deflate64
        lambda p: change_flags(p, 0, 14),  # not LZMA
        lambda p: change_flags(p, 0, 8),  # not Deflate
        lambda p: p.write_bytes(p.read_bytes()[:500]),
        lambda p: p.write_bytes(b""),
    ],
)
def test_archives_that_cannot_be_read_are_one_line(submission, spoil):
    archive = submission.parent / "submission.zip"
    spoil(archive)
    with pytest.raises(DataError, match=r"submission\.zip is not a readable zip archive \(.+\); pack the submission"):
        check_submission(archive)


def test_entries_of_an_archive_may_begin_with_a_dot(submission, predictions, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        for path in submission.rglob("*.png"):
            packed.writestr(f"./{path.relative_to(submission).as_posix()}", path.read_bytes())
    with zipfile.ZipFile(tmp_path / "packed.zip") as packed:
        assert packed.namelist()[0].startswith("./")
    assert check_submission(tmp_path / "packed.zip", predictions) == 2


def test_long_lists_of_faults_are_cut(tmp_path):
    for folder in FOLDERS[:2]:
        (tmp_path / folder).mkdir()
    for i in range(12):
        (tmp_path / "labelTrainIds" / f"{i:02}.png").touch()
    with pytest.raises(DataError, match=r"missing: labelTrainIds_invalid/00.png, .*/09.png and 14 more; "):
        check_submission(tmp_path)
    with pytest.raises(DataError, match="does not exist; give the folder of a submission"):
        check_submission(tmp_path / "none")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip is not a readable zip archive"):
        check_submission(tmp_path / "a.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no predictions"):
        check_submission(tmp_path / "empty")


# The scripts


@pytest.fixture
def work_dir(with_test_split, root):
    """A work dir with the published config at a small size and random weights."""
    folder = with_test_split.parent / "work_dirs" / "tiny"
    folder.mkdir(parents=True)
    config = load_config(root / PUBLISHED, {**TINY, "data.test.dataset_path": str(with_test_split)})
    torch.manual_seed(0)
    segmentor = build_segmentor({**config.model.to_dict(), "pretrained": None})
    state = {f"model.{name}": tensor for name, tensor in segmentor.state_dict().items()}
    torch.save({"meta": {"iter": 7}, "state_dict": state}, folder / "iter_7.pth")
    config.dump(str(folder / "tiny.py"))
    (folder / "tiny.json").write_text(json.dumps(load_config(folder / "tiny.py").to_dict(), default=list))
    return folder


@pytest.mark.slow
def test_scores_on_the_validation_split(work_dir):
    result = run("my_test.py", "--work_dir", work_dir, cwd=work_dir)
    assert "image output on 2 images: mIoU" in result.stdout
    metrics = json.loads((work_dir / "preds" / "metrics.json").read_text())
    assert (metrics["output"], metrics["samples"]) == ("image", 2)
    assert sorted(metrics["test_set"]["outputs"]) == ["image", "label"]
    assert "mIoU_19" not in metrics["scores"]
    name = "GOPR0356_frame_000321_rgb_anon.png"
    assert Image.open(work_dir / "preds" / name).size == (240, 135)
    assert Image.open(work_dir / "preds" / "color" / name).mode == "RGB"
    assert not (work_dir / "preds" / "submission").exists()


@pytest.mark.slow
def test_submission_of_the_test_split(work_dir, with_test_split):
    options = ("--image_isr", "--train_isr_parms", "--no_panels")
    result = run("my_test.py", "--work_dir", work_dir, "--split", "test", *options, cwd=work_dir)
    folder = work_dir / "preds_image_isr_train_isr_parms_test"
    assert "fusion output" in result.stdout
    test_set = json.loads((folder / "metrics.json").read_text())["test_set"]
    assert (test_set["split"], test_set["isr_parms"]) == ("test", TRAINED)
    assert f"checked and packed: {folder / 'submission.zip'}" in result.stdout
    asked = (folder / "submission.zip", "--dataset_path", with_test_split)
    assert "2 predictions are valid" in run("tools/check_submission.py", *asked, cwd=work_dir).stdout
    next((folder / "submission" / "confidence").glob("*.png")).unlink()
    result = run("tools/check_submission.py", folder / "submission", cwd=ROOT, expect=2)
    assert "missing: confidence/GOPR036" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
