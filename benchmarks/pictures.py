"""Grids of grey images as PNG files, with numpy alone."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GAP = 2


def write_grid(path: Path, rows: list[NDArray[np.uint8]], *, zoom: int) -> None:
    """`rows` of (n, H, W) images, one row of the picture each, enlarged `zoom` times."""
    lines = []
    for row in rows:
        enlarged = row.repeat(zoom, axis=1).repeat(zoom, axis=2)
        padded = np.pad(enlarged, ((0, 0), (_GAP, _GAP), (_GAP, _GAP)), constant_values=255)
        lines.append(np.concatenate(list(padded), axis=1))
    path.write_bytes(_png(np.concatenate(lines, axis=0)))


def _png(grey: NDArray[np.uint8]) -> bytes:
    height, width = grey.shape
    scanlines = b"".join(b"\0" + line.tobytes() for line in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
