"""PNG files: header, completeness and checksums; and files that tools make, which record their settings."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg.errors import DataError
from mmseg.io.files import atomic_path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"IEND\xaeB`\x82"
# Length of signature and chunk IHDR; of length, name and checksum of a chunk.
HEADER_BYTES, CHUNK_FRAME = 33, 12
# Some programs add bytes after the end mark; if there are more than these, the chunks are followed one by one.
END_SEARCH = 64
REPLACE = "replace the file"
# Key of the text chunk that holds the settings a file was made with.
SETTINGS_KEY = "made with"

COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey+alpha", 6: "RGBA"}


@dataclass(frozen=True)
class ImageHeader:
    """Header of an image file: size in pixels, bits per channel, and name of the colour type."""

    width: int
    height: int
    bits: int
    color: str

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height


def png_header(file: BinaryIO, path: object, remedy: str = REPLACE) -> ImageHeader | None:
    """Read header and end mark of an open file, without the pixels. The file is left at its start.

    Args:
        file: readable, with seek.
        path: its name in messages.
        remedy: ends the message.

    Returns:
        None if it is not a PNG file.

    Raises:
        DataError: it is truncated.
    """
    start = file.read(HEADER_BYTES)
    if start[:8] != SIGNATURE:
        file.seek(0)
        return None
    if len(start) < HEADER_BYTES or start[12:16] != b"IHDR" or not _has_end(file):
        raise DataError(f"{path} is not a readable image (it is truncated: its end is missing); {remedy}")
    file.seek(0)
    width, height, bits, color = struct.unpack(">IIBB", start[16:26])
    return ImageHeader(width, height, bits, COLOR_TYPES.get(color, f"colour type {color}"))


def _has_end(file: BinaryIO) -> bool:
    length = file.seek(0, 2)
    file.seek(max(0, length - END_SEARCH))
    if END in file.read():
        return True
    place = len(SIGNATURE)
    while place + CHUNK_FRAME <= length:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        place += size + CHUNK_FRAME
        if kind == b"IEND":
            return place <= length
    return False


def check_sums(file: BinaryIO, path: object, remedy: str = REPLACE) -> None:
    """Verify the checksum of every chunk of an open PNG file; it is left at its start.

    Decoders skip some, so that changed pixels may go unnoticed.

    Raises:
        DataError: one is wrong.
    """
    file.seek(0)
    content, place = file.read(), len(SIGNATURE)
    while place + CHUNK_FRAME <= len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        end = place + 8 + size
        if zlib.crc32(content[place + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise DataError(f"{path} is not a readable image (the checksum of its chunk {kind!r} is wrong); {remedy}")
        if kind == b"IEND":
            break
        place = end + 4
    file.seek(0)


def read_png_header(path: str | Path) -> ImageHeader:
    """Read header and end mark of a file, without the pixels.

    Raises:
        DataError: the file is missing, not a PNG file, or truncated.
    """
    try:
        with open(path, "rb") as file:
            header = png_header(file, path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    if header is None:
        raise DataError(f"{path} is not a PNG file: replace it")
    return header


def file_state(path: Path, size: tuple[int, int], settings: str, sources: tuple[Path, ...]) -> str:
    """State of a file that a tool makes.

    Args:
        path: the file.
        size: (width, height) that it must have.
        settings: what :func:`save_png` would write into it.
        sources: files that it is made from; it is outdated if older than one of them.

    Returns:
        ``missing`` (also if damaged, outdated, or made with other settings), ``kept`` (complete and current), or
        ``foreign`` (complete, and made by another program).
    """
    try:
        if read_png_header(path).size != size:
            return "missing"
        with Image.open(path, formats=("PNG",)) as image:
            made_with = image.info.get(SETTINGS_KEY)
        time = path.stat().st_mtime_ns
        outdated = any(time < source.stat().st_mtime_ns for source in sources)
    # Pillow raises SyntaxError at a damaged chunk, ValueError at an oversized text.
    except (DataError, OSError, SyntaxError, ValueError):
        return "missing"
    if made_with is None:
        return "foreign"
    return "missing" if outdated or made_with != settings else "kept"


def make_png(
    path: Path,
    size: tuple[int, int],
    settings: str,
    sources: tuple[Path, ...],
    make: Callable[[], Image.Image],
    force: bool = False,
) -> str:
    """Make a PNG file unless it is up to date or made by another program.

    Args:
        path, size, settings, sources: as in :func:`file_state`.
        make: returns the image.
        force: make it in any case.

    Returns:
        ``written``, ``kept`` or ``foreign``.

    Raises:
        DataError: it cannot be written.
    """
    state = file_state(path, size, settings, sources)
    if state != "missing" and not force:
        return state
    save_png(path, make(), settings)
    return "written"


def save_png(path: Path, image: Image.Image, settings: str) -> None:
    """Write a PNG file with the settings it was made with; missing folders are created.

    Raises:
        DataError: it cannot be written.
    """
    info = PngInfo()
    info.add_text(SETTINGS_KEY, settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            image.save(temporary, format="PNG", pnginfo=info)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): free space or fix its folder") from None
