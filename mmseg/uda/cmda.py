"""CMDA's self-training (CMDA, section 3.5), derived from DACS and DAFormer.

``DACS`` is the name the published configs and checkpoints use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError
from mmseg.extractors.content import NIGHT_PARAMS, ContentParams, content_map
from mmseg.models.losses import edge_label, feature_consistency, pixel_accuracy, resize_logits
from mmseg.models.low_precision import WeightCopies
from mmseg.models.resnet_generator import load_generator
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.parallel.distributed import all_reduce_mean
from mmseg.registry import UDA
from mmseg.uda.augment import color_jitter, denormalize, gaussian_blur, input_grey_level, renormalize
from mmseg.uda.class_mix import class_mix_mask, paste
from mmseg.uda.draws import StepDraws
from mmseg.uda.feature_distance import ImageNetEncoder, feature_distance
from mmseg.uda.parts import PartRunner, PlainRunner, Tensors, map_tensors
from mmseg.uda.streams import Passes, stream_plan
from mmseg.uda.teacher import make_teacher, update_teacher, without_noise

Streams = dict[str, Tensor]


@dataclass
class StepResult:
    """Losses to log (0-d tensors, still on the device) and the tensors a picture of the step shows."""

    logs: dict[str, Tensor]
    pictures: dict[str, Tensor]


@dataclass(frozen=True)
class StudentPass:
    """What stays the same from one student pass to the next.

    Attributes:
        fusion: fusion mode of the student.
        loss_weights: (output, weight of its cross entropy).
        consistency: weight of the distance between the features of both encoders.
        share: factor on the gradients, the share of the batch that one micro-batch is.
    """

    fusion: str
    loss_weights: tuple[tuple[str, float], ...]
    consistency: float = 0.0
    share: float = 1.0


def _slots(streams: Streams, slots: Mapping[str, str]) -> Streams:
    """Input slots of a network, filled from the streams."""
    return {slot: streams[stream] for slot, stream in slots.items()}


def mixed_content_params(settings: UDASettings) -> ContentParams:
    """Parameters of the mixed image's content map."""
    return ContentParams.from_config(settings.isr_parms, NIGHT_PARAMS, "uda.isr_parms")


