"""How bright the eyeball is: sclera with veins, limbus, iris, pupil, and what the tear film mirrors."""

from __future__ import annotations

import torch

from simgan.simulators.eyes.eyeball import EyeHit
from simgan.simulators.eyes.light import Lights, diffuse, mirrored
from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.shapes import bump, mixed, ramp
from simgan.simulators.eyes.textures import look_up
from simgan.simulators.eyes.vectors import Vector

SCLERA, IRIS, PUPIL = 1, 2, 3  # classes of the mask; 0 is skin and everything else


def shade_eye(
    p: Parameters, at: Lights, hit: EyeHit, ray: Vector, *, lid_shadow: torch.Tensor
) -> torch.Tensor:
    """Radiance of the eye at these hits. `lid_shadow` is the share of light that lids and lashes leave."""
    iris_radius = (hit.iris_x * hit.iris_x + hit.iris_y * hit.iris_y).sqrt()
    soft = 0.25 / p["px_per_mm"]
    pupil_share = 1 - ramp(iris_radius, p["pupil_radius_mm"] - soft, p["pupil_radius_mm"] + soft)
    light = diffuse(p, at, hit.normal, 0.25) * lid_shadow
    sclera = (
        _sclera(p, hit) * light * (1 - 0.25 * (~hit.seen))
    )  # flesh where a ray passes the eyeball in a corner
    iris = _iris(p, hit, iris_radius) * _light_through_cornea(p, at, hit) * lid_shadow
    pupil = p["bright_pupil"] * p["bright_pupil_albedo"] * (p["key"] + p["ambient"]) + 0.004
    inner = mixed(iris, pupil, pupil_share)
    # The limbus is no line: the sclera is clearer and darker toward it.
    begins, ends = p["iris_radius_mm"] - 0.6 * p["limbus_mm"], p["iris_radius_mm"] + 0.4 * p["limbus_mm"]
    ball = mixed(inner, sclera, ramp(hit.off_axis, begins, ends))
    return ball + mirrored(p, at, hit.normal, ray) * lid_shadow * hit.seen


def _sclera(p: Parameters, hit: EyeHit) -> torch.Tensor:
    """White, with more vessels away from the iris, and greyer there."""
    scale = 1 / 24.0
    vein = look_up("vein", p["vein_texture"], hit.point[0] * scale, hit.point[1] * scale)
    periphery = ramp(hit.off_axis, 6.0, 13.0)
    return (
        p["sclera_albedo"]
        * (1 - p["vein_strength"] * vein * (0.35 + 0.65 * periphery))
        * (1 - 0.25 * periphery)
    )


def _iris(p: Parameters, hit: EyeHit, radius: torch.Tensor) -> torch.Tensor:
    """Fibres run from the pupil's edge to the iris's root and are pressed together where the pupil is wide."""
    outward = (radius - p["pupil_radius_mm"]) / (p["iris_radius_mm"] - p["pupil_radius_mm"])
    disc = 0.3 + 0.68 * outward.clamp(0, 1)
    scale = 0.5 * disc / radius.clamp(min=1e-3)
    x = (hit.iris_x * p["iris_cos"] - hit.iris_y * p["iris_sin"]) * scale + 0.5
    y = (hit.iris_x * p["iris_sin"] + hit.iris_y * p["iris_cos"]) * scale + 0.5
    fibres = look_up("iris", p["iris_texture"], x, y)
    ring = 1 - p["limbus_darkness"] * ramp(outward, 0.7, 1.0)
    ruff = 1 - 0.4 * bump(outward * 8.0)  # the dark edge of the pupil
    return p["iris_albedo"] * (1 + p["iris_contrast"] * 0.5 * fibres).clamp(min=0.1) * ring * ruff


def _light_through_cornea(p: Parameters, at: Lights, hit: EyeHit) -> torch.Tensor:
    """The cornea gathers light on the side of the iris that is away from the key light."""
    flat = (at.key[2] + 0.3).clamp(min=0.05) / 1.3
    away = -(hit.iris_x * at.key[0] + hit.iris_y * at.key[1]) / p["iris_radius_mm"]
    return p["ambient"] + p["key"] * flat * (1 + 0.6 * away).clamp(min=0.1)
