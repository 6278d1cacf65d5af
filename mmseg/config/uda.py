"""The section ``uda`` of a config: the training method.

Which switches go together is decided in :mod:`mmseg.uda.streams`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmseg.classes import CLASSES
from mmseg.config.class_sets import MOST_CLASSES, NAME
from mmseg.config.components import (
    ISR_PARMS,
    LARGEST_SIDE,
    OFF,
    SHARE,
    SHIFT_TYPE,
    TRAIN_TYPE,
    UNDESCRIBED,
    UNREAD,
    WEIGHT,
)
from mmseg.config.fields import build, key, section_of, shared
from mmseg.config.kinds import REQUIRED, Choice, Flag, Key, ListOf, Number, Off, PathText, Text, Whole
from mmseg.config.sections import Either, Section, Variants
from mmseg.errors import ConfigError

# Weight of the distance between both encoders' features where a config leaves it open (-1).
FEATURE_CONSISTENCY = 0.25
STREAM_WEIGHTS = Section(
    {
        "image": Key(WEIGHT, 0.5, "weight of the image output's loss"),
        "events": Key(WEIGHT, 0.5, "weight of the events output's loss"),
        "fusion": Key(WEIGHT, 0.5, "weight of the fused output's loss"),
        "img_self_res": Key(WEIGHT, 0.25, "weight of the content map output's loss"),
    }
)
FORWARD = Section(
    {
        "loss_weight": Key(STREAM_WEIGHTS, {}, "weights of the outputs' losses"),
        "gradual_rate": Key(Off((0, 0.0), UNDESCRIBED), 0, "weights that change over the training"),
    }
)
_DECIMAL = r"(?:0?\.\d+|[01](?:\.0*)?)"
CHOICE_THRESHOLD = Either(
    (
        SHARE,
        Text(
            "a text such as '0.5', a range such as '0.7-0.3', 'linear' (1-0), 'nlinear' (0-1) or ''",
            rf"linear|nlinear||{_DECIMAL}(?:-{_DECIMAL})?",
        ),
    )
)
DISTANCE_CLASSES = Either(
    (
        ListOf(Whole(0, len(CLASSES) - 1), 1, len(CLASSES), "of train ids", different=True),
        ListOf(NAME, 1, MOST_CLASSES, "of names of classes", different=True),
    )
)


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Masked image consistency, a third student pass on inputs with hidden cells; see :mod:`mmseg.uda.masking`."""

    ratio: float = key(Number(0, 1, below=True), 0.7, "share of the cells that are hidden")
    block: int = key(Whole(1, LARGEST_SIDE), 32, "side of a cell in pixels; 64 for crops of 1024, 32 for 512")
    mode: str = key(
        Choice(("target_aug", "separate")),
        "target_aug",
        "what is masked: the target with jittered and blurred images, or, of every two pairs of samples, the first "
        "one's source and target",
    )
    streams: list[str] | None = key(
        ListOf(Text("the name of a stream"), 1, 16, "of streams", different=True),
        None,
        "streams that are masked, e.g. 'image', 'events', 'img_self_res'; None for all of the variant",
        none=True,
    )
    shared: bool = key(Flag(), True, "hide the same cells in all streams; False hides different cells in each")
    weight: float = key(Number(0, 1000, above=True), 1.0, "weight of the losses of the masked pass")

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of cells of an input of a size (height, width).

        Raises:
            ConfigError: a cell is larger than the input.
        """
        height, width = size
        if self.block > min(size):
            raise ConfigError(
                f"uda.masking.block is {self.block}, and samples have {height}x{width} pixels; give at most {min(size)}"
            )
        return round(height / self.block), round(width / self.block)

    def check_samples(self, number: int) -> None:
        """Check the number of samples in a batch of one process.

        Raises:
            ConfigError: the mode needs another.
        """
        if self.mode == "separate" and number % 2:
            raise ConfigError(
                f"uda.masking.mode='separate' masks a source and a target sample of every two pairs, and there are "
                f"{number} per process; make data.samples_per_gpu even, or set the mode to 'target_aug'"
            )


# Without its dataclass, so that the settings of the method stay plain values, as in the config.
MASKING = Section(section_of(Masking).keys)


@dataclass(frozen=True, kw_only=True)
class UDASettings:
    """Settings of the self-training. Keys and defaults are those of the published configs.

    Raises:
        ConfigError: a value outside of its key's range.
    """

    type: str = key(Text("the name of an adaptation method"), "DACS", "which adaptation method")
    train_type: str = key(TRAIN_TYPE, REQUIRED, "training variant: its streams, fusion and pseudo-labels")
    alpha: float = key(SHARE, 0.99, "upper bound of the teacher's momentum")
    pseudo_threshold: float = key(SHARE, 0.968, "confidence from which a target pixel counts as certain")
    pseudo_weight_ignore_top: int = key(Whole(0, LARGEST_SIDE), 0, "upper rows of the target with weight 0")
    pseudo_weight_ignore_bottom: int = key(Whole(0, LARGEST_SIDE), 0, "lower rows of the target with weight 0")
    imnet_feature_dist_lambda: float = key(WEIGHT, 0.0, "weight of the ImageNet feature distance; 0 switches it off")
    imnet_feature_dist_classes: list[int] | list[str] | None = key(
        DISTANCE_CLASSES,
        None,
        "train ids or names of the classes on which the distance is taken; None takes all pixels",
        none=True,
    )
    imnet_feature_dist_scale_min_ratio: float | None = key(
        SHARE, None, "smallest share of a label cell that its class needs for the distance", none=True
    )
    mix: str = key(Choice(("class",)), "class", "how source and target are mixed")
    blur: bool = key(Flag(), True, "blur the mixed image in half of the iterations")
    color_jitter_strength: float = key(Number(0, 0.5), 0.2, "half-width of the jitter's factors; hue in turns")
    color_jitter_probability: float = key(SHARE, 0.2, "jitter when a uniform draw exceeds it, so 0.2 jitters in 80 %")
    debug_img_interval: int = key(Whole(-1), 1000, "iterations between pictures of the step; 0 or -1 for none")
    cyclegan_itrd2en_path: str = key(
        PathText(rooted=True, empty=True, weights=True),
        "",
        "weights of the style-transfer generator; '' uses the image change as is",
    )
    forward_cfg: Mapping[str, Any] = key(FORWARD, {}, "weights of the losses")
    mixed_image_to_mixed_isr: bool = key(
        Flag(), True, "extract the content map of the mixed image; False pastes the content maps"
    )
    random_choice_thres: str | float = key(
        CHOICE_THRESHOLD, "0.5", "value that a uniform draw must exceed for events to feed the teacher"
    )
    shift_type: str = shared(SHIFT_TYPE)
    isr_parms: Mapping[str, Any] | str | None = shared(ISR_PARMS)
    masking: Mapping[str, Any] | None = key(
        MASKING, None, "masked image consistency; None for none, dict() for the defaults", none=True
    )
    source_only: bool = key(Flag(), False, "train on the labelled source only, without teacher and target")
    without_events: bool = key(Flag(), False, "always feed content maps to the teacher")
    without_isd: bool = key(Flag(), False, "always feed events to the teacher")
    isr_another_fusion: bool = key(Flag(), False, "fuse content maps by a module of their own")
    fuse_both_ice_and_e: bool = key(Flag(), False, "fuse image with events and image with content map in every pass")
    isr_no_fusion: bool = key(
        Flag(), False, "where the content map is drawn, fuse nothing and draw the image features towards its own"
    )
    lambda_feature_consistency: float = key(
        Number(0, 1000, off=-1), -1, f"weight of the distance of both encoders' features; -1 for {FEATURE_CONSISTENCY}"
    )
    isr_edge: bool = key(Flag(), False, "classify the edges of the label from content maps")
    isr_edge_class_weight: float = key(
        Number(0, 1, above=True, below=True, off=-1), -1, "weight w of the edges, 1 - w of the rest; -1 for equal ones"
    )
    lambda_isr_features: float = key(
        Number(0, 1000, off=-1), -1, "factor on the feature distance of the mixed images; -1 for none"
    )

    def __post_init__(self) -> None:
        section_of(type(self)).check("uda", vars(self))

    @property
    def masked_pass(self) -> Masking | None:
        """Settings of the masked pass; None if there is none."""
        return None if self.masking is None else build(Masking, self.masking)

    @property
    def loss_weight(self) -> dict[str, float]:
        """Weight of every stream's cross entropy."""
        default = {name: known.default for name, known in STREAM_WEIGHTS.keys.items()}
        return {**default, **self.forward_cfg.get("loss_weight", {})}

    @property
    def feature_consistency(self) -> float:
        """Weight of the distance between both encoders' features."""
        given = self.lambda_feature_consistency
        return FEATURE_CONSISTENCY if given == -1 else given


