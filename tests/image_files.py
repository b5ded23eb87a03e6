"""Image files for the tests, made by other writers or by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def noise(height: int, width: int, channels: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, (height, width, channels)).astype(dtype)


def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def hand_made_png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(extra) + data + png_chunk(b"IEND", b"")
    )


def with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the value of one tag of its first directory replaced."""
    data = bytearray(tiff)
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    (entry,) = (
        at
        for at in range(start + 2, start + 2 + 12 * count, 12)
        if struct.unpack("<H", data[at : at + 2]) == (tag,)
    )
    data[entry + 8 : entry + 12] = struct.pack("<I", value)
    return bytes(data)
