"""The launcher's flags: one table of flag -> config keys -> help.

Nothing heavy is imported here, since ``--help`` is made of this table.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg.errors import ConfigError, did_you_mean
from mmseg.launcher import flag_rules as rules
from mmseg.launcher.flag_rules import COUNT, NUMBER, SOURCE, TARGET, Base, Reader, choice, words


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name, group, help: as ``--help`` shows them.
        keys: config key -> what is written: a constant, or a function of the value that was read.
        reader: reads the value; None makes a switch.
        default: what the bare flag stands for, where its value may be left out.
        needs: names of ``REQUIREMENTS`` that the base config must meet.
        more: further keys that depend on the base config; ``more_keys`` names them for ``--help``.
        unread: says why nothing would read the value in a resolved config, or ''.
        prefix: put before the experiment's name.
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
            ConfigError: the flag means nothing to the base config, or its files are missing.
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
# What stands for day events -> return_GI_or_IC, generator weights.
DAY_EVENTS = {
    "image_change": ("image_change", "./pretrained/cityscapes_ICD_to_dsec_EN.pth"),
    "gray_image": ("gray_image", "./pretrained/cityscapes_ID_to_dsec_EN.pth"),
    "ic_wo_cyclegan": ("image_change", ""),
    "gi_wo_cyclegan": ("gray_image", ""),
    "events_gan": ("events_gan", ""),
    "events_esim": ("events_esim", ""),
}
GENERATOR = "uda.cyclegan_itrd2en_path"
# Events are read alike in training and test.
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
    Flag("batch_size", "run", "source-target pairs an iteration", {"data.samples_per_gpu": _given}, COUNT),
    Flag("seed", "run", "seed of all draws", {"seed": _given}, rules.WHOLE),
    Flag(
        *("train_size", "run"),
        f"night crop (at most {rules.LARGEST_NIGHT_CROP}) and size at which both domains are trained, in pixels",
        reader=rules.SIZES,
        more=rules.size_keys,
        more_keys=(f"{SOURCE}.image_crop_size", f"{TARGET}.crop_size", f"{TARGET}.after_crop_resize_size"),
    ),
    Flag(
        *("test_mode", "run", "look at a run early: evaluate every 5 iterations, draw every 3, TEST_ before the name"),
        {"evaluation.interval": 5, "uda.debug_img_interval": 3},
        prefix="TEST_",
    ),
    Flag(
        *("debug", "run", "10 iterations, each drawn and logged, loaded by the main process, DEBUG_ before the name"),
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
        *("fusion_isr", "network", "fuse by a module of its own wherever the content map was drawn"),
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
    _sharing("half_share_decoder", (False, True), "the streams share the fuse layer of the decoder alone"),
    _sharing("no_share_decoder", (False, False), "a decoder for each stream"),
    Flag(
        *("day_events_generate", "day", "image change or grey image, translated to events, or as it is (wo_cyclegan)"),
        {f"{SOURCE}.return_GI_or_IC": lambda name: DAY_EVENTS[name][0], GENERATOR: lambda name: DAY_EVENTS[name][1]},
        words(*DAY_EVENTS),
        needs=EVENTS,
        more=rules.event_frames,
    ),
    Flag("icd2en", "day", "weights of the generator of events", {GENERATOR: _given}, rules.PATH, needs=EVENTS),
    Flag(
        *("events_clip_range", "night", "clip range of the voxel grids; a range is drawn from in training"),
        {f"{part}.events_clip_range": _given for part in EVENT_SETS},
        rules.CLIP_RANGE,
        needs=EVENTS,
    ),
    Flag(
        *("events_bins_5_avg_1", "night", "five temporal bins and their mean, in place of one bin"),
        {f"{part}.events_bins_5_avg_1": True for part in EVENT_SETS},
        needs=EVENTS,
    ),
    Flag(
        *("image_change_range", "night", "how many frames earlier the events of a frame begin"),
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
        *("random_choice_thres", "choice", "share of iterations with the content map, or its course in the training"),
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
        *("mixed_image_to_mixed_isr", "content", "extract the content map of a mixed image; false: paste its parts'"),
        {"uda.mixed_image_to_mixed_isr": _given},
        rules.ON_OFF,
        default="true",
        needs=TWO,
    ),
    Flag(
        *("cs_isr_data_type", "content", "named parameters of day images, in place of those of the config"),
        {f"{SOURCE}.cs_isr_data_type": _given},
        words("day", "new_day"),
        needs=TWO,
        more=rules.named_parameters(SOURCE),
    ),
    Flag(
        *("dz_isr_data_type", "content", "named parameters of Dark Zurich's images, in place of those of the config"),
        {f"{TARGET}.dz_isr_data_type": _given},
        words("night", "new_night"),
        needs=DARK_ZURICH + TWO,
        more=rules.named_parameters(TARGET),
    ),
    Flag(
        *("high_resolution_isr", "content", "extract content maps at the images' own size"),
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
    _weight("events", "of the second input's output; it counts half beside a content map of its own"),
    _weight("fusion", "of the fused output", unread=rules.without_fusion),
    _weight("img_self_res", "of the content map's output", unread=rules.without_isr_loss),
    Flag(
        *("isr_no_fusion", "edges"),
        "where the content map was drawn, keep image features close to its features in place of fusing",
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
        *("isr_edge", "edges", "content maps tell the edges of the labels; X: factor on the distance of the features"),
        {"uda.isr_edge": True, "uda.lambda_isr_features": _given},
        NUMBER,
        needs=TWO,
    ),
    Flag(
        *("isr_edge_class_weight", "edges", "weight of the edges, in (0, 1); the rest has one minus it"),
        {"uda.isr_edge_class_weight": _given},
        NUMBER,
        needs=TWO,
        unread=rules.without_edges,
    ),
    Flag(
        *("img_self_res_reg", "unpublished", "the reference reads this flag and does nothing with it; nor does this"),
        reader=rules.WORD,
        unread=lambda _: "the reference does nothing with it either",
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
        *("deflare_aug", "unpublished", "night images without their glare, beside the night images"),
        {"uda.deflare_aug": True},
        needs=DARK_ZURICH,
        more=rules.deflared_images,
        more_keys=(f"{TARGET}.outputs",),
    ),
)
BY_NAME = {flag.name: flag for flag in FLAGS}
# Flags that one run cannot have together, and why; what their switches mean together, the training method says
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


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag, by group. Values stay text until :func:`read_flags`, which has one kind of message."""
    for group, title in GROUPS.items():
        section = parser.add_argument_group(title)
        for flag in (flag for flag in FLAGS if flag.group == group):
            keys = ", ".join(dict.fromkeys((*flag.keys, *flag.more_keys)))
            kind: dict[str, Any] = {"action": "store_true"}
            if flag.reader:
                kind = {"metavar": flag.reader.metavar}
                if flag.default is not None:
                    kind |= {"nargs": "?", "const": True}
            text = f"{flag.help} [{keys}]" if keys else flag.help
            section.add_argument(f"--{flag.name}", default=argparse.SUPPRESS, help=text, **kind)