# Keys of published configs that have no meaning here.
_REST = {
    "isr_mix_aug": Key(OFF, False, "augmentation of mixed content maps"),
    "isr_noise_dacs_type": Key(Off(("",), UNDESCRIBED), "", "noise on mixed content maps"),
    "shift_3_channel": Key(OFF, False, "another shift for each channel"),
    "sky_mask": Key(Off((None, False), "its masks of the sky were never published"), None, "masks of the sky"),
    "deflare_aug": Key(
        Off((False,), "its night images without glare (image_deflare) were never published"), False, "no glare"
    ),
    "img_self_res_reg": UNREAD,
    "print_grad_magnitude": UNREAD,
}
_KEYS: dict[str, Mapping[str, Key]] = {"DACS": section_of(UDASettings, _REST).keys}
_SETTINGS: dict[str, type] = {"DACS": UDASettings}
METHODS = Variants("adaptation method", _KEYS, _SETTINGS)


def describe_methods(methods: Mapping[str, type]) -> None:
    """Take the keys of registered methods from their ``settings_class``, a dataclass derived from UDASettings.

    Args:
        methods: name -> class.
    """
    for name, method in methods.items():
        settings = getattr(method, "settings_class", None)
        if isinstance(settings, type) and issubclass(settings, UDASettings):
            _KEYS[name], _SETTINGS[name] = section_of(settings, _REST).keys, settings
