"""Every key of the published configs with hostile values: refused in one line, or proven harmless."""

import copy
import math
import re

import pytest
from mmengine.config import Config

from mmseg.apis import testing
from mmseg.apis.arguments import parse_value
from mmseg.apis.training import check_training
from mmseg.config.arguments import arguments_of
from mmseg.config.components import (
    CITYSCAPES,
    DARK_ZURICH,
    DATASETS,
    DSEC,
    ENCODERS,
    FRAMES,
    FUSIONS,
    HEADS,
    LOSSES,
    MODELS,
    PAIRS,
)
from mmseg.config.keys import CONFIG, IGNORED_KEYS
from mmseg.config.kinds import REQUIRED, Off, PathText, Text, Unread
from mmseg.config.load import check_config, effective, get_key, load_config
from mmseg.config.sections import walk
from mmseg.config.uda import METHODS
from mmseg.datasets import cityscapes, dark_zurich, dsec_night, frames
from mmseg.engine.optim import OPTIMIZERS
from mmseg.errors import ConfigError
from mmseg.extractors.content import SHIFT_TYPES
from mmseg.inference.export import export
from mmseg.inference.model import init_model
from mmseg.launcher.child import plan_child
from mmseg.models.low_precision import PRECISIONS
from mmseg.registry import BACKBONES, FUSION_MODULES, SEGMENTORS, UDA
from mmseg.registry import DATASETS as DATASET_REGISTRY
from mmseg.registry import HEADS as HEAD_REGISTRY
from mmseg.registry import LOSSES as LOSS_REGISTRY

PUBLISHED = "configs/fusion/cs2dsec_image+events_together_b5.py"
PUBLISHED_DZ = "configs/fusion/cs2dz_image+raw-isr_b5.py"
FEATURE_DISTANCE = "configs/baselines/cs2dsec_image_fd_b5.py"
MASKING = "configs/beyond/cs2dsec_mic_b5.py"
HOSTILE = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "-7": -7,
    "-0.5": -0.5,
    "1.5": 1.5,
    "1e300": 1e300,
    "huge": 10**30,
    "too huge for a float": 10**400,
    "too huge to print": 10**5000,
    "True": True,
    "None": None,
    "number as text": "0.5",
    "text": "x",
    "empty text": "",
    "null character": "a\0b",
    "half a character": "\ud800",
    "long text": "x" * 100_000,
    "empty list": [],
    "nested list": [[1]],
    "three numbers": (512, 512, 512),
    "texts": ["x", "y"],
    "list with None": [None],
    "empty section": {},
    "section": {"type": "x", "y": [1]},
    "number as key": {1: 2},
    "bytes": b"x",
    "object": object(),
    "class": int,
}


def published(path, folder):
    """A published config whose files exist."""
    config = load_config(path)
    paths = [key for key, kind in walk(CONFIG) if isinstance(kind.kind, PathText) and kind.kind.rooted]
    for key in dict.fromkeys(paths):
        if get_key(config, key):
            config.merge_from_dict({key: str(folder)})
    return config


