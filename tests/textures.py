"""Textured images whose warps are exact: sums of waves, evaluated where the warp says. No interpolation is involved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Field = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]
"""(y, x) of pixels → how far (down, right) what they show has moved."""

NOISE = 0.04  # standard deviation on [-1, 1]: five of 256 levels


def shift(px: float, *, angle: float = 0.6) -> Field:
    """Everything moves by `px` pixels in one direction that is no axis."""
    return lambda y, x: (px * np.sin(angle) + 0 * y, px * np.cos(angle) + 0 * x)


def swirl(px: float, height: int, width: int) -> Field:
    """A smooth warp that turns from place to place, `px` long where it is longest."""
    length = 2.0 * max(height, width)
    return lambda y, x: (px * np.sin(2 * np.pi * x / length), px * np.cos(2 * np.pi * y / length))


def true_drift(field: Field, height: int, width: int) -> float:
    """√ mean |displacement|² over the image."""
    down, right = field(*np.mgrid[:height, :width].astype(float))
    return float(np.sqrt((down**2 + right**2).mean()))


def texture(n: int, height: int, width: int, field: Field | None = None, *, seed: int = 0) -> Images:
    """(n, height, width, 1) sums of 24 waves of 4 to 20 px, deviation 0.3; `field` moves what they show."""
    random = np.random.default_rng(seed)
    images = np.zeros((n, height, width))
    for image in images:
        y, x = np.mgrid[:height, :width].astype(float)
        if field is not None:
            down, right = field(y, x)
            y, x = y - down, x - right
        for _ in range(24):
            length = np.exp(random.uniform(np.log(4), np.log(20)))
            angle, phase = random.uniform(0, 2 * np.pi, 2)
            image += np.sin(2 * np.pi * (y * np.sin(angle) + x * np.cos(angle)) / length + phase)
    return (0.3 * images[..., None] / np.sqrt(12)).astype(np.float32)


def noisy(images: Images, *, deviation: float = NOISE, seed: int = 1) -> Images:
    """The images with Gaussian noise."""
    noise = np.random.default_rng(seed).normal(0, deviation, images.shape)
    return (images + noise).astype(np.float32)


def blurred(images: Images, sigma: float) -> Images:
    """The images out of focus."""
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]).reshape(images.shape)


def warped(images: Images, field: Field) -> Images:
    """Real images, warped by OpenCV's Lanczos interpolation."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]].astype(np.float32)
    down, right = field(y, x)
    places = (x - right).astype(np.float32), (y - down).astype(np.float32)
    return np.stack(
        [cv2.remap(i, *places, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT) for i in images[..., 0]]
    )[..., None]
