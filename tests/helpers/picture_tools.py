"""Image files and films of odd kinds, for tests of what reads them."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# colour types of PNG
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bytes(samples: np.ndarray, bits: int, color: int = GREY, more: bytes = b"") -> bytes:
    """A PNG file with these samples as they are, (H, W) or (H, W, channels); ``more`` are chunks before the pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1).astype(np.int64)
    # most significant bit first, rows filled up to whole bytes
    spread = (rows[..., None] >> np.arange(bits - 1, -1, -1) & 1).reshape(height, -1).astype(np.uint8)
    packed = np.packbits(spread, axis=1)
    lines = b"".join(b"\0" + line.tobytes() for line in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = (chunk(b"IHDR", header), more, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette_chunk(colors: np.ndarray) -> bytes:
    return chunk(b"PLTE", colors.astype(np.uint8).tobytes())


def bomb(path: Path, side: int) -> Path:
    """A small PNG file of a very large picture of one bit, all zero; ``side`` is a multiple of 8."""
    data = zlib.compress(bytes(side * (1 + side // 8)), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, GREY, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 640 480
%%EndComments
(owned) print
showpage
"""


def on_its_side(image: Image.Image, path: Path, orientation: int = 6) -> None:
    """Save an image with the note of a camera that was held on its side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def write_video(path: Path, frames: int = 5, rate: float = 20.0, code: str = "MJPG", size=(96, 64)) -> Path:
    """A film whose frames grow lighter by 40."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 40 * number % 256, np.uint8))
    writer.release()
    return path


def _boxes(data: bytes, start: int, end: int):
    while start < end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, start, size
        start += size


def _find(data: bytes, *names: bytes) -> list[int]:
    """Where the boxes of a path start."""
    places, low, high = [], 0, len(data)
    for name in names:
        start, size = next((s, n) for kind, s, n in _boxes(data, low, high) if kind == name)
        places.append(start)
        low, high = start + 8, start + size
    return places


def write_uneven_video(path: Path, durations: list[int]) -> Path:
    """An .mp4 whose frames are shown for these numbers of ms; OpenCV writes even ones, so its table is replaced."""
    data = write_video(path, len(durations), 20.0, "mp4v").read_bytes()
    media = (b"moov", b"trak", b"mdia")
    (*_, header) = _find(data, *media, b"mdhd")
    scale = struct.unpack(">I", data[header + 20 : header + 24])[0]
    ticks = [duration * scale // 1000 for duration in durations]
    # the edit list would cut the film at its old length
    *_, edits = _find(data, b"moov", b"trak", b"edts")
    data = data[: edits + 4] + b"free" + data[edits + 8 :]
    places = _find(data, *media, b"minf", b"stbl", b"stts")
    place = places.pop()
    size = struct.unpack(">I", data[place : place + 4])[0]
    table = struct.pack(">II", 0, len(ticks)) + b"".join(struct.pack(">II", 1, tick) for tick in ticks)
    table = struct.pack(">I4s", 8 + len(table), b"stts") + table
    changed = bytearray(data[:place] + table + data[place + size :])
    for parent in places:
        own = struct.unpack(">I", changed[parent : parent + 4])[0]
        changed[parent : parent + 4] = struct.pack(">I", own + len(table) - size)
    path.write_bytes(changed)
    return path
