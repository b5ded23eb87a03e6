"""How bright lids and face are: skin, crease, folds, lashes, waterline, caruncle, eyebrow."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from simgan.simulators.eyes.face import Margins, height
from simgan.simulators.eyes.light import Lights, diffuse
from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.shapes import bump, mixed, ramp
from simgan.simulators.eyes.textures import look_up
from simgan.simulators.eyes.vectors import Vector, dot, normalized

_STEP = 0.4  # mm, for the slope of the surface
LASH_ALBEDO = 0.02


@dataclass(frozen=True)
class Lashes:
    """The share of light that lashes let through, over the skin and over the eye."""

    over_skin: torch.Tensor
    over_eye: torch.Tensor


def shade_skin(p: Parameters, at: Lights, point: Vector, edge: Margins, ray: Vector) -> torch.Tensor:
    """Radiance of lids and face at these points of the head's frame."""
    x, y, z = point
    slope_x = (height(p, x + _STEP, y) - z) * (1 / _STEP)
    slope_y = (height(p, x, y + _STEP) - z) * (1 / _STEP)
    normal = normalized((-slope_x, -slope_y, torch.ones_like(z)))
    above, below = y - edge.upper, edge.lower - y

    grain = look_up("skin", p["skin_texture"], x * (1 / 40.0), y * (1 / 40.0))
    albedo = p["skin_albedo"] * (1 + p["skin_contrast"] * grain).clamp(min=0.2)
    hair = look_up("vein", p["skin_texture"], x * (1 / 9.0) + y * (1 / 14.0), y * (1 / 30.0))
    brow = bump((y - p["brow_y_mm"] - 2 + 0.01 * x * x) * (1 / 4.5)) * (0.55 + 0.9 * hair).clamp(max=1)
    albedo = albedo * (1 - p["eyebrow_darkness"] * brow)
    # Flesh of the caruncle, beyond the inner corner, and the wet edge of the lower lid.
    inward = -edge.t * p["opening_width_mm"]
    caruncle = bump((inward - 0.3 * p["caruncle_mm"]) / (0.8 * p["caruncle_mm"])) * bump(
        (y - edge.line) * (1 / 1.6)
    )
    between = ramp(edge.t, -0.03, 0.06) * (1 - ramp(edge.t, 0.94, 1.03))
    waterline = bump((below - 0.4 * p["waterline_mm"]) / p["waterline_mm"]) * between
    albedo = mixed(albedo, torch.full_like(albedo, 0.4), (0.8 * caruncle + 0.55 * waterline).clamp(max=1))

    shadow = _folds(p, edge, above, below) * _socket(p, x, y, above)
    gloss = p["skin_gloss"] * p["key"] * _half_way(at.key, normal, ray)
    wet = 0.12 * (p["key"] + p["ambient"]) * waterline * ramp(normal[1], -0.2, 0.9)
    return albedo * diffuse(p, at, normal, 0.35) * shadow + gloss * shadow + wet


def _half_way(to_light: Vector, normal: Vector, ray: Vector) -> torch.Tensor:
    """A broad highlight around the direction half way between light and camera."""
    half = normalized((to_light[0] - ray[0], to_light[1] - ray[1], to_light[2] - ray[2]))
    return dot(half, normal).clamp(min=0).square().square().square().square()


def _folds(p: Parameters, edge: Margins, above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """The crease of the upper lid, which opens as the eye looks down, and the fold under the lower lid."""
    across = 4 * edge.t * (1 - edge.t)
    fade = ramp(across, -1.1, 0.5)
    crease_at = (p["crease_mm"] - 0.08 * p["eye_pitch_deg"].clamp(max=5)) * (
        0.45 + 0.55 * across.clamp(min=0)
    )
    open_lid = 1 - 0.5 * ramp(-p["eye_pitch_deg"], 0.0, 25.0)
    crease = p["crease_depth"] * open_lid * bump((above - crease_at) / p["crease_width_mm"]) * fade
    bag = p["bag_depth"] * bump((below - p["bag_mm"] * (0.6 + 0.4 * across.clamp(min=0))) * (1 / 2.2)) * fade
    return (1 - crease) * (1 - bag)


def _socket(p: Parameters, x: torch.Tensor, y: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
    """Less light reaches the hollow between nose and eye, and under the brow."""
    corner = bump((x + 15) * (1 / 9.0)) * bump((y - 3) * (1 / 14.0))
    hollow = bump((above - 7) * (1 / 7.0))
    return 1 - p["socket_shadow"] * (0.55 * corner + 0.35 * hollow)


def lashes(p: Parameters, x: torch.Tensor, y: torch.Tensor, edge: Margins) -> Lashes:
    """Both rows of lashes: from each root a tuft leans outward, away from the middle of the eye.

    Lashes stand off the lid: those of the upper row hang over the eye where it looks down.
    """
    above, below = y - edge.upper, edge.lower - y
    fan = (edge.t - 0.45) * p["lash_fan"]
    ends = ramp(edge.t, -0.02, 0.2) * (1 - ramp(edge.t, 1.0, 1.1))
    hang = (2.0 - 0.1 * p["eye_pitch_deg"]).clamp(0.3, 4.0)
    upper_row = _row(p, x - fan * above, above + 0.25, p["upper_lash_mm"]) * (above > -0.25)
    hanging = _row(p, x + fan * above, -above, hang) * (above <= 0)
    lower_row = _row(p, x - fan * below, below - 0.6 * p["waterline_mm"], p["lower_lash_mm"]) * (below > 0)
    upper, lower = p["upper_lash_strength"] * ends, p["lower_lash_strength"] * ends
    roots = 0.6 * bump((above - 0.3) * (1 / 0.9))  # where they are too dense to be told apart
    over_skin = (1 - upper * (upper_row + roots * (1 - upper_row))) * (1 - lower * lower_row)
    return Lashes(over_skin, 1 - 0.8 * upper * hanging)


def _row(p: Parameters, root_x: torch.Tensor, out: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """How much of the place `out` mm from the margin, on the tuft that grows at `root_x`, is covered."""
    tuft = root_x / p["lash_spacing_mm"] + 8 * p["skin_texture"]
    number = tuft.floor()
    within = tuft - number - 0.5
    irregular = number * 0.618034 + number * number * 0.2360679
    irregular = irregular - irregular.floor()
    reach = length * (0.45 + 0.55 * irregular)
    tip = (out / reach).clamp(0, 1)
    width = 0.5 * (1 - 0.7 * tip)
    return bump((within + 0.3 * (irregular - 0.5)) / width) * (1 - tip) * (out > 0)
