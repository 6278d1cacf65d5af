"""What each ``train_type`` means: its streams, how they fuse, what labels the target, what each weighs.

``train_type`` is read here and nowhere else in the training; the step reads the plan. A new variant is one new entry
in ``PLANS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmseg.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from mmseg.uda.settings import UDASettings

# Weight of the consistency term where a config leaves it open (-1).
FEATURE_CONSISTENCY = 0.25


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
# Switches that mean something to some variants alone.
SWITCHES: dict[str, tuple[str, ...]] = {
    "fuse_both_ice_and_e": ("cs2dsec_image+events_together",),
    "isr_another_fusion": ("cs2dsec_image+events", "cs2dsec_image+events_together"),
    "isr_no_fusion": ("cs2dsec_image+events",),
    "without_events": ("cs2dsec_image+events", "cs2dsec_image+events_together"),
    "without_isd": ("cs2dsec_image+events", "cs2dsec_image+events_together"),
    "isr_edge": ("cs2dz_image+raw-isr_no-fusion",),
}
# Switches of which the first leaves nothing for the second to do.
EXCLUSIVE = (
    ("without_events", "without_isd"),
    ("without_isd", "isr_no_fusion"),
    ("without_isd", "isr_another_fusion"),
    ("isr_no_fusion", "isr_another_fusion"),
    ("fuse_both_ice_and_e", "without_events"),
    ("fuse_both_ice_and_e", "without_isd"),
    ("fuse_both_ice_and_e", "isr_another_fusion"),
)


def stream_plan(settings: UDASettings) -> StreamPlan:
    """Plan of the variant that ``settings.train_type`` names.

    Raises:
        ConfigError: no such variant, a switch that means nothing to it, or switches that exclude each other.
    """
    name = settings.train_type
    if name not in PLANS:
        raise ConfigError(
            f"uda.train_type {name!r} is not a training variant of this version{did_you_mean(name, PLANS)}; "
            f"available: {', '.join(PLANS)}"
        )
    for switch, variants in SWITCHES.items():
        if getattr(settings, switch) and name not in variants:
            raise ConfigError(
                f"uda.{switch}={getattr(settings, switch)!r} means nothing to uda.train_type {name!r}; it is for "
                f"{', '.join(variants)}"
            )
    for pair in EXCLUSIVE:
        if all(getattr(settings, switch) for switch in pair):
            raise ConfigError(f"uda.{pair[0]} and uda.{pair[1]} exclude each other; set one of them")
    for number in ("lambda_isr_features", "isr_edge_class_weight"):
        value = getattr(settings, number)
        if value != -1 and not settings.isr_edge:
            raise ConfigError(f"uda.{number}={value!r} is read with uda.isr_edge alone; set it to -1")
    return PLANS[name](settings)


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
