"""CMDA's self-training (CMDA, section 3.5), derived from DACS and DAFormer.

The published configs and checkpoints call it ``DACS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.config.class_sets import distance_classes
from mmseg.config.run import Numerics
from mmseg.config.uda import Masking, UDASettings
from mmseg.errors import ConfigError
from mmseg.extractors.content import NIGHT_PARAMS, ContentParams, content_map
from mmseg.models.backbones.mit import MixVisionTransformer
from mmseg.models.backbones.timm_encoder import TimmEncoder
from mmseg.models.compilation import compile_networks
from mmseg.models.losses import edge_label, feature_consistency, pixel_accuracy, resize_logits
from mmseg.models.low_precision import PRECISIONS, MixedPrecision
from mmseg.models.resnet_generator import ResnetGenerator, load_generator
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.parallel.distributed import all_reduce_mean, is_distributed
from mmseg.registry import UDA
from mmseg.uda.augment import color_jitter, denormalize, gaussian_blur, input_grey_level, renormalize
from mmseg.uda.class_mix import Supervision, class_mix_mask, paste, paste_supervision
from mmseg.uda.draws import MaskDraws, StepDraws
from mmseg.uda.feature_distance import ImageNetEncoder, feature_distance
from mmseg.uda.masking import first_of_two, hide_cells, supervise_first_of_two
from mmseg.uda.parts import PartRunner, PlainRunner, Tensors, map_tensors
from mmseg.uda.streams import Passes, StreamPlan, Variant, check_isr_fusion, stream_plan, variant_of_settings
from mmseg.uda.teacher import make_teacher, update_teacher, without_noise

Streams = dict[str, Tensor]


@dataclass
class StepResult:
    """Values to log (0-d tensors, still on the device) and the tensors shown in a picture of the step."""

    logs: dict[str, Tensor]
    pictures: dict[str, Tensor]


@dataclass(frozen=True)
class StudentPass:
    """The settings of a student pass, as opposed to its inputs.

    Attributes:
        fusion: fusion mode of the student.
        loss_weights: (output, weight of its cross entropy).
        consistency: weight of the distance between the features of the two encoders.
        share: factor on the gradients: the size of the micro-batch relative to the batch.
    """

    fusion: str
    loss_weights: tuple[tuple[str, float], ...]
    consistency: float = 0.0
    share: float = 1.0


def _check_network(model: BaseSegmentor, plan: StreamPlan, variant: Variant) -> None:
    """Check that a network has the parts that its training needs.

    Raises:
        ConfigError: it lacks a fusion module, or its classifiers are those of another variant.
    """
    if plan.needs_isr_fusion:
        check_isr_fusion(getattr(model, "fusion_isr_module", None) is not None)
    if getattr(model.decode_head, "own_classifiers", False) != variant.own_classifiers:
        raise ConfigError(
            "the classifiers of the network are those of another training variant; set uda.train_type and "
            "model.decode_head.decoder_params.train_type to one value"
        )


def _slots(streams: Streams, slots: Mapping[str, str]) -> Streams:
    """Input slots of a network, filled from the streams."""
    return {slot: streams[stream] for slot, stream in slots.items()}


def mixed_content_params(settings: UDASettings) -> ContentParams:
    """Parameters of the mixed image's content map."""
    given = settings.isr_parms
    return ContentParams.from_config(None if isinstance(given, str) else given, NIGHT_PARAMS, "uda.isr_parms")


