"""The ``uda`` section of a config as a typed object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg.errors import ConfigError
from mmseg.extractors.content import NIGHT_PARAMS, SHIFT_TYPES, ContentParams
from mmseg.uda.streams import FEATURE_CONSISTENCY, events_threshold

DEFAULT_LOSS_WEIGHT = {"image": 0.5, "events": 0.5, "fusion": 0.5, "img_self_res": 0.25}


@dataclass(frozen=True)
class UDASettings:
    """Settings of the self-training; names and defaults are those of the published configs.

    Attributes:
        train_type: training variant, see ``mmseg.uda.streams``.
        alpha: upper bound of the teacher's momentum.
        pseudo_threshold: confidence from which a target pixel counts as certain.
        pseudo_weight_ignore_top, pseudo_weight_ignore_bottom: rows of the target that get weight 0.
        imnet_feature_dist_lambda: weight of the ImageNet feature distance; 0 switches it off.
        imnet_feature_dist_classes: train ids on which the distance is taken; None takes all pixels.
        imnet_feature_dist_scale_min_ratio: least share of its class in a label cell.
        mix: only ``class``.
        blur: blur the mixed image in half of the iterations.
        color_jitter_strength: half-width of the factors; hue in turns.
        color_jitter_probability: jitter when a uniform draw exceeds it (so 0.2 jitters in 80 %).
        debug_img_interval: iterations between pictures of the step; 0 or less for none.
        cyclegan_itrd2en_path: weights of the style-transfer generator; '' takes the image change as it is.
        forward_cfg: ``loss_weight`` of each stream.
        mixed_image_to_mixed_isr: extract the content map of the mixed image; else paste the content maps.
        random_choice_thres: see ``mmseg.uda.streams.events_threshold``.
        shift_type: shift of the mixed image's content map.
        isr_parms: parameters of the mixed image's content map.
        source_only: train on the labelled source alone, without teacher and target (the baseline).
        without_events, without_isd: always feed the teacher isr, or always events.
        isr_another_fusion: when isr is drawn, fuse with the isr fusion module.
        fuse_both_ice_and_e: every pass fuses image with events and image with isr, and averages.
        isr_no_fusion: when isr is drawn, nothing is fused and the image features follow those of isr.
        lambda_feature_consistency: weight of the distance between both encoders' features; -1 for the published 0.25.
        isr_edge: content maps tell the edges of the label.
        isr_edge_class_weight: weight w of the edges, 1 - w of the rest; -1 weighs both alike.
        lambda_isr_features: factor on the feature distance of the mixed images; -1 for none.
    """

    train_type: str
    alpha: float = 0.99
    pseudo_threshold: float = 0.968
    pseudo_weight_ignore_top: int = 0
    pseudo_weight_ignore_bottom: int = 0
    imnet_feature_dist_lambda: float = 0.0
    imnet_feature_dist_classes: list[int] | None = None
    imnet_feature_dist_scale_min_ratio: float | None = None
    mix: str = "class"
    blur: bool = True
    color_jitter_strength: float = 0.2
    color_jitter_probability: float = 0.2
    debug_img_interval: int = 1000
    cyclegan_itrd2en_path: str = ""
    forward_cfg: Mapping[str, Any] = field(default_factory=dict)
    mixed_image_to_mixed_isr: bool = True
    random_choice_thres: str | float = "0.5"
    shift_type: str = "rightdown"
    isr_parms: Mapping[str, Any] | str | None = None
    source_only: bool = False
    without_events: bool = False
    without_isd: bool = False
    isr_another_fusion: bool = False
    fuse_both_ice_and_e: bool = False
    isr_no_fusion: bool = False
    lambda_feature_consistency: float = -1
    isr_edge: bool = False
    isr_edge_class_weight: float = -1
    lambda_isr_features: float = -1

    def __post_init__(self) -> None:
        if self.mix != "class":
            raise ConfigError(f"uda.mix is {self.mix!r}; the only mix is 'class'")
        if self.shift_type not in SHIFT_TYPES:
            raise ConfigError(f"uda.shift_type is {self.shift_type!r}; choose one of {', '.join(SHIFT_TYPES)}")
        events_threshold(self.random_choice_thres, 0.0)
        if self.isr_edge_class_weight != -1 and not 0 < self.isr_edge_class_weight < 1:
            raise ConfigError(
                f"uda.isr_edge_class_weight is {self.isr_edge_class_weight!r}; give a share in (0, 1), or -1 for none"
            )
        unknown = set(self.forward_cfg.get("loss_weight", {})) - set(DEFAULT_LOSS_WEIGHT)
        if unknown:
            raise ConfigError(
                f"uda.forward_cfg.loss_weight: unknown stream {', '.join(sorted(unknown))}; "
                f"known: {', '.join(DEFAULT_LOSS_WEIGHT)}"
            )

    @property
    def loss_weight(self) -> dict[str, float]:
        """Weight of every stream's cross entropy."""
        return {**DEFAULT_LOSS_WEIGHT, **self.forward_cfg.get("loss_weight", {})}

    @property
    def feature_consistency(self) -> float:
        """Weight of the distance between both encoders' features."""
        given = self.lambda_feature_consistency
        return FEATURE_CONSISTENCY if given == -1 else given

    @property
    def content_params(self) -> ContentParams:
        """Parameters of the mixed image's content map."""
        return ContentParams.from_config(self.isr_parms, NIGHT_PARAMS, "uda.isr_parms")
