"""From parameters to a scene: what follows from them once for each image, and the camera.

Camera: pixel (u, v), u to the right and v down, counted at pixel centres; the eyeball's centre is the origin, the
camera at (0, 0, distance), so a point (x, y, z) of the camera's axes (x right, y up, z toward the camera) is seen at

    u = u₀ + f·x/(distance − z),   v = v₀ − f·y/(distance − z).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from simgan.simulators.eyes.face import height, opening_heights
from simgan.simulators.eyes.light import directions
from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.vectors import (
    Matrix,
    Vector,
    direction,
    normalized,
    pitch_up,
    product,
    roll_left,
    turn,
    turn_back,
    yaw_right,
)

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Scene:
    """Everything about n eyes that does not depend on the pixel. `p` holds the parameters and what follows from
    them; rotations are head to camera and eye to camera."""

    p: Parameters
    head: Matrix
    eye: Matrix

    def shaped(self, dimensions: int, device: torch.device, dtype: torch.dtype) -> Scene:
        """The same with every number as (n, 1, …) of so many dimensions, on that device."""

        def view(x: torch.Tensor) -> torch.Tensor:
            kind = dtype if x.is_floating_point() else x.dtype
            return x.to(device, kind).reshape(-1, *(1,) * (dimensions - 1))

        return self._each(view)

    def part(self, images: slice) -> Scene:
        """The scene of some of the images."""
        return self._each(lambda x: x[images])

    def flattened(self) -> Scene:
        """The same with numbers as (n, 1) instead of (n, 1, 1)."""
        return self._each(lambda x: x.flatten(1))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Scene:
        def matrix(m: Matrix) -> Matrix:
            rows = [(change(a), change(b), change(c)) for a, b, c in m]
            return (rows[0], rows[1], rows[2])

        return Scene({name: change(x) for name, x in self.p.items()}, matrix(self.head), matrix(self.eye))

    def project(self, point: Vector) -> tuple[torch.Tensor, torch.Tensor]:
        """(u, v) of points of the camera's axes."""
        scale = self.p["focal_px"] / (self.p["distance_mm"] - point[2])
        return self.p["centre_u"] + scale * point[0], self.p["centre_v"] - scale * point[1]

    def rays(self, u: torch.Tensor, v: torch.Tensor) -> tuple[Vector, Vector]:
        """Origin and unit direction of the rays through pixels (u, v), in the camera's axes."""
        x, y = (u - self.p["centre_u"]) / self.p["focal_px"], (self.p["centre_v"] - v) / self.p["focal_px"]
        zero = torch.zeros_like(self.p["distance_mm"])
        return (zero, zero, self.p["distance_mm"]), normalized((x, y, -torch.ones_like(x)))

    def in_head(self, vector: Vector) -> Vector:
        """A vector of the camera's axes in those of the head."""
        return turn_back(self.head, vector)

    def in_eye(self, vector: Vector) -> Vector:
        """A vector of the camera's axes in those of the eye."""
        return turn_back(self.eye, vector)


def build_scene(drawn: Parameters, size: Size) -> Scene:
    """The scene of drawn parameters, float64 (n), for images of that size."""
    p = dict(drawn)
    head = product(
        roll_left(p["head_roll_deg"]), product(pitch_up(p["head_pitch_deg"]), yaw_right(p["head_yaw_deg"]))
    )
    # In the head the eye turns to the side, then up: its axis is direction(eye_yaw, eye_pitch).
    eye = product(head, product(yaw_right(p["eye_yaw_deg"]), pitch_up(p["eye_pitch_deg"])))

    p["limbus_z"] = (p["eyeball_radius_mm"].square() - p["iris_radius_mm"].square()).sqrt()
    p["cornea_z"] = p["limbus_z"] - (p["cornea_radius_mm"].square() - p["iris_radius_mm"].square()).sqrt()
    p["iris_z"] = p["cornea_z"] + p["cornea_radius_mm"] - p["chamber_mm"]
    p["iris_cos"], p["iris_sin"] = p["iris_turn_deg"].deg2rad().cos(), p["iris_turn_deg"].deg2rad().sin()
    p["pupil_x"] = -p["pupil_nasal_mm"]
    p["upper_height_mm"], p["lower_height_mm"] = opening_heights(p)
    p["lash_hang_mm"] = (2.0 - 0.1 * p["eye_pitch_deg"]).clamp(0.3, 4.0)
    axis = direction(p["eye_yaw_deg"], p["eye_pitch_deg"])
    p["cornea_x"], p["cornea_y"] = axis[0] * 12, axis[1] * 12

    for frame, axes in (("head", head), ("eye", eye)):
        for name, toward in vars(directions(p)).items():
            for letter, value in zip("xyz", turn_back(axes, toward), strict=True):
                p[f"{frame}_{name}_{letter}"] = value

    # The middle between the corners is put near the middle of the image.
    rows, columns = size
    unit = min(columns, rows * 55 / 35)
    p["px_per_mm"] = unit * p["width_share"] / p["opening_width_mm"]
    p["focal_px"] = p["px_per_mm"] * (p["distance_mm"] - 11)
    x = p["canthus_x_mm"] + 0.5 * p["opening_width_mm"]
    y = p["canthus_y_mm"] + 0.5 * p["canthal_tilt_mm"] + 0.3 * (p["upper_height_mm"] - p["lower_height_mm"])
    p["centre_u"] = p["centre_v"] = torch.zeros_like(x)
    u, v = Scene(p, head, eye).project(turn(head, (x, y, height(p, x, y))))
    p["centre_u"] = (columns - 1) / 2 + p["shift_x"] * unit - u
    p["centre_v"] = (rows - 1) / 2 + p["shift_y"] * unit - v
    return Scene(p, head, eye)
