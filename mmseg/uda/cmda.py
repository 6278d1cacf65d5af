"""CMDA's self-training (CMDA, section 3.5), derived from DACS and DAFormer.

``DACS`` is the name the published configs and checkpoints use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.distributed import mean_over_ranks
from mmseg.errors import ConfigError
from mmseg.extractors.content import content_map
from mmseg.models.losses import edge_label, feature_consistency, pixel_accuracy, resize_logits
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.models.style_transfer import load_generator
from mmseg.registry import UDA
from mmseg.uda.augment import color_jitter, denormalize, gaussian_blur, input_grey_level, renormalize
from mmseg.uda.class_mix import class_mix_mask, paste
from mmseg.uda.draws import StepDraws
from mmseg.uda.feature_distance import ImageNetEncoder, feature_distance
from mmseg.uda.settings import UDASettings
from mmseg.uda.streams import Passes, stream_plan
from mmseg.uda.teacher import make_teacher, update_teacher, without_noise

Streams = dict[str, Tensor]


@dataclass
class StepResult:
    """Losses to log (0-d tensors, still on the device) and the tensors a picture of the step shows."""

    logs: dict[str, Tensor]
    pictures: dict[str, Tensor]


@dataclass
class Truth:
    """Labels (B, H, W) int64 and pixel weights (B, H, W) in [0, 1], None for 1 everywhere."""

    label: Tensor
    weight: Tensor | None = None

    def part(self, samples: slice) -> Truth:
        """That of some samples."""
        return Truth(self.label[samples], None if self.weight is None else self.weight[samples])


def _inputs(streams: Streams, slots: Mapping[str, str]) -> Streams:
    """Input slots of a network, filled from the streams."""
    return {slot: streams[stream] for slot, stream in slots.items()}


def _at_least_float32(x: Tensor) -> Tensor:
    """Losses and confidences are not taken in 16 bits."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


