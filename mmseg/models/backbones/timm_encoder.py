"""Encoders from timm: hierarchical networks, and plain vision transformers with a simple feature pyramid.

timm takes longer to import than torch, so it is imported only when such an encoder is checked or built.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg.config.components import TIMM_WEIGHTS
from mmseg.config.kinds import shown
from mmseg.errors import CheckpointError, ConfigError, did_you_mean, first_line
from mmseg.models.backbones.foreign_files import read_weights
from mmseg.models.weights import check_finite, report_mismatch
from mmseg.registry import BACKBONES

STRIDES = (4, 8, 16, 32)
# Mean and standard deviation of ImageNet's colours, as in mmseg.datasets.normalization but from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Arguments of timm.create_model that have a key of their own, that the encoder sets, or that read files.
RESERVED = (
    *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path"),
    *("cache_dir", "scriptable", "exportable", "no_jit", "features_only", "feature_cfg", "out_indices"),
    *("num_classes", "in_chans", "drop_path_rate"),
)
# Arguments that let a model take inputs of any size, and their values, in the order in which they are tried.
ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}
# (height, width) of the input on which a model is tried; not square, and not of whole cells.
TRIED_SIZE = (72, 104)
# What the constructors and filters of timm raise for arguments and weights that do not fit.
UNFIT = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class SimplePyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 from one map (ViTDet, Li et al., ECCV 2022, section 3).

    Transposed convolutions double the resolution and halve the channels, at most twice; max pooling halves the
    resolution. Without weights of its own, a pooled map is in the space of the pretrained features.

    Args:
        channels: of the map.
        stride: of the map: a power of two from 4 to 32.

    Attributes:
        channels: of the four maps.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels: tuple[int, ...] = ()
        self.levels = nn.ModuleList()
        for target in STRIDES:
            layers: list[nn.Module] = []
            width, scale = channels, stride
            while scale > target:
                narrower = width if width * 4 <= channels else width // 2
                layers += [nn.ConvTranspose2d(width, narrower, 2, stride=2), ChannelNorm(narrower), nn.GELU()]
                width, scale = narrower, scale // 2
            # no activation after the last one
            self.levels.append(nn.Sequential(*layers[:-1]))
            self.channels += (width,)
        self.pooled = [max(target // stride, 1) for target in STRIDES]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level, factor in zip(self.levels, self.pooled, strict=True):
            y = level(x)
            maps.append(y if factor == 1 else F.max_pool2d(y, factor, factor, ceil_mode=True))
        return maps


@BACKBONES.register_module()
class TimmEncoder(nn.Module):
    """A model of timm as an encoder: images (B, 3, H, W) -> four maps (B, C_i, ceil(H / s), ceil(W / s)), s = 4 .. 32.

    Inputs are padded with zeros on the right and at the bottom, so that a cell of a map at stride s covers the same
    s x s pixels as without padding; maps are cropped to the sizes above.

    A hierarchical model gives its own maps, each followed by a LayerNorm unless the model has batch norm. A plain
    vision transformer gives the map of its last block, after its norm, to a :class:`SimplePyramid`. Where its patches
    are not a power of two, the input is resized so that a patch covers a cell of the nearest one: patches of 14
    pixels see cells of 16 pixels, and the maps are aligned as those of other encoders.

    Args:
        model_name: name in timm, with or without the tag of its weights.
        weights: file for the model (safetensors, or torch), ``timm`` for a download by timm, None for random weights.
        in_chans: channels of the input.
        drop_path_rate: stochastic depth of the last block; None for timm's default.
        model_kwargs: further arguments of ``timm.create_model``.

    Attributes:
        channels: of the four maps.
        mixes_samples: whether there is batch norm, so that a map depends on the other samples of the batch.

    Raises:
        ConfigError: timm does not know the model or an argument, or the model has no maps at these strides.
        CheckpointError: the weights cannot be read, downloaded, or used with this model.
    """

    def __init__(
        self,
        model_name: str,
        weights: str | None = None,
        in_chans: int = 3,
        drop_path_rate: float | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.in_chans = model_name, in_chans
        self.check_config("TimmEncoder", {"model_name": model_name, "model_kwargs": model_kwargs})
        arguments = dict(model_kwargs or {}) | {"in_chans": in_chans, "num_classes": 0}
        if drop_path_rate is not None:
            arguments["drop_path_rate"] = drop_path_rate
        self.model = _create(model_name, arguments, download=weights == TIMM_WEIGHTS)
        self.mixes_samples = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        stages = [(stage["reduction"], stage["num_chs"]) for stage in self.model.feature_info]
        self.is_plain = len({stride for stride, _ in stages}) == 1
        indices = [len(stages) - 1] if self.is_plain else _stages_at(model_name, [stride for stride, _ in stages])
        self._indices = indices
        full = set(self.model.state_dict())
        self.model.prune_intermediate_layers(indices, prune_norm=not self.is_plain, prune_head=True)
        if weights is not None:
            if weights != TIMM_WEIGHTS:
                _load(self.model, model_name, weights, full)
            _check_normalization(self.model, model_name)
        self.pyramid: SimplePyramid | None = None
        self.norms: nn.ModuleList | None = None
        self._input_scale = 1.0
        if self.is_plain:
            patch, width = stages[-1]
            self._cell = _nearest_stride(model_name, patch)
            self._input_scale = patch / self._cell
            self.pyramid = SimplePyramid(width, self._cell)
            self.channels = self.pyramid.channels
        else:
            self._cell = STRIDES[-1]
            self.channels = tuple(stages[i][1] for i in indices)
            if not self.mixes_samples:
                self.norms = nn.ModuleList(ChannelNorm(width) for width in self.channels)
        self._try(arguments.get("img_size", TRIED_SIZE))

    @staticmethod
    def check_config(name: str, section: Mapping[str, Any]) -> None:
        """Check what only timm knows of a config section: the name of the model and of its weights.

        Args:
            name: dotted key of the section, for messages.

        Raises:
            ConfigError: an unknown model, tag, or an argument that the encoder sets itself.
        """
        given = section.get("model_name")
        if not isinstance(given, str):
            raise ConfigError(f"{name}.model_name is {shown(given)}; give the name of a model of timm")
        reserved = sorted(set(section.get("model_kwargs") or {}).intersection(RESERVED))
        if reserved:
            raise ConfigError(f"{name}.model_kwargs.{reserved[0]} is set by the encoder itself; leave it out")
        timm = _timm()
        arch, _, tag = given.partition(".")
        if not timm.is_model(arch):
            raise ConfigError(f"{name}.model_name is {shown(given)}, which timm does not have"
                              f"{did_you_mean(arch, timm.list_models())}")  # fmt: skip
        tagged = timm.list_models(f"{arch}.*", pretrained=True)
        if tag and given not in tagged:
            known = ", ".join(one.partition(".")[2] for one in tagged)
            raise ConfigError(
                f"{name}.model_name is {shown(given)}; timm has {f'the tags {known}' if known else 'no tags'} of {arch}"
            )

    @torch.no_grad()
    def _try(self, size: int | Sequence[int]) -> None:
        """Check on a small input that the model gives the maps that it announces.

        Raises:
            ConfigError: it does not.
        """
        height, width = (size, size) if isinstance(size, int) else size
        x = torch.zeros(1, self.in_chans, height, width)
        if x.is_meta:
            return
        self.eval()
        try:
            self(x)
        except UNFIT as error:
            raise ConfigError(
                f"timm's {self.name} does not take an input of {height}x{width} pixels ({first_line(error)}); choose "
                "another model"
            ) from error
        self.train()

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether training keeps only the inputs of blocks, as far as the model can."""
        return getattr(self, "_checkpointing", False)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        if enable == self.gradient_checkpointing:
            return
        try:
            self.model.set_grad_checkpointing(enable)
        except UNFIT as error:
            raise ConfigError(
                f"timm's {self.name} has no gradient checkpointing ({first_line(error)}); set "
                "gradient_checkpointing=False"
            ) from error
        self._checkpointing = enable

    def without_noise(self) -> None:
        """Put only batch norm into train mode: no dropout, stochastic depth or random positions."""
        self.eval()
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.train()

    def check_sync_bn(self) -> None:
        """Check that torch can synchronise the batch norms.

        Raises:
            ConfigError: they contain activations, which torch would drop.
        """
        if any(isinstance(module, _BatchNorm) and hasattr(module, "act") for module in self.model.modules()):
            raise ConfigError(f"sync_bn=True is not available with timm's {self.name}; set it to False")

    def _prepared(self, x: Tensor) -> Tensor:
        """Pad an input to whole cells, and give a cell the size of a patch."""
        height, width = x.shape[2:]
        below, right = -height % self._cell, -width % self._cell
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        if self._input_scale != 1:
            size = [round(side * self._input_scale) for side in x.shape[2:]]
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps at strides 4, 8, 16 and 32 of ``x`` (B, in_chans, H, W)."""
        height, width = x.shape[2:]
        try:
            maps = self.model.forward_intermediates(
                self._prepared(x), indices=self._indices, norm=self.is_plain, output_fmt="NCHW", intermediates_only=True
            )
        except AssertionError as error:
            raise ConfigError(
                f"timm's {self.name} does not take inputs of {height}x{width} pixels ({first_line(error)}); choose "
                "another model, or give its size in model_kwargs=dict(img_size=...)"
            ) from error
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        elif self.norms is not None:
            maps = [norm(x) for norm, x in zip(self.norms, maps, strict=True)]
        features = []
        for stride, channels, one in zip(STRIDES, self.channels, maps, strict=True):
            rows, columns = -(-height // stride), -(-width // stride)
            if one.shape[1] != channels or one.shape[2] < rows or one.shape[3] < columns:
                raise ConfigError(
                    f"timm's {self.name} gives a map of shape {tuple(one.shape[1:])} at stride {stride} instead of "
                    f"{(channels, rows, columns)}; choose another model"
                )
            features.append(one[:, :, :rows, :columns].contiguous())
        return features


def _timm() -> Any:
    import timm

    return timm


def _create(name: str, arguments: Mapping[str, Any], download: bool) -> Any:
    """Build a model of timm, for inputs of any size if it can."""
    timm = _timm()
    device: AbstractContextManager = nullcontext()
    try:
        try:
            with torch.device("meta"):
                probe = timm.create_model(name, **arguments)
        # Older versions of timm compute numbers with tensors, which have none on this device.
        except (NotImplementedError, RuntimeError):
            device = torch.device("cpu")
            with device:
                probe = timm.create_model(name, **arguments)
        takes = inspect.signature(type(probe).__init__).parameters
        any_size = next(({key: value} for key, value in ANY_SIZE.items() if key in takes), {})
        arguments = {**any_size, **arguments}
        if not download:
            with device:
                return timm.create_model(name, **arguments)
    except UNFIT as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(f"timm cannot build {name} with {given}: {first_line(error)}") from error
    if not timm.models.is_model_pretrained(name):
        raise CheckpointError(f"timm has no weights of {name}; give the key weights the path of a file, or None")
    try:
        return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # whatever a network, a proxy, or the reader of a file raises
        raise CheckpointError(
            f"timm could not get the weights of {name} ({first_line(error)}); download them elsewhere and give the "
            "key weights the path of the file"
        ) from error


def _stages_at(name: str, strides: Sequence[int]) -> list[int]:
    """Index of the last stage of each of the four strides."""
    if not set(strides) >= set(STRIDES):
        raise ConfigError(
            f"timm's {name} has maps at the strides {', '.join(map(str, strides))}; an encoder needs 4, 8, 16 and 32"
        )
    return [len(strides) - 1 - list(reversed(strides)).index(stride) for stride in STRIDES]


def _nearest_stride(name: str, patch: int) -> int:
    nearest = min(STRIDES, key=lambda stride: max(stride, patch) / min(stride, patch))
    if max(nearest, patch) > 1.5 * min(nearest, patch):
        raise ConfigError(f"timm's {name} has patches of {patch} pixels; an encoder takes from 4 to 32")
    return nearest


def _load(model: nn.Module, name: str, path: str | Path, full: set[str]) -> None:
    """Load a file of timm, or of the model's authors if timm can convert it.

    Args:
        full: names of the model before layers that are not used were removed; the file may have them.
    """
    weights, file = read_weights(path, model_type=None)
    expected = model.state_dict()
    left_out = (*_names_of_classifiers(model), "mask_token", "head.", "fc.")

    def used(state: Mapping[str, Any]) -> dict[str, Tensor]:
        state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        return {k: v for k, v in state.items() if k in expected or not (k in full or k.startswith(left_out))}

    given = used(weights)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if report_mismatch(expected, given) and convert is not None:
        try:
            given = used(convert(weights, model))
        except UNFIT as error:
            raise CheckpointError(
                f"{file} does not fit timm's {name} ({first_line(error)}); give the file of this model"
            ) from error
    message = report_mismatch(expected, given)
    if message:
        raise CheckpointError(
            f"{file} does not fit timm's {name} ({message}); give the key weights the file of this model, or None for "
            "random weights"
        )
    check_finite(given, file, "get the file again")
    model.load_state_dict(given)


def _names_of_classifiers(model: Any) -> tuple[str, ...]:
    names = model.pretrained_cfg.get("classifier") or ()
    return tuple(f"{one}." for one in ((names,) if isinstance(names, str) else names))


def _check_normalization(model: Any, name: str) -> None:
    """Warn once if pretrained weights expect other colours than those of the data sets."""
    mean, std = (tuple(model.pretrained_cfg.get(key) or ()) for key in ("mean", "std"))
    if mean and std and (mean, std) != (IMAGENET_MEAN, IMAGENET_STD):
        warnings.warn(
            f"timm's {name} was trained on images normalised with mean {mean} and deviation {std}; the data sets use "
            f"those of ImageNet, {IMAGENET_MEAN} and {IMAGENET_STD}",
            stacklevel=3,
        )
