"""The images of a study: some of each side, read once, cut to one size, shown as PNG without name or origin."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.trees import ImageTree, Progress
from simgan.errors import DataError
from simgan.images import PixelFormat, ValueRange, encode_image, measure_value_range, split_alpha

_MOST_IMAGES, _MOST_PIXELS = 2000, 4 * 10**7  # of one side, kept in memory

Image = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of one side: `images` (n, H, W, C) native; `sha256` over names and pixels as they were read."""

    names: tuple[str, ...]
    images: Image
    sha256: str


def draw_names(tree: ImageTree, paths: Sequence[str] | None, *, fewest: int, seed: int) -> tuple[str, ...]:
    """At most 2,000 images drawn by seed, fewer of large ones, and of `paths` alone where these are given.

    `DataError` where there are under `fewest`, or some of `paths` are not in the tree.
    """
    found = tree.paths()
    if paths is not None:
        missing = sorted(set(paths) - set(found))
        if missing:
            raise DataError(
                f"{tree.root}: {len(missing)} of the {len(paths)} images that were held out are not there, for "
                f"instance {missing[0]}; give the real images that the run was trained on"
            )
        found = tuple(paths)
    if len(found) < fewest:
        raise DataError(
            f"{tree.root}: {len(found)} images are too few, {fewest} are wanted: those that one subject judges and "
            "the labelled examples are different ones; give more images, or fewer --trials or --examples"
        )
    height, width = tree.read(found[0]).shape[:2]
    most = min(_MOST_IMAGES, max(fewest, _MOST_PIXELS // (height * width)))
    drawn = np.random.default_rng(seed).permutation(len(found))[:most]
    return tuple(found[i] for i in drawn)


def read_pools(
    trees: Mapping[str, ImageTree], names: Mapping[str, Sequence[str]], progress: Progress | None = None
) -> dict[str, Pool]:
    """The named images of each side, cut at their centre to the smallest height and width of all: another size would
    tell the sides apart. `DataError` where the sides differ in colours or bit depth, for the same reason."""
    read: dict[str, list[Image]] = {}
    total, done = sum(len(wanted) for wanted in names.values()), 0
    for side, wanted in names.items():
        read[side] = []
        for name in wanted:
            read[side].append(split_alpha(trees[side].read(name))[0])
            done += 1
            if progress is not None:
                progress(done, total)
    _check_formats(trees, names, read)
    everything = [image for images in read.values() for image in images]
    height, width = (min(image.shape[axis] for image in everything) for axis in (0, 1))
    return {
        side: Pool(
            tuple(names[side]),
            np.stack([_cut(image, height, width) for image in images]),
            _digest(names[side], images),
        )
        for side, images in read.items()
    }


def measure_range(pools: Mapping[str, Pool]) -> ValueRange:
    """One range for all sides, from the values that occur."""
    images = [image for pool in pools.values() for image in pool.images]
    counts = np.zeros(2**16, np.int64)
    for image in images:
        counts += np.bincount(image.ravel(), minlength=2**16)
    levels = np.flatnonzero(counts)
    step = int(np.gcd.reduce(levels)) or 1
    return measure_value_range(
        int(levels[0]), max(int(levels[-1]), 1), step, PixelFormat.of(images[0]).bit_depth
    )


def encode_png(image: Image, value_range: ValueRange) -> bytes:
    """What the browser is sent: pixels alone."""
    visible = ValueRange(0, 255).decode(value_range.encode(image), np.uint8)
    return encode_image(visible, ".png")


def _check_formats(
    trees: Mapping[str, ImageTree], names: Mapping[str, Sequence[str]], read: Mapping[str, list[Image]]
) -> None:
    (first, *_), wanted = read["real"], PixelFormat.of(read["real"][0])
    for side, images in read.items():
        for name, image in zip(names[side], images, strict=True):
            if PixelFormat.of(image) != wanted:
                raise DataError(
                    f"{trees[side].root}/{name} is {PixelFormat.of(image)}, but {trees['real'].root}/"
                    f"{names['real'][0]} is {PixelFormat.of(first)}: anyone tells them apart by that; bring both "
                    "sides to one format"
                )


def _cut(image: Image, height: int, width: int) -> Image:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _digest(names: Sequence[str], images: Sequence[Image]) -> str:
    digest = hashlib.sha256()
    for name, image in zip(names, images, strict=True):
        digest.update(os.fsencode(f"{name}\0{image.shape}\0{image.dtype.str}\0"))
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
