"""What each training variant means: its streams, how they fuse, what labels the target, what each loss weighs.

The keys ``train_type`` of a config are read here and nowhere else; everything else takes properties of the
:class:`Variant` and of its :class:`StreamPlan`, or asks the functions below. Which switches of the section ``uda`` go
together is decided here too. A new variant is one entry in ``PLANS``, see :func:`register_variant`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmseg.config.dotted import get_key
from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError, did_you_mean

# The key that names the variant; the other two, of published configs, must agree with it.
VARIANT_KEY = "uda.train_type"
VARIANT_KEYS = (VARIANT_KEY, "model.train_type", "model.decode_head.decoder_params.train_type")


@dataclass(frozen=True)
class Passes:
    """How student and teacher run in one iteration.

    Attributes:
        student_streams: input slot of the student -> the stream that fills it.
        student_fusion: fusion mode of the student on the source and mixed batches.
        teacher_streams, teacher_fusion: the same for the teacher on the target.
        loss_weights: output of the student -> weight of its cross entropy.
        source_consistency, mixed_consistency: weight of the distance between the image features and those of the slot
            ``events``; 0 for none.
    """

    student_streams: Mapping[str, str]
    student_fusion: str
    teacher_streams: Mapping[str, str]
    teacher_fusion: str
    loss_weights: Mapping[str, float]
    source_consistency: float = 0.0
    mixed_consistency: float = 0.0


@dataclass(frozen=True)
class StreamPlan:
    """The streams of a training variant.

    Attributes:
        source_keys, target_keys: stream -> key of the sample.
        passes: maps whether events were drawn (otherwise isr) to the passes of the iteration.
        labelled_by: output of the student -> output of the teacher that labels the target for it; outputs that are
            not named use the labels of ``image``.
        translated: stream whose source is a day image change to be translated to events, or None.
        remixed: stream that holds the content map, which is extracted again from the mixed image, or None.
        needs_isr_fusion: whether a pass uses the fusion module of image and isr.
    """

    source_keys: Mapping[str, str]
    target_keys: Mapping[str, str]
    passes: Callable[[bool], Passes]
    labelled_by: Mapping[str, str] = field(default_factory=lambda: {"image": "fusion"})
    translated: str | None = None
    remixed: str | None = None
    needs_isr_fusion: bool = False

    @property
    def student_streams(self) -> tuple[str, ...]:
        """The streams that the student reads in any iteration, in the order of ``source_keys``."""
        read = {stream for drawn in (True, False) for stream in self.passes(drawn).student_streams.values()}
        return tuple(stream for stream in self.source_keys if stream in read)


@dataclass(frozen=True)
class Variant:
    """A training variant: the plan of its streams, and what holds whatever its settings are.

    Attributes:
        plan: builds the streams from the settings; raises ConfigError for settings that the variant cannot have.
        switches: switches of the section ``uda`` that it reads; any other is refused.
        is_fused: whether the student has a fused output.
        weighs_content_map: whether the content map has its own output and loss weight, instead of taking the slot of
            the events.
        own_classifiers: whether the outputs ``events`` and ``fusion`` have their own classifiers.
        edge_outputs: outputs that separate the edges of the label from the rest, instead of predicting classes.
    """

    plan: Callable[[UDASettings], StreamPlan]
    switches: tuple[str, ...] = ()
    is_fused: bool = True
    weighs_content_map: bool = False
    own_classifiers: bool = False
    edge_outputs: tuple[str, ...] = ()


# stream -> key of the sample, by data set; inside the training step the streams of all data sets have the same names
CITYSCAPES = {"image": "image", "events": "img_time_res", "img_self_res": "img_self_res"}
DSEC = {"image": "warp_image", "events": "events_vg", "img_self_res": "warp_img_self_res"}
DARK_ZURICH = {"image": "image", "img_self_res": "night_isr"}
IMAGE_ONLY = {"image": "image"}
# The content map fills the slot of the events, as the second input.
IMAGE_AND_ISR = {"image": "image", "events": "img_self_res"}


def _images(target: Mapping[str, str]) -> Callable[[UDASettings], StreamPlan]:
    """Images only: the plain self-training of DAFormer."""

    def plan(settings: UDASettings) -> StreamPlan:
        del settings  # one stream, nothing to weigh
        return StreamPlan(
            source_keys=IMAGE_ONLY,
            target_keys={"image": target["image"]},
            passes=lambda _: Passes(IMAGE_ONLY, "none", IMAGE_ONLY, "none", {"image": 1.0}),
            labelled_by={"image": "image"},
        )

    return plan


def _dsec_together(settings: UDASettings) -> StreamPlan:
    """Image, events and isr in every pass (the published DSEC variant)."""
    weights = settings.loss_weight
    everything = {name: name for name in CITYSCAPES}
    loss_weights = {
        "fusion": weights["fusion"],
        "image": weights["image"],
        "img_self_res": weights["img_self_res"],
        # half the weight, as isr has an output too (reference behaviour)
        "events": weights["events"] / 2,
    }

    def passes(events_drawn: bool) -> Passes:
        if settings.fuse_both_ice_and_e:
            return Passes(everything, "all", everything, "all", loss_weights)
        drawn = {"image": "image", "events": "events"} if events_drawn else IMAGE_AND_ISR
        fusion = "isr" if settings.isr_another_fusion and not events_drawn else "events"
        return Passes(everything, fusion, drawn, fusion, loss_weights)

    return StreamPlan(
        source_keys=CITYSCAPES,
        target_keys=DSEC,
        passes=passes,
        translated="events",
        remixed="img_self_res",
        needs_isr_fusion=settings.fuse_both_ice_and_e or settings.isr_another_fusion,
    )


def _three_stream_weights(settings: UDASettings) -> dict[str, float]:
    return {name: settings.loss_weight[name] for name in ("fusion", "image", "events")}


def _dsec_one_second_input(settings: UDASettings) -> StreamPlan:
    """One second input in every pass: events or isr, as drawn."""
    weights = _three_stream_weights(settings)
    image_and_events = {"image": "image", "events": "events"}

    def passes(events_drawn: bool) -> Passes:
        if events_drawn:
            return Passes(image_and_events, "events", image_and_events, "events", weights)
        if settings.isr_no_fusion:
            unfused = {name: weight for name, weight in weights.items() if name != "fusion"}
            distance = settings.feature_consistency
            return Passes(IMAGE_AND_ISR, "none", image_and_events, "events", unfused, distance, distance)
        fusion = "isr" if settings.isr_another_fusion else "events"
        return Passes(IMAGE_AND_ISR, fusion, IMAGE_AND_ISR, fusion, weights)

    def used(keys: Mapping[str, str]) -> dict[str, str]:
        never = {"events": settings.without_events and not settings.isr_no_fusion, "img_self_res": settings.without_isd}
        return {stream: key for stream, key in keys.items() if not never.get(stream)}

    return StreamPlan(
        source_keys=used(CITYSCAPES),
        target_keys=used(DSEC),
        passes=passes,
        translated="events",
        remixed="img_self_res",
        needs_isr_fusion=settings.isr_another_fusion and not settings.without_isd,
    )


def _dark_zurich(settings: UDASettings, **changes: Any) -> StreamPlan:
    """Image and content map, fused (the published Dark Zurich variant)."""
    weights = _three_stream_weights(settings)
    parts = {
        "source_keys": {name: CITYSCAPES[name] for name in DARK_ZURICH},
        "target_keys": DARK_ZURICH,
        "passes": lambda _: Passes(IMAGE_AND_ISR, "events", IMAGE_AND_ISR, "events", weights),
        "remixed": "img_self_res",
    }
    return StreamPlan(**{**parts, **changes})


def _dark_zurich_split(settings: UDASettings) -> StreamPlan:
    """Image and content map separately: each has its own classifier and its own pseudo-labels."""
    given = settings.loss_weight
    if (given["image"], given["events"]) != (0.5, 0.5):
        raise ConfigError(
            f"{VARIANT_KEY} {settings.train_type!r} weighs its streams equally and needs "
            "uda.forward_cfg.loss_weight.image=0.5 and .events=0.5; they are "
            f"{given['image']} and {given['events']}"
        )
    weights = {"image": 2 * given["image"], "events": 2 * given["events"]}
    return _dark_zurich(
        settings,
        passes=lambda _: Passes(IMAGE_AND_ISR, "none", IMAGE_AND_ISR, "none", weights),
        labelled_by={"image": "image", "events": "events"},
    )


def _dark_zurich_edges(settings: UDASettings) -> StreamPlan:
    """Images predict classes, content maps the edges of the labels; a loss draws their features together."""
    if not settings.isr_edge:
        raise ConfigError(
            f"{VARIANT_KEY} {settings.train_type!r} trains content maps on the edges of the labels; set "
            "uda.isr_edge=True (and uda.lambda_isr_features to the weight of the feature distance)"
        )
    weights = {name: settings.loss_weight[name] for name in ("image", "events")}
    distance = max(settings.lambda_isr_features, 0) * settings.feature_consistency
    return _dark_zurich(
        settings,
        passes=lambda _: Passes(IMAGE_AND_ISR, "none", IMAGE_ONLY, "none", weights, mixed_consistency=distance),
        labelled_by={"image": "image"},
    )


def _dark_zurich_translated(settings: UDASettings) -> StreamPlan:
    raise ConfigError(
        f"{VARIANT_KEY} {settings.train_type!r} needs content maps of Dark Zurich's day images, translated to night "
        "(a folder 'day_t_isr'), which its authors never published; use 'cs2dz_image+raw-isr'"
    )


PLANS: dict[str, Variant] = {
    "cs2dsec_image": Variant(_images(DSEC), is_fused=False),
    "cs2dsec_image+events": Variant(
        _dsec_one_second_input, switches=("isr_another_fusion", "isr_no_fusion", "without_events", "without_isd")
    ),
    "cs2dsec_image+events_together": Variant(
        _dsec_together,
        switches=("fuse_both_ice_and_e", "isr_another_fusion", "without_events", "without_isd"),
        weighs_content_map=True,
    ),
    "cs2dz_image": Variant(_images(DARK_ZURICH), is_fused=False),
    "cs2dz_image+d2n-isr": Variant(_dark_zurich_translated, is_fused=False),
    "cs2dz_image+raw-isr": Variant(_dark_zurich),
    "cs2dz_image+raw-isr_split": Variant(_dark_zurich_split, is_fused=False, own_classifiers=True),
    "cs2dz_image+raw-isr_no-fusion": Variant(
        _dark_zurich_edges,
        switches=("isr_edge",),
        is_fused=False,
        own_classifiers=True,
        edge_outputs=("events",),
    ),
}
# Switches that some variants read and others refuse.
SWITCHES = ("fuse_both_ice_and_e", "isr_another_fusion", "isr_no_fusion", "without_events", "without_isd", "isr_edge")
# Switches that exclude each other, and why.
EXCLUSIVE: tuple[tuple[str, str, str], ...] = (
    ("without_events", "without_isd", "nothing would be left to feed the teacher"),
    ("without_isd", "isr_no_fusion", "the second acts where the content map was drawn"),
    ("without_isd", "isr_another_fusion", "the second acts where the content map was drawn"),
    ("isr_no_fusion", "isr_another_fusion", "the content map is either fused or not"),
    ("fuse_both_ice_and_e", "without_events", "the first needs events"),
    ("fuse_both_ice_and_e", "without_isd", "the first needs content maps"),
    ("fuse_both_ice_and_e", "isr_no_fusion", "the content map is either fused or not"),
)
# Numbers that are read only with a switch; -1 leaves them open.
WITH_SWITCH = {"lambda_isr_features": "isr_edge", "isr_edge_class_weight": "isr_edge"}


def register_variant(name: str, variant: Variant) -> None:
    """Add a training variant, to be named by ``train_type``. Its plans are checked when they are made.

    Raises:
        ValueError: the name is taken.
    """
    if name in PLANS:
        raise ValueError(f"there is already a training variant {name!r}")

    def checked(settings: UDASettings) -> StreamPlan:
        plan = variant.plan(settings)
        _check_plan(name, plan)
        return plan

    PLANS[name] = replace(variant, plan=checked)


def _check_plan(name: str, plan: StreamPlan) -> None:
    """Refuse a plan whose parts do not fit together: the step would fail, or leave out a loss.

    Raises:
        ConfigError: naming the part.
    """
    for passes in map(plan.passes, (True, False)):
        student = {*passes.student_streams} | ({"fusion"} if passes.student_fusion != "none" else set())
        teacher = {*passes.teacher_streams} | ({"fusion"} if passes.teacher_fusion != "none" else set())
        mixed = {*passes.student_streams.values()}
        for part, named, known in (
            ("student_streams names streams that source_keys lacks", mixed, plan.source_keys),
            ("student_streams names streams that target_keys lacks", mixed, plan.target_keys),
            ("teacher_streams names streams that target_keys lacks", passes.teacher_streams.values(), plan.target_keys),
            ("loss_weights names outputs that the student does not have", passes.loss_weights, student),
            ("labelled_by names outputs that the student does not have", plan.labelled_by, student),
            ("labelled_by names outputs that the teacher does not have", plan.labelled_by.values(), teacher),
            ("labelled_by, or student_streams, lacks", {"image"}, {*plan.labelled_by} & {*passes.student_streams}),
            ("teacher_streams lacks", {"image"}, passes.teacher_streams),
        ):
            unknown = sorted({*named} - {*known})
            if unknown:
                raise ConfigError(f"training variant {name!r}: {part}: {', '.join(unknown)}; see docs/extend.md")


def find_variant(train_type: Any) -> Variant:
    """The variant of a name.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(train_type, str) or train_type not in PLANS:
        raise ConfigError(
            f"{VARIANT_KEY} {train_type!r} is not a training variant of this version"
            f"{did_you_mean(train_type, PLANS)}; available: {', '.join(PLANS)}"
        )
    return PLANS[train_type]