def sections(config: dict, prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += sections(value, f"{prefix}{key}.")
    return found


def kinds_of(key: str) -> list:
    """Descriptions of a key in the table, one per variant; any part of a name is a key of ``custom_keys``."""
    pieces = "optimizer.paramwise_cfg.custom_keys."
    if key.startswith(pieces):
        key = f"{pieces}*.{key.rpartition('.')[2]}"
    return [known for name, known in walk(CONFIG) if name == key]


def harmless(key: str, name: str, for_training: bool) -> bool:
    """Whether an accepted value is harmless, by the kind of its key."""
    value = HOSTILE[name]
    if for_training and key.startswith("data.test"):
        return True  # a training does not read it, and a test checks it
    if not for_training and key == "model.pretrained":
        return True  # the checkpoint holds the weights
    if key.split(".")[0] in IGNORED_KEYS and key != "norm_cfg.requires_grad":
        return True  # nothing reads the section
    for known in kinds_of(key):
        kind = known.kind
        if known.unread or isinstance(kind, (Unread, Off)):
            return True  # nothing reads it
        if value is None and known.none:
            return True  # None says that it is not used
        if isinstance(kind, PathText) and value == "" and kind.empty:
            return True  # likewise
        if isinstance(kind, Text) and name in ("text", "number as text", "empty text"):
            return True  # a name like any other
        if isinstance(kind, PathText) and name in ("text", "number as text") and not kind.rooted:
            return True  # a path like any other
    return (key, name) in HARMLESS


# Further accepted values, which are intended.
HARMLESS = {
    *((f"data.{part}.isr_parms", "empty text") for part in ("train.source", "train.target")),
    ("uda.isr_parms", "empty text"),
    # "number as text" is how the published configs write it; 1e300 and the like are refused
    ("uda.random_choice_thres", "number as text"),
    ("uda.random_choice_thres", "empty text"),
    # empty sections: every key has a default
    *((key, "empty section") for key in ("checkpoint_config", "evaluation", "log_config", "uda.forward_cfg")),
    ("uda.masking", "empty section"),
    *(
        (key, "empty section")
        for key in ("uda.forward_cfg.loss_weight", "model.test_cfg", "model.decode_head.norm_cfg")
    ),
    *(
        (f"model.decode_head.decoder_params.{key}", "empty section")
        for key in ("embed_cfg", "embed_neck_cfg", "fusion_cfg.act_cfg", "fusion_cfg.norm_cfg")
    ),
    *((f"optimizer.paramwise_cfg{key}", "empty section") for key in ("", ".custom_keys")),
    *((f"optimizer.paramwise_cfg.custom_keys.{piece}", "empty section") for piece in ("head", "norm", "pos_block")),
    ("data.train.rare_class_sampling", "empty section"),
    ("log_config.hooks", "empty list"),
    # a factor of 1.5, a weight of 1.5
    *((f"optimizer.paramwise_cfg.custom_keys.{key}", "1.5") for key in ("head.lr_mult", "norm.decay_mult")),
    ("optimizer.paramwise_cfg.custom_keys.pos_block.decay_mult", "1.5"),
    *((f"uda.forward_cfg.loss_weight.{name}", "1.5") for name in ("image", "events", "fusion", "img_self_res")),
    *((key, "1.5") for key in ("optimizer.lr", "optimizer.weight_decay", "lr_config.power")),
    *((key, "1.5") for key in ("uda.imnet_feature_dist_lambda", "uda.lambda_feature_consistency")),
    ("uda.masking.weight", "1.5"),
    *(
        (key, "1.5")
        for key in ("data.train.rare_class_sampling.class_temp", "model.decode_head.loss_decode.loss_weight")
    ),
    # switches that the config may turn on
    *(
        (key, "True")
        for key in (
            *("cudnn_benchmark", "evaluation.save_best", "model.decode_head.align_corners", "uda.blur"),
            *("model.decode_head.decoder_params.share_decoder", "uda.mixed_image_to_mixed_isr"),
            *("model.decode_head.norm_cfg.requires_grad", "model.decode_head.decoder_params.fusion_cfg.sep"),
            *("model.decode_head.decoder_params.fusion_cfg.norm_cfg.requires_grad",),
            *("data.train.target.test_mode", "data.val.test_mode", "data.test.test_mode"),
            *("data.train.source.high_resolution_isr", "data.train.target.high_resolution_isr"),
            *(f"data.{part}.events_bins_5_avg_1" for part in ("train.target", "val", "test")),
            *("uda.source_only", "uda.masking.shared"),
        )
    ),
    ("norm_cfg.requires_grad", "True"),
    # no module is built, no evaluation run
    ("model.fusion_isr_module", "empty section"),
    ("data.val", "empty section"),
    # without day events nothing loads the generator
    *(("uda.cyclegan_itrd2en_path", name) for name in ("text", "number as text")),
    ("data.train.source.split", "text"),
}


# Keys tried per config: all of the first one, and what is particular to the others.
TRIED = {
    PUBLISHED: ("",),
    PUBLISHED_DZ: ("data.", "uda."),
    FEATURE_DISTANCE: ("model.", "uda.imnet"),
    MASKING: ("uda.masking",),
}


# A test reads nothing of the section that masks.
@pytest.mark.parametrize(
    ("path", "for_training"),
    [(path, training) for path in TRIED for training in (True, False) if training or path != MASKING],
)
def test_every_key_with_every_hostile_value(root, tmp_path, path, for_training):
    content = published(root / path, tmp_path).to_dict()
    assert refusal(content, for_training) is None
    wrong = []
    for key in sections(content):
        if not key.startswith(TRIED[path] if for_training else ("model", "data.test", "data.workers_per_gpu")):
            continue
        *parents, last = key.split(".")
        node = get_key(content, ".".join(parents)) if parents else content
        kept = node[last]
        for name, value in HOSTILE.items():
            if value is kept:
                continue
            node[last] = value
            message = refusal(content, for_training)
            if message is None and not harmless(key, name, for_training):
                wrong.append(f"{key}={name}: accepted")
            elif message is not None and not is_one_line_about(key, message):
                wrong.append(f"{key}={name}: {message!r}")
        node[last] = kept
    assert not wrong, "\n".join(wrong)


def is_one_line_about(key: str, message: str) -> bool:
    """Whether a message is one line that names a key, or its section if the type is missing."""
    named = key.rpartition(".")[2] in message or f"{key.removesuffix('.type')} has no 'type'" in message
    return named and message.isprintable() and len(message) < 700


class Plain:
    """Stands for a loaded config."""

    def __init__(self, content: dict) -> None:
        self.content = content

    def to_dict(self) -> dict:
        return self.content


def refusal(content: dict, for_training: bool = True) -> str | None:
    """Error of a training or a test about a config; None if it would start."""
    try:
        if for_training:
            check_training(Plain(content))
        else:
            check_config(effective(Plain(content), for_training=False), for_training=False)
    except ConfigError as error:
        return str(error)
    return None


# --cfg-options: key, text of the value, part of the message.
OPTIONS = [
    ("seed", "18446744073709551615", "seed is 18446744073709551615; give a whole number of at least 0 and at most"),
    ("runner.max_iters", "999999999999999999999", "runner.max_iters is 999999999999999999999; give a whole number"),
    ("data.samples_per_gpu", "100000000000", "data.samples_per_gpu is 100000000000; give a whole number of at least 1"),
    ("data.workers_per_gpu", "-1", "give a whole number of at least 0"),
    ("optimizer.betas", "5", "give a list of 2 values, each a number of at least 0 and below 1"),
    ("optimizer.betas", "(0.9,1.0)", "below 1"),
    ("optimizer.lr", "-1", "optimizer.lr is -1; give a number above 0"),
    ("optimizer.lr", "0", "above 0"),
    ("optimizer.weight_decay", "-1", "of at least 0"),
    ("optimizer.eps", "0", "above 0"),
    ("optimizer.paramwise_cfg.custom_keys.head.lr_mult", "0", "above 0"),
    ("optimizer.paramwise_cfg.custom_keys.head", "5", "give a section of keys"),
    ("lr_config.power", "-1", "of at least 0"),
    ("lr_config.power", "1e9", "at most 10"),
    ("lr_config.warmup_ratio", "-3", "of at least 0 and at most 1"),
    ("lr_config.min_lr", "0.5", "lr_config.min_lr is 0.5, above optimizer.lr, 6e-05: the rate would rise"),
    ("uda.alpha", "2", "of at least 0 and at most 1"),
    ("uda.alpha", "-1", "of at least 0 and at most 1"),
    ("uda.pseudo_threshold", "-1", "of at least 0 and at most 1"),
    ("uda.color_jitter_strength", "-5", "of at least 0 and at most 0.5"),
    ("uda.color_jitter_probability", "5", "of at least 0 and at most 1"),
    ("uda.blur", "x", "uda.blur is 'x'; give True or False"),
    ("uda.blur", "1", "uda.blur is 1; give True or False"),
    ("uda.pseudo_weight_ignore_top", "-5", "a whole number of at least 0"),
    ("uda.pseudo_weight_ignore_top", "512", "samples have 512 rows, so give less than 512 in all"),
    ("uda.random_choice_thres", "1.5", "give a number of at least 0 and at most 1, or a text"),
    ("uda.random_choice_thres", "0.1-7", "give a number"),
    ("uda.imnet_feature_dist_classes", "[19]", "a list of train ids of 1 to 19 values"),
    ("uda.imnet_feature_dist_classes", "[3,3]", "none twice"),
    ("uda.forward_cfg.loss_weight.image", "-1", "of at least 0"),
    ("uda.masking", "{'block': 513}", "uda.masking.block is 513, and samples have 512x512 pixels; give at most 512"),
    ("uda.masking", "{'streams': ['depth']}", "'depth', which is not a stream of uda.train_type"),
    ("uda.masking.ratio", "1", "of at least 0 and below 1"),
    ("uda.isr_parms", "5", "give '', or a section of keys"),
    ("uda.isr_parms.val_range", "(5,1)", "the smaller one first"),
    ("uda.isr_parms.val_range", "(0,1)", "above 0"),
    ("uda.isr_parms.shift_pixel", "600", "give less than the 512 pixels of the image's side"),
    ("log_level", "None", "log_level=None is not available; it can be 'DEBUG'"),
    ("model.decode_head.channels", "0", "a whole number of at least 1"),
    ("model.decode_head.num_classes", "1", "a whole number of at least 2 and at most 254"),
    ("model.decode_head.num_classes", "8", "is 8, but the class set 'cityscapes19' has 19 classes; set it to None"),
    ("classes", "dsec12", "classes='dsec12' is not a class set, did you mean 'dsec11'"),
    ("model.decode_head.dropout_ratio", "5", "of at least 0 and below 1"),
    ("model.decode_head.in_channels", "[64,128]", "of the four stages of 4 values"),
    (
        "model.decode_head.loss_decode.loss_weight",
        "x",
        "model.decode_head.loss_decode.loss_weight is 'x'; give a number",
    ),
    ("model.decode_head.norm_cfg.momentum", "0.5", "unknown config key 'model.decode_head.norm_cfg.momentum'"),
    ("model.backbone_image.in_chans", "4", "it can be 3"),
    ("model.test_cfg", "{'mode': 'slide'}", "also needs crop_size"),
    ("model.test_cfg", "{'mode': 'slide', 'crop_size': (64, 64), 'stride': (65, 64)}", "would have no prediction"),
    ("data.train.source.image_crop_size", "5", "give a list (width, height) of 2 values, each a whole number"),
    ("data.train.source.image_crop_size", "(64,)", "of 2 values"),
    ("data.train.source.image_crop_size", "(2048,512)", "a crop of 2048x512 does not fit into 1024x512 pixels"),
    ("data.train.source.image_crop_size", "(16,16)", "at least 32"),
    ("data.train.source.seed", "3", "unknown config key 'data.train.source.seed'"),
    ("data.train.seed", "3", "unknown config key 'data.train.seed'"),
    ("data.train.target.crop_size", "(500,600)", "a crop of 600x500 does not fit into 640x480 pixels"),
    ("data.train.target.after_crop_resize_size", "(256,256)", "target samples (256, 256)"),
    ("data.train.target.events_clip_range", "(-3,-2)", "(low, high) of 2 values, each a number above 0"),
    ("data.train.target.events_clip_range", "(3,2)", "the smaller one first"),
    ("data.train.target.isr_parms", "5", "give '', or a section of keys"),
    ("data.train.target.image_change_range", "0", "at least 1"),
    ("data.train.source.outputs", "()", "give a list of any of 'image'"),
    ("data.train.source.outputs", "['image','image']", "lists a name twice"),
    ("data.train.source.split", "../x", "the name of a folder"),
    ("data.val.test_resize_size", "5", "give a list (height, width)"),
    ("data.train.rare_class_sampling.class_temp", "0", "of at least 0.0001"),
    ("data.train.rare_class_sampling.min_pixels", "nan", "a whole number"),
    ("checkpoint_config.max_keep_ckpts", "-1", "a whole number of at least 1"),
    ("checkpoint_config.max_keep_ckpts", "1.5", "a whole number of at least 1"),
    ("evaluation.save_best", "loss", "evaluation.save_best='loss' is not available"),
    ("evaluation", "5", "evaluation is 5; give a section of keys"),
    ("log_config.hooks", "[5]", "log_config.hooks[0] is 5; give a section of keys"),
    ("compile", "1", "compile is 1; give True or False"),
    ("cuda_graphs", "1", "cuda_graphs=1 is not available; it can be 'auto', True, False"),
    ("micro_batch", "0", "a whole number of at least 1"),
    ("n_gpus", "2", "n_gpus=2 is not available"),
    ("name", "a\nb", "give the name of the run"),
    ("model", "5", "model is 5; give a section of keys"),
    ("model.decode_head.decoder_params.half_share_decoder", "True", "half_share_decoder exclude each other"),
    ("model.decode_head", "None", "model.decode_head is None; give a section of keys"),
]


@pytest.fixture(scope="module")
def content(tmp_path_factory, request):
    root = request.config.rootpath
    return published(root / PUBLISHED, tmp_path_factory.mktemp("data")).to_dict()


@pytest.mark.parametrize(("key", "text", "message"), OPTIONS)
def test_values_from_the_command_line(content, key, text, message):
    config = Config(copy.deepcopy(content))
    config.merge_from_dict({key: parse_value(text)})
    refused = refusal(config.to_dict())
    assert refused is not None
    assert message in refused
    assert refused.isprintable()


def test_what_is_missing_is_named(content):
    for key in ("runner.max_iters", "optimizer.lr", "data.samples_per_gpu", "data.train.target.dataset_txt_path"):
        changed = copy.deepcopy(content)
        section, _, name = key.rpartition(".")
        del get_key(changed, section)[name]
        assert refusal(changed).startswith(f"the config lacks {key}; give a ")


@pytest.mark.parametrize("value", ["auto", True, False])
def test_cuda_graphs_are_a_key(content, value):
    assert refusal({**content, "cuda_graphs": value}) is None


def test_options_that_cannot_be_set_are_named(root):
    with pytest.raises(ConfigError, match=r"^optimizer\.lr\.x=3 cannot be set: "):
        load_config(root / PUBLISHED, {"seed": 1, "optimizer.lr.x": 3})


def test_the_launcher_names_a_value_that_a_flag_would_read(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"uda": "uda is 5; give a section", "data.val.outputs": r"data\.val\.outputs is 5; give a list"}
    for option, message in options.items():
        with pytest.raises(ConfigError, match=message):
            plan_child(root / PUBLISHED, "n", None, {option: 5}, {"without_events": True})


@pytest.mark.parametrize("key", ["data", "data.test", "data.test.outputs", "model"])
def test_whatever_reads_a_config_names_the_value(root, tmp_path, key):
    """Before the root, the outputs or the checkpoint are looked for."""
    uses = (
        lambda: testing.test(root / PUBLISHED, "none.pth", tmp_path, root_path=str(tmp_path), cfg_options={key: 5}),
        lambda: init_model(root / PUBLISHED, "none.pth", cfg_options={key: 5}, train_isr_parms=True),
        lambda: export(root / PUBLISHED, "none.pth", tmp_path, cfg_options={key: 5}),
    )
    for use in uses:
        with pytest.raises(ConfigError, match=f"^{re.escape(key)} is 5; give a "):
            use()


# ------------------------------------------------------------------------------------------------ table and components


@pytest.mark.parametrize(
    ("registry", "table"),
    [
        (DATASET_REGISTRY, DATASETS.types | {"UDADataset": PAIRS}),
        (BACKBONES, ENCODERS.types),
        (FUSION_MODULES, FUSIONS.types),
        (HEAD_REGISTRY, HEADS.types),
        (LOSS_REGISTRY, LOSSES.types),
        (SEGMENTORS, MODELS.types),
        (UDA, METHODS.types),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_table_has_the_keys_and_defaults_of_the_components(registry, table):
    registry.import_from_location()
    # tests register components of their own
    ours = {name for name, component in registry.module_dict.items() if component.__module__.startswith("mmseg.")}
    assert ours == set(table)
    for name, keys in table.items():
        component = registry.get(name)
        arguments = arguments_of(component)
        own = arguments.keys() - {"seed", "model", "arch", "args"}
        read = {key for key, known in keys.items() if not known.unread and not isinstance(known.kind, Off)}
        assert read <= own, name
        assert own - read <= {"auto_threshold", "shift_3_channel", "image_resize_size2"}, name
        for key, default in arguments.items():
            if key in keys and default is not REQUIRED and key not in ("loss_decode", "test_cfg"):
                assert keys[key].default == default, (name, key)


def test_the_table_knows_the_names_of_the_components():
    kinds = {name: known.kind for name, known in walk(CONFIG)}
    assert set(kinds["uda.shift_type"].values) == set(SHIFT_TYPES)
    assert set(CITYSCAPES["outputs"].kind.known) == set(cityscapes.OUTPUTS)
    assert set(DSEC["outputs"].kind.known) == set(dsec_night.OUTPUTS)
    assert set(DARK_ZURICH["outputs"].kind.known) == set(dark_zurich.OUTPUTS)
    assert set(FRAMES["outputs"].kind.known) == set(frames.OUTPUTS)
    assert set(CITYSCAPES["cs_isr_data_type"].kind.values) == set(cityscapes.DATA_TYPES)
    assert set(DARK_ZURICH["dz_isr_data_type"].kind.values) == set(dark_zurich.DATA_TYPES)
    assert set(kinds["optimizer.type"].values) == set(OPTIMIZERS)
    assert set(kinds["precision"].values) == set(PRECISIONS)
    assert all(known.help for _, known in walk(CONFIG))


def test_every_default_is_in_its_range():
    for name, known in walk(CONFIG):
        if known.default is not REQUIRED and known.default is not None:
            known.kind.check(name, known.default)