def _truth(label: Tensor, weight: Tensor | None = None) -> dict[str, Tensor | None]:
    """Labels (B, H, W) int64 and pixel weights (B, H, W) in [0, 1], None for 1 everywhere."""
    return {"label": label, "weight": weight}


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
        parts: runs the parts of the step: the motion extractor, the teacher, the ImageNet encoder, a student pass.
    """

    settings_class = UDASettings

    def __init__(self, model: BaseSegmentor, **settings: Any) -> None:
        super().__init__()
        self.settings = UDASettings(**settings)
        self.plan = stream_plan(self.settings)
        self.content_params = mixed_content_params(self.settings)
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
        self.parts: PartRunner = PlainRunner()
        self._copies: dict[nn.Module, WeightCopies] = {}
        self.train()

    def train(self, mode: bool = True) -> DACS:
        super().train(mode)
        for name in ("imnet_model", "cyclegan_itrd2en"):
            if hasattr(self, name):
                getattr(self, name).eval()
        if mode:
            without_noise(self.ema_model)
        return self

    def multiply_in(self, dtype: torch.dtype | None, spacious: bool = True) -> None:
        """Let the networks multiply in a format, once they are on their device.

        Args:
            dtype: of 16 bits; None for the format of their weights.
            spacious: keep copies of all weights in that format; else of the student's only, which are read more often.
        """
        self.autocast = dtype
        networks = [self.model]
        if spacious:
            networks += [self.ema_model, *([self.imnet_model] if hasattr(self, "imnet_model") else [])]
        self._copies = {} if dtype is None else {network: WeightCopies(network, dtype) for network in networks}

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
        for network in self._copies:
            self._copies[network].refresh()
        student = partial(self._student_passes, passes=passes, backward=backward)

        # TEACHER: only reads its weights, so it may run beside the source pass
        if not self.settings.source_only:
            teacher = self._begin_teacher(target, passes)

        # SOURCE
        imagenet = self._imagenet_features(source["image"])
        logs = student("source pass", source, {"image": _truth(label)}, passes.source_consistency, imagenet)
        if self.settings.source_only:
            return StepResult(logs, pictures)

        # PSEUDO-LABEL
        pseudo = self._pseudo_labels(teacher())

        # CLASS MIX
        priority = torch.from_numpy(draws.class_priority).to(label.device, non_blocking=True)
        mask = class_mix_mask(label, priority)
        mixed = {stream: paste(mask, source[stream], target[stream]) for stream in source}
        mixed["image"] = self._augment(mixed["image"], draws)
        if self.plan.remixed in mixed and self.settings.mixed_image_to_mixed_isr:
            mixed[self.plan.remixed] = self._content_map(mixed["image"], draws)
        truth = {
            name: _truth(paste(mask, label, t["label"]), paste(mask, torch.ones_like(t["weight"]), t["weight"]))
            for name, t in pseudo.items()
        }

        # MIXED
        mixed_logs = student("mixed pass", mixed, truth, passes.mixed_consistency)
        logs |= {f"mix.{name}": value for name, value in mixed_logs.items()}
        logs["mix.pseudo_weight"] = pseudo["image"]["weight"].mean()
        pictures |= {f"mixed.{k}": v for k, v in mixed.items()}
        pictures |= {f"target.pseudo_{k}": v for k, v in pseudo["image"].items()}
        pictures |= {f"mixed.{k}": v for k, v in truth["image"].items()}
        return StepResult(logs, pictures)

    def _source_streams(self, sample: Mapping[str, Tensor], passes: Passes) -> Streams:
        """Source of the student's streams; the Image Motion-Extractor turns image changes into events."""
        source = {stream: sample[self.plan.source_keys[stream]] for stream in passes.student_streams.values()}
        stream = self.plan.translated
        if stream in source and hasattr(self, "cyclegan_itrd2en"):
            extractor = self.cyclegan_itrd2en.day_events
            change = {"image_change": source[stream]}
            events = self.parts.run(
                "motion extractor", None, lambda given: {"events": extractor(given["image_change"])}, change
            )
            source[stream] = events["events"]
        return source

    @contextmanager
    def _weights_of(self, network: nn.Module) -> Iterator[None]:
        """Context in which a network computes with its 16-bit weights, where it has them."""
        with ExitStack() as stack:
            if network in self._copies:
                stack.enter_context(self._copies[network].swapped_in())
            yield

    def _networks(self, device: torch.device) -> torch.autocast:
        """Context in which the networks run; everything else stays in 32 bits."""
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)

    def _student_passes(
        self,
        name: str,
        streams: Streams,
        truth: Tensors,
        consistency: float = 0.0,
        imagenet: Tensor | None = None,
        *,
        passes: Passes,
        backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> dict[str, Tensor]:
        """:meth:`_student_pass` on one micro-batch after another; the mean of what they log."""
        inputs = {"slots": _slots(streams, passes.student_streams), "truth": truth, "imagenet": imagenet}
        batch = len(streams["image"])
        size = self.micro_batch or batch
        logs: dict[str, Tensor] = {}
        for first in range(0, batch, size):
            part = slice(first, min(first + size, batch))
            share = (part.stop - part.start) / batch
            how = StudentPass(passes.student_fusion, tuple(passes.loss_weights.items()), consistency, share)
            logged = self.parts.run(
                name,
                how,
                partial(self._student_pass, how, backward=backward),
                map_tensors(lambda tensor, part=part: tensor[part], inputs),
            )
            logs = {key: logs[key] + share * value if logs else share * value for key, value in logged.items()}
        return logs

    def _student_pass(
        self, how: StudentPass, inputs: Tensors, backward: Callable[[Tensor], None] = Tensor.backward
    ) -> dict[str, Tensor]:
        """Run the student forward and backward on a batch; its gradients are added up, what is logged is returned.

        The loss is the weighted sum of the outputs' cross entropies and of the distances. Streams are decoded one at a
        time, each with its own way back to the features, so that the activations of one decoder are held at a time
        and not of four; the encoders' way back follows once.

        Args:
            inputs: ``slots``: inputs of the student; ``truth``: output -> its labels, an output that is not named has
                those of ``image``; ``imagenet``: last features of the frozen ImageNet encoder, or None.
        """
        slots, truth = inputs["slots"], inputs["truth"]
        device = slots["image"].device
        weights = dict(how.loss_weights)

        def value_of(loss: Tensor) -> Tensor:
            backward(how.share * loss)
            self._collect_gradients()
            return loss.detach()

        with self._weights_of(self.model):
            with self._networks(device):
                features = self.model.encode(slots, how.fusion)
            leaves = {name: [m.detach().requires_grad_() for m in maps] for name, maps in features.items()}
            logs: dict[str, Tensor] = {}
            if inputs["imagenet"] is not None:
                apart = self._feature_distance(leaves["image"][-1], inputs["imagenet"], truth["image"]["label"])
                logs["src.loss_imnet_feat_dist"] = value_of(apart)
            shown = "fusion" if "fusion" in leaves else "image"
            for name, maps in leaves.items():
                with self._networks(device):
                    logits = self.model.decode({name: maps})[name]
                logits = _at_least_float32(logits)
                if name == shown:
                    logs["decode.acc_seg"] = pixel_accuracy(logits, truth["image"]["label"])
                if name in weights:
                    loss = self._cross_entropy(name, logits, truth.get(name, truth["image"]))
                    value = value_of(weights[name] * loss)
                    logs["decode.loss_seg"] = logs["decode.loss_seg"] + value if "decode.loss_seg" in logs else value
                    logs[f"decode.ce_{name}"] = loss.detach()
            if how.consistency:
                apart = how.consistency * feature_consistency(leaves["image"], leaves["events"])
                logs["decode.loss_feat_consis"] = value_of(apart)
            reached = [
                (feature, leaf.grad)
                for name, maps in features.items()
                for feature, leaf in zip(maps, leaves[name], strict=True)
                if leaf.grad is not None and feature.requires_grad
            ]
            torch.autograd.backward(*map(list, zip(*reached, strict=True)))
            self._collect_gradients()
        return logs

    def _collect_gradients(self) -> None:
        if self.model in self._copies:
            self._copies[self.model].collect_gradients()

    def _cross_entropy(self, output: str, logits: Tensor, truth: Tensors) -> Tensor:
        if output not in self.plan.edge_outputs:
            return self.model.decode_head.loss(logits, truth["label"], truth["weight"])
        share = self.settings.isr_edge_class_weight
        classes = logits.new_tensor([1 - share, share]) if share > 0 else None
        return self.model.decode_head.loss(logits, edge_label(truth["label"]), truth["weight"], classes)

    def _imagenet_features(self, image: Tensor) -> Tensor | None:
        """Last features of the frozen ImageNet encoder, None where the feature distance is switched off."""
        if not hasattr(self, "imnet_model"):
            return None

        @torch.no_grad()
        def encode(inputs: Tensors) -> dict[str, Tensor]:
            with self._weights_of(self.imnet_model), self._networks(image.device):
                return {"last": self.imnet_model(inputs["image"])[-1]}

        return self.parts.run("ImageNet encoder", None, encode, {"image": image})["last"]

    def _feature_distance(self, features: Tensor, imagenet_features: Tensor, label: Tensor) -> Tensor:
        """Weighted distance of the image's last features to those of the frozen ImageNet encoder."""
        s = self.settings
        classes, min_ratio = s.imnet_feature_dist_classes, s.imnet_feature_dist_scale_min_ratio
        return s.imnet_feature_dist_lambda * feature_distance(features, imagenet_features, label, classes, min_ratio)

    def _begin_teacher(self, target: Streams, passes: Passes) -> Callable[[], dict[str, dict[str, Tensor]]]:
        """Start the teacher on the target: class, and share of certain pixels, by output of the student."""
        fusion = passes.teacher_fusion

        @torch.no_grad()
        def see(inputs: Tensors) -> dict[str, dict[str, Tensor]]:
            with self._weights_of(self.ema_model), self._networks(inputs["image"].device):
                logits = self.ema_model(inputs, fusion).logits
            size = inputs["image"].shape[2:]
            return {name: self._confidence(logits[by], size) for name, by in self.plan.labelled_by.items()}

        return self.parts.begin("teacher", fusion, see, _slots(target, passes.teacher_streams))

    def _confidence(self, logits: Tensor, size: torch.Size) -> dict[str, Tensor]:
        """Most likely class (B, H, W) of every pixel, and the share of pixels whose class is certain."""
        confidence, label = resize_logits(_at_least_float32(logits), size).softmax(dim=1).max(dim=1)
        return {"label": label, "certain": (confidence >= self.settings.pseudo_threshold).float().mean()}

    @torch.no_grad()
    def _pseudo_labels(self, seen: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Truth of the target by output of the student: the weight of all pixels is the share of certain ones."""
        truth = {}
        for name, by_teacher in seen.items():
            label = by_teacher["label"]
            weight = all_reduce_mean(by_teacher["certain"]).expand(label.shape).clone()
            # the car's hood and the sky above the scene are labelled badly
            weight[:, : self.settings.pseudo_weight_ignore_top] = 0
            weight[:, weight.shape[1] - self.settings.pseudo_weight_ignore_bottom :] = 0
            truth[name] = _truth(label, weight)
        return truth

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
        content = content_map(input_grey_level(images), self.content_params, direction)
        return content[:, None].expand(-1, 3, -1, -1)
