"""Gaze directions: one space for every reader, so that models and tables can mix their sources.

A gaze direction is a unit vector in the camera's space: x to the right of the image, y down, z away from the camera;
an eye that looks into the camera has (0, 0, -1). Angles are those of MPIIGaze: pitch θ is positive upwards, yaw φ is
positive to the left of the image,

    g = (−cos θ sin φ, −sin θ, −cos θ cos φ),    θ = asin(−g_y),    φ = atan2(−g_x, −g_z)
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

GAZE_COLUMNS = ("gaze_x", "gaze_y", "gaze_z")

FloatArray = NDArray[np.float64]

_SIDEWAYS = re.compile(r"(.*_)?(gaze_x|look_x|yaw_deg|roll_deg|x_widths)|(pupil|iris)_angle_deg")


def changes_sign_mirrored(column: str) -> bool:
    """Whether a label column points sideways, so that mirroring the image left to right changes its sign: `gaze_x`,
    `look_x`, `…_yaw_deg`, `…_roll_deg`, `…_x_widths`, and the angle of the ellipse of pupil or iris."""
    return _SIDEWAYS.fullmatch(column) is not None


def vectors_of_angles(pitch: ArrayLike, yaw: ArrayLike) -> FloatArray:
    """(…, 3) unit gaze vectors of angles in radians; see the module."""
    theta, phi = np.asarray(pitch, dtype=np.float64), np.asarray(yaw, dtype=np.float64)
    parts = (-np.cos(theta) * np.sin(phi), -np.sin(theta), -np.cos(theta) * np.cos(phi))
    return np.asarray(np.stack(np.broadcast_arrays(*parts), axis=-1))


def angles_of_vectors(gaze: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Pitch and yaw in radians of (…, 3) gaze vectors of any length; see the module."""
    vectors = unit_vectors(gaze)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.arcsin(np.clip(-y, -1.0, 1.0)), np.arctan2(-x, -z)


def unit_vectors(gaze: ArrayLike) -> FloatArray:
    """(…, 3) vectors scaled to length 1; a vector of length 0 stays as it is."""
    vectors = np.asarray(gaze, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def mirrored(gaze: ArrayLike) -> FloatArray:
    """The gaze in the image flipped left to right: x changes its sign, which is what turns a right eye into a left."""
    return np.asarray(np.asarray(gaze, dtype=np.float64) * (-1.0, 1.0, 1.0))


def gaze_faults(gaze: FloatArray) -> list[str]:
    """What is wrong with one vector that a file calls a gaze: not of length 1, or looking away from the camera."""
    length = float(np.linalg.norm(gaze))
    if not np.isfinite(length) or abs(length - 1) > 0.02:
        return [f"the gaze vector {tuple(round(float(v), 4) for v in gaze)} has length {length:.3g}, not 1"]
    if gaze[2] >= 0:
        return [
            f"the gaze vector {tuple(round(float(v), 4) for v in gaze)} looks away from the camera "
            "(z must be negative): are its axes mixed up?"
        ]
    return []
