"""What each ``train_type`` means: its streams, how they fuse, what labels the target, what each weighs.

``train_type`` is read here and nowhere else in the training; the step reads the plan. A new variant is one new entry
in ``PLANS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Passes:
    """How student and teacher run in one iteration.

    Attributes:
        student_streams: for each input slot of the student, the stream put there.
        student_fusion: fusion mode of the student on source and mixed batch.
        teacher_streams, teacher_fusion: the same of the teacher on the target.
        loss_weights: output of the student -> weight of its cross entropy.
        source_consistency, mixed_consistency: weight of the distance of the image features from those of the slot
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
        passes: gives the passes of an iteration, by whether events were drawn (else isr).
        labelled_by: output of the student -> output of the teacher that labels the target for it; outputs that are
            not named take that of ``image``.
        translated: stream whose source is a day image change to be turned into events, or None.
        remixed: stream that holds the content map, extracted anew from the mixed image, or None.
        edge_outputs: outputs that tell edges of the label from the rest, in place of classes.
        needs_isr_fusion: whether a pass uses the fusion module of image and isr.
    """

    source_keys: Mapping[str, str]
    target_keys: Mapping[str, str]
    passes: Callable[[bool], Passes]
    labelled_by: Mapping[str, str] = field(default_factory=lambda: {"image": "fusion"})
    translated: str | None = None
    remixed: str | None = None
    edge_outputs: tuple[str, ...] = ()
    needs_isr_fusion: bool = False


# Streams of a sample by data set; all of them go by the same names inside the training step.
CITYSCAPES = {"image": "image", "events": "img_time_res", "img_self_res": "img_self_res"}
DSEC = {"image": "warp_image", "events": "events_vg", "img_self_res": "warp_img_self_res"}
DARK_ZURICH = {"image": "image", "img_self_res": "night_isr"}
ALONE = {"image": "image"}
# The content map stands in the slot of the events, as the second input.
IMAGE_AND_ISR = {"image": "image", "events": "img_self_res"}


def _images(target: Mapping[str, str]) -> Callable[[UDASettings], StreamPlan]:
    """Images alone: the plain self-training of DAFormer."""

    def plan(settings: UDASettings) -> StreamPlan:
        del settings  # one stream, nothing to weigh
        return StreamPlan(
            source_keys=ALONE,
            target_keys={"image": target["image"]},
            passes=lambda _: Passes(ALONE, "none", ALONE, "none", {"image": 1.0}),
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
        # beside isr, the events weigh half (reference behaviour)
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
    """One second input in every pass, events or isr as drawn."""
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
    """Image and content map side by side: each has its own classifier and labels its own target."""
    given = settings.loss_weight
    if (given["image"], given["events"]) != (0.5, 0.5):
        raise ConfigError(
            f"uda.train_type {settings.train_type!r} counts every stream once, which takes "
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
    """Images are classified, their content maps tell the edges of the labels; features are drawn together."""
    if not settings.isr_edge:
        raise ConfigError(
            f"uda.train_type {settings.train_type!r} trains its content maps on the edges of the labels; set "
            "uda.isr_edge=True (and uda.lambda_isr_features to the weight of the feature distance)"
        )
    weights = {name: settings.loss_weight[name] for name in ("image", "events")}
    distance = max(settings.lambda_isr_features, 0) * settings.feature_consistency
    return _dark_zurich(
        settings,
        passes=lambda _: Passes(IMAGE_AND_ISR, "none", ALONE, "none", weights, mixed_consistency=distance),
        labelled_by={"image": "image"},
        edge_outputs=("events",),
    )


def _dark_zurich_translated(settings: UDASettings) -> StreamPlan:
    raise ConfigError(
        f"uda.train_type {settings.train_type!r} needs content maps of Dark Zurich's day images, translated to night "
        "(a folder 'day_t_isr'), which its authors never published; take 'cs2dz_image+raw-isr'"
    )


PLANS: dict[str, Callable[[UDASettings], StreamPlan]] = {
    "cs2dsec_image": _images(DSEC),
    "cs2dsec_image+events": _dsec_one_second_input,
    "cs2dsec_image+events_together": _dsec_together,
    "cs2dz_image": _images(DARK_ZURICH),
    "cs2dz_image+d2n-isr": _dark_zurich_translated,
    "cs2dz_image+raw-isr": _dark_zurich,
    "cs2dz_image+raw-isr_split": _dark_zurich_split,
    "cs2dz_image+raw-isr_no-fusion": _dark_zurich_edges,
}
# Switches that mean something to some variants only.
SWITCHES: dict[str, tuple[str, ...]] = {
    "fuse_both_ice_and_e": ("cs2dsec_image+events_together",),
    "isr_another_fusion": ("cs2dsec_image+events", "cs2dsec_image+events_together"),
    "isr_no_fusion": ("cs2dsec_image+events",),
    "without_events": ("cs2dsec_image+events", "cs2dsec_image+events_together"),
    "without_isd": ("cs2dsec_image+events", "cs2dsec_image+events_together"),
    "isr_edge": ("cs2dz_image+raw-isr_no-fusion",),
}
# Switches that one training cannot have together, and why.
EXCLUSIVE: tuple[tuple[str, str, str], ...] = (
    ("without_events", "without_isd", "nothing would be left to feed the teacher"),
    ("without_isd", "isr_no_fusion", "the second acts where the content map was drawn"),
    ("without_isd", "isr_another_fusion", "the second acts where the content map was drawn"),
    ("isr_no_fusion", "isr_another_fusion", "the content map is fused or it is not"),
    ("fuse_both_ice_and_e", "without_events", "the first needs events"),
    ("fuse_both_ice_and_e", "without_isd", "the first needs content maps"),
    ("fuse_both_ice_and_e", "isr_no_fusion", "the content map is fused or it is not"),
)
# Numbers that are read with a switch only; -1 leaves them open.
WITH_SWITCH = {"lambda_isr_features": "isr_edge", "isr_edge_class_weight": "isr_edge"}


def check_switches(train_type: Any, uda: Mapping[str, Any]) -> None:
    """Refuse a variant that does not exist, and switches that mean nothing to it or exclude each other.

    ``fuse_both_ice_and_e`` goes with ``isr_another_fusion``, as the launcher of the published runs writes them: every
    pass fuses both, and image and content map by their own module, as they do with the first switch anyway.

    Args:
        train_type: name of the variant.
        uda: the section ``uda`` of a config, or the fields of its settings; what it lacks is off.

    Raises:
        ConfigError: naming the keys.
    """
    if not isinstance(train_type, str) or train_type not in PLANS:
        raise ConfigError(
            f"uda.train_type {train_type!r} is not a training variant of this version"
            f"{did_you_mean(train_type, PLANS)}; available: {', '.join(PLANS)}"
        )
    for first, second, reason in EXCLUSIVE:
        if uda.get(first) and uda.get(second):
            raise ConfigError(f"uda.{first} and uda.{second} exclude each other: {reason}; set one of them")
    for switch, variants in SWITCHES.items():
        if uda.get(switch) and train_type not in variants:
            raise ConfigError(
                f"uda.{switch}={uda[switch]!r} means nothing to uda.train_type {train_type!r}; it is for "
                f"{', '.join(variants)}"
            )
    for number, switch in WITH_SWITCH.items():
        value = uda.get(number, -1)
        if value != -1 and not uda.get(switch):
            raise ConfigError(f"uda.{number}={value!r} is read with uda.{switch} only; set it to -1")


def stream_plan(settings: UDASettings) -> StreamPlan:
    """Plan of the variant that ``settings.train_type`` names.

    Raises:
        ConfigError: see :func:`check_switches`; or numbers that the variant cannot have.
    """
    check_switches(settings.train_type, vars(settings))
    return PLANS[settings.train_type](settings)


def events_threshold(spec: str | float, progress: float) -> float:
    """Value that a uniform draw must exceed for events (else isr) to feed the teacher.

    Args:
        spec: a number, ``'a-b'`` (from a to b over the training), ``'linear'`` (1-0), ``'nlinear'`` (0-1), or '' where
            nothing is chosen.
        progress: share of the training done, in [0, 1].

    Raises:
        ConfigError: ``spec`` is none of these.
    """
    named = {"linear": (1.0, 0.0), "nlinear": (0.0, 1.0), "": (0.5, 0.5)}
    try:
        if spec in named:
            first, last = named[spec]
        elif isinstance(spec, str) and "-" in spec:
            first, last = (float(part) for part in spec.split("-"))
        else:
            first = last = float(spec)
    except ValueError:
        raise ConfigError(
            f"uda.random_choice_thres is {spec!r}; give a number such as '0.5', a range such as '0.7-0.3', "
            "'linear' or 'nlinear'"
        ) from None
    return first + (last - first) * progress
