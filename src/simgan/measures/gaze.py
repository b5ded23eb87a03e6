"""Errors of gaze in degrees: their whole distribution, since one share of it is easily quoted at the wrong angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHARES_DEG = (7.0, 13.0)
"""The paper's Table 2 says "within 7°"; its numbers are those of its Figure 7 at 13°. Both are always given."""

FloatArray = NDArray[np.float64]


def angular_errors(predicted: NDArray[np.floating], gaze: NDArray[np.floating]) -> FloatArray:
    """(n,) angles in degrees, 0 to 180, between two (n, 3) sets of vectors of any length above 0.

    atan2(‖a × b‖, a · b): exact also for tiny angles, where the arc cosine is not.
    """
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(gaze, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise ValueError(f"two sets (n, 3) of vectors are wanted, got {a.shape} and {b.shape}")
    if not (np.linalg.norm(a, axis=1) > 0).all() or not (np.linalg.norm(b, axis=1) > 0).all():
        raise ValueError("a vector of length 0 (or NaN) has no direction")
    across = np.linalg.norm(np.cross(a, b), axis=1)
    return np.asarray(np.degrees(np.arctan2(across, (a * b).sum(axis=1))))


@dataclass(frozen=True)
class AngularErrors:
    """What is said of n angular errors, in degrees; `within` holds the share of them at 7° and at 13°."""

    n: int
    mean_deg: float
    median_deg: float
    within: dict[float, float]


def summarize_angles(errors_deg: FloatArray) -> AngularErrors:
    """Mean, median and the shares at 7° and 13° of (n,) errors, n at least 1."""
    errors = np.asarray(errors_deg, dtype=np.float64)
    within = {angle: float((errors <= angle).mean()) for angle in SHARES_DEG}
    return AngularErrors(len(errors), float(errors.mean()), float(np.median(errors)), within)


def cumulative_curve(errors_deg: FloatArray, angles_deg: FloatArray) -> FloatArray:
    """The share of the errors that is at most each angle: the paper's Figure 7."""
    ordered = np.sort(np.asarray(errors_deg, dtype=np.float64))
    return np.searchsorted(ordered, angles_deg, side="right") / len(ordered)
