"""How bright lids and face are: skin, crease, folds, lashes, waterline, caruncle, eyebrow."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from simgan.simulators.eyes.face import Margins, height
from simgan.simulators.eyes.light import Lights, diffuse
from simgan.simulators.eyes.looks import Parameters
from simgan.simulators.eyes.shapes import bump, mixed, ramp, rise
from simgan.simulators.eyes.textures import look_up
from simgan.simulators.eyes.vectors import Vector, dot, normalized

_STEP = 0.4  # mm, for the slope of the surface
LASH_RADIANCE = 0.02  # under ambient light of 1
FLESH_ALBEDO = 0.4


@dataclass(frozen=True)
class Face:
    """Lids and face without what is fine: folds, wet edges and lashes."""

    radiance: torch.Tensor
    wet: torch.Tensor  # radiance that a wet edge of a lid would have there


def shade_face(p: Parameters, at: Lights, point: Vector, ray: Vector) -> Face:
    """Skin, eyebrow and caruncle in the light, at these points of the head's frame."""
    x, y, z = point
    slope_x = (height(p, x + _STEP, y) - z) * (1 / _STEP)
    slope_y = (height(p, x, y + _STEP) - z) * (1 / _STEP)
    normal = normalized((-slope_x, -slope_y, torch.ones_like(z)))
    grain = look_up("skin", p["skin_texture"], x * (1 / 26.0), y * (1 / 26.0))
    hair = look_up("vein", p["skin_texture"], x * (1 / 9.0) + y * (1 / 14.0), y * (1 / 30.0))
    brow = bump((y - p["brow_y_mm"] - 2 + 0.01 * x * x) * (1 / 4.5)) * (0.55 + 0.9 * hair).clamp(max=1)
    albedo = p["skin_albedo"] * (1 + p["skin_contrast"] * grain).clamp(min=0.2)
    albedo = albedo * (1 - p["eyebrow_darkness"] * brow)
    inward = p["canthus_x_mm"] - x
    caruncle = bump((inward - 0.3 * p["caruncle_mm"]) / (0.8 * p["caruncle_mm"])) * bump(
        (y - p["canthus_y_mm"]) * (1 / 1.6)
    )
    albedo = mixed(albedo, torch.full_like(albedo, FLESH_ALBEDO), 0.8 * caruncle)
    corner = bump((x + 15) * (1 / 9.0)) * bump((y - 3) * (1 / 14.0))  # between nose and eye
    shadow = 1 - 0.55 * p["socket_shadow"] * corner
    gloss = p["skin_gloss"] * p["key"] * _half_way(at.key, normal, ray)
    wet = 0.15 * (p["key"] + p["ambient"]) * ramp(normal[1], -0.2, 0.9)
    light = diffuse(p, at, normal, 0.35)
    return Face((albedo * light + gloss) * shadow + wet * caruncle, FLESH_ALBEDO * light * shadow + wet)


def finish_skin(
    p: Parameters, x: torch.Tensor, y: torch.Tensor, edge: Margins, face: Face
) -> tuple[torch.Tensor, torch.Tensor]:
    """Radiance of lids and face with folds, wet lid edge and lashes; and the share of light that lashes let through
    to the eye."""
    above, below = y - edge.upper, edge.lower - y
    between = rise(edge.t, -0.03, 0.06) * rise(-edge.t, -1.0, -0.86)
    waterline = 0.6 * bump((below - 0.4 * p["waterline_mm"]) * (1 / p["waterline_mm"])) * between
    skin = mixed(face.radiance * _folds(p, edge, above, below), face.wet, waterline)
    over_skin, over_eye = lashes(p, x, edge, above, below)
    return mixed(LASH_RADIANCE * p["ambient"], skin, over_skin), over_eye


def _half_way(to_light: Vector, normal: Vector, ray: Vector) -> torch.Tensor:
    """A broad highlight around the direction half way between light and camera."""
    half = normalized((to_light[0] - ray[0], to_light[1] - ray[1], to_light[2] - ray[2]))
    return dot(half, normal).clamp(min=0).square().square().square().square()


def _folds(p: Parameters, edge: Margins, above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """The crease of the upper lid, which opens as the eye looks down, and the fold under the lower lid."""
    across = 4 * edge.t * (1 - edge.t)
    fade = rise(across, -1.1, 0.5)
    crease_at = (p["crease_mm"] - 0.08 * p["eye_pitch_deg"].clamp(max=5)) * (
        0.45 + 0.55 * across.clamp(min=0)
    )
    open_lid = 1 - 0.5 * ramp(-p["eye_pitch_deg"], 0.0, 25.0)
    crease = p["crease_depth"] * open_lid * bump((above - crease_at) / p["crease_width_mm"]) * fade
    bag = p["bag_depth"] * bump((below - p["bag_mm"] * (0.6 + 0.4 * across.clamp(min=0))) * (1 / 2.2)) * fade
    hollow = 0.35 * p["socket_shadow"] * bump((above - 7) * (1 / 7.0))  # under the brow
    return (1 - crease) * (1 - bag) * (1 - hollow)


def lashes(
    p: Parameters, x: torch.Tensor, edge: Margins, above: torch.Tensor, below: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of light that both rows of lashes let through, over the skin and over the eye.

    From each root a tuft leans outward, away from the middle of the eye. Lashes stand off the lid: those of the upper
    row hang over the eye where it looks down.
    """
    fan = (edge.t - 0.45) * p["lash_fan"]
    ends = rise(edge.t, -0.02, 0.2) * rise(-edge.t, -1.1, -1.0)
    upper, lower = p["upper_lash_strength"] * ends, p["lower_lash_strength"] * ends
    # The upper row stands above its margin and hangs below it; the lower row starts under the other margin. No two
    # of these are ever at one place.
    under, hanging = below > 0, above <= 0
    out = torch.where(under, below - 0.6 * p["waterline_mm"], torch.where(hanging, -above, above + 0.25))
    length = torch.where(
        under, p["lower_lash_mm"], torch.where(hanging, p["lash_hang_mm"], p["upper_lash_mm"])
    )
    row = _row(p, x - fan * torch.where(under, below, above), out, length)
    roots = 0.75 * bump((above - 0.2) * (1 / 0.9))  # where they are too dense to be told apart
    upper_row = upper * row
    over_skin = 1 - torch.where(under, lower * row, upper_row + upper * roots * (1 - row))
    return over_skin, 1 - 0.8 * upper_row


def _row(p: Parameters, root_x: torch.Tensor, out: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """How much of the place `out` mm from the margin, on the tuft that grows at `root_x`, is covered."""
    tuft = root_x * (1 / p["lash_spacing_mm"]) + 8 * p["skin_texture"]
    number = tuft.floor()
    irregular = number * number * 0.2360679
    irregular = irregular - irregular.floor()
    tip = (out / (length * (0.45 + 0.55 * irregular))).clamp(-1, 1)
    within = (tuft - number - 0.65 + 0.3 * irregular) / (0.5 - 0.35 * tip)
    return bump(within) * (1 - tip) * (tip > 0)
