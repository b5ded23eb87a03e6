"""Exact labels: where pupil, iris and lid margins are seen, computed in float64 from the scene, not from pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from simgan.simulators.eyes.eyeball import meet_cornea, meet_iris
from simgan.simulators.eyes.face import height, inside_opening, margins, meet_face
from simgan.simulators.eyes.scene import Scene
from simgan.simulators.eyes.vectors import Vector, turn

MARGIN_POINTS = 16
CARUNCLE_POINTS = 7
IRIS_POINTS = 32
_RIM_POINTS = 64
_ROUNDS = 12
_SHARE_POINTS = 100


@dataclass(frozen=True, eq=False)
class Ellipses:
    """n ellipses: `centre_px` (n, 2) as u, v at pixel centres; half axes; the major axis's angle from +u toward −v
    (counter-clockwise as one looks at the image), in [−90°, 90°)."""

    centre_px: torch.Tensor
    major_px: torch.Tensor
    minor_px: torch.Tensor
    angle_deg: torch.Tensor


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What is seen where, float64. Points are (n, k, 3): u, v at pixel centres, and the depth from the camera in mm.

    `look` (n, 3) is the eye's optical axis: x right, y up, z into the scene (negative: toward the camera).
    `pupil` is what is seen through the cornea, wider than the hole in the iris and nearer; `iris` is the limbus.
    """

    look: torch.Tensor
    pupil: Ellipses
    iris: Ellipses
    interior_margin: torch.Tensor  # from the inner corner over the upper lid to the outer and back below
    caruncle: torch.Tensor
    iris_rim: torch.Tensor  # from the nasal side over the top


def find_landmarks(scene: Scene) -> Landmarks:
    """The landmarks of a scene whose numbers have the shape (n,)."""
    wide = scene.shaped(2, scene.p["key"].device, torch.float64)
    axis = scene.eye[0][2], scene.eye[1][2], scene.eye[2][2]
    limbus = _iris_circle(wide, IRIS_POINTS)
    rim = _iris_circle(wide, _RIM_POINTS)
    return Landmarks(
        look=torch.stack([axis[0], axis[1], -axis[2]], -1),
        pupil=_ellipses(*_pupil_rim(wide)),
        iris=_ellipses(*wide.project(rim)),
        interior_margin=_points(wide, _margin_points(wide)),
        caruncle=_points(wide, _caruncle_points(wide)),
        iris_rim=_points(wide, limbus),
    )


def visible_share(scene: Scene, ellipses: Ellipses) -> torch.Tensor:
    """The share (n) of each ellipse that the lids leave free, by rays through points spread evenly over it.

    The points are those of Vogel's sunflower: radius √((k + ½)/K), angle k times the golden angle.
    """
    wide = scene.shaped(2, scene.p["key"].device, torch.float64)
    k = torch.arange(_SHARE_POINTS, dtype=torch.float64)[None]
    radius, turn_by = ((k + 0.5) / _SHARE_POINTS).sqrt(), k * (math.pi * (3 - 5**0.5))
    tilt = torch.deg2rad(ellipses.angle_deg)[:, None]
    along, across = (
        ellipses.major_px[:, None] * radius * turn_by.cos(),
        ellipses.minor_px[:, None] * radius * turn_by.sin(),
    )
    u = ellipses.centre_px[:, :1] + along * tilt.cos() - across * tilt.sin()
    v = ellipses.centre_px[:, 1:] - along * tilt.sin() - across * tilt.cos()
    origin, ray = wide.rays(u, v)
    x, y, _ = meet_face(wide.p, wide.in_head(origin), wide.in_head(ray))
    return (inside_opening(wide.p, margins(wide.p, x), y) > 0).to(torch.float64).mean(1)


def _points(scene: Scene, at: Vector) -> torch.Tensor:
    u, v = scene.project(at)
    return torch.stack([u, v, scene.p["distance_mm"] - at[2]], -1)


def _angles(scene: Scene, count: int) -> torch.Tensor:
    """From the left over the top: (1, count)."""
    return math.pi - torch.arange(count, dtype=torch.float64)[None] * (2 * math.pi / count)