def variant_of(config: Mapping[str, Any]) -> Variant:
    """The variant that a config trains.

    Raises:
        ConfigError: it names none, or one that does not exist.
    """
    return find_variant(get_key(config, VARIANT_KEY))


def variant_of_settings(settings: UDASettings) -> Variant:
    """The variant that the settings name.

    Raises:
        ConfigError: there is none.
    """
    return find_variant(settings.train_type)


def variant_of_head(decode_head: Mapping[str, Any]) -> Variant | None:
    """The variant for which the section of a decode head is meant; None if it names none.

    Raises:
        ConfigError: there is no such variant.
    """
    named = get_key(decode_head, "decoder_params.train_type")
    return None if named is None else find_variant(named)


def check_switches(uda: Mapping[str, Any]) -> None:
    """Check that a variant exists and that the switches of the section ``uda`` go together.

    ``fuse_both_ice_and_e`` may be combined with ``isr_another_fusion``, as the launcher of the published runs does:
    every pass fuses both, and image and content map by their own module, as they do with the first switch anyway.

    Args:
        uda: the section of a config, or the fields of its settings; switches that it lacks are off.

    Raises:
        ConfigError: an unknown variant, a switch that it does not read, or switches that exclude each other.
    """
    train_type = uda.get("train_type")
    variant = find_variant(train_type)
    for first, second, reason in EXCLUSIVE:
        if uda.get(first) and uda.get(second):
            raise ConfigError(f"uda.{first} and uda.{second} exclude each other: {reason}; set one of them")
    for switch in SWITCHES:
        if uda.get(switch) and switch not in variant.switches:
            readers = ", ".join(name for name, other in PLANS.items() if switch in other.switches)
            raise ConfigError(
                f"uda.{switch}={uda[switch]!r} has no meaning for {VARIANT_KEY} {train_type!r}; it is for {readers}"
            )
    for number, switch in WITH_SWITCH.items():
        value = uda.get(number, -1)
        if value != -1 and not uda.get(switch):
            raise ConfigError(f"uda.{number}={value!r} is read only with uda.{switch}; set it to -1")


