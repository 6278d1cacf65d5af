"""The one way from an image file to its pixels: which formats, how large, how deep, which way up.

Whatever reads pixels of a file (data sets, tools, checks, inference, reports) comes through :func:`decode`. Files come
from strangers: only decoders of the formats named here run, a picture that would fill the memory is refused by its
header, and whatever a decoder raises becomes one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Every plugin registers its format. Asked for one that it does not know yet, Pillow would import all of its decoders.
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

# Pillow knows more: some start other programs (EPS), some are only half a decoder.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
# 8192x8192: 200 MB as RGB, of which several are on the way at once.
MAX_PIXELS = 1 << 26
START_BYTES = 8
BITS_PER_SAMPLE, ORIENTATION = 258, 274  # tags of TIFF and EXIF
# How a picture is turned upright, by the EXIF orientation of its camera.
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
# Where Pillow keeps what a file says of it.
NOTES = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
# Pillow widens grey samples of few bits to 0..255; divided by this they are the stored ones again.
WIDENED = {2: 85, 4: 17}


def decode(
    source: str | Path | BinaryIO, name: str | Path = "", formats: Sequence[str] = FORMATS, remedy: str = REPLACE
) -> tuple[Image.Image, ImageHeader]:
    """Decode an image file whole, as it is stored.

    Args:
        source: the file, or an open one.
        name: how messages call an open one.
        formats: Pillow's names of the formats that it may have, whatever its suffix says.
        remedy: ends the messages on a damaged file.

    Returns:
        The loaded image, and its header: size when it stands upright, bits a sample, and the colour type (Pillow's mode
        where it is not a PNG).

    Raises:
        DataError: the file is missing, damaged, cut off, of another format, too large, or holds several pictures.
    """
    return _opened(source, name or source, formats, remedy, load=True)


def read_header(path: str | Path) -> ImageHeader:
    """Header of an image file, the pixels unread; errors as of :func:`decode`."""
    return _opened(path, path, FORMATS, REPLACE, load=False)[1]


def _opened(
    source: str | Path | BinaryIO, path: object, formats: Sequence[str], remedy: str, load: bool
) -> tuple[Image.Image, ImageHeader]:
    try:
        with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as file:
            header = png_header(file, path, remedy)
            if header is not None:
                _check_size(header.size, path)
            with Image.open(file, formats=formats) as image:
                _check_size(image.size, path)
                # A photo of a telephone is two pictures in one JPEG (MPO); the first is the photo.
                if image.format != "MPO" and getattr(image, "is_animated", False):
                    raise DataError(f"{path} holds several pictures; save the one to use as a file of its own")
                header = header or ImageHeader(*image.size, _bits(image), image.mode)
                if _turn(image) in SIDEWAYS:
                    header = replace(header, width=header.height, height=header.width)
                if load:
                    image.load()
                    # Of label maps and disparity, one wrong value is a wrong result that nobody sees.
                    if tuple(formats) == ("PNG",):
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
    except Exception as error:  # whatever a hostile file makes a decoder raise
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
    """Bits a sample; the other formats that are read here have at most 8."""
    if image.format != "TIFF":
        return 8
    bits = image.tag_v2.get(BITS_PER_SAMPLE, 1)
    return int(max(bits)) if isinstance(bits, tuple) else int(bits)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright, as its camera noted in EXIF; None where nothing is to be done."""
    # Pillow turns a TIFF by itself.
    if image.format == "TIFF" or not NOTES & image.info.keys():
        return None
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION))
    except Exception:  # damaged EXIF says nothing; the pixels are whole
        return None


def upright(image: Image.Image) -> Image.Image:
    """Turn a decoded image as its camera noted in EXIF."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def stored_samples(image: Image.Image, header: ImageHeader) -> Image.Image | None:
    """Samples of a decoded PNG file as it holds them: grey ones of any depth unscaled, of a palette the indices.

    Returns:
        Upright image of mode ``L``, or ``I;16`` where samples have 16 bits; None where the file holds colours or
        alpha, or is not a PNG.
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
    """Read an image file whole, upright, as 8 bits a value.

    Palettes, alpha (left out), one-bit, grey and CMYK images become the mode asked for. More than 8 bits a value are
    refused: which part of their range the picture fills is not said in a file.

    Args:
        path: a file of one of :data:`.FORMATS`, whatever its suffix.
        mode: ``RGB`` or ``L``.

    Raises:
        DataError: see :func:`.decode`; or more than 8 bits a value, or colours that cannot be converted.
    """
    image, header = decode(path)
    if header.bits > 8:
        raise DataError(f"{path} has more than 8 bits a value ({header.bits}); convert it to 8 bits")
    image = upright(image)
    if image.mode == mode:
        return image
    # One colour that counts as transparent does not change the pixels, but makes Pillow warn.
    image.info.pop("transparency", None)
    try:
        return image.convert(mode)
    except ValueError:
        raise DataError(f"{path} has colours of mode {image.mode}; convert it to RGB") from None


@dataclass(frozen=True)
class LabelKind:
    """What the values of a label map may be, and how messages call one of them."""

    values: frozenset[int]
    name: str


TRAIN_IDS = LabelKind(frozenset({*range(len(CLASSES)), IGNORE_LABEL}), "train id")
LABEL_IDS = LabelKind(frozenset({label_id % 256 for label_id in LABEL_NAME_TO_ID.values()} | {255}), "label id")


def open_label(path: str | Path, remedy: str = REPLACE, kind: LabelKind = TRAIN_IDS) -> Image.Image:
    """Read a label map, a PNG file of grey samples (1 to 16 bits, as they are stored) or palette indices.

    Args:
        path: the file.
        remedy: ends the messages on a file that is not such a map.
        kind: values that it may hold.

    Returns:
        Image of mode ``L`` with these values.

    Raises:
        DataError: missing or damaged file, colours in the place of classes, or other values.
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
        values = np.unique(label).tolist()
    strange = [value for value in values if value not in kind.values]
    if len(strange) == 1:
        raise DataError(f"{path} holds the value {strange[0]}, which is not a Cityscapes {kind.name}; {remedy}")
    if strange:
        raise DataError(f"{path} holds the values {strange[:5]}, which are no {kind.name}s; {remedy}")
    return label if label.mode == "L" else Image.fromarray(np.asarray(label).astype(np.uint8))
