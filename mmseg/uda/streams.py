"""What each ``train_type`` means: its streams, how they fuse, what labels the target, what each weighs.

``train_type`` is read here and nowhere else; the training step reads the plan. A new variant is one new entry
in ``PLANS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmseg.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from mmseg.uda.settings import UDASettings


@dataclass(frozen=True)
class Passes:
    """How student and teacher run in one iteration.

    Attributes:
        student_fusion: fusion mode of the student on source and mixed batch.
        teacher_streams: for each input slot of the teacher, the target stream put there.
        teacher_fusion: fusion mode of the teacher.
    """

    student_fusion: str
    teacher_streams: Mapping[str, str]
    teacher_fusion: str


@dataclass(frozen=True)
class StreamPlan:
    """The streams of a training variant.

    Attributes:
        source_keys, target_keys: input slot of the student -> key of the sample.
        passes: gives the passes of an iteration, by whether events were drawn (else isr).
        loss_weights: output -> weight of its cross entropy.
        accuracy_output: output whose accuracy is logged.
        pseudo_label_output: output of the teacher that labels the target.
        translated_slot: slot that holds a day image change to be turned into events, or None.
        remixed_slot: slot that holds the content map, extracted anew from the mixed image, or None.
        needs_isr_fusion: whether a pass uses the fusion module of image and isr.
    """

    source_keys: Mapping[str, str]
    target_keys: Mapping[str, str]
    passes: Callable[[bool], Passes]
    loss_weights: Mapping[str, float]
    accuracy_output: str = "fusion"
    pseudo_label_output: str = "fusion"
    translated_slot: str | None = None
    remixed_slot: str | None = None
    needs_isr_fusion: bool = False


def _dsec_together(settings: UDASettings) -> StreamPlan:
    """Image, events and isr in every pass (the published DSEC variant)."""
    weights = settings.loss_weight

    def passes(events_drawn: bool) -> Passes:
        if settings.fuse_both_ice_and_e:
            everything = {"image": "image", "events": "events", "img_self_res": "img_self_res"}
            return Passes("all", everything, "all")
        drawn = {"image": "image", "events": "events" if events_drawn else "img_self_res"}
        if settings.isr_another_fusion and not events_drawn:
            return Passes("isr", drawn, "isr")
        return Passes("events", drawn, "events")

    return StreamPlan(
        source_keys={"image": "image", "events": "img_time_res", "img_self_res": "img_self_res"},
        target_keys={"image": "warp_image", "events": "events_vg", "img_self_res": "warp_img_self_res"},
        passes=passes,
        loss_weights={
            "fusion": weights["fusion"],
            "image": weights["image"],
            "img_self_res": weights["img_self_res"],
            # beside isr, the events weigh half (reference behaviour)
            "events": weights["events"] / 2,
        },
        translated_slot="events",
        remixed_slot="img_self_res",
        needs_isr_fusion=settings.fuse_both_ice_and_e or settings.isr_another_fusion,
    )


def _dsec_image(settings: UDASettings) -> StreamPlan:
    """Images alone: the plain self-training of DAFormer."""
    alone = {"image": "image"}
    return StreamPlan(
        source_keys=alone,
        target_keys={"image": "warp_image"},
        passes=lambda _: Passes("none", alone, "none"),
        loss_weights={"image": 1.0},
        accuracy_output="image",
        pseudo_label_output="image",
    )


PLANS: dict[str, Callable[[UDASettings], StreamPlan]] = {
    "cs2dsec_image": _dsec_image,
    "cs2dsec_image+events_together": _dsec_together,
}


def stream_plan(settings: UDASettings) -> StreamPlan:
    """Plan of the variant that ``settings.train_type`` names.

    Raises:
        ConfigError: no such variant.
    """
    name = settings.train_type
    if name not in PLANS:
        raise ConfigError(
            f"uda.train_type {name!r} is not a training variant of this version{did_you_mean(name, PLANS)}; "
            f"available: {', '.join(PLANS)}"
        )
    return PLANS[name](settings)


def events_threshold(spec: str | float, progress: float) -> float:
    """Value that a uniform draw must exceed for events (else isr) to feed the teacher.

    Args:
        spec: a number, ``'a-b'`` (from a to b over the training), ``'linear'`` (1-0) or ``'nlinear'`` (0-1).
        progress: share of the training done, in [0, 1].

    Raises:
        ConfigError: ``spec`` is none of these.
    """
    named = {"linear": (1.0, 0.0), "nlinear": (0.0, 1.0)}
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
