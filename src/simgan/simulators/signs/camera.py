"""Lens and sensor: blur, motion, the camera's pixels, noise, tone, and the size that is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]  # height, width
FloatArray = NDArray[np.float32]

OVERSAMPLING = 3  # points drawn for each pixel of the camera, along each axis
_MOST_CAMERA_PIXELS = 2.0  # for each pixel of the image: averaging hides what more would show


def camera_size(p: Mapping[str, float], size: Size) -> Size:
    """Height and width of the crop in the camera's own pixels."""
    shorter = min(size)
    scale = min(p["camera_px"], _MOST_CAMERA_PIXELS * shorter) / shorter
    return max(round(size[0] * scale), 8), max(round(size[1] * scale), 8)


def expose(
    light: FloatArray, p: Mapping[str, float], size: Size, random: np.random.Generator
) -> NDArray[np.uint8]:
    """(h, w, 3) linear light, `OVERSAMPLING` points a pixel of the camera → the image of `size`, uint8 RGB."""
    blurred = cv2.GaussianBlur(light, (0, 0), p["blur_px"] * OVERSAMPLING)
    blurred = cv2.filter2D(blurred, -1, _motion(p), borderType=cv2.BORDER_REPLICATE)
    height, width = camera_size(p, size)
    seen = np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    sd = np.sqrt(p["read_noise"] ** 2 + p["shot_noise"] ** 2 * np.maximum(seen, 0))
    noisy = seen + sd * random.standard_normal(seen.shape).astype(np.float32)
    toned = np.clip(noisy, 0, 1) ** np.float32(1 / p["gamma"])
    soft = cv2.GaussianBlur(toned, (0, 0), 1.0)
    sharpened = np.clip(toned + p["sharpening"] * (toned - soft), 0, 1)
    stored = np.round(255 * sharpened).astype(np.uint8)
    smaller = height >= size[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(stored, (size[1], size[0]), interpolation=how), np.uint8)


def _motion(p: Mapping[str, float]) -> FloatArray:
    """The kernel of a movement of `motion_px` pixels while the shutter is open."""
    length = p["motion_px"] * OVERSAMPLING
    side = 2 * int(np.ceil(length / 2)) + 1
    middle = side // 2
    rows, columns = np.mgrid[:side, :side] - middle
    angle = np.deg2rad(p["motion_deg"])
    along = columns * np.cos(angle) + rows * np.sin(angle)
    beside = rows * np.cos(angle) - columns * np.sin(angle)
    kernel = np.clip(length / 2 - np.abs(along) + 0.5, 0, 1) * np.clip(1 - np.abs(beside), 0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)
