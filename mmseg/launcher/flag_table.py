"""The launcher's flags: one table of flag -> config keys -> help. Light: ``--help`` is built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg.errors import ConfigError
from mmseg.launcher import flag_rules as rules
from mmseg.launcher.flag_rules import COUNT, NUMBER, SOURCE, TARGET, Base, Reader, choice, words


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name, group, help: as shown by ``--help``.
        keys: config key -> the value to write: a constant, or a function of the value that was read.
        reader: parses the value; None makes a switch.
        default: value of the bare flag, if its value may be omitted.
        needs: names of ``REQUIREMENTS`` that the base config must meet.
        more: further keys, which depend on the base config; ``more_keys`` names them for ``--help``.
        unread: explains why nothing would read the value in a resolved config, or ''.
        prefix: prefix of the experiment's name.
    """

    name: str
    group: str
    help: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    reader: Reader | None = None
    default: str | None = None
    needs: tuple[str, ...] = ()
    more: Callable[[Any, Base], Mapping[str, Any]] | None = None
    more_keys: tuple[str, ...] = ()
    unread: Callable[[Base], str] | None = None
    prefix: str = ""

    def read(self, value: Any) -> Any:
        """Read a value given as text or number.

        Raises:
            ConfigError: it cannot be read.
        """
        if self.reader is None:
            if value is not True:
                raise ConfigError(f"--{self.name} is a switch, it takes no value such as {value!r}")
            return True
        text = self.default if value is True and self.default is not None else str(value)
        try:
            return self.reader.parse(text)
        except ValueError as error:
            raise ConfigError(f"--{self.name} {text}: {error}") from None

    def changes(self, value: Any, base: Base) -> dict[str, Any]:
        """Config keys and their values.

        Raises:
            ConfigError: the flag has no meaning for the base config, or its files are missing.
        """
        for need in self.needs:
            attribute, lacking = rules.REQUIREMENTS[need]
            if not getattr(base, attribute):
                raise ConfigError(f"--{self.name} {lacking} ({base.path}); leave it out")
        changes = {key: write(value) if callable(write) else write for key, write in self.keys.items()}
        return {**changes, **(self.more(value, base) if self.more else {})}


def _given(value: Any) -> Any:
    return value


GROUPS = {
    "run": "the run",
    "network": "the network",
    "day": "events of the day images",
    "night": "events of the night images",
    "choice": "events or content map",
    "content": "the content map (ICE)",
    "training": "the self-training",
    "weights": "weights of the losses",
    "edges": "edges and feature consistency",
    "unpublished": "experiments of the reference whose files or formulas were never published",
}
FUSIONS = {
    "attfavg": "AttentionAvgFusion",
    "attf": "AttentionFusion",
    "af": "AverageFusion",
    "caf": "ConvertAvgFusion",
    "cf": "ConcatenateFusion",
}
# source of day events -> return_GI_or_IC, generator weights
DAY_EVENTS = {
    "image_change": ("image_change", "./pretrained/cityscapes_ICD_to_dsec_EN.pth"),
    "gray_image": ("gray_image", "./pretrained/cityscapes_ID_to_dsec_EN.pth"),
    "ic_wo_cyclegan": ("image_change", ""),
    "gi_wo_cyclegan": ("gray_image", ""),
    "events_gan": ("events_gan", ""),
    "events_esim": ("events_esim", ""),
}
GENERATOR = "uda.cyclegan_itrd2en_path"
# Training and test read events in the same way.
EVENT_SETS = (TARGET, "data.val", "data.test")
SHARING = tuple(f"model.decode_head.decoder_params.{key}" for key in ("share_decoder", "half_share_decoder"))
SHIFTED = tuple(f"{part}.shift_type" for part in (SOURCE, TARGET, "uda"))
TWO, EVENTS, DARK_ZURICH = ("second input",), ("events",), ("Dark Zurich",)


def _sharing(name: str, values: tuple[bool, bool], what: str) -> Flag:
    return Flag(name, "network", what, dict(zip(SHARING, values, strict=True)), needs=TWO)


def _weight(stream: str, what: str, **details: Any) -> Flag:
    keys = {f"uda.forward_cfg.loss_weight.{stream}": _given}
    return Flag(f"loss_weight_{stream}", "weights", what, keys, NUMBER, needs=TWO, **details)


def _folder(name: str, key: str, default: str, what: str) -> Flag:
    more = rules.folder_key(name, key, what)
    text = f"folder with {what} (default: {default})"
    return Flag(name, "unpublished", text, {}, rules.FOLDER, default=default, more=more, more_keys=(key,))