@UDA.register_module()
class DACS(nn.Module):
    """Student, teacher and the frozen networks around them.

    Args:
        model: the student.
        settings: the fields of :class:`UDASettings`, as they stand in the config's ``uda`` section.

    Attributes:
        autocast: number format in which the networks multiply; None for that of their weights.
        micro_batch: samples that the student sees at a time; None for the whole batch. With fewer, the decoder's
            batch norm and the ImageNet feature distance take their means over fewer samples, all else is the same.
    """

    settings_class = UDASettings

    def __init__(self, model: BaseSegmentor, **settings: Any) -> None:
        super().__init__()
        self.settings = UDASettings(**settings)
        self.plan = stream_plan(self.settings)
        if self.plan.needs_isr_fusion and not hasattr(model, "fusion_isr_module"):
            raise ConfigError(
                "uda.fuse_both_ice_and_e and uda.isr_another_fusion need a second fusion module; set "
                "model.fusion_isr_module.type, e.g. to 'AttentionFusion'"
            )
        self.model = model
        self.ema_model = make_teacher(model)
        if self.settings.imnet_feature_dist_lambda > 0:
            self.imnet_model = ImageNetEncoder(model.image_encoder)
        if self.plan.translated in self.plan.source_keys and self.settings.cyclegan_itrd2en_path:
            self.cyclegan_itrd2en = load_generator(self.settings.cyclegan_itrd2en_path)
        self.autocast: torch.dtype | None = None
        self.micro_batch: int | None = None
        self.train()

    def train(self, mode: bool = True) -> DACS:
        super().train(mode)
        for name in ("imnet_model", "cyclegan_itrd2en"):
            if hasattr(self, name):
                getattr(self, name).eval()
        if mode:
            without_noise(self.ema_model)
        return self

    def train_step(
        self,
        batch: Mapping[str, Mapping[str, Tensor]],
        draws: StepDraws,
        backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> StepResult:
        """Run one iteration and leave the summed gradients in the student.

        Args:
            batch: ``source`` and ``target`` samples, every tensor (B, C, H, W); the label is int64.
            draws: the random draws of this iteration.
            backward: called on every part of the loss.
        """
        passes = self.plan.passes(draws.events)
        source = self._source_streams(batch["source"], passes)
        target = {stream: batch["target"][key] for stream, key in self.plan.target_keys.items()}
        label = batch["source"]["label"][:, 0]
        pictures = {f"source.{k}": v for k, v in source.items()} | {f"target.{k}": v for k, v in target.items()}
        pictures["source.label"] = label
        update_teacher(self.ema_model, self.model, draws.iteration, self.settings.alpha)

        # SOURCE
        distance = None
        if hasattr(self, "imnet_model"):
            distance = self._feature_distance(source["image"], label)
        student = partial(self._student_passes, passes=passes, backward=backward)
        logs = student(source, {"image": Truth(label)}, consistency=passes.source_consistency, distance=distance)
        if self.settings.source_only:
            return StepResult(logs, pictures)

        # PSEUDO-LABEL
        pseudo = self._pseudo_labels(target, passes)

        # CLASS MIX
        priority = torch.from_numpy(draws.class_priority).to(label.device, non_blocking=True)
        mask = class_mix_mask(label, priority)
        mixed = {stream: paste(mask, source[stream], target[stream]) for stream in source}
        mixed["image"] = self._augment(mixed["image"], draws)
        if self.plan.remixed in mixed and self.settings.mixed_image_to_mixed_isr:
            mixed[self.plan.remixed] = self._content_map(mixed["image"], draws)
        truth = {
            name: Truth(paste(mask, label, t.label), paste(mask, torch.ones_like(t.weight), t.weight))
            for name, t in pseudo.items()
        }

        # MIXED
        mixed_logs = student(mixed, truth, consistency=passes.mixed_consistency)
        logs |= {f"mix.{name}": value for name, value in mixed_logs.items()}
        logs["mix.pseudo_weight"] = pseudo["image"].weight.mean()
        pictures |= {f"mixed.{k}": v for k, v in mixed.items()}
        pictures |= {"target.pseudo_label": pseudo["image"].label, "mixed.label": truth["image"].label}
        pictures |= {"target.pseudo_weight": pseudo["image"].weight, "mixed.weight": truth["image"].weight}
        return StepResult(logs, pictures)

    def _source_streams(self, sample: Mapping[str, Tensor], passes: Passes) -> Streams:
        """Source of the student's streams; the Image Motion-Extractor turns image changes into events."""
        source = {stream: sample[self.plan.source_keys[stream]] for stream in passes.student_streams.values()}
        stream = self.plan.translated
        if stream in source and hasattr(self, "cyclegan_itrd2en"):
            source[stream] = self.cyclegan_itrd2en.day_events(source[stream])
        return source

    def _networks(self, device: torch.device) -> torch.autocast:
        """Context in which the networks run; everything else stays in 32 bits."""
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)

    def _student_passes(
        self,
        streams: Streams,
        truth: Mapping[str, Truth],
        distance: Callable[[Tensor, slice], Tensor] | None = None,
        **settings: Any,
    ) -> dict[str, Tensor]:
        """:meth:`_student_pass` on one micro-batch after another; the mean of what they log."""
        batch = len(next(iter(streams.values())))
        size = self.micro_batch or batch
        logs: dict[str, Tensor] = {}
        for first in range(0, batch, size):
            part = slice(first, min(first + size, batch))
            share = (part.stop - part.start) / batch
            logged = self._student_pass(
                {name: stream[part] for name, stream in streams.items()},
                {name: t.part(part) for name, t in truth.items()},
                share=share,
                distance=partial(distance, part=part) if distance else None,
                **settings,
            )
            logs = {name: logs[name] + share * value if logs else share * value for name, value in logged.items()}
        return logs

    def _student_pass(
        self,
        streams: Streams,
        truth: Mapping[str, Truth],
        passes: Passes,
        backward: Callable[[Tensor], None] = Tensor.backward,
        consistency: float = 0.0,
        share: float = 1.0,
        distance: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Run the student forward and backward on a batch; its gradients are added up, what is logged is returned.

        The loss is the weighted sum of the outputs' cross entropies and of the distances. Streams are decoded one at a
        time, each with its own way back to the features, so that the activations of one decoder are held at a time
        and not of four; the encoders' way back follows once.

        Args:
            truth: output -> its labels; an output that is not named has those of ``image``.
            consistency: weight of the distance between the features of both encoders.
            share: factor on the gradients.
            distance: gives a further loss from the last features of the image.
        """
        device = streams["image"].device

        def value_of(loss: Tensor) -> Tensor:
            backward(share * loss)
            return loss.detach()

        with self._networks(device):
            features = self.model.encode(_inputs(streams, passes.student_streams), passes.student_fusion)
        leaves = {name: [m.detach().requires_grad_() for m in maps] for name, maps in features.items()}
        logs: dict[str, Tensor] = {}
        if distance:
            logs["src.loss_imnet_feat_dist"] = value_of(distance(leaves["image"][-1]))
        shown = "fusion" if "fusion" in leaves else "image"
        for name, maps in leaves.items():
            with self._networks(device):
                logits = self.model.decode({name: maps})[name]
            logits = _at_least_float32(logits)
            if name == shown:
                logs["decode.acc_seg"] = pixel_accuracy(logits, truth["image"].label)
            if name in passes.loss_weights:
                loss = self._cross_entropy(name, logits, truth.get(name, truth["image"]))
                value = value_of(passes.loss_weights[name] * loss)
                logs["decode.loss_seg"] = logs["decode.loss_seg"] + value if "decode.loss_seg" in logs else value
        if consistency:
            apart = consistency * feature_consistency(leaves["image"], leaves["events"])
            logs["decode.loss_feat_consis"] = value_of(apart)
        reached = [
            (feature, leaf.grad)
            for name, maps in features.items()
            for feature, leaf in zip(maps, leaves[name], strict=True)
            if leaf.grad is not None and feature.requires_grad
        ]
        torch.autograd.backward(*map(list, zip(*reached, strict=True)))
        return logs

    def _cross_entropy(self, output: str, logits: Tensor, truth: Truth) -> Tensor:
        if output not in self.plan.edge_outputs:
            return self.model.decode_head.loss(logits, truth.label, truth.weight)
        share = self.settings.isr_edge_class_weight
        classes = logits.new_tensor([1 - share, share]) if share > 0 else None
        return self.model.decode_head.loss(logits, edge_label(truth.label), truth.weight, classes)

    def _feature_distance(self, image: Tensor, label: Tensor) -> Callable[[Tensor, slice], Tensor]:
        """Weighted distance of the image's last features to those of the frozen ImageNet encoder, for some samples."""
        with torch.no_grad(), self._networks(image.device):
            imagenet_features = self.imnet_model(image)[-1]
        s = self.settings
        classes, min_ratio = s.imnet_feature_dist_classes, s.imnet_feature_dist_scale_min_ratio

        def distance(features: Tensor, part: slice) -> Tensor:
            apart = feature_distance(features, imagenet_features[part], label[part], classes, min_ratio)
            return s.imnet_feature_dist_lambda * apart

        return distance

    @torch.no_grad()
    def _pseudo_labels(self, target: Streams, passes: Passes) -> dict[str, Truth]:
        """What the teacher sees on the target, by output of the student."""
        with self._networks(target["image"].device):
            logits = self.ema_model(_inputs(target, passes.teacher_streams), passes.teacher_fusion).logits
        size = target["image"].shape[2:]
        return {name: self._pseudo_label(logits[by], size) for name, by in self.plan.labelled_by.items()}

    def _pseudo_label(self, logits: Tensor, size: torch.Size) -> Truth:
        """Teacher's class of every target pixel, and its weight: the share of certain pixels."""
        confidence, label = resize_logits(_at_least_float32(logits), size).softmax(dim=1).max(dim=1)
        share = mean_over_ranks((confidence >= self.settings.pseudo_threshold).float().mean())
        weight = share.expand_as(confidence).clone()
        # the car's hood and the sky above the scene are labelled badly
        weight[:, : self.settings.pseudo_weight_ignore_top] = 0
        weight[:, weight.shape[1] - self.settings.pseudo_weight_ignore_bottom :] = 0
        return Truth(label, weight)

    @torch.no_grad()
    def _augment(self, images: Tensor, draws: StepDraws) -> Tensor:
        if draws.jitter > self.settings.color_jitter_probability:
            plain = denormalize(images)
            jittered = [color_jitter(x, f) for x, f in zip(plain, draws.jitter_factors, strict=True)]
            images = renormalize(torch.stack(jittered))
        if self.settings.blur and draws.blur > 0.5:
            images = gaussian_blur(images, draws.sigma)
        return images

    @torch.no_grad()
    def _content_map(self, images: Tensor, draws: StepDraws) -> Tensor:
        """Content map of the mixed image, (B, 3, H, W)."""
        direction = draws.shift_direction(self.settings.shift_type)
        content = content_map(input_grey_level(images), self.settings.content_params, direction)
        return content[:, None].expand(-1, 3, -1, -1)
