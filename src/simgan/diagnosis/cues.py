"""Findings on the two sides: one trivial number of an image that tells them apart, and layouts that do not match.

A cue is a function of one image, a number. Where the AUC of that number alone is 0.95 or more, a discriminator needs
nothing else, and a refiner that could remove it is not trained for what it is wanted for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simgan.diagnosis.finding import Finding
from simgan.measures import area_under_curve

Image = NDArray[Any]

TELLS_APART = 0.95
_LAYOUT_SIDE = 32
_LAYOUT_TOO_FAR = 0.12  # of the side: centres, or spreads, of where there is structure


def size_of(image: Image) -> float:
    """√(height × width), px."""
    return float(np.sqrt(image.shape[0] * image.shape[1]))


def padding_of(image: Image) -> float:
    """Lines of one single value at the border of the image, the four sides together, as a share of its sides."""
    lines = 0
    for side in range(4):
        turned = np.rot90(image, side)
        constant = (turned == turned[:1, :1]).all(axis=(1, 2))
        lines += int(np.argmin(constant)) if not constant.all() else len(constant)
    return float(lines / (2 * (image.shape[0] + image.shape[1])))


def jpeg_grid_of(image: Image) -> float:
    """Steps between columns 8 apart, the largest of the 8 phases over their median, rows and "
    "columns together; 1: none."""
    ratios = []
    grey = image.astype(np.float64).mean(axis=2)
    for turned in (grey, grey.T):
        if turned.shape[1] < 25:
            continue
        second = np.abs(2 * turned[:, 1:-1] - turned[:, :-2] - turned[:, 2:]).mean(axis=0)
        phases = [float(np.median(second[phase::8])) for phase in range(8)]
        # A block's border lies between two columns: both show it.
        pairs = [phases[k] + phases[(k + 1) % 8] for k in range(8)]
        ratios.append(max(pairs) / max(float(np.median(pairs)), 1e-9))
    return float(np.mean(ratios)) if ratios else 1.0


def level_count_of(image: Image) -> float:
    """How many different values occur, as a share of what this many pixels could show."""
    possible = min(image.size, 256 if image.dtype == np.uint8 else 65536)
    return len(np.unique(image)) / possible


def mean_level_of(image: Image) -> float:
    """Mean of all values, as a share of the full scale."""
    return float(image.mean()) / (255 if image.dtype == np.uint8 else 65535)


# name → the number of an image, how far the medians must be apart to matter, what to change
CUES: dict[str, tuple[Callable[[Image], float], float, str]] = {
    "size": (
        size_of,
        4.0,
        "Bring both sides to one scale, labels moving along: `simgan prepare --size`.",
    ),
    "padding": (
        padding_of,
        0.02,
        "Crop the borders away (`simgan prepare --crop`), or give both sides the same ones.",
    ),
    "JPEG grid": (
        jpeg_grid_of,
        0.15,
        "Save both sides alike: the simulator's images as JPEG of the camera's quality, aligned to "
        "the same 8×8 grid, or "
        "reduce both by an area average (`simgan prepare --size`), which removes the blocks.",
    ),
    "level count": (
        level_count_of,
        0.1,
        "Save the simulator's images with the camera's bit depth and levels, its noise included.",
    ),
    "mean level": (
        mean_level_of,
        0.1,
        "Set data.level_matching = true, or match the exposure in the simulator.",
    ),
}


def find_cues(synthetic: Sequence[Image], real: Sequence[Image]) -> Iterator[Finding]:
    """One finding for each cue that tells native images of the two sides apart, (H, W, C) each."""
    is_real = np.repeat([False, True], [len(synthetic), len(real)])
    for name, (measure, least, change) in CUES.items():
        a, b = (np.array([measure(image) for image in side]) for side in (synthetic, real))
        auc = area_under_curve(np.concatenate([a, b]), is_real)
        apart = abs(float(np.median(a)) - float(np.median(b)))
        if max(auc, 1 - auc) >= TELLS_APART and apart >= least:
            yield Finding(
                f"cue: {name}",
                f"The {name} alone tells the two sides apart: {max(auc, 1 - auc):.0%} of all pairs (median "
                f"{np.median(a):.3g} of synthetic, {np.median(b):.3g} of real images).",
                change,
            )


def find_layout(synthetic: Sequence[Image], real: Sequence[Image]) -> Iterator[Finding]:
    """Does structure lie at the same places and at the same scale on both sides?"""
    (a, a_spread), (b, b_spread) = _layout(synthetic), _layout(real)
    shift, scale = float(np.abs(a - b).max()), float(np.abs(a_spread - b_spread).max())
    if shift <= _LAYOUT_TOO_FAR and scale <= _LAYOUT_TOO_FAR:
        return
    yield Finding(
        "layout mismatch",
        "The two sides show their objects at different places or scales: the centre of structure "
        f"lies {shift:.0%} of the "
        f"image apart, its spread differs by {scale:.0%}.",
        "Align both sides to one crop and scale around the object (`simgan prepare --crop --size`): "
        "a discriminator of "
        "patches otherwise sees the scale, and labels that are places mean different things.",
    )


def _layout(images: Sequence[Image]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (down, right) and spread of the mean gradient energy, as shares of the height and width."""
    total = np.zeros((_LAYOUT_SIDE, _LAYOUT_SIDE))
    for image in images:
        size = (_LAYOUT_SIDE, _LAYOUT_SIDE)
        small = cv2.resize(image.astype(np.float32).mean(axis=2), size, interpolation=cv2.INTER_AREA)
        down, right = np.gradient(small.astype(np.float64))
        energy = np.hypot(down, right)
        total += energy / max(float(energy.sum()), 1e-9)
    total /= max(float(total.sum()), 1e-9)
    at = (np.arange(_LAYOUT_SIDE) + 0.5) / _LAYOUT_SIDE
    margins = total.sum(axis=1), total.sum(axis=0)
    centre = np.array([float(margin @ at) for margin in margins])
    spread = [float(np.sqrt(margin @ (at - c) ** 2)) for margin, c in zip(margins, centre, strict=True)]
    return centre, np.array(spread)