def given_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that a command line holds, as they were written."""
    return {name: getattr(args, name) for name in BY_NAME if hasattr(args, name)}


def read_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the values of flags.

    Args:
        given: flag -> its text or number, True for a switch.

    Raises:
        ConfigError: an unknown flag, a value that cannot be read, or flags that exclude each other.
    """
    values = {}
    for name, value in given.items():
        if name not in BY_NAME:
            raise ConfigError(f"the launcher has no flag --{name}{did_you_mean(name, BY_NAME)}")
        values[name] = BY_NAME[name].read(value)
    for first, second, reason in EXCLUSIVE:
        if first in values and second in values:
            raise ConfigError(f"--{first} and --{second} exclude each other: {reason}")
    source = values.get("day_events_generate")
    if source and not DAY_EVENTS[source][1] and "icd2en" in values:
        raise ConfigError(
            f"--day_events_generate {source} and --icd2en exclude each other: {source} translates nothing"
        )
    return values


def flag_changes(values: Mapping[str, Any], base: Base) -> dict[str, Any]:
    """Config key -> value, of what :func:`read_flags` returned.

    Raises:
        ConfigError: a flag that means nothing to the base config, or whose files are missing.
    """
    changes: dict[str, Any] = {}
    # In the order of the table: a generator given by name replaces that of its kind.
    for flag in FLAGS:
        if flag.name in values:
            changes |= flag.changes(values[flag.name], base)
    return changes


def flag_notes(values: Mapping[str, Any], resolved: Base) -> list[str]:
    """What to tell the user of values that nothing in the resolved config reads."""
    notes = []
    for flag in (BY_NAME[name] for name in values):
        reason = flag.unread(resolved) if flag.unread else ""
        if reason:
            said = "is written, but nothing reads it" if flag.keys else "changes nothing"
            notes.append(f"--{flag.name} {said}: {reason}")
    return notes


def naming_flags(message: str, values: Mapping[str, Any]) -> str:
    """A message about config keys, led by the flags that wrote them.

    Args:
        message: of a check that knows nothing of flags.
        values: what :func:`read_flags` returned.
    """
    words = set(re.findall(r"\w+(?:\.\w+)+", message))

    def wrote(flag: Flag) -> bool:
        keys = (*flag.keys, *flag.more_keys)
        return any(word == key or word.startswith(f"{key}.") for key in keys for word in words)

    blamed = [f"--{name}" for name in values if wrote(BY_NAME[name])]
    return f"{' and '.join(blamed)}: {message}" if blamed else message


def name_prefix(values: Mapping[str, Any]) -> str:
    """What the flags put before an experiment's name."""
    return "".join(BY_NAME[name].prefix for name in values)
