"""What is behind a sign: sky, trees, walls, road, with objects and a pole; and stains on the sign itself."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# Linear RGB of what stands by roads.
COLOURS = np.array(
    [
        (0.55, 0.58, 0.62),  # overcast sky
        (0.25, 0.42, 0.75),  # blue sky
        (0.05, 0.10, 0.03),  # dark leaves
        (0.16, 0.24, 0.07),  # light leaves
        (0.13, 0.10, 0.07),  # bark, soil
        (0.34, 0.29, 0.23),  # plaster
        (0.28, 0.12, 0.08),  # brick
        (0.13, 0.13, 0.14),  # asphalt
    ],
    dtype=np.float32,
)
_COARSEST, _OCTAVES = 3, 5


def noise(shape: tuple[int, int], fineness: float, random: np.random.Generator) -> FloatArray:
    """(h, w) of smooth noise, mean about 0, standard deviation about 1: octaves of random grids, enlarged."""
    total = np.zeros(shape, np.float32)
    squares = 0.0
    for octave in range(_OCTAVES):
        side = _COARSEST << octave
        grid = random.standard_normal((side, side)).astype(np.float32)
        weight = fineness**octave
        total += weight * np.asarray(
            cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32
        )
        squares += weight**2
    return np.asarray(
        total * np.float32(1.32 / np.sqrt(squares)), np.float32
    )  # enlarging takes a quarter of it


def draw_background(
    p: Mapping[str, float], x: FloatArray, y: FloatArray, random: np.random.Generator
) -> FloatArray:
    """(h, w, 3) linear light at the points (x, y), in radii from the sign's centre, x to the right and y down."""
    shape = (x.shape[0], x.shape[1])
    rough = noise(shape, 0.6, random)
    angle = np.deg2rad(p["horizon_deg"])
    below = y * np.cos(angle) - x * np.sin(angle) - p["horizon"] + p["horizon_roughness"] * rough
    share = np.clip(below / 0.05 + 0.5, 0, 1)[..., None]
    upper, lower = COLOURS[int(p["upper_colour"])], COLOURS[int(p["lower_colour"])]
    scene = upper + share * (lower - upper)
    for _ in range(int(p["objects"])):  # walls, cars, other signs: boxes that lean a little
        centre, half = random.uniform(-1.6, 1.6, 2), random.uniform(0.1, 0.9, 2)
        lean, light = np.deg2rad(random.normal(0, 8)), np.exp(random.uniform(-1.2, 0.7))
        colour = COLOURS[random.integers(len(COLOURS))] * light
        across = (x - centre[0]) * np.cos(lean) + (y - centre[1]) * np.sin(lean)
        down = (y - centre[1]) * np.cos(lean) - (x - centre[0]) * np.sin(lean)
        inside = np.minimum(half[0] - np.abs(across), half[1] - np.abs(down))
        scene = scene + np.clip(inside / 0.04 + 0.5, 0, 1)[..., None] * (colour - scene)
    scene = scene * np.exp(p["texture"] * noise(shape, p["texture_fineness"], random))[..., None]
    if p["pole"]:
        inside = np.where(y > 0, p["pole_width"] / 2 - np.abs(x - p["pole_shift"]), -1.0)
        scene = scene + np.clip(inside / 0.04 + 0.5, 0, 1)[..., None] * (p["pole_light"] - scene)
    return np.asarray(scene, np.float32)