def _iris_circle(scene: Scene, count: int) -> Vector:
    angle = _angles(scene, count)
    radius = scene.p["iris_radius_mm"]
    z = scene.p["limbus_z"] + torch.zeros_like(angle)
    return turn(scene.eye, (radius * angle.cos(), radius * angle.sin(), z))


def _pupil_rim(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels whose bent rays meet the pupil's rim.

    There is no closed form: (u, v) is moved by how far the bent ray of (u, v) misses the rim, both points seen
    without the cornea. The cornea magnifies by 1.1 to 1.3, so each round leaves less than a third of the fault.
    """
    p = scene.p
    angle = _angles(scene, _RIM_POINTS)
    x, y = p["pupil_radius_mm"] * angle.cos(), p["pupil_radius_mm"] * angle.sin()

    def without_cornea(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return scene.project(turn(scene.eye, (x + p["pupil_x"], y, p["iris_z"] + torch.zeros_like(y))))

    wanted_u, wanted_v = u, v = without_cornea(x, y)
    for _ in range(_ROUNDS):
        origin, ray = scene.rays(u, v)
        origin, ray = scene.in_eye(origin), scene.in_eye(ray)
        reached_u, reached_v = without_cornea(*meet_iris(p, meet_cornea(p, origin, ray), ray))
        u, v = u + (wanted_u - reached_u), v + (wanted_v - reached_v)
    return u, v


def _ellipses(u: torch.Tensor, v: torch.Tensor) -> Ellipses:
    """Of polygons (n, k) whose corners lie on ellipses: centroid, and the axes of their second moments.

    A regular k-gon about a unit circle has ∬x²/A = (2 + cos(2π/k))/12, and moments follow every affine map.
    """
    centre_u, centre_v = u.mean(1, keepdim=True), v.mean(1, keepdim=True)
    a, b = u - centre_u, -(v - centre_v)
    next_a, next_b = a.roll(-1, 1), b.roll(-1, 1)
    cross = a * next_b - next_a * b
    area = cross.sum(1) / 2
    mean_a = ((a + next_a) * cross).sum(1) / (6 * area)
    mean_b = ((b + next_b) * cross).sum(1) / (6 * area)
    aa = ((a * a + a * next_a + next_a * next_a) * cross).sum(1) / (12 * area) - mean_a.square()
    bb = ((b * b + b * next_b + next_b * next_b) * cross).sum(1) / (12 * area) - mean_b.square()
    ab = ((2 * a * b + a * next_b + next_a * b + 2 * next_a * next_b) * cross).sum(1) / (24 * area)
    ab = ab - mean_a * mean_b
    middle, half = (aa + bb) / 2, torch.hypot((aa - bb) / 2, ab)
    unit = (2 + math.cos(2 * math.pi / u.shape[1])) / 12
    angle = torch.rad2deg(torch.atan2(2 * ab, aa - bb) / 2)
    return Ellipses(
        centre_px=torch.stack([centre_u[:, 0] + mean_a, centre_v[:, 0] - mean_b], -1),
        major_px=((middle + half) / unit).sqrt(),
        minor_px=((middle - half).clamp(min=0) / unit).sqrt(),
        angle_deg=torch.where(angle >= 90, angle - 180, angle),
    )


def _margin_points(scene: Scene) -> Vector:
    step = torch.arange(MARGIN_POINTS, dtype=torch.float64)[None] / (MARGIN_POINTS // 2)
    t = torch.where(step <= 1, step, 2 - step)
    x = scene.p["canthus_x_mm"] + t * scene.p["opening_width_mm"]
    edge = margins(scene.p, x)
    y = torch.where(step <= 1, edge.upper, edge.lower)
    return turn(scene.head, (x, y, height(scene.p, x, y)))


def _caruncle_points(scene: Scene) -> Vector:
    p = scene.p
    angle = torch.arange(CARUNCLE_POINTS, dtype=torch.float64)[None] * (2 * math.pi / CARUNCLE_POINTS)
    x = p["canthus_x_mm"] + p["caruncle_mm"] * (-0.5 + 0.5 * angle.cos())
    y = margins(p, x).line + 1.2 * angle.sin()
    return turn(scene.head, (x, y, height(p, x, y)))