FLAGS: tuple[Flag, ...] = (
    Flag("batch_size", "run", "source-target pairs per iteration", {"data.samples_per_gpu": _given}, COUNT),
    Flag("seed", "run", "seed of all draws", {"seed": _given}, rules.WHOLE),
    Flag(
        *("train_size", "run"),
        f"night crop (at most {rules.LARGEST_NIGHT_CROP}) and size at which both domains are trained, in pixels",
        reader=rules.SIZES,
        more=rules.size_keys,
        more_keys=(f"{SOURCE}.image_crop_size", f"{TARGET}.crop_size", f"{TARGET}.after_crop_resize_size"),
    ),
    Flag(
        *(
            "test_mode",
            "run",
            "inspect a run early: evaluate every 5 iterations, draw every 3, name prefix TEST_",
        ),
        {"evaluation.interval": 5, "uda.debug_img_interval": 3},
        prefix="TEST_",
    ),
    Flag(
        *("debug", "run", "10 iterations, each drawn and logged, no loader processes, name prefix DEBUG_"),
        {
            "runner.max_iters": 10,
            "uda.debug_img_interval": 1,
            "log_config.interval": 1,
            "evaluation.interval": 10,
            "checkpoint_config.interval": 10,
            "data.workers_per_gpu": 0,
        },
        prefix="DEBUG_",
    ),
    Flag(
        *("backbone", "network", "encoder of both inputs, with its ImageNet weights"),
        reader=words(*(f"mit_b{i}" for i in range(6))),
        more=rules.encoder_keys,
        more_keys=("model.backbone_image.type", "model.backbone_events.type", "model.pretrained"),
    ),
    Flag(
        *("fusion", "network", f"fusion module: {', '.join(f'{word} {name}' for word, name in FUSIONS.items())}"),
        {"model.fusion_module.type": _given},
        choice(FUSIONS),
        needs=TWO,
        unread=rules.without_fusion,
    ),
    Flag(
        *("fusion_isr", "network", "fuse with a separate module where the content map is drawn"),
        {"model.fusion_isr_module.type": _given, "uda.isr_another_fusion": True},
        choice(FUSIONS),
        needs=EVENTS,
    ),
    Flag(
        *("fuse_both_ice_and_e", "network"),
        "every pass fuses image with events and image with content map (by --fusion_isr, else AttentionFusion)",
        {"uda.fuse_both_ice_and_e": True},
        needs=EVENTS,
    ),
    _sharing("share_decoder", (True, False), "one decoder for all streams"),
    _sharing("half_share_decoder", (False, True), "the streams share only the fuse layer of the decoder"),
    _sharing("no_share_decoder", (False, False), "a decoder for each stream"),
    Flag(
        *("day_events_generate", "day", "image change or grey image, translated to events or used as is (wo_cyclegan)"),
        {f"{SOURCE}.return_GI_or_IC": lambda name: DAY_EVENTS[name][0], GENERATOR: lambda name: DAY_EVENTS[name][1]},
        words(*DAY_EVENTS),
        needs=EVENTS,
        more=rules.event_frames,
    ),
    Flag("icd2en", "day", "weights of the event generator", {GENERATOR: _given}, rules.PATH, needs=EVENTS),
    Flag(
        *("events_clip_range", "night", "clip range of the voxel grids; training draws from a range"),
        {f"{part}.events_clip_range": _given for part in EVENT_SETS},
        rules.CLIP_RANGE,
        needs=EVENTS,
    ),
    Flag(
        *("events_bins_5_avg_1", "night", "mean of five temporal bins instead of one bin"),
        {f"{part}.events_bins_5_avg_1": True for part in EVENT_SETS},
        needs=EVENTS,
    ),
    Flag(
        *("image_change_range", "night", "how many frames before a frame its events start"),
        {f"{part}.image_change_range": _given for part in EVENT_SETS},
        COUNT,
        needs=EVENTS,
    ),
    Flag(
        *("without_events", "choice", "always feed the teacher the content map, and test on images"),
        {"uda.without_events": True},
        needs=EVENTS,
        more=rules.outputs_without_events,
        more_keys=("data.val.outputs", "data.test.outputs"),
    ),
    Flag("without_isd", "choice", "always feed the teacher events", {"uda.without_isd": True}, needs=EVENTS),
    Flag(
        *("random_choice_thres", "choice", "share of iterations with the content map, or its schedule"),
        {"uda.random_choice_thres": _given},
        rules.SCHEDULE,
        needs=EVENTS,
        unread=rules.without_draw,
    ),
    Flag(
        *("isd_shift_type", "content", "direction of the shift, in both domains and in mixed images"),
        dict.fromkeys(SHIFTED, _given),
        words("rightdown", "leftdown", "rightup", "leftup", "all", "random"),
        needs=TWO,
    ),
    Flag(
        *("source_isr_parms", "content", "parameters of day images"),
        {f"{SOURCE}.isr_parms": _given},
        rules.CONTENT_PARAMS,
        needs=TWO,
    ),
    Flag(
        *("target_isr_parms", "content", "parameters of night images"),
        {f"{TARGET}.isr_parms": _given},
        rules.CONTENT_PARAMS,
        needs=TWO,
    ),
    Flag(
        *("dacs_isr_parms", "content", "parameters of mixed images"),
        {"uda.isr_parms": _given},
        rules.CONTENT_PARAMS,
        needs=TWO,
        unread=rules.with_pasted_maps,
    ),
    Flag(
        *(
            "mixed_image_to_mixed_isr",
            "content",
            "extract the content map of a mixed image; false: paste content maps",
        ),
        {"uda.mixed_image_to_mixed_isr": _given},
        rules.ON_OFF,
        default="true",
        needs=TWO,
    ),
    Flag(
        *("cs_isr_data_type", "content", "named parameters of day images, instead of those of the config"),
        {f"{SOURCE}.cs_isr_data_type": _given},
        words("day", "new_day"),
        needs=TWO,
        more=rules.named_parameters(SOURCE),
    ),
    Flag(
        *("dz_isr_data_type", "content", "named parameters of Dark Zurich's images, instead of those of the config"),
        {f"{TARGET}.dz_isr_data_type": _given},
        words("night", "new_night"),
        needs=DARK_ZURICH + TWO,
        more=rules.named_parameters(TARGET),
    ),
    Flag(
        *("high_resolution_isr", "content", "extract content maps at the original size of the images"),
        {f"{SOURCE}.high_resolution_isr": True, f"{TARGET}.high_resolution_isr": True},
        needs=DARK_ZURICH + TWO,
    ),
    Flag(
        *("feature_dist", "training", "weight of the ImageNet feature distance"),
        {"uda.imnet_feature_dist_lambda": _given},
        NUMBER,
    ),
    Flag(
        *("no_plcrop", "training", "trust pseudo-labels in all rows"),
        {"uda.pseudo_weight_ignore_top": 0, "uda.pseudo_weight_ignore_bottom": 0},
    ),
    _weight("image", "of the images' output"),
    _weight("events", "of the second input's output; halved where the content map has its own output"),
    _weight("fusion", "of the fused output", unread=rules.without_fusion),
    _weight("img_self_res", "of the content map's output", unread=rules.without_isr_loss),
    Flag(
        *("isr_no_fusion", "edges"),
        "where the content map is drawn, keep image features close to its features instead of fusing",
        {"uda.isr_no_fusion": True},
        needs=TWO,
    ),
    Flag(
        *("lambda_feature_consistency", "edges", "weight of the distance of these features"),
        {"uda.lambda_feature_consistency": _given},
        NUMBER,
        needs=TWO,
        unread=rules.without_consistency,
    ),
    Flag(
        *("isr_edge", "edges", "content maps predict the edges of the labels; X: factor on the feature distance"),
        {"uda.isr_edge": True, "uda.lambda_isr_features": _given},
        NUMBER,
        needs=TWO,
    ),
    Flag(
        *("isr_edge_class_weight", "edges", "weight of the edges, in (0, 1); the rest gets one minus it"),
        {"uda.isr_edge_class_weight": _given},
        NUMBER,
        needs=TWO,
        unread=rules.without_edges,
    ),
    Flag(
        *("img_self_res_reg", "unpublished", "the reference reads this flag and ignores it; it is ignored here too"),
        reader=rules.WORD,
        unread=lambda _: "the reference ignores it too",
    ),
    Flag("cs_isr_noise", "unpublished", "noise on day content maps", {f"{SOURCE}.isr_noise": True}),
    Flag("cs_cow_mask", "unpublished", "cow masks on day content maps", {f"{SOURCE}.isr_cow_mask": True}),
    Flag("isr_mix_aug", "unpublished", "augmented mixed content maps", {"uda.isr_mix_aug": True}),
    Flag(
        *("isr_noise_dacs_type", "unpublished", "kind of noise on mixed content maps"),
        {"uda.isr_noise_dacs_type": _given},
        rules.WORD,
    ),
    Flag(
        *("shift_3_channel", "unpublished", "three channels in the content map"),
        {f"{part}.shift_3_channel": True for part in (SOURCE, TARGET, "uda")},
        needs=DARK_ZURICH,
    ),
    Flag(
        *("dz_auto_threshold", "unpublished", "threshold of the content map by image"),
        {f"{TARGET}.auto_threshold": True},
        needs=DARK_ZURICH,
    ),
    _folder("random_flare", f"{SOURCE}.random_flare", "data/flares", "pictures of lens flares"),
    _folder("sky_mask", "uda.sky_mask", "data/sky_masks", "masks of the sky"),
    Flag(
        *("deflare_aug", "unpublished", "night images without glare, in addition to the night images"),
        {"uda.deflare_aug": True},
        needs=DARK_ZURICH,
        more=rules.deflared_images,
        more_keys=(f"{TARGET}.outputs",),
    ),
)
BY_NAME = {flag.name: flag for flag in FLAGS}
# Flags that exclude each other, and why. Which switches go together is decided by the training method
# (``mmseg.uda.streams``).
EXCLUSIVE: tuple[tuple[str, str, str], ...] = (
    ("share_decoder", "half_share_decoder", "a head shares its decoders in one way"),
    ("share_decoder", "no_share_decoder", "a head shares its decoders in one way"),
    ("half_share_decoder", "no_share_decoder", "a head shares its decoders in one way"),
    ("without_events", "random_choice_thres", "without events nothing is drawn"),
    ("without_isd", "random_choice_thres", "without content maps nothing is drawn"),
    ("cs_isr_data_type", "source_isr_parms", "both give the parameters of day content maps"),
    ("dz_isr_data_type", "target_isr_parms", "both give the parameters of night content maps"),
    ("test_mode", "debug", "each makes a short run of its own kind"),
)
