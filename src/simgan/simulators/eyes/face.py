"""Lids and face: one height field z(x, y) over the head's frame, with an opening between two curves.

    z = base + (top − base) · s(1 − ρ²/a²) + cornea + brow + nose + cheek − temple,   s(t) = (t + √(t² + k²))/2

ρ is the distance from the eyeball's axis in the head's frame. The lids are a dome a little larger than the
eyeball, which the cornea lifts where it moves under them. The opening is the interior margin of both lids, from
the caruncle to the outer corner: between

    y = y₀ + tilt·t ± height · ((1 − m)·√q + m·q),   q = 4u(1 − u),   u = t + peak·t(1 − t),   t = (x − x₀)/width
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.shapes import bump
from simgan.simulators.eyes.vectors import Vector

LID_TOP = 13.0  # mm before the eyeball's centre: the eyeball and about a millimetre of lid
LID_BASE = 3.5
LID_SPREAD = 13.4  # where the dome meets the face
LID_SOFTNESS = 0.3
CORNEA_LIFT = 0.8
_UPPER_FOLLOWS = 0.13  # mm for each degree that the eye looks up or down
_LOWER_FOLLOWS = -0.09


def opening_heights(p: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the upper margin reaches above the line between the corners, and the lower one below it, in mm.

    The upper lid follows the gaze, the lower one a little; squinting lowers and lifts them.
    """
    upper = (p["upper_lid_mm"] + _UPPER_FOLLOWS * p["eye_pitch_deg"]) * p["squint"]
    lower = (p["lower_lid_mm"] + _LOWER_FOLLOWS * p["eye_pitch_deg"]) * p["squint"]
    return upper.clamp(min=0.6), lower.clamp(min=0.6)


@dataclass(frozen=True)
class Margins:
    """The two lid margins above and below given x: their y, and how far x is from the inner to the outer corner."""

    t: torch.Tensor  # 0 at the inner corner, 1 at the outer
    line: torch.Tensor  # y of the line between the corners
    upper: torch.Tensor
    lower: torch.Tensor


def margins(p: Parameters, x: torch.Tensor) -> Margins:
    """The lid margins at these x of the head's frame; beyond the corners both lie on the line between them."""
    t = (x - p["canthus_x_mm"]) / p["opening_width_mm"]
    line = p["canthus_y_mm"] + p["canthal_tilt_mm"] * t
    clamped = t.clamp(0, 1)
    bow = clamped * (1 - clamped)
    return Margins(
        t,
        line,
        line + p["upper_height_mm"] * _arch(clamped, bow, p["upper_peak"], p["upper_roundness"]),
        line - p["lower_height_mm"] * _arch(clamped, bow, p["lower_peak"], p["lower_roundness"]),
    )


def _arch(t: torch.Tensor, bow: torch.Tensor, peak: torch.Tensor, roundness: torch.Tensor) -> torch.Tensor:
    u = t + peak * bow
    q = (4 * u * (1 - u)).clamp(min=0)
    return q.sqrt() * (1 - roundness) + q * roundness


def inside_opening(p: Parameters, edge: Margins, y: torch.Tensor) -> torch.Tensor:
    """How far (x, y) lies inside the opening, mm along x or y; negative outside."""
    width = p["opening_width_mm"]
    between = torch.minimum(edge.t * width, (1 - edge.t) * width)
    return torch.minimum(torch.minimum(edge.upper - y, y - edge.lower), between)


def height(p: Parameters, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """z of lids and face at (x, y), mm."""
    fall = 1 - (x * x + y * y) * (1 / LID_SPREAD**2)
    dome = (fall + (fall * fall + LID_SOFTNESS**2).sqrt()) * (0.5 * (LID_TOP - LID_BASE))
    dx, dy = (x - p["cornea_x"]) * (1 / 7.0), (y - p["cornea_y"]) * (1 / 7.0)
    cornea = (1 - dx * dx - dy * dy).clamp(min=0).square() * CORNEA_LIFT
    brow = bump((y - p["brow_y_mm"]) * (1 / 13.0)) * p["brow_mm"]
    nose = (-13 - x).clamp(min=0).square() * p["nose_slope"]
    temple = (x - 9).clamp(min=0).square() * p["temple_slope"]
    cheek = (-9 - y).clamp(min=0).square() * p["cheek_slope"]
    return dome + cornea + brow + nose + cheek - temple + LID_BASE


def meet_face(p: Parameters, origin: Vector, ray: Vector) -> Vector:
    """Where rays of the head's frame meet lids and face.

    z = z(x(z), y(z)), x and y along the ray, by two secant steps from z = 9.
    """
    across_x, across_y = ray[0] / ray[2], ray[1] / ray[2]
    start_x, start_y = origin[0] - origin[2] * across_x, origin[1] - origin[2] * across_y

    def surface(z: torch.Tensor) -> torch.Tensor:
        return height(p, start_x + across_x * z, start_y + across_y * z)

    before = torch.full_like(start_x, 9.0)
    surface_before = surface(before)
    z = surface_before
    for _ in range(2):
        reached = surface(z)
        slope = ((reached - surface_before) / _away_from_zero(z - before)).clamp(-3.0, 0.7)
        before, surface_before, z = z, reached, z + (reached - z) / (1 - slope)
    return (start_x + across_x * z, start_y + across_y * z, z)


def _away_from_zero(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() < 1e-4, torch.full_like(x, 1e-4), x)
