"""How far refining moves pupils: fit(refined) − fit(synthetic), beside what it reads where nothing moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.trees import ImageTree
from simgan.measures import fit_pupils
from simgan.studies.gaze_sets import EyeOutlines, read_images, read_outlines

WIDTH_PX = 55.0
"""Distances are given for images of this width, as in the paper."""
NOISE_LEVELS = 4.0
"""Standard deviation of the noise, of 255 levels, with which the instrument's floor is measured."""


def measure_pupils(synthetic: ImageTree, refined: ImageTree, paths: Sequence[str]) -> dict[str, Any] | None:
    """What is said of pupils in these synthetic images and their refinements; None without UnityEyes files.

    `moved_px`: mean, sd, median and n of the distance between both fits, with a 95 % interval of the mean; `floor_px`:
    the same between synthetic images and the same with noise; `failed`: the share of fits that failed, by kind of
    image. An image that was not refined is left out.
    """
    there = set(refined.paths())
    paths = [path for path in paths if path in there]
    outlines = read_outlines(synthetic, paths)
    if outlines is None:
        return None
    before, after = read_images(synthetic, paths), read_images(refined, paths)
    noise = np.random.default_rng(0).normal(0, 2 * NOISE_LEVELS / 255, before.shape)
    return compare_pupils(before, after, before + noise.astype(np.float32), outlines)


def compare_pupils(
    synthetic: NDArray[np.float32],
    refined: NDArray[np.float32],
    noisy: NDArray[np.float32],
    outlines: EyeOutlines,
) -> dict[str, Any]:
    """See `measure_pupils`; images (n, H, W, C) in [-1, 1]."""
    fits = {
        name: fit_pupils(images, outlines.iris, outlines.opening)
        for name, images in (("synthetic", synthetic), ("refined", refined), ("noisy", noisy))
    }
    scale = WIDTH_PX / synthetic.shape[2]

    def apart(other: str) -> dict[str, float | int | None]:
        both = fits["synthetic"].found & fits[other].found
        away = fits[other].centres_px[both] - fits["synthetic"].centres_px[both]
        return _summary(np.hypot(*away.T) * scale)

    return {
        "n": len(synthetic), "moved_px": apart("refined"), "floor_px": apart("noisy"),
        "failed": {name: float(1 - one.found.mean()) for name, one in fits.items()},
    }  # fmt: skip


def _summary(distances: NDArray[np.float64]) -> dict[str, float | int | None]:
    n = len(distances)
    if n < 2:
        return {"n": n, "mean": None, "sd": None, "median": None, "low": None, "high": None}
    mean, sd = float(distances.mean()), float(distances.std(ddof=1))
    half = 1.96 * sd / n**0.5
    return {
        "n": n, "mean": mean, "sd": sd, "median": float(np.median(distances)), "low": max(mean - half, 0.0),
        "high": mean + half,
    }  # fmt: skip
