"""How values of the launcher's flags are read, and what they mean for a base config. Light: ``--help`` imports it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmseg.config.dotted import get_key
from mmseg.errors import ConfigError, did_you_mean
from mmseg.uda.streams import VARIANT_KEY, Variant, variant_of
from mmseg.weights.table import is_remote, known_weights

SOURCE, TARGET = "data.train.source", "data.train.target"
# The car's hood covers the rows of a DSEC frame below this one.
LARGEST_NIGHT_CROP = 440
ENCODER_CHANNELS = {"mit_b0": [32, 64, 160, 256]}
WIDE_CHANNELS = [64, 128, 320, 512]


@dataclass(frozen=True)
class Base:
    """What a flag may depend on.

    Attributes:
        config: the base config with the user's options, as plain dictionaries, with its paths below the root.
        path: file of the base config, for messages.
        root: folder with ``data/`` and ``pretrained/``.
    """

    config: Mapping[str, Any]
    path: str = "the base config"
    root: Path = Path()

    def get(self, key: str) -> Any:
        """Value of a dotted key, or None where it is absent."""
        return get_key(self.config, key)

    @property
    def variant(self) -> Variant | None:
        """The training variant; None if the config names none that exists, which its check will refuse."""
        try:
            return variant_of(self.config)
        except ConfigError:
            return None

    @property
    def has_events(self) -> bool:
        return "events_vg" in (self.get(f"{TARGET}.outputs") or ())

    @property
    def has_second_input(self) -> bool:
        return self.get("model.backbone_events") is not None

    @property
    def is_dark_zurich(self) -> bool:
        return str(self.get(f"{TARGET}.type")).startswith("DarkZurich")


# What a flag may require of a base config -> attribute of Base, and the message if it is missing.
REQUIREMENTS = {
    "events": ("has_events", "is about events, and the target of the base config has none"),
    "second input": ("has_second_input", "is about the second input, and the base config trains on images only"),
    "Dark Zurich": ("is_dark_zurich", "is for Dark Zurich, which is not the target of the base config"),
}


# ------------------------------------------------------------------------------------------------ reading values


@dataclass(frozen=True)
class Reader:
    """How the text after a flag is parsed; ``parse`` raises ValueError with what it expects."""

    metavar: str
    parse: Callable[[str], Any]


_NUMBER = r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
# A schedule is split at its '-', so its numbers have no exponents.
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"


def _whole(least: int) -> Reader:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or int(text) < least:
            raise ValueError(f"give a whole number of at least {least}")
        return int(text)

    return Reader("N", parse)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("give a number")
    return value


def choice(words: Mapping[str, Any]) -> Reader:
    """Reader of one of several words, each with its value."""

    def parse(text: str) -> Any:
        if text not in words:
            raise ValueError(f"choose one of {', '.join(words)}{did_you_mean(text, words)}")
        return words[text]

    return Reader(f"{{{','.join(words)}}}", parse)


def words(*names: str) -> Reader:
    """Reader of one of several words."""
    return choice({name: name for name in names})


def _content_params(text: str) -> dict[str, Any]:
    match = re.fullmatch("-".join([_NUMBER] * 4 + [r"(\d+)"]), text)
    if not match:
        raise ValueError("give low-high-threshold-clip-shift, e.g. 0.01-1.01-0.005-0.1-1")
    low, high, threshold, clip = (float(number) for number in match.groups()[:4])
    return {"val_range": [low, high], "_threshold": threshold, "_clip_range": clip, "shift_pixel": int(match[5])}


def _clip_range(text: str) -> list[float]:
    match = re.fullmatch(f"{_NUMBER}(?:-{_NUMBER})?", text)
    if not match:
        raise ValueError("give a number, or low-high to draw from")
    return [float(match[1]), float(match[2] or match[1])]


def _sizes(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", text)
    if not match:
        raise ValueError("give crop-size in pixels, e.g. 400-512")
    return int(match[1]), int(match[2])


def _schedule(text: str) -> str:
    if not re.fullmatch(f"linear|nlinear|{_DECIMAL}(?:-{_DECIMAL})?", text):
        raise ValueError("give a number such as 0.5, a range such as 0.7-0.3, linear (1-0) or nlinear (0-1)")
    return text


COUNT, WHOLE, NUMBER = _whole(1), _whole(0), Reader("X", _number)
PATH, FOLDER, WORD = Reader("PATH", str), Reader("FOLDER", str), Reader("WORD", str)
ON_OFF = Reader("{true,false}", lambda text: choice({"true": True, "false": False}).parse(text.lower()))
CONTENT_PARAMS = Reader("LOW-HIGH-THRESHOLD-CLIP-SHIFT", _content_params)
CLIP_RANGE = Reader("X[-Y]", _clip_range)
SIZES = Reader("CROP-SIZE", _sizes)
SCHEDULE = Reader("X[-Y]|linear|nlinear", _schedule)


# ------------------------------------------------------------------------------------------------ keys by base config


def encoder_keys(arch: str, base: Base) -> dict[str, Any]:
    """Encoder, its ImageNet weights (in the folder of the old ones), and the channels that the head expects."""
    encoders = ("backbone_image", "backbone_events") if base.has_second_input else ("backbone",)
    changes: dict[str, Any] = {f"model.{encoder}.type": arch for encoder in encoders}
    weights = base.get("model.pretrained")
    if weights and is_remote(weights):
        # A name has the number of its encoder at its end; what an address holds shows when it is read.
        named = weights[:-1] + arch[-1]
        changes |= {"model.pretrained": named} if {weights, named} <= known_weights().keys() else {}
    elif weights:
        changes["model.pretrained"] = PurePosixPath(weights).with_name(f"{arch}.pth").as_posix()
    channels = ENCODER_CHANNELS.get(arch, WIDE_CHANNELS)
    if list(base.get("model.decode_head.in_channels") or WIDE_CHANNELS) != channels:
        changes["model.decode_head.in_channels"] = channels
    return changes


def size_keys(sizes: tuple[int, int], base: Base) -> dict[str, Any]:
    """Crop of the night image and the size of training."""
    crop, size = sizes
    changes: dict[str, Any] = {f"{SOURCE}.image_crop_size": [size, size]}
    if base.is_dark_zurich:
        if crop != size:
            raise ConfigError(
                f"--train_size {crop}-{size}: crops of Dark Zurich are not resized; give {size}-{size} ({base.path})"
            )
        return {**changes, f"{TARGET}.image_crop_size": [size, size]}
    crop = min(crop, LARGEST_NIGHT_CROP)
    return {**changes, f"{TARGET}.crop_size": [crop, crop], f"{TARGET}.after_crop_resize_size": [size, size]}


def outputs_without_events(_: bool, base: Base) -> dict[str, Any]:
    """The test gets no events either, and uses the image output."""
    parts = ("data.val", "data.test")
    return {f"{part}.outputs": sorted(set(base.get(f"{part}.outputs") or ()) - {"events_vg"}) for part in parts}


def named_parameters(part: str) -> Callable[[str, Base], dict[str, Any]]:
    """A named set of parameters is used only where the config gives no parameters."""
    key = f"{part}.isr_parms"
    return lambda _, base: {key: ""} if base.get(key) else {}


def published_by_nobody(flag: str, folder: Path, what: str) -> Path:
    """The folder, if it exists.

    Raises:
        ConfigError: naming it.
    """
    if not folder.is_dir():
        raise ConfigError(f"--{flag} needs {what}, which the authors never published: the folder {folder} is missing")
    return folder


def event_frames(source: str, base: Base) -> dict[str, Any]:
    """Frames of generated events are stored next to the images."""
    what = {"events_gan": "event frames made by a GAN", "events_esim": "event frames simulated by ESIM"}.get(source)
    if what:
        cityscapes = Path(base.get(f"{SOURCE}.dataset_path") or "data/cityscapes")
        published_by_nobody(f"day_events_generate {source}", cityscapes / f"leftImg8bit_{source}", what)
    return {}


def deflared_images(_: bool, base: Base) -> dict[str, Any]:
    """Night images without glare are additional outputs of a sample."""
    folder = Path(base.get(f"{TARGET}.dataset_path") or "data/dark_zurich") / "image_deflare"
    published_by_nobody("deflare_aug", folder, "night images of Dark Zurich with their glare removed")
    return {f"{TARGET}.outputs": sorted({*base.get(f"{TARGET}.outputs"), "image_deflare", "night_isr_deflare"})}


def folder_key(flag: str, key: str, what: str) -> Callable[[str, Base], dict[str, Any]]:
    """Writes a folder of unpublished files, given as is or relative to the root."""

    def changes(folder: str, base: Base) -> dict[str, Any]:
        path = Path(folder) if Path(folder).is_dir() else base.root / folder
        return {key: published_by_nobody(flag, path, what).as_posix()}

    return changes


# ------------------------------------------------------------------------------------------------ values nothing reads


def without_consistency(base: Base) -> str:
    """Why the weight of the feature consistency would have no effect, or ''."""
    if base.get("uda.isr_no_fusion") or base.get("uda.isr_edge"):
        return ""
    return "there is a feature consistency only with --isr_no_fusion or --isr_edge"


def without_edges(base: Base) -> str:
    """Why the weight of the edges would have no effect, or ''."""
    return "" if base.get("uda.isr_edge") else "edges are predicted only with --isr_edge"


def without_isr_loss(base: Base) -> str:
    """Why the weight of the content map's output would have no effect, or ''."""
    if base.variant is None or base.variant.weighs_content_map:
        return ""
    return "content maps take the slot of the events here; --loss_weight_events weighs them"


def without_fusion(base: Base) -> str:
    """Why the fusion would have no effect, or ''."""
    if base.variant is None or base.variant.is_fused:
        return ""
    return f"{base.get(VARIANT_KEY)} fuses nothing"


def without_draw(base: Base) -> str:
    """Why the choice between events and content map would have no effect, or ''."""
    return "every pass takes both" if base.get("uda.fuse_both_ice_and_e") else ""


def with_pasted_maps(base: Base) -> str:
    """Why the parameters of mixed content maps would have no effect, or ''."""
    return "mixed content maps are pasted" if base.get("uda.mixed_image_to_mixed_isr") is False else ""
