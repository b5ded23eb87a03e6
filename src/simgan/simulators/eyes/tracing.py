"""From a scene to pixels: rays to the face, on through the opening to the eyeball, and back as radiance.

The face is smooth: it is met by one ray through each pixel's centre, and what is found is interpolated to four places
in each pixel. There margins, lashes and folds are drawn, and of these places those in the opening send a ray of their
own to the eyeball. A pixel is the mean of its four places; its class is that of its centre.
"""

from __future__ import annotations

import torch

from simgan.simulators.eyes.eye_shading import IRIS, PUPIL, SCLERA, shade_eye
from simgan.simulators.eyes.eyeball import meet_eye
from simgan.simulators.eyes.face import Margins, inside_opening, margins, meet_face
from simgan.simulators.eyes.light import lights
from simgan.simulators.eyes.scene import Scene, Size
from simgan.simulators.eyes.shapes import mixed, rise
from simgan.simulators.eyes.skin_shading import Face, finish_skin, shade_face

PLACES = 4  # in a pixel, at ±¼ from its centre


def draw(scene: Scene, size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Radiance (n, h, w) float32 and classes (n, h, w) uint8 of a scene shaped (n, 1, 1)."""
    p = scene.p
    device = p["key"].device
    # One pixel of border on all sides, for the interpolation.
    v, u = (torch.arange(-1, side + 1, device=device, dtype=torch.float32) for side in size)
    origin, ray = scene.rays(u.reshape(1, 1, -1), v.reshape(1, -1, 1))
    origin, ray = scene.in_head(origin), scene.in_head(ray)
    point = meet_face(p, origin, ray)
    face = shade_face(p, lights(p, "head"), point, ray)
    mask = _classes(scene, point[0][:, 1:-1, 1:-1], point[1][:, 1:-1, 1:-1])
    fine = Face(quarters(face.radiance), quarters(face.wet))
    radiance = _at_places(scene, quarters(point[0]), quarters(point[1]), fine)
    rows = radiance[:, 0::2] + radiance[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) * (1 / PLACES), mask


def _at_places(scene: Scene, x: torch.Tensor, y: torch.Tensor, face: Face) -> torch.Tensor:
    """Radiance where rays meet the face at (x, y) of the head's frame: (n, 2h, 2w)."""
    p = scene.p
    edge = margins(p, x)
    skin, lashes_let = finish_skin(p, x, y, edge, face)
    opened = (inside_opening(p, edge, y) * (2 * p["px_per_mm"]) + 0.5).clamp(0, 1).flatten(1)
    chosen = _padded_indices(opened > 0)
    light = (_light_in_opening(edge, y) * lashes_let).flatten(1).gather(1, chosen)
    row, column = _row_and_column(chosen, x.shape[2])
    seen = scene.flattened()
    origin, ray = seen.rays(column * 0.5 - 0.25, row * 0.5 - 0.25)
    origin, ray = seen.in_eye(origin), seen.in_eye(ray)
    eye = shade_eye(seen.p, lights(seen.p, "eye"), meet_eye(seen.p, origin, ray), ray, lid_shadow=light)
    bare = skin.flatten(1)
    both = mixed(bare.gather(1, chosen), eye, opened.gather(1, chosen))
    return bare.scatter(1, chosen, both).reshape(x.shape)


def _classes(scene: Scene, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What the rays through pixels' centres meet, which meet the face at (x, y): (n, h, w) uint8."""
    inside = (inside_opening(scene.p, margins(scene.p, x), y) > 0).flatten(1)
    chosen = _padded_indices(inside)
    row, column = _row_and_column(chosen, x.shape[2])
    seen = scene.flattened()
    origin, ray = seen.rays(column, row)
    hit = meet_eye(seen.p, seen.in_eye(origin), seen.in_eye(ray))
    in_pupil = hit.iris_x.square() + hit.iris_y.square() < seen.p["pupil_radius_mm"].square()
    part = torch.where(hit.through, torch.where(in_pupil, PUPIL, IRIS), SCLERA).to(torch.uint8)
    nothing = torch.zeros_like(inside, dtype=torch.uint8)
    return nothing.scatter(1, chosen, part * inside.gather(1, chosen)).reshape(x.shape)


def quarters(x: torch.Tensor) -> torch.Tensor:
    """(n, h + 2, w + 2) at pixels' centres, with a border -> (n, 2h, 2w) at the places, by linear interpolation."""
    middle = 0.75 * x[:, 1:-1]
    x = torch.stack([middle + 0.25 * x[:, :-2], middle + 0.25 * x[:, 2:]], 2).flatten(1, 2)
    middle = 0.75 * x[:, :, 1:-1]
    return torch.stack([middle + 0.25 * x[:, :, :-2], middle + 0.25 * x[:, :, 2:]], 3).flatten(2, 3)


def _padded_indices(wanted: torch.Tensor) -> torch.Tensor:
    """For a mask (n, m) the places of its ones in each row, (n, k) with k the most in any row.

    Rows that have fewer repeat their last one, and rows without any name place 0: what is computed there twice is the
    same, and what should not be computed is left out by the caller.
    """
    _, place = wanted.nonzero(as_tuple=True)
    counts = wanted.sum(1)
    rank = torch.arange(max(1, int(counts.max())), device=wanted.device)
    position = (counts.cumsum(0) - counts)[:, None] + rank.minimum((counts - 1)[:, None])
    place = torch.cat([place, place.new_zeros(1)])  # so that even an empty mask has a place
    return torch.where(counts[:, None] > 0, place[position.clamp(min=0)], 0)


def _row_and_column(place: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    row = torch.div(place, columns, rounding_mode="floor")
    return row.to(torch.float32), (place - row * columns).to(torch.float32)


def _light_in_opening(edge: Margins, y: torch.Tensor) -> torch.Tensor:
    """The share of light that reaches the eye: the lids shade it along their margins and in the corners."""
    upper = 0.6 * rise(y - edge.upper, -2.6, 0.3)
    lower = 0.2 * rise(edge.lower - y, -1.2, 0.0)
    corners = 0.4 * rise(edge.t * (edge.t - 1), -0.19, 0.0)
    return (1 - upper - lower) * (1 - corners)
