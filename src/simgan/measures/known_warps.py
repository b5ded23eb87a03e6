"""Warps that are known, to say what an estimator of drift makes of them."""

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


def turn(px: float, height: int, width: int) -> Field:
    """Everything moves by `px` pixels, in a direction that makes half a turn from one side to the other."""

    def field(y: NDArray[Any], x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        angle = np.pi * (x + y) / (height + width)
        return px * np.sin(angle), px * np.cos(angle)

    return field


def noisy(images: Images, *, deviation: float = NOISE, seed: int = 1) -> Images:
    """The images with Gaussian noise."""
    noise = np.random.default_rng(seed).normal(0, deviation, images.shape)
    return (images + noise).astype(np.float32)


def warped(images: Images, field: Field) -> Images:
    """Images warped by OpenCV's Lanczos interpolation."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]].astype(np.float32)
    down, right = field(y, x)
    places = (x - right).astype(np.float32), (y - down).astype(np.float32)
    moved = [
        cv2.remap(image, *places, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
        for image in images[..., 0]
    ]
    return np.asarray(np.stack(moved)[..., None], np.float32)
