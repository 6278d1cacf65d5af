"""What a test can choose: its output, its data, and how they are prepared."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.config import Config

from mmseg.config.class_sets import class_set_of
from mmseg.config.load import check_config, effective, get_key
from mmseg.datasets.base import EvaluationSet, SampleStreams
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.labels import build_dataset
from mmseg.engine.networks import empty_segmentor
from mmseg.errors import ConfigError
from mmseg.evaluation.manifest_set import use_manifest
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.models.segmentors.fusion_encoder_decoder import OUTPUT_STREAMS
from mmseg.registry import DATASETS, check_contract
from mmseg.work_dir.results import TestChoices

# Keys of a data set that say where its images are.
LOCATION_KEYS = ("dataset_txt_path", "root_path", "dataset_path")
# Split that stands for the target of the training.
TRAIN_SPLIT = "train"
# Keys of a data set that decide on the content map of a sample.
ISR_KEYS = ("isr_parms", "shift_type", "dz_isr_data_type", "high_resolution_isr")


def choose_test_set(config: Config, choices: TestChoices) -> str | None:
    """Apply the choices to ``data.test`` of a config, in place.

    A named output adds the streams that it needs. On Dark Zurich the content map replaces the events.

    Returns:
        The output to test, if one was chosen.

    Raises:
        ConfigError: an option that the config's test set does not have.
    """
    _check_section(config)
    kind = get_key(config, "data.test.type")
    dataset = DATASETS.get(kind or "")
    is_dark_zurich = dataset is not None and issubclass(dataset, DarkZurichICDataset)
    of_zurich = choices.split not in (None, TRAIN_SPLIT)
    if (of_zurich or choices.image_isr) and not is_dark_zurich:
        option = f"--split {choices.split}" if of_zurich else "--image-isr"
        raise ConfigError(f"{option} is for Dark Zurich; data.test.type is {kind!r}")
    if choices.image_isr and choices.output not in (None, "fusion"):
        raise ConfigError(
            f"--image-isr tests the fused output of image and content map, not {choices.output!r}; leave one out"
        )
    output = "fusion" if choices.image_isr else choices.output
    if of_zurich:
        config.data.test.split = choices.split
    if choices.train_isr_parms:
        use_training_isr(config)
    if choices.split == TRAIN_SPLIT:
        use_target(config)
        dataset = DATASETS.get(config.data.test.type)
    if choices.manifest:
        use_manifest(config, choices.manifest)
        dataset = FramesDataset
    if dataset is not None and output in OUTPUT_STREAMS:
        given = list(config.data.test.get("outputs", ("image",) if is_dark_zurich else ()))
        known = dataset.streams_for(given) if dataset is FramesDataset else dataset.TEST_STREAMS
        streams = [known[stream] for stream in OUTPUT_STREAMS[output]]
        config.data.test.outputs = list(dict.fromkeys([*given, *streams]))
    if choices.pseudo_labels and "outputs" in config.data.test:
        config.data.test.outputs = [name for name in config.data.test.outputs if name != "label"]
    return output


def use_target(config: Config) -> None:
    """Replace the images of ``data.test`` by those of the training's target, in place: whole, prepared as in tests.

    Raises:
        ConfigError: there is no target, or it cannot take the place of the test set.
    """
    target = get_key(config, "data.train.target")
    if not isinstance(target, Mapping):
        raise ConfigError("--split train: the config has no section 'data.train.target'")
    test = config.data.test
    of_target, of_test = (DATASETS.get(section.get("type") or "") for section in (target, test))
    if of_target is not None and issubclass(of_target, FramesDataset):
        use_manifest(config, target["manifest"])
        return
    if of_target is None or of_target is not of_test:
        raise ConfigError(
            f"--split train: data.train.target.type is {target.get('type')!r} and data.test.type {test.get('type')!r}; "
            "both must be the same, or the target a manifest"
        )
    for key in LOCATION_KEYS:
        test.pop(key, None)
        if key in target:
            test[key] = target[key]
    # A cache belongs to the inputs of a training.
    test.pop("cache", None)
    if issubclass(of_target, DarkZurichICDataset):
        test.split = target.get("split") or TRAIN_SPLIT
    elif issubclass(of_target, DSECDataset):
        test.skip_frames_without_events = True


def use_training_isr(config: Config) -> None:
    """Let the test set of a config extract content maps as the training did, in place.

    Raises:
        ConfigError: the config does not say how the training extracts them.
    """
    _check_section(config)
    given = {key: get_key(config, f"data.train.target.{key}") for key in ISR_KEYS}
    given = {key: value for key, value in given.items() if value is not None}
    if not given:
        raise ConfigError(f"--train-isr-parms: data.train.target of the config has none of {', '.join(ISR_KEYS)}")
    config.data.test.update(given)


def _check_section(config: Config) -> None:
    if not isinstance(get_key(config, "data.test"), Mapping):
        raise ConfigError("the config has no section 'data.test'; take one of configs/ as a base")


def build_test(config: Config) -> tuple[BaseSegmentor, EvaluationSet]:
    """Segmentor whose weights are still to be loaded, and test set."""
    cfg = effective(config, for_training=False)
    check_config(cfg, for_training=False)
    dataset = build_dataset(cfg["data"]["test"], class_set_of(cfg))
    check_contract(dataset, EvaluationSet, "data.test")
    return empty_segmentor(config), dataset


def default_output(model: BaseSegmentor, dataset: SampleStreams) -> str:
    """Output to test if none is named: image fused with events, or the image only if there are no events.

    A content map in place of the events does not count as events: on Dark Zurich the image output is the published
    one, unless the head names another (``tested_output``) and the test set has its stream.
    """
    streams = dataset.TEST_STREAMS
    named = getattr(model.decode_head, "tested_output", None)
    if named and streams[named] in dataset.outputs:
        return named
    with_events = streams["events"] in dataset.outputs and streams["events"] != streams.get("img_self_res")
    return "fusion" if with_events and model.takes_second_input else "image"


def check_test_set(model: BaseSegmentor, dataset: SampleStreams, output: str, key: str) -> None:
    """Refuse a test set whose samples lack inputs for an output of the model.

    Args:
        key: config key of the set, for the message.

    Raises:
        ConfigError: no such output, or missing outputs of the samples.
    """
    needed = {"img_metas", *(dataset.TEST_STREAMS[stream] for stream in model.required_streams(output))}
    missing = sorted(needed - dataset.outputs)
    if missing:
        raise ConfigError(f"{key}.outputs lacks {', '.join(missing)}, which the output {output!r} needs; add it")
