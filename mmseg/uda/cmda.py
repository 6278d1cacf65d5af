"""CMDA's self-training (CMDA, section 3.5), derived from DACS and DAFormer.

``DACS`` is the name the published configs and checkpoints use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.errors import ConfigError
from mmseg.extractors.content import content_map, grey_level
from mmseg.models.losses import pixel_accuracy, resize_logits
from mmseg.models.segmentors.base import BaseSegmentor, SegmentorOutput
from mmseg.models.style_transfer import load_generator
from mmseg.registry import UDA
from mmseg.uda.augment import color_jitter, denormalize, gaussian_blur, renormalize, to_uint8
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


@UDA.register_module()
class DACS(nn.Module):
    """Student, teacher and the frozen networks around them.

    Args:
        model: the student.
        settings: the fields of :class:`UDASettings`, as they stand in the config's ``uda`` section.
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
        if self.plan.translated_slot and self.settings.cyclegan_itrd2en_path:
            self.cyclegan_itrd2en = load_generator(self.settings.cyclegan_itrd2en_path)
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
            backward: called on each of the two losses.
        """
        passes = self.plan.passes(draws.events)
        source = self._source_streams(batch["source"])
        target = {slot: batch["target"][key] for slot, key in self.plan.target_keys.items()}
        label = batch["source"]["label"][:, 0]
        pictures = {f"source.{k}": v for k, v in source.items()} | {f"target.{k}": v for k, v in target.items()}
        pictures["source.label"] = label
        update_teacher(self.ema_model, self.model, draws.iteration, self.settings.alpha)

        # SOURCE
        output = self.model(source, passes.student_fusion)
        loss, logs = self._segmentation_loss(output, label)
        # FEATURE DISTANCE
        if hasattr(self, "imnet_model"):
            distance = self._feature_distance(output, source["image"], label)
            logs["src.loss_imnet_feat_dist"] = distance.detach()
            loss = loss + distance
        backward(loss)
        del output, loss
        if self.settings.source_only:
            return StepResult(logs, pictures)

        # PSEUDO-LABEL
        pseudo_label, pseudo_weight = self._pseudo_label(target, passes)

        # CLASS MIX
        priority = torch.from_numpy(draws.class_priority).to(label.device, non_blocking=True)
        mask = class_mix_mask(label, priority)
        mixed = {slot: paste(mask, source[slot], target[slot]) for slot in source}
        mixed["image"] = self._augment(mixed["image"], draws)
        slot = self.plan.remixed_slot
        if slot and self.settings.mixed_image_to_mixed_isr:
            mixed[slot] = self._content_map(mixed["image"], draws)
        mixed_label = paste(mask, label, pseudo_label)
        mixed_weight = paste(mask, torch.ones_like(pseudo_weight), pseudo_weight)

        # MIXED
        output = self.model(mixed, passes.student_fusion)
        loss, mixed_logs = self._segmentation_loss(output, mixed_label, mixed_weight)
        backward(loss)

        logs |= {f"mix.{name}": value for name, value in mixed_logs.items()}
        logs["mix.pseudo_weight"] = pseudo_weight.mean()
        pictures |= {f"mixed.{k}": v for k, v in mixed.items()}
        pictures |= {"target.pseudo_label": pseudo_label, "mixed.label": mixed_label}
        pictures |= {"target.pseudo_weight": pseudo_weight, "mixed.weight": mixed_weight}
        return StepResult(logs, pictures)

    def _source_streams(self, sample: Mapping[str, Tensor]) -> Streams:
        """Student inputs of the source; the Image Motion-Extractor turns image changes into events."""
        source = {slot: sample[key] for slot, key in self.plan.source_keys.items()}
        slot = self.plan.translated_slot
        if slot and hasattr(self, "cyclegan_itrd2en"):
            source[slot] = self.cyclegan_itrd2en.day_events(source[slot])
        return source

    def _segmentation_loss(
        self, output: SegmentorOutput, label: Tensor, pixel_weight: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the streams' cross entropies, and what is logged of it."""
        cross_entropy = self.model.decode_head.loss
        loss = sum(
            weight * cross_entropy(output.logits[name], label, pixel_weight)
            for name, weight in self.plan.loss_weights.items()
        )
        accuracy = pixel_accuracy(output.logits[self.plan.accuracy_output], label)
        return loss, {"decode.loss_seg": loss.detach(), "decode.acc_seg": accuracy}

    def _feature_distance(self, output: SegmentorOutput, image: Tensor, label: Tensor) -> Tensor:
        with torch.no_grad():
            imagenet_features = self.imnet_model(image)[-1]
        s = self.settings
        distance = feature_distance(
            output.features["image"][-1],
            imagenet_features,
            label,
            s.imnet_feature_dist_classes,
            s.imnet_feature_dist_scale_min_ratio,
        )
        return s.imnet_feature_dist_lambda * distance

    @torch.no_grad()
    def _pseudo_label(self, target: Streams, passes: Passes) -> tuple[Tensor, Tensor]:
        """Teacher's class of every target pixel (B, H, W), and its weight: the share of certain pixels."""
        inputs = {slot: target[stream] for slot, stream in passes.teacher_streams.items()}
        logits = self.ema_model(inputs, passes.teacher_fusion).logits[self.plan.pseudo_label_output]
        probability = resize_logits(logits, target["image"].shape[2:]).softmax(dim=1)
        confidence, pseudo_label = probability.max(dim=1)
        share = (confidence >= self.settings.pseudo_threshold).float().mean()
        weight = share.expand_as(confidence).clone()
        # the car's hood and the sky above the scene are labelled badly
        weight[:, : self.settings.pseudo_weight_ignore_top] = 0
        weight[:, weight.shape[1] - self.settings.pseudo_weight_ignore_bottom :] = 0
        return pseudo_label, weight

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
        content = content_map(grey_level(to_uint8(images)), self.settings.content_params, direction)
        return content[:, None].repeat(1, 3, 1, 1)
