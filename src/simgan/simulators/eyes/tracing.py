"""From a scene to pixels: rays to the face, on through the opening to the eyeball, and back as radiance.

The face is smooth: it is met by one ray at each pixel's centre, and what is found is interpolated to four places in
each pixel. There margins, lashes and folds are drawn, and of these places those in the opening send a ray of their own
to the eyeball. A pixel is the mean of its four places.
"""

from __future__ import annotations

from dataclasses import fields

import torch

from simgan.simulators.eyes.eye_shading import IRIS, PUPIL, SCLERA, EyeLook, shade_eye
from simgan.simulators.eyes.eyeball import meet_eye
from simgan.simulators.eyes.face import Margins, margins, meet_face
from simgan.simulators.eyes.light import Lights, lights
from simgan.simulators.eyes.scene import Scene, Size, Turn
from simgan.simulators.eyes.shapes import mixed, ramp
from simgan.simulators.eyes.skin_shading import Face, finish_skin, shade_face
from simgan.simulators.eyes.vectors import Vector

PLACES = 4  # in a pixel, at ±¼ from its centre


def draw(scene: Scene, size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Radiance (n, h, w) float32 and classes (n, h, w) uint8 of a scene shaped (n, 1, 1)."""
    p = scene.p
    device = p["key"].device
    v, u = (torch.arange(-1, side + 1, device=device, dtype=torch.float32) for side in size)
    origin, ray = scene.rays(u.reshape(1, 1, -1), v.reshape(1, -1, 1))
    origin, ray = scene.in_head(origin), scene.in_head(ray)
    lit = lights(scene)
    point = meet_face(p, origin, ray)
    face = shade_face(p, _turned(lit, scene.in_head), point, ray)

    x, y = quarters(point[0]), quarters(point[1])
    edge = margins(p, x)
    width = p["opening_width_mm"]
    between = torch.minimum(edge.t * width, (1 - edge.t) * width)
    inside = torch.minimum(torch.minimum(edge.upper - y, y - edge.lower), between)  # mm
    fine = Face(quarters(face.radiance), quarters(face.wet))
    skin, lashes_let = finish_skin(p, x, y, edge, fine)

    opened = (inside * (2 * p["px_per_mm"]) + 0.5).clamp(0, 1)
    n, rows, columns = x.shape
    flat = opened.reshape(n, -1)
    chosen = _padded_indices(flat > 0)
    light = _light_in_opening(edge, y) * lashes_let
    eye = _look_at_eye(scene.flattened(), lit, chosen, columns, light.reshape(n, -1).gather(1, chosen))

    share = flat.gather(1, chosen)
    bare = skin.reshape(n, -1)
    radiance = bare.scatter(1, chosen, mixed(bare.gather(1, chosen), eye.radiance, share))
    part = torch.zeros_like(flat, dtype=torch.uint8).scatter(1, chosen, eye.part * (share > 0.5))
    shape = (n, rows, columns)
    return _sum_of_places(radiance.reshape(shape)) * (1 / PLACES), _vote(part.reshape(shape))


def quarters(x: torch.Tensor) -> torch.Tensor:
    """(n, h + 2, w + 2) at pixel centres, one pixel of border -> (n, 2h, 2w) at the places, by linear interpolation."""
    middle = 0.75 * x[:, 1:-1]
    x = torch.stack([middle + 0.25 * x[:, :-2], middle + 0.25 * x[:, 2:]], 2).flatten(1, 2)
    middle = 0.75 * x[:, :, 1:-1]
    return torch.stack([middle + 0.25 * x[:, :, :-2], middle + 0.25 * x[:, :, 2:]], 3).flatten(2, 3)


def _padded_indices(wanted: torch.Tensor) -> torch.Tensor:
    """For a mask (n, m) the places of its ones in each row, (n, k) with k the most in any row.

    Rows that have fewer repeat their last one: what is computed there is the same. Rows without any name place 0,
    where the share of the eye is 0.
    """
    _, place = wanted.nonzero(as_tuple=True)
    counts = wanted.sum(1)
    longest = max(1, int(counts.max()))
    starts = counts.cumsum(0) - counts
    rank = torch.arange(longest, device=wanted.device)[None].minimum((counts - 1).clamp(min=0)[:, None])
    position = (starts[:, None] + rank).clamp(max=max(len(place) - 1, 0))
    if len(place) == 0:
        return torch.zeros_like(position)
    return torch.where(counts[:, None] > 0, place[position], torch.zeros_like(position))


def _look_at_eye(
    scene: Scene, lit: Lights, chosen: torch.Tensor, columns: int, light: torch.Tensor
) -> EyeLook:
    """The eyeball as rays through the `chosen` places see it, (n, k)."""
    row = torch.div(chosen, columns, rounding_mode="floor")
    u, v = (place.to(torch.float32) * 0.5 - 0.25 for place in (chosen - row * columns, row))
    origin, ray = scene.rays(u, v)
    ray = scene.in_eye(ray)
    hit = meet_eye(scene.p, scene.in_eye(origin), ray)
    return shade_eye(scene.p, _turned(_flat(lit), scene.in_eye), hit, ray, lid_shadow=light)


def _light_in_opening(edge: Margins, y: torch.Tensor) -> torch.Tensor:
    """The share of light that reaches the eye: the lids shade it along their margins and in the corners."""
    upper = 0.6 * (1 - ramp(edge.upper - y, -0.3, 2.6))
    lower = 0.2 * (1 - ramp(y - edge.lower, 0.0, 1.2))
    corners = 0.4 * (1 - ramp(4 * edge.t * (1 - edge.t), 0.0, 0.75))
    return (1 - upper - lower).clamp(min=0.1) * (1 - corners)


def _sum_of_places(x: torch.Tensor) -> torch.Tensor:
    rows = x[:, 0::2] + x[:, 1::2]
    return rows[:, :, 0::2] + rows[:, :, 1::2]


def _vote(part: torch.Tensor) -> torch.Tensor:
    """The class that half of a pixel's places agree on; each class lies within the one before it."""
    mask = torch.zeros_like(part[:, ::2, ::2])
    for which in (SCLERA, IRIS, PUPIL):
        mask += (_sum_of_places((part >= which).to(torch.uint8)) * 2 >= PLACES).to(torch.uint8)
    return mask


def _turned(lit: Lights, turn: Turn) -> Lights:
    return Lights(**{field.name: turn(getattr(lit, field.name)) for field in fields(lit)})


def _flat(lit: Lights) -> Lights:
    """(n, 1, 1) -> (n, 1)."""

    def flat(vector: Vector) -> Vector:
        return (vector[0].flatten(1), vector[1].flatten(1), vector[2].flatten(1))

    return _turned(lit, flat)
