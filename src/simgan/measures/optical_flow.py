"""A second opinion on displacement, of another kind: dense optical flow between images of local contrast.

Both images are brought to local contrast, (x − mean)/deviation in a Gaussian neighbourhood, so that gain, offset and
slow changes of light are gone, and before it the sharper one is blurred until it is as sharp as the other; OpenCV's DIS
flow (Kroeger et al., ECCV 2016) then says for every pixel where it went. Small images are enlarged first: DIS compares
patches of 8 pixels. It shares no line with `displacement`, no window and no model: what both say does not come from the
method. It knows nothing of inverted contrast or of its own certainty. Noise, and whatever else changes but does not
move, adds to it; drift is told less what the same change reads as where nothing moved.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_NEIGHBOURHOOD_PX = 6.0  # σ of the Gaussian that says what "local" is
_BLUR_PX = 1.0
_FAINT = 0.01  # deviation on [-1, 1] that local contrast is not divided below
_SMALL_PX, _ENLARGED = 200, 4  # images with a shorter side below this are enlarged so many times
_RETURN_PX = 0.7  # there and back again, a pixel must come this near to where it was
_TOGETHER_PX = (
    4.0  # σ of the Gaussian within which structure moves together: as wide as a window of `displacement`
)
_MOST_BLUR_PX = 4.0
_CORNER_SHARE = 0.1  # of the strongest corner of an image: weaker ones have no say


def optical_flow(synthetic: NDArray[Any], refined: NDArray[Any]) -> FloatArray:
    """(H, W, C) images in [-1, 1] → (H, W, 2) flow in pixels, (down, right): x̃(p + flow(p)) shows what x(p) shows."""
    return _flow(*_comparable(synthetic, refined))


def flow_drift_px(synthetic: NDArray[Any], refined: NDArray[Any]) -> FloatArray:
    """(n, H, W, C) both → (n,) √ (mean |f|² − mean |f₀|²) over the corners of each image, 0 where that is below 0; NaN
    for an image without any.

    Pixels count by how much of a corner they are (smaller eigenvalue of the structure tensor of x), where the flow back
    returns to them; f is the mean flow around a pixel, so weighted, within σ = 4 px: single pixels follow noise. A
    margin is left out: what moved over the border cannot be followed. f₀ is the flow that change reads as where nothing
    moved: what f leaves unexplained is laid half an image away from where it belongs, over x.
    """
    return np.array([_drift(a, b) for a, b in zip(synthetic, refined, strict=True)])


def _drift(synthetic: NDArray[Any], refined: NDArray[Any]) -> float:
    a, b = _comparable(synthetic, refined)
    corners = cv2.cornerMinEigenVal(_grey(synthetic), 7, ksize=3)
    there = _flow(a, b)
    found = _mean_square(there, _flow(b, a), corners)
    height, width = a.shape
    unexplained = b - _at_moved_places(a.astype(np.float64), -there)
    elsewhere = np.roll(unexplained, (height // 2, width // 2), axis=(0, 1))
    still = np.clip(a + elsewhere, 0, 255).astype(np.uint8)
    noise = _mean_square(_flow(a, still), _flow(still, a), corners)
    return float(np.sqrt(max(found - np.nan_to_num(noise), 0.0))) if np.isfinite(found) else np.nan


def _mean_square(there: FloatArray, back: FloatArray, corners: NDArray[Any]) -> float:
    """Mean |f|² over the corners; NaN where there are none."""
    height, width = there.shape[:2]
    margin = min(4, min(height, width) // 8)
    inner = (slice(margin, height - margin), slice(margin, width - margin))
    returned = there + _at_moved_places(back, there)
    consistent = (returned**2).sum(axis=2) < _RETURN_PX**2
    corner = np.where(consistent, corners, 0)[inner]
    corner = np.where(corner > _CORNER_SHARE * corner.max(), corner, 0).astype(np.float64)
    weight = float(corner.sum())
    if weight <= 0:
        return np.nan
    near = np.maximum(_around(corner), 1e-12 * corner.max())
    squares = sum((_around(corner * there[inner][:, :, axis]) / near) ** 2 for axis in (0, 1))
    return float((corner * squares).sum() / weight)


def _comparable(
    synthetic: NDArray[Any], refined: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Local contrast of both, equally sharp."""
    a, b = _equally_sharp(_grey(synthetic), _grey(refined))
    return _local_contrast(a), _local_contrast(b)


def _flow(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> FloatArray:
    height, width = a.shape
    factor = _ENLARGED if min(height, width) < _SMALL_PX else 1
    size = (width * factor, height * factor)
    first, second = (cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in (a, b))
    start = np.zeros((*first.shape, 2), np.float32)
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(1 if factor > 1 else 0)
    flow = cv2.resize(estimator.calc(first, second, start), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(flow[:, :, ::-1], np.float64) / factor


def _around(values: FloatArray) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _TOGETHER_PX), np.float64)


def _equally_sharp(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both, the sharper one blurred: a slope that is only softer on one side is no movement."""
    sharp_a, sharp_b = _sharpness(a), _sharpness(b)
    if sharp_a < sharp_b:
        second, first = _equally_sharp(b, a)
        return first, second
    low, high = 0.0, _MOST_BLUR_PX
    for _ in range(6):
        middle = (low + high) / 2
        if _sharpness(_blurred(a, middle)) > sharp_b:
            low = middle
        else:
            high = middle
    return (_blurred(a, low) if low > 0 else a), b


def _sharpness(grey: NDArray[np.float32]) -> float:
    """Curvature as a share of local contrast."""
    slow = cv2.GaussianBlur(grey, (0, 0), _NEIGHBOURHOOD_PX)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / max(float((grey - slow).std()), _FAINT))


def _blurred(grey: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), np.float32)


def _at_moved_places(values: FloatArray, flow: FloatArray) -> FloatArray:
    """values(p + flow(p)), linear between pixels."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    places = (x + flow[:, :, 1]).astype(np.float32), (y + flow[:, :, 0]).astype(np.float32)
    moved = cv2.remap(values.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float64)


def move_mask(mask: NDArray[np.integer], flow: FloatArray) -> NDArray[Any]:
    """Where the classes of a mask (H, W) lie after the flow (H, W, 2): a pixel takes the class of where it came from.

    The flow is inverted to first order: what is at p came from about p − flow(p).
    """
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    places = (x - flow[:, :, 1]).astype(np.float32), (y - flow[:, :, 0]).astype(np.float32)
    moved = cv2.remap(mask.astype(np.float32), *places, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved).astype(mask.dtype)


def _grey(image: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image.mean(axis=2).astype(np.float32), (0, 0), _BLUR_PX), np.float32)


def _local_contrast(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """As 8 bit, which is what DIS reads: ±2.5 deviations fill it."""
    mean = cv2.GaussianBlur(grey, (0, 0), _NEIGHBOURHOOD_PX)
    deviation = np.sqrt(cv2.GaussianBlur((grey - mean) ** 2, (0, 0), _NEIGHBOURHOOD_PX))
    return np.asarray(np.clip(127.5 + 51 * (grey - mean) / (deviation + _FAINT), 0, 255), np.uint8)
