"""Config keys of components: data sets, encoders, fusion modules, heads.

Components have defaults of their own in their constructors; a test holds them equal to those of these tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmseg.config.class_sets import LEAST_CLASSES, MOST_CLASSES
from mmseg.config.fields import key, section, section_of
from mmseg.config.kinds import REQUIRED, Choice, Flag, Key, ListOf, Names, Number, Off, PathText, Text, Unread, Whole
from mmseg.config.sections import Either, MapOf, Section, Variants
from mmseg.errors import ConfigError

# Largest side of a network's input, in pixels; larger than any camera image of these data sets.
LARGEST_SIDE = 8192
# Smallest side of a network's input, in pixels; the encoders need it.
LEAST_SIDE = 32
SIDE = Whole(LEAST_SIDE, LARGEST_SIDE)
WIDTH_HEIGHT = ListOf(SIDE, 2, 2, "(width, height)")
HEIGHT_WIDTH = ListOf(SIDE, 2, 2, "(height, width)")
CHANNELS = ListOf(Whole(1, 4096), 4, 4, "of the four stages")
SHARE = Number(0, 1)
WEIGHT = Number(0, 1000)
TRAIN_TYPE = Text("a training variant, e.g. 'cs2dsec_image+events_together'")
SHIFT = Choice(("random", "rightdown", "leftdown", "rightup", "leftup", "all"))
UNDESCRIBED = "what it computes is not documented anywhere"
OFF = Off((False,), UNDESCRIBED)
UNREAD = Key(Unread(), None, "not used", none=True, unread=True)
BATCH_NORM = Section(
    {
        "type": Key(Choice(("BN",)), "BN", "batch norm"),
        "requires_grad": Key(Choice((True,)), True, "its weights are trained"),
    }
)
CONTENT_PARAMS = Section(
    {
        "val_range": Key(
            ListOf(Number(0, 1e6, above=True), 2, 2, "(low, high)", different=True, ascending=True),
            REQUIRED,
            "intensities of grey levels 0 and 255 before the logarithm",
        ),
        "_threshold": Key(SHARE, REQUIRED, "smallest difference kept, as a share of log(high) - log(low)"),
        "_clip_range": Key(Number(0, 1, above=True), REQUIRED, "largest difference, as the same share"),
        "shift_pixel": Key(Whole(1, LARGEST_SIDE), REQUIRED, "shift in pixels"),
    }
)
ISR_PARMS = Key(Either((Choice(("",)), CONTENT_PARAMS)), None, "parameters of the content map", none=True)
SHIFT_TYPE = Key(SHIFT, "rightdown", "shift of the content map")
CACHE = Key(PathText(rooted=True), None, "folder made by tools/cache_events.py", none=True)
HIGH_RESOLUTION = Key(Flag(), False, "extract the content map before the image is resized")

# ------------------------------------------------------------------------------------------------ data

CITYSCAPES = {
    "dataset_path": Key(PathText(rooted=True), REQUIRED, "root with leftImg8bit, gtFine and leftImg8bit_IC1"),
    "image_resize_size": Key(WIDTH_HEIGHT, (1024, 512), "size that images are resized to"),
    "image_crop_size": Key(WIDTH_HEIGHT, (512, 512), "size of the random crop"),
    "outputs": Key(Names(("image", "label", "img_time_res", "img_self_res")), ("image", "label"), "parts of a sample"),
    "return_GI_or_IC": Key(Choice(("image_change", "gray_image")), "image_change", "content of img_time_res"),
    "shift_type": SHIFT_TYPE,
    "isr_parms": ISR_PARMS,
    "cs_isr_data_type": Key(Choice(("day", "new_day")), "day", "default parameters of the content map"),
    "high_resolution_isr": HIGH_RESOLUTION,
    "split": Key(Text("the name of a folder", r"[^/\\]*[^/\\.][^/\\]*"), "train", "folder below leftImg8bit"),
    "cache": CACHE,
    "isr_noise": Key(OFF, False, "noise on content maps"),
    "isr_cow_mask": Key(OFF, False, "masks on content maps"),
    "shift_3_channel": Key(OFF, False, "a different shift per channel"),
    "random_flare": Key(
        Off((None, False), "its pictures of flares were never published"), None, "lens flares drawn into day images"
    ),
}
DSEC = {
    "dataset_txt_path": Key(PathText(rooted=True), REQUIRED, "list written by create_dsec_dataset_txt.py"),
    "root_path": Key(PathText(), None, "folder in which the paths of the list are looked up first", none=True),
    "outputs": Key(
        Names(("warp_image", "events_vg", "warp_img_self_res", "label", "img_metas")),
        ("warp_image", "events_vg"),
        "parts of a sample",
    ),
    "crop_size": Key(HEIGHT_WIDTH, None, "size of the random crop; None for whole frames", none=True),
    "after_crop_resize_size": Key(HEIGHT_WIDTH, None, "size that the crop is resized to", none=True),
    "test_resize_size": Key(HEIGHT_WIDTH, None, "size of the network's input in a test", none=True),
    "events_bins": Key(Choice((1,)), 1, "temporal bins; events_bins_5_avg_1=True takes the mean of five"),
    "events_bins_5_avg_1": Key(Flag(), False, "accumulate five bins and take their mean"),
    "events_clip_range": Key(
        ListOf(Number(0, 1000, above=True), 2, 2, "(low, high)", ascending=True),
        None,
        "range that the clip value is drawn from; None derives it from the number of events",
        none=True,
    ),
    "events_num": Key(Whole(0, 2**31), 0, "number of events up to the frame; 0 takes all since an earlier frame"),
    "image_change_range": Key(Whole(1, 1000), 1, "number of frames by which the window of events starts earlier"),
    "isr_type": Key(Choice(("real_time",)), "real_time", "content maps are extracted while loading"),
    "shift_type": SHIFT_TYPE,
    "isr_parms": ISR_PARMS,
    "skip_frames_without_events": Key(Flag(), False, "a test leaves out frames without events, as training does"),
    "cache": CACHE,
    "auto_threshold": Key(OFF, False, "a threshold chosen per image"),
    "shift_3_channel": Key(OFF, False, "a different shift per channel"),
}
DARK_ZURICH = {
    "dataset_path": Key(PathText(rooted=True), REQUIRED, "root with rgb_anon and gt"),
    "test_mode": Key(Flag(), False, "whole images of val instead of crops of train"),
    "outputs": Key(Names(("image", "night_isr", "label", "img_metas")), ("image", "night_isr"), "parts of a sample"),
    "image_resize_size": Key(WIDTH_HEIGHT, (960, 540), "size that images are resized to"),
    "image_crop_size": Key(WIDTH_HEIGHT, (512, 512), "size of the random crop"),
    "image_resize_size2": Key(Off((None,), UNDESCRIBED), None, "a second size"),
    "shift_type": SHIFT_TYPE,
    "isr_parms": ISR_PARMS,
    "dz_isr_data_type": Key(Choice(("night", "new_night")), "night", "default parameters of the content map"),
    "high_resolution_isr": HIGH_RESOLUTION,
    "split": Key(Choice(("train", "val", "test")), None, "split; None takes it from test_mode", none=True),
    "cache": CACHE,
    "auto_threshold": Key(OFF, False, "a threshold chosen per image"),
    "shift_3_channel": Key(OFF, False, "a different shift per channel"),
}
FRAMES = {
    "manifest": Key(PathText(rooted=True), REQUIRED, "manifest of images, labels and events (docs/own_data.md)"),
    "image_resize_size": Key(WIDTH_HEIGHT, REQUIRED, "size that images, labels and events are resized to"),
    "outputs": Key(
        Names(
            (
                "image",
                "warp_image",
                "events_vg",
                "img_self_res",
                "warp_img_self_res",
                "night_isr",
                "img_time_res",
                "label",
                "img_metas",
            )
        ),
        ("image",),
        "parts of a sample, by the names that the training variant reads",
    ),
    "image_crop_size": Key(WIDTH_HEIGHT, None, "size of the random crop; None for whole images", none=True),
    "crop_resize_size": Key(WIDTH_HEIGHT, None, "size that the crop is resized to", none=True),
    "ignored_bottom_rows": Key(
        Whole(0, LARGEST_SIDE), 0, "bottom rows of the resized image that a test leaves out, such as the car's hood"
    ),
    "events_bins_5_avg_1": DSEC["events_bins_5_avg_1"],
    "events_clip_range": DSEC["events_clip_range"],
    "shift_type": SHIFT_TYPE,
    "isr_parms": ISR_PARMS,
    "cache": CACHE,
}
DATASETS = Variants(
    "dataset",
    {
        "CityscapesICDataset": CITYSCAPES,
        "DSECDataset": DSEC,
        "DarkZurichICDataset": DARK_ZURICH,
        "FramesDataset": FRAMES,
    },
)


@dataclass(frozen=True, kw_only=True)
class RareClassSampling:
    """Source images of rare classes are drawn more often."""

    min_pixels: int = key(Whole(0), 3000, "pixels of a class that an image needs to be drawn for it")
    class_temp: float = key(Number(1e-4, 1000), 0.1, "temperature; the lower, the more often the rarest are drawn")
    min_crop_ratio: float = key(SHARE, 0.5, "share of min_pixels that the crop needs")


PAIRS = {
    "source": Key(DATASETS, REQUIRED, "labelled day images"),
    "target": Key(DATASETS, REQUIRED, "night images"),
    "source_json_root": Key(
        PathText(rooted=True), None, "folder of sample_class_stats.json and samples_with_class.json", none=True
    ),
    "rare_class_sampling": Key(
        section_of(RareClassSampling), None, "draw images of rare classes more often", none=True
    ),
    "on_bad_sample": Key(Choice(("raise", "skip")), "raise", "what to do about an unusable file"),
}
TRAIN_SETS = Variants("dataset", {"UDADataset": PAIRS})

# ------------------------------------------------------------------------------------------------ model

ENCODER = {
    "in_chans": Key(Choice((3,)), 3, "channels of the input"),
    "drop_path_rate": Key(Number(0, 1, below=True), 0.1, "stochastic depth of the last block"),
    "style": Key(Choice(("pytorch", "caffe")), "pytorch", "not used"),
}
# Value of a key for weights: timm downloads them.
TIMM_WEIGHTS = "timm"
# Values that arguments of timm.create_model may have.
TIMM_ARGUMENT = Either((Flag(), Number(-1e6, 1e6), Text("a text"), ListOf(Number(-1e6, 1e6), 1, 16)))
TIMM_ENCODER = {
    "model_name": Key(
        Text("the name of a model of timm"), REQUIRED, "model with maps at strides 4 to 32, or a plain ViT"
    ),
    "weights": Key(PathText(rooted=True, weights=True), None, "its weights; 'timm' for timm's own download", none=True),
    "in_chans": ENCODER["in_chans"],
    "drop_path_rate": Key(
        Number(0, 1, below=True), None, "stochastic depth of the last block; None for timm's default", none=True
    ),
    "model_kwargs": Key(MapOf(TIMM_ARGUMENT), None, "further arguments of timm.create_model", none=True),
}
ENCODERS = Variants("backbone", {**{f"mit_b{size}": ENCODER for size in range(6)}, "TimmEncoder": TIMM_ENCODER})
WITH_CHANNELS = {
    "in_channels": Key(CHANNELS, None, "channels of the features; None for those of the encoder", none=True)
}
FUSIONS = Variants(
    "fusion module",
    {
        "AttentionAvgFusion": WITH_CHANNELS,
        "AttentionFusion": WITH_CHANNELS,
        "AverageFusion": {},
        "ConvertAvgFusion": WITH_CHANNELS,
        "ConcatenateFusion": WITH_CHANNELS,
        "FeaturesSplit": WITH_CHANNELS,
    },
)
NO_LAYERS = Section(
    {
        "type": Key(Choice(("mlp",)), "mlp", "a linear layer"),
        "act_cfg": Key(Choice((None,)), None, "no activation"),
        "norm_cfg": Key(Choice((None,)), None, "no norm"),
    }
)


@dataclass(frozen=True, kw_only=True)
class FuseLayer:
    """The layer that fuses the embedded stages: an atrous spatial pyramid."""

    type: str = key(Choice(("aspp",)), REQUIRED, "atrous spatial pyramid")
    sep: bool = key(Choice((True,)), REQUIRED, "separable convolutions")
    dilations: Sequence[int] = key(ListOf(Whole(1, 256), 1, 16), REQUIRED, "dilation of each branch")
    pool: bool = key(Choice((False,)), False, "no pooling branch")
    act_cfg: Mapping[str, Any] = key(
        Section({"type": Key(Choice(("ReLU",)), "ReLU", "ReLU")}), {"type": "ReLU"}, "activation"
    )
    norm_cfg: Mapping[str, Any] = key(BATCH_NORM, {"type": "BN"}, "norm")


@dataclass(frozen=True, kw_only=True)
class DecoderParams:
    """The decoder of a head: embed each stage, fuse them."""

    embed_dims: int = key(Whole(1, 4096), REQUIRED, "channels of each embedded stage")
    embed_cfg: Mapping[str, Any] = key(NO_LAYERS, {"type": "mlp"}, "embedding of the first stages")
    embed_neck_cfg: Mapping[str, Any] = key(NO_LAYERS, {"type": "mlp"}, "embedding of the last stage")
    fusion_cfg: FuseLayer = section(FuseLayer, "layer that fuses the stages")
    train_type: str | None = key(TRAIN_TYPE, None, "training variant; decides on classifiers of streams", none=True)
    share_decoder: bool = key(Flag(), False, "one decoder for all streams")
    half_share_decoder: bool = key(Flag(), False, "one fuse layer for all streams")

    def __post_init__(self) -> None:
        if self.share_decoder and self.half_share_decoder:
            raise ConfigError(
                "model.decode_head.decoder_params: share_decoder and half_share_decoder exclude each other; set one "
                "of them to False"
            )


LOSSES = Variants(
    "loss",
    {
        "CrossEntropyLoss": {
            "use_sigmoid": Key(Choice((False,)), False, "softmax, not sigmoid"),
            "loss_weight": Key(Number(0, 1000, above=True), 1.0, "factor on the loss"),
        }
    },
)
HEAD = {
    "in_channels": Key(CHANNELS, None, "channels of the features; None for those of the encoder", none=True),
    "channels": Key(Whole(1, 4096), REQUIRED, "channels before the classifier"),
    "num_classes": Key(
        Whole(LEAST_CLASSES, MOST_CLASSES), None, "number of classes; None takes that of the class set", none=True
    ),
    "decoder_params": Key(section_of(DecoderParams), REQUIRED, "the decoder"),
    "in_index": Key(Choice(([0, 1, 2, 3], (0, 1, 2, 3))), (0, 1, 2, 3), "stages that the head reads"),
    "dropout_ratio": Key(Number(0, 1, below=True), 0.1, "dropout before the classifier"),
    "align_corners": Key(Flag(), False, "align corners when feature maps are resized"),
    "norm_cfg": Key(BATCH_NORM, None, "norm of the decoder", none=True),
    "loss_decode": Key(LOSSES, {"type": "CrossEntropyLoss"}, "the loss", none=True),
}
HEADS = Variants("decode head", {"DAFormerHead": HEAD, "DAFormerHeadFusion": HEAD})


@dataclass(frozen=True, kw_only=True)
class PredictionMode:
    """Whether a network sees an image whole or by a sliding window, which leaves no gaps."""

    mode: str = key(Choice(("whole", "slide")), "whole", "the whole image at once, or a sliding window")
    crop_size: Sequence[int] | None = key(HEIGHT_WIDTH, None, "the window", none=True)
    stride: Sequence[int] | None = key(
        ListOf(Whole(1, LARGEST_SIDE), 2, 2, "(height, width)"), None, "steps of the window", none=True
    )

    def __post_init__(self) -> None:
        if self.mode != "slide":
            return
        if not self.crop_size or not self.stride:
            raise ConfigError("model.test_cfg.mode='slide' also needs crop_size=(H, W) and stride=(H, W)")
        if self.stride[0] > self.crop_size[0] or self.stride[1] > self.crop_size[1]:
            raise ConfigError(
                f"model.test_cfg.stride is {tuple(self.stride)}, larger than crop_size {tuple(self.crop_size)}: pixels "
                "in between would have no prediction; give a stride of at most the crop"
            )


SEGMENTOR = {
    "decode_head": Key(HEADS, REQUIRED, "the decode head"),
    "pretrained": Key(
        PathText(rooted=True, empty=True, weights=True), None, "ImageNet weights of the encoders", none=True
    ),
    "train_type": Key(TRAIN_TYPE, None, "not used: uda.train_type is read", none=True),
    "train_cfg": Key(Unread(), None, "not used", none=True),
    "test_cfg": Key(section_of(PredictionMode), {"mode": "whole"}, "how images are predicted", none=True),
}
MODELS = Variants(
    "segmentor",
    {
        "EncoderDecoder": {**SEGMENTOR, "backbone": Key(ENCODERS, REQUIRED, "encoder of the images")},
        "FusionEncoderDecoder": {
            **SEGMENTOR,
            "backbone": Key(ENCODERS, None, "not used", none=True),
            "backbone_image": Key(ENCODERS, REQUIRED, "encoder of the images"),
            "backbone_events": Key(ENCODERS, REQUIRED, "encoder of events and content maps"),
            "fusion_module": Key(FUSIONS, REQUIRED, "fusion of image and events"),
            "fusion_isr_module": Key(FUSIONS, None, "fusion of image and content map", none=True),
        },
    },
)