def _named(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors with a prefix before their names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _at_least_float32(x: Tensor) -> Tensor:
    """16-bit numbers in 32 bits, for losses and confidences."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


@UDA.register_module()
class DACS(nn.Module):
    """Student, teacher and the frozen networks around them.

    Args:
        model: the student.
        settings: the fields of :class:`UDASettings`, as in the config's ``uda`` section.

    Attributes:
        variant, plan: the training variant and its streams.
        masking: settings of the masked pass; None if there is none.
        distance_classes: indices of the classes on which the feature distance is taken; None for all pixels.
        numerics: how the step computes, see :meth:`configure`.
        parts: runs the parts of the step: the motion extractor, the teacher, the ImageNet encoder, a student pass.
    """

    settings_class = UDASettings

    def __init__(self, model: BaseSegmentor, **settings: Any) -> None:
        super().__init__()
        self.settings = self.settings_class(**settings)
        self.variant = variant_of_settings(self.settings)
        self.plan, self.masking = stream_plan(self.settings), self.settings.masked_pass
        self.use_class_set(CITYSCAPES_19)
        self.content_params = mixed_content_params(self.settings)
        _check_network(model, self.plan, self.variant)
        self.model = model
        self.ema_model = make_teacher(model)
        self.imnet_model: ImageNetEncoder | None = None
        if self.settings.imnet_feature_dist_lambda > 0:
            self.imnet_model = ImageNetEncoder(model.image_encoder)
        self.cyclegan_itrd2en: ResnetGenerator | None = None
        if self.plan.translated in self.plan.source_keys and self.settings.cyclegan_itrd2en_path:
            self.cyclegan_itrd2en = load_generator(self.settings.cyclegan_itrd2en_path)
        self.numerics = Numerics()
        self.parts: PartRunner = PlainRunner()
        self._precision = MixedPrecision()
        self.train()

    @property
    def num_classes(self) -> int:
        """Number of classes of the student."""
        return self.model.decode_head.num_classes

    def use_class_set(self, classes: ClassSet) -> None:
        """Set the classes that the settings name or mean.

        Raises:
            ConfigError: the set has no such class.
        """
        given = self.settings.imnet_feature_dist_classes
        self.distance_classes = None if given is None else distance_classes(given, classes)

    def configure(self, numerics: Numerics | None = None, runner: PartRunner | None = None) -> None:
        """Set how the step computes, once the networks are on their device.

        Args:
            numerics: number format, memory, batch norm and compilation; None leaves them as they are.
            runner: runs the parts of the step; None leaves it as it is.
        """
        if runner is not None:
            self.parts = runner
        if numerics is None:
            return
        self.numerics = numerics
        for module in self.model.modules():
            if isinstance(module, (MixVisionTransformer, TimmEncoder)):
                module.gradient_checkpointing = numerics.gradient_checkpointing
            if isinstance(module, TimmEncoder) and numerics.sync_bn:
                module.check_sync_bn()
        if numerics.sync_bn and is_distributed():
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
            self.ema_model = nn.SyncBatchNorm.convert_sync_batchnorm(self.ema_model)
        if numerics.compile:
            compile_networks(self)
        # The student's weights are read most often; where memory is scarce, only they get 16-bit copies.
        copied: list[nn.Module | None] = [self.model]
        if not numerics.saves_memory:
            copied += [self.ema_model, self.imnet_model]
        self._precision = MixedPrecision(
            PRECISIONS[numerics.precision], (network for network in copied if network is not None)
        )

    def train(self, mode: bool = True) -> DACS:
        super().train(mode)
        for frozen in (self.imnet_model, self.cyclegan_itrd2en):
            if frozen is not None:
                frozen.eval()
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
        update_teacher(self.ema_model, self.model, draws.iteration, self.settings.alpha)
        self._precision.refresh()
        student = partial(self._student_passes, passes=passes, backward=backward)

        # TEACHER: reads no result of the source pass, so both may run concurrently
        if not self.settings.source_only:
            teacher = self._begin_teacher(target, passes)

        # SOURCE
        imagenet = self._imagenet_features(source["image"])
        truth = {"image": Supervision(label=label)}
        logs = student("source pass", source, truth, passes.source_consistency, imagenet)
        pictures = _named("source.", source) | _named("target.", target) | {"source.label": label}
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
        mixed_truth = {output: paste_supervision(mask, label, supervision) for output, supervision in pseudo.items()}

        # MIXED
        mixed_logs = student("mixed pass", mixed, mixed_truth, passes.mixed_consistency)
        logs |= _named("mix.", mixed_logs)
        logs["mix.pseudo_weight"] = pseudo["image"]["weight"].mean()
        pictures |= _named("mixed.", {**mixed, **mixed_truth["image"]}) | _named("target.pseudo_", pseudo["image"])

        # MASKED
        if self.masking is not None:
            masked, masked_truth = self._masked_batch(self.masking, source, target, label, pseudo, draws)
            logs |= _named("masked.", student("masked pass", masked, masked_truth, weight=self.masking.weight))
            pictures |= _named("masked.", {**masked, **masked_truth["image"]})
        return StepResult(logs, pictures)

    def _source_streams(self, sample: Mapping[str, Tensor], passes: Passes) -> Streams:
        """Source of the student's streams; the Image Motion-Extractor turns image changes into events."""
        source = {stream: sample[self.plan.source_keys[stream]] for stream in passes.student_streams.values()}
        stream = self.plan.translated
        generator = self.cyclegan_itrd2en
        if stream in source and generator is not None:

            def translate(inputs: Tensors) -> dict[str, Tensor]:
                return {"events": generator.day_events(inputs["image_change"])}

            outputs = self.parts.run("motion extractor", None, translate, {"image_change": source[stream]})
            source[stream] = outputs["events"]
        return source

    def _student_passes(
        self,
        name: str,
        streams: Streams,
        truth: Mapping[str, Supervision],
        consistency: float = 0.0,
        imagenet: Tensor | None = None,
        weight: float = 1.0,
        *,
        passes: Passes,
        backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> dict[str, Tensor]:
        """Call :meth:`_student_pass` on each micro-batch; the mean of the values to log.

        Args:
            weight: factor on the weights of the cross entropies.
        """
        loss_weights = tuple((output, weight * own) for output, own in passes.loss_weights.items())
        inputs = {"slots": _slots(streams, passes.student_streams), "truth": truth, "imagenet": imagenet}
        batch = len(streams["image"])
        size = self.numerics.micro_batch or batch
        logs: dict[str, Tensor] = {}
        for first in range(0, batch, size):
            part = slice(first, min(first + size, batch))
            share = (part.stop - part.start) / batch
            how = StudentPass(passes.student_fusion, loss_weights, consistency, share)
            logged = self.parts.run(
                name,
                how,
                partial(self._student_pass, how, backward=backward),
                map_tensors(itemgetter(part), inputs),
            )
            logs = {key: logs[key] + share * value if logs else share * value for key, value in logged.items()}
        return logs

    def _student_pass(
        self, how: StudentPass, inputs: Tensors, backward: Callable[[Tensor], None] = Tensor.backward
    ) -> dict[str, Tensor]:
        """Run the student forward and backward on a batch; its gradients are accumulated, values to log are returned.

        The loss is the weighted sum of the outputs' cross entropies and of the distances. Streams are decoded one at a
        time, each followed by its backward pass to the features, so that the activations of only one decoder are held
        and not those of four. The backward pass of the encoders follows once.

        Args:
            inputs: ``slots``: inputs of the student; ``truth``: :class:`Supervision` by output, where outputs that are
                not named take that of ``image``; ``imagenet``: last features of the frozen ImageNet encoder, or None.
        """
        slots, truth = inputs["slots"], inputs["truth"]
        device = slots["image"].device
        weights = dict(how.loss_weights)

        def value_of(loss: Tensor) -> Tensor:
            backward(how.share * loss)
            self._precision.collect_gradients(self.model)
            return loss.detach()

        with self._precision.weights_of(self.model):
            with self._precision.autocast(device):
                features = self.model.encode(slots, how.fusion)
            leaves = {name: [m.detach().requires_grad_() for m in maps] for name, maps in features.items()}
            logs: dict[str, Tensor] = {}
            if inputs["imagenet"] is not None:
                apart = self._feature_distance(leaves["image"][-1], inputs["imagenet"], truth["image"]["label"])
                logs["src.loss_imnet_feat_dist"] = value_of(apart)
            shown = "fusion" if "fusion" in leaves else "image"
            for name, maps in leaves.items():
                with self._precision.autocast(device):
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
            torch.autograd.backward([feature for feature, _ in reached], [gradient for _, gradient in reached])
            self._precision.collect_gradients(self.model)
        return logs

    def _cross_entropy(self, output: str, logits: Tensor, truth: Supervision) -> Tensor:
        if output not in self.variant.edge_outputs:
            return self.model.decode_head.loss(logits, truth["label"], truth.get("weight"))
        share = self.settings.isr_edge_class_weight
        classes = logits.new_tensor([1 - share, share]) if share > 0 else None
        return self.model.decode_head.loss(logits, edge_label(truth["label"]), truth.get("weight"), classes)

    def _imagenet_features(self, image: Tensor) -> Tensor | None:
        """Last features of the frozen ImageNet encoder; None if the feature distance is switched off."""
        encoder = self.imnet_model
        if encoder is None:
            return None

        @torch.no_grad()
        def encode(inputs: Tensors) -> dict[str, Tensor]:
            with self._precision.weights_of(encoder), self._precision.autocast(inputs["image"].device):
                return {"last": encoder(inputs["image"])[-1]}

        return self.parts.run("ImageNet encoder", None, encode, {"image": image})["last"]

    def _feature_distance(self, features: Tensor, imagenet_features: Tensor, label: Tensor) -> Tensor:
        """Weighted distance of the image's last features to those of the frozen ImageNet encoder."""
        s = self.settings
        ratio, number = s.imnet_feature_dist_scale_min_ratio, self.num_classes
        apart = feature_distance(features, imagenet_features, label, self.distance_classes, ratio, number)
        return s.imnet_feature_dist_lambda * apart

    def _begin_teacher(self, target: Streams, passes: Passes) -> Callable[[], dict[str, dict[str, Tensor]]]:
        """Start the teacher on the target: label and share of certain pixels, by output of the student."""
        fusion = passes.teacher_fusion

        @torch.no_grad()
        def predict(inputs: Tensors) -> dict[str, dict[str, Tensor]]:
            with self._precision.weights_of(self.ema_model), self._precision.autocast(inputs["image"].device):
                logits = self.ema_model(inputs, fusion).logits
            size = inputs["image"].shape[2:]
            return {name: self._confidence(logits[by], size) for name, by in self.plan.labelled_by.items()}

        return self.parts.begin("teacher", fusion, predict, _slots(target, passes.teacher_streams))

    def _confidence(self, logits: Tensor, size: torch.Size) -> dict[str, Tensor]:
        """Predicted class of every pixel (B, H, W), and the share of pixels that are certain."""
        confidence, label = resize_logits(_at_least_float32(logits), size).softmax(dim=1).max(dim=1)
        return {"label": label, "certain": (confidence >= self.settings.pseudo_threshold).float().mean()}

    @torch.no_grad()
    def _pseudo_labels(self, predictions: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Supervision]:
        """Supervision of the target by output of the student; every pixel weighs the share of certain pixels."""
        top, bottom = self.settings.pseudo_weight_ignore_top, self.settings.pseudo_weight_ignore_bottom
        truth = {}
        for output, predicted in predictions.items():
            label = predicted["label"]
            weight = all_reduce_mean(predicted["certain"]).expand(label.shape).clone()
            # the car's hood and the sky above the scene are labelled badly
            weight[:, :top] = 0
            weight[:, weight.shape[1] - bottom :] = 0
            truth[output] = Supervision(label=label, weight=weight)
        return truth

    @torch.no_grad()
    def _masked_batch(
        self,
        masking: Masking,
        source: Streams,
        target: Streams,
        label: Tensor,
        pseudo: Mapping[str, Supervision],
        draws: StepDraws,
    ) -> tuple[Streams, Mapping[str, Supervision]]:
        """Streams of the student with hidden cells, and their supervision by output.

        Raises:
            ValueError: the draws were made without masking.
        """
        if draws.masked is None:
            raise ValueError("the draws have no masks; make them from the settings of this method")
        truth: Mapping[str, Supervision]
        if masking.mode == "separate":
            masking.check_samples(len(label))
            streams = {stream: first_of_two(source[stream], target[stream]) for stream in source}
            truth = {output: supervise_first_of_two(label, supervision) for output, supervision in pseudo.items()}
        else:
            streams, truth = {stream: target[stream] for stream in source}, pseudo
            streams["image"] = self._augment(streams["image"], draws.masked)
        return hide_cells(streams, masking, draws.masked, masking.streams or streams), truth

    @torch.no_grad()
    def _augment(self, images: Tensor, draws: StepDraws | MaskDraws) -> Tensor:
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
