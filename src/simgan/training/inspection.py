"""What both sides hold, looked at before anything is spent: do they fit together, at which scale, with which cues?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from simgan.data.cache import ImageCache
from simgan.data.streams import check_fits
from simgan.errors import DataError, list_faults
from simgan.images import ValueRange, measure_value_range
from simgan.nn.derivation import SMALLEST_SIDE
from simgan.settings import Configuration

FEWEST_JUDGED = 5  # images of a side that the two-sample test needs: one a fold
_HELD_OUT_BLOCKS = 10


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the indices 0 … count − 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def split_held_out(count: int, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, held-out) indices: held out are contiguous blocks spread evenly over the sorted names.

    Neighbours in a recording are near-copies: single images held out at random would have been seen already.
    """
    blocks = min(_HELD_OUT_BLOCKS, max(1, round(count * share)))
    ends = np.linspace(0, count, blocks + 1).round().astype(int)
    held = np.zeros(count, dtype=bool)
    for start, stop in itertools.pairwise(ends):
        held[start : start + max(1, round((stop - start) * share))] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_sides(c: Configuration, synthetic: ImageCache, real: ImageCache) -> None:
    if synthetic.scan.pixel_format != real.scan.pixel_format:
        raise DataError(
            f"both sides must have the same channels and bit depth: {c.synthetic.root} holds "
            f"{synthetic.scan.pixel_format}, {c.real.root} holds {real.scan.pixel_format}; convert one of them"
        )
    training, held_out = split_held_out(len(real), c.data.held_out_share)
    needed = max(c.training.batch_size, FEWEST_JUDGED)
    kept_back = f", of which {len(held_out)} are held out to judge refiners on" if len(held_out) else ""
    for root, held, there, aside in (
        (c.synthetic.root, len(synthetic), len(synthetic), ""),
        (c.real.root, len(real), len(training), kept_back),
    ):
        if there < needed:
            raise DataError(
                f"{root} holds {_images(held)}{aside}; at least {needed} are wanted to train on (a batch, and "
                f"{FEWEST_JUDGED} to judge refiners on); add images, or lower training.batch_size"
            )
    if len(held_out) < FEWEST_JUDGED:
        raise DataError(
            f"{c.real.root} has {len(real)} images, of which {len(held_out)} would be held out; refiners are judged "
            f"on at least {FEWEST_JUDGED}: add images, or raise data.held_out_share"
        )


def choose_value_range(c: Configuration, synthetic: ImageCache, real: ImageCache) -> ValueRange:
    d = c.data
    if d.value_low is not None and d.value_high is not None:
        declared = ValueRange(d.value_low, d.value_high, d.value_step, d.invalid_value)
        for root, cache in ((c.synthetic.root, synthetic), (c.real.root, real)):
            low, high = cache.scan.low, cache.scan.high
            if (low < declared.low and low != declared.invalid) or high > declared.high:
                raise DataError(
                    f"{root} holds values from {low} to {high}, outside the declared range {declared.low} to "
                    f"{declared.high}; correct data.value_low and data.value_high, or the images"
                )
        return declared
    a, b = synthetic.scan, real.scan
    measured = measure_value_range(
        min(a.low, b.low), max(a.high, b.high), math.gcd(a.step, b.step), a.pixel_format.bit_depth
    )
    return replace(measured, invalid=d.invalid_value)


def choose_crop(c: Configuration, synthetic: ImageCache, real: ImageCache) -> tuple[int, int]:
    """The size that networks train on: the declared one, else the smallest height and width of both sides.

    `DataError` where images are smaller than the declared one, or some are too small to derive networks for.
    """
    sides = ((c.synthetic.root, synthetic), (c.real.root, real))
    if c.data.crop is not None:
        crop = cast("tuple[int, int]", c.data.crop)
        for root, cache in sides:
            try:
                check_fits(cache, crop)
            except DataError as error:
                raise DataError(f"{root}: {error}") from error
        return crop
    if not c.discriminator.layers:
        _refuse_tiny(sides)
    sizes = [*synthetic.scan.sizes, *real.scan.sizes]
    return min(height for height, _ in sizes), min(width for _, width in sizes)


def _refuse_tiny(sides: Sequence[tuple[str, ImageCache]]) -> None:
    """`DataError` where a few images are so small that no networks could be derived for crops of their size."""
    small = {root: np.flatnonzero(cache.sizes.min(axis=1) < SMALLEST_SIDE).tolist() for root, cache in sides}
    if all(len(small[root]) == len(cache) for root, cache in sides):
        return  # deriving says what to do
    faults = []
    for root, cache in sides:
        if small[root]:
            named = [f"{cache.paths[i]} {'×'.join(map(str, cache.sizes[i]))}" for i in small[root][:5]]
            more = ", …" if len(small[root]) > 5 else ""
            faults.append(f"{root}: {len(small[root])} of {_images(len(cache))} ({', '.join(named)}{more})")
    if faults:
        raise DataError(
            f"some images are smaller than {SMALLEST_SIDE} pixels a side, and all are trained on in crops of the "
            f"smallest size:{list_faults(faults)}\nNext: remove them, narrow the images pattern, or enlarge them with "
            "`simgan prepare --size`"
        )


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def warn_of_cues(synthetic: ImageCache, real: ImageCache, value_range: ValueRange) -> list[str]:
    """What a discriminator could use without looking at content: said before training, not found out after."""
    a, b = synthetic.scan, real.scan
    warnings = []
    if a.step != b.step:
        warnings.append(
            f"levels: synthetic values are multiples of {a.step}, real ones of {b.step}; the level grid alone tells "
            "them apart: quantize the simulator's images like the camera's"
        )
    span = value_range.high - value_range.low
    if abs(a.level_mean - b.level_mean) > 0.25 * span:
        warnings.append(
            f"levels: the mean is {a.level_mean:.4g} on the synthetic and {b.level_mean:.4g} on the real side; "
            "set data.level_matching = true, or match the exposure"
        )
    if set(a.sizes) != set(b.sizes) and len(a.sizes) == len(b.sizes) == 1:
        (first,), (second,) = a.sizes, b.sizes
        warnings.append(
            f"sizes: synthetic images are {first[0]}×{first[1]}, real ones {second[0]}×{second[1]}; both are cut to "
            "their common size at native scale: if objects differ in scale, use `simgan prepare --size`"
        )
    return warnings