def uses_isr_fusion(uda: Mapping[str, Any]) -> bool:
    """Whether the switches of a section ``uda`` fuse image and content map by their own module."""
    return bool(uda.get("fuse_both_ice_and_e") or uda.get("isr_another_fusion"))


def check_isr_fusion(has_module: bool) -> None:
    """Check that a network has the fusion module that :func:`uses_isr_fusion` or a plan asks for.

    Raises:
        ConfigError: it has none.
    """
    if not has_module:
        raise ConfigError(
            "uda.fuse_both_ice_and_e and uda.isr_another_fusion need a second fusion module; set "
            "model.fusion_isr_module.type, e.g. to 'AttentionFusion'"
        )


def check_method(config: Mapping[str, Any]) -> None:
    """Check that the sections of an effective config agree on the training method.

    Raises:
        ConfigError: naming the keys.
    """
    values = {key: get_key(config, key) for key in VARIANT_KEYS}
    given = {key: value for key, value in values.items() if value is not None}
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise ConfigError(f"the train types of the config differ: {listed}; set them to one value")
    uda = config["uda"]
    check_switches(uda)
    if uses_isr_fusion(uda):
        check_isr_fusion(bool(get_key(config, "model.fusion_isr_module.type")))
    if (uda.get("imnet_feature_dist_lambda") or 0) > 0 and not get_key(config, "model.pretrained"):
        raise ConfigError(
            "uda.imnet_feature_dist_lambda needs ImageNet features, but model.pretrained is None; give the ImageNet "
            "weights or set the lambda to 0"
        )


def stream_plan(settings: UDASettings) -> StreamPlan:
    """Plan of the variant that the settings name.

    Raises:
        ConfigError: see :func:`check_switches`; or numbers or masked streams that the variant cannot have.
    """
    check_switches(vars(settings))
    plan = variant_of_settings(settings).plan(settings)
    _check_masking(settings, plan)
    return plan


def _check_masking(settings: UDASettings, plan: StreamPlan) -> None:
    masking = settings.masked_pass
    if masking is None:
        return
    if settings.source_only:
        raise ConfigError(
            "uda.masking and uda.source_only exclude each other: without a teacher, nothing labels the masked target; "
            "set one of them to None or False"
        )
    known = plan.student_streams
    unknown = [name for name in masking.streams or () if name not in known]
    if unknown:
        raise ConfigError(
            f"uda.masking.streams lists {unknown[0]!r}, which is not a stream of {VARIANT_KEY} "
            f"{settings.train_type!r}{did_you_mean(unknown[0], known)}; its streams are {', '.join(known)}"
        )
