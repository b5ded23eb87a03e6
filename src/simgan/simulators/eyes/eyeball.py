"""The eyeball: a sphere with a smaller sphere, the cornea, set into it, and behind that a flat iris with a hole.

In the eye's own frame the origin is the eyeball's centre and +z the optical axis. With limbus radius r, eyeball
radius R and corneal radius C, the limbus lies at z = √(R² − r²) and the cornea's centre at z = √(R² − r²) − √(C² − r²).
A ray that meets the cornea before the limbus plane is bent once, by Snell's law from air into the aqueous humour
(the cornea's back surface, which bends it by less than a tenth of that, is left out), and goes on to the iris.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.vectors import Vector, along, dot

AQUEOUS_INDEX = 1.336


@dataclass(frozen=True)
class EyeHit:
    """Where rays meet the eye, in the eye's frame."""

    seen: torch.Tensor  # the ray meets the eyeball at all
    through: torch.Tensor  # it enters through the cornea
    point: Vector  # on the sclera or the cornea
    normal: Vector
    off_axis: torch.Tensor  # distance of `point` from the axis, mm
    iris_x: torch.Tensor  # where the bent ray meets the iris plane, from the pupil's centre, mm
    iris_y: torch.Tensor


def meet_eye(p: Parameters, origin: Vector, ray: Vector) -> EyeHit:
    """Where unit rays meet the eye. Coordinates are meaningless where `seen` (`through`) is false."""
    seen, t_ball = _meet_sphere(origin, ray, p["eyeball_radius_mm"])
    from_cornea: Vector = (origin[0], origin[1], origin[2] - p["cornea_z"])
    hit, t_cornea = _meet_sphere(from_cornea, ray, p["cornea_radius_mm"])
    cornea_z = origin[2] + t_cornea * ray[2]
    through = hit & (cornea_z > p["limbus_z"]) & ((t_cornea < t_ball) | ~seen)
    t = torch.where(through, t_cornea, t_ball)
    point = along(origin, t, ray)
    centre_z = torch.where(through, p["cornea_z"], torch.zeros_like(p["cornea_z"]))
    curvature = 1 / torch.where(through, p["cornea_radius_mm"], p["eyeball_radius_mm"])
    normal = (point[0] * curvature, point[1] * curvature, (point[2] - centre_z) * curvature)
    off_axis = (point[0] * point[0] + point[1] * point[1]).sqrt()
    iris_x, iris_y = meet_iris(p, along(origin, t_cornea, ray), ray)
    return EyeHit(seen | through, through, point, normal, off_axis, iris_x, iris_y)


def meet_iris(p: Parameters, point: Vector, ray: Vector) -> tuple[torch.Tensor, torch.Tensor]:
    """Where unit rays that enter the cornea at `point` meet the iris plane, from the pupil's centre, mm.

    Snell, with η = 1/n, c = −n̂·d:   d′ = η d + (η c − √(1 − η²(1 − c²))) n̂
    """
    bend = 1 / p["cornea_radius_mm"]
    normal: Vector = (point[0] * bend, point[1] * bend, (point[2] - p["cornea_z"]) * bend)
    eta = 1 / AQUEOUS_INDEX
    cosine = -dot(normal, ray)
    push = eta * cosine - (1 - eta**2 * (1 - cosine * cosine)).clamp(min=0).sqrt()
    bent: Vector = (
        eta * ray[0] + push * normal[0],
        eta * ray[1] + push * normal[1],
        eta * ray[2] + push * normal[2],
    )
    t = (p["iris_z"] - point[2]) / bent[2].clamp(max=-1e-3)
    return point[0] + t * bent[0] - p["pupil_x"], point[1] + t * bent[1]


def meet_cornea(p: Parameters, origin: Vector, ray: Vector) -> Vector:
    """Where rays meet the whole corneal sphere, also beyond the limbus; rays that miss it pass at its rim."""
    from_centre: Vector = (origin[0], origin[1], origin[2] - p["cornea_z"])
    _, t = _meet_sphere(from_centre, ray, p["cornea_radius_mm"])
    return along(origin, t, ray)


def _meet_sphere(origin: Vector, ray: Vector, radius: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether unit rays meet a sphere about 0, and how far away (where they miss it: the nearest place)."""
    middle = dot(origin, ray)
    # ‖origin − middle·ray‖² rather than ‖origin‖² − middle²: a camera far away would cost most digits
    aside = along(origin, -middle, ray)
    inside = radius * radius - dot(aside, aside)
    return inside > 0, -middle - inside.clamp(min=0).sqrt()
