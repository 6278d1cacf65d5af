"""The one way from an image file to its pixels: formats, size limit, bit depth and orientation.

Everything that reads pixels from a file (data sets, tools, checks, inference, reports) uses :func:`decode`. Files are
untrusted: only decoders of the formats named here run, images too large for memory are refused by their header, and
whatever a decoder raises becomes one message.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Each plugin registers its format. For a format that is not registered, Pillow would import all of its decoders.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mmseg.classes import CLASSES, IGNORE_LABEL, LABEL_NAME_TO_ID
from mmseg.errors import DataError
from mmseg.io.png_files import REPLACE, ImageHeader, check_sums, png_header

# Pillow supports more, of which some start other programs (EPS) or are incomplete.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
# 8192x8192: 200 MB as RGB, and several images are in flight at once.
MAX_PIXELS = 1 << 26
START_BYTES = 8
BITS_PER_SAMPLE, ORIENTATION = 258, 274  # tags of TIFF and EXIF
# EXIF orientation -> transposition that turns the image upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}
# Keys of Pillow's ``info`` that may hold the orientation.
METADATA = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
# Bits per sample -> factor by which Pillow scales grey samples to 0..255.
WIDENED = {2: 85, 4: 17}


def decode(
    source: str | Path | BinaryIO, name: str | Path = "", formats: tuple[str, ...] = FORMATS, remedy: str = REPLACE
) -> tuple[Image.Image, ImageHeader]:
    """Decode an image file completely, as it is stored.

    Args:
        source: the file, or an open one.
        name: name of an open file in messages.
        formats: Pillow's names of the accepted formats, whatever the suffix.
        remedy: ends the messages about a damaged file.

    Returns:
        The loaded image, and its header: upright size, bits per sample, and colour type (Pillow's mode unless it is a
        PNG).

    Raises:
        DataError: the file is missing, damaged, truncated, of another format, too large, or holds several images.
    """
    return _opened(source, name or source, formats, remedy, load=True)


def read_header(path: str | Path) -> ImageHeader:
    """Read the header of an image file, without the pixels; errors as in :func:`decode`."""
    return _opened(path, path, FORMATS, REPLACE, load=False)[1]


def _opened(
    source: str | Path | BinaryIO, path: object, formats: tuple[str, ...], remedy: str, load: bool
) -> tuple[Image.Image, ImageHeader]:
    try:
        with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as file:
            header = png_header(file, path, remedy)
            if header is not None:
                _check_size(header.size, path)
            with Image.open(file, formats=formats) as image:
                _check_size(image.size, path)
                # Phones may store two images in one JPEG (MPO); the first is the photo.
                if image.format != "MPO" and getattr(image, "is_animated", False):
                    raise DataError(f"{path} holds several images; save the one to use as a separate file")
                header = header or ImageHeader(*image.size, _bits(image), image.mode)
                if _turn(image) in SIDEWAYS:
                    header = replace(header, width=header.height, height=header.width)
                if load:
                    image.load()
                    # One wrong value of a label map or disparity map would give a wrong result silently.
                    if formats == ("PNG",):
                        check_sums(file, path, remedy)
                return image, header
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path} is not a readable image (a file of {', '.join(formats)} does not start with {_start(source)}); "
            f"{remedy}"
        ) from None
    except Image.DecompressionBombError:
        raise DataError(f"{path} is too large: more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Exception as error:  # decoders raise anything on hostile files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path} is not a readable image ({reason}); {remedy}") from error


def _check_size(size: tuple[int, int], path: object) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(f"{path} is too large: {width}x{height}, more than {MAX_PIXELS:,} pixels; make it smaller")


def _start(source: str | Path | BinaryIO) -> str:
    """First bytes of a file, for a message."""
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as file:
        file.seek(0)
        return repr(file.read(START_BYTES))


def _bits(image: Image.Image) -> int:
    """Bits per sample; of the formats read here, only PNG and TIFF can have more than 8."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 8
    bits = image.tag_v2.get(BITS_PER_SAMPLE, 1)
    return int(max(bits)) if isinstance(bits, tuple) else int(bits)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Transposition that turns an image upright, by its EXIF orientation; None if none is needed."""
    # Pillow turns a TIFF itself.
    if image.format == "TIFF" or not METADATA & image.info.keys():
        return None
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF, intact pixels
        return None


def upright(image: Image.Image) -> Image.Image:
    """Turn a decoded image upright, by its EXIF orientation."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def stored_samples(image: Image.Image, header: ImageHeader) -> Image.Image | None:
    """Samples of a decoded PNG file as stored: unscaled grey values of any depth, or palette indices.

    Returns:
        Upright image of mode ``L``, or ``I;16`` for 16-bit samples; None if the file has colours or alpha, or is not a
        PNG.
    """
    if header.color not in ("grey", "palette"):
        return None
    image = upright(image)
    if header.bits == 16:
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if header.color == "grey" and header.bits == 8:
        return image
    samples = np.asarray(image).astype(np.uint8)
    widened = WIDENED.get(header.bits, 1) if header.color == "grey" else 1
    return Image.fromarray(samples // widened)


def open_image(path: str | Path, mode: str) -> Image.Image:
    """Read an image file completely, upright, as 8 bits per value.

    Palettes, alpha (dropped), one-bit, grey and CMYK images are converted to the given mode. More than 8 bits per value
    are refused, since a file does not say which part of the range the image uses.

    Args:
        path: a file of one of :data:`.FORMATS`, whatever its suffix.
        mode: ``RGB`` or ``L``.

    Raises:
        DataError: see :func:`.decode`; or more than 8 bits per value, or colours that cannot be converted.
    """
    image, header = decode(path)
    if header.bits > 8:
        raise DataError(f"{path} has more than 8 bits per value ({header.bits}); convert it to 8 bits")
    image = upright(image)
    if image.mode == mode:
        return image
    # A transparent colour does not change the pixels, but makes Pillow warn.
    image.info.pop("transparency", None)
    try:
        return image.convert(mode)
    except ValueError:
        raise DataError(f"{path} has colours of mode {image.mode}; convert it to RGB") from None


@dataclass(frozen=True)
class LabelKind:
    """Values that a label map may have, and their name in messages; ``of`` says whose, if not Cityscapes'."""

    values: frozenset[int]
    name: str
    of: str = ""

    @property
    def one(self) -> str:
        """One of them: ``a Cityscapes train id``."""
        return f"a {self.name} {self.of}" if self.of else f"a Cityscapes {self.name}"

    @property
    def several(self) -> str:
        """Some of them: ``train ids``."""
        return f"{self.name}s {self.of}".rstrip()


TRAIN_IDS = LabelKind(frozenset({*range(len(CLASSES)), IGNORE_LABEL}), "train id")
LABEL_IDS = LabelKind(frozenset({label_id % 256 for label_id in LABEL_NAME_TO_ID.values()} | {255}), "label id")


def open_label(path: str | Path, remedy: str = REPLACE, kind: LabelKind = TRAIN_IDS) -> Image.Image:
    """Read a label map: a PNG file of grey samples (1 to 16 bits, as stored) or palette indices.

    Args:
        path: the file.
        remedy: ends the messages about a file that is not such a map.
        kind: values that it may hold.

    Returns:
        Image of mode ``L`` with these values.

    Raises:
        DataError: missing or damaged file, colours instead of classes, or other values.
    """
    image, header = decode(path, formats=("PNG",), remedy=remedy)
    label = stored_samples(image, header)
    if label is None:
        raise DataError(
            f"{path} has pixels of mode {header.color!r}, expected 8-bit grey or palette indices: it is a picture, not "
            f"a map of classes; {remedy}"
        )
    if label.mode == "L":
        values = [value for value, count in enumerate(label.histogram()) if count]
    else:
        values = np.unique(np.asarray(label)).tolist()
    strange = [value for value in values if value not in kind.values]
    if len(strange) == 1:
        raise DataError(f"{path} holds the value {strange[0]}, which is not {kind.one}; {remedy}")
    if strange:
        raise DataError(f"{path} holds the values {strange[:5]}, which are not {kind.several}; {remedy}")
    return label if label.mode == "L" else Image.fromarray(np.asarray(label).astype(np.uint8))
