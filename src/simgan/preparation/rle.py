"""Run-length codes of binary masks as COCO files hold them: runs of 0 and 1 in turn, column by column.

The compressed form is text: each count, from the fourth on as the difference to the count two before it, in
groups of five bits, lowest first, with a sixth bit set while more groups follow; the highest bit of the last
group is the sign; 48 is added to each group to make it a printable character.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.errors import LabelError

_MAX_GROUPS = 12  # 60 bits: more than any count of pixels


def decode_runs(counts: Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
    """The mask (height, width) of 0 and 1. Raises `LabelError` where the counts do not fill it exactly."""
    whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
    if not whole or sum(counts) != height * width:
        raise LabelError(
            f"run lengths that sum up to height × width = {height} × {width} pixels are wanted, got "
            + (f"a sum of {sum(counts)}" if whole else "something other than whole numbers")
        )
    values = (np.arange(len(counts)) % 2).astype(np.uint8)
    return np.repeat(values, counts).reshape((height, width), order="F")


def encode_runs(mask: NDArray[Any]) -> list[int]:
    """The counts of a binary mask (height, width): of zeros first, so 0 where the mask begins with a one."""
    flat = mask.ravel(order="F") != 0
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    return [0, *counts.tolist()] if flat[0] else list(counts.tolist())


def decompress_counts(text: str) -> list[int]:
    """The counts in a compressed string. Raises `LabelError` where it is none."""
    counts: list[int] = []
    value = groups = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or groups == _MAX_GROUPS:
            raise LabelError(f"compressed run lengths are damaged: {character!r} does not belong there")
        value |= (code & 31) << (5 * groups)
        groups += 1
        if not code & 32:
            if code & 16:
                value -= 1 << (5 * groups)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = groups = 0
    if groups:
        raise LabelError("compressed run lengths are damaged: they end in the middle of a number")
    return counts


def compress_counts(counts: Sequence[int]) -> str:
    """The compressed string of the counts."""
    codes: list[str] = []
    for i, count in enumerate(counts):
        rest = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            code, rest = rest & 31, rest >> 5
            more = rest != (-1 if code & 16 else 0)
            codes.append(chr(48 + (code | 32 if more else code)))
    return "".join(codes)
