"""simulate_eyes(): a batch of drawn eyes with exact labels, as tensors, no files.

One ray for each quarter of a pixel: it meets lids and face; where it falls into the opening it goes on to the
eyeball. Pixels are the means of their four rays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch

from simgan.errors import ConfigurationError
from simgan.simulators.eyes.eye_shading import IRIS, PUPIL, SCLERA, shade_eye
from simgan.simulators.eyes.eyeball import meet_eye
from simgan.simulators.eyes.face import margins, meet_face
from simgan.simulators.eyes.landmarks import Landmarks, find_landmarks
from simgan.simulators.eyes.light import Lights, lights
from simgan.simulators.eyes.looks import LOOKS, Look, draw_parameters, persons_of
from simgan.simulators.eyes.scene import Scene, Size, build_scene
from simgan.simulators.eyes.sensor import expose
from simgan.simulators.eyes.shapes import mixed, ramp
from simgan.simulators.eyes.skin_shading import LASH_ALBEDO, lashes, shade_skin
from simgan.simulators.eyes.vectors import Vector

VERSION = 1  # raise it whenever the same seed would draw something else

MIN_SIDE, MAX_SIDE = 16, 1024
_SAMPLES = 2  # rays along each side of a pixel
_RAYS_AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 24}


@dataclass(frozen=True, eq=False)
class EyeBatch:
    """n drawn eyes. Tensors lie on the device that drew them, labels on the CPU.

    `images` (n, 1, h, w) uint8; `masks` (n, 1, h, w) uint8: 0 skin and all else, 1 sclera, 2 iris, 3 pupil;
    `parameters`: what was drawn, float64 (n) each; `pupil_visible`, `iris_visible`: shares of the two ellipses that
    lids leave free (the iris with its pupil); `persons` (n) int64.
    """

    images: torch.Tensor
    masks: torch.Tensor
    landmarks: Landmarks
    parameters: dict[str, torch.Tensor]
    pupil_visible: torch.Tensor
    iris_visible: torch.Tensor
    persons: torch.Tensor


def simulate_eyes(
    count: int,
    *,
    size: Size = (35, 55),
    seed: int = 0,
    look: str = "synthetic",
    start: int = 0,
    device: str | torch.device = "cpu",
) -> EyeBatch:
    """Eyes number `start` … `start + count − 1` of the set `seed`: the same numbers always draw the same eyes.

    `size` is height, width in pixels; `look` is "synthetic" or "pseudo-real", see `looks`. `ConfigurationError` for
    a count below 1, a seed or start below 0, a side outside 16 … 1024 px, or an unknown look: all faults at once.
    """
    chosen = check_request(count, size, seed, look, start)
    place = torch.device(device)
    indices = np.arange(start, start + count, dtype=np.int64)
    parameters = draw_parameters(chosen, seed, indices)
    scene = build_scene(parameters, size)
    parts = [_draw(part, size, place) for part in _parts(scene, size, place)]
    landmarks = find_landmarks(scene)
    masks = torch.cat([mask for _, mask in parts])
    pupil = (masks == PUPIL).sum((1, 2)).cpu()
    iris = pupil + (masks == IRIS).sum((1, 2)).cpu()
    return EyeBatch(
        images=torch.cat([image for image, _ in parts])[:, None],
        masks=masks[:, None],
        landmarks=landmarks,
        parameters=parameters,
        pupil_visible=_share(pupil, landmarks.pupil.major_px * landmarks.pupil.minor_px),
        iris_visible=_share(iris, landmarks.iris.major_px * landmarks.iris.minor_px),
        persons=torch.from_numpy(persons_of(chosen, seed, indices)),
    )


def check_request(count: int, size: Size, seed: int, look: str, start: int = 0) -> Look:
    """The look, or `ConfigurationError` with every fault of the request."""
    faults = []
    if count < 1:
        faults.append(f"count: at least 1 is wanted, got {count}")
    if seed < 0:
        faults.append(f"seed: at least 0 is wanted, got {seed}")
    if start < 0:
        faults.append(f"start: at least 0 is wanted, got {start}")
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        faults.append(f"size: sides of {MIN_SIDE} to {MAX_SIDE} px are wanted, got {size[0]}x{size[1]}")
    if look not in LOOKS:
        faults.append(f"look: one of {', '.join(LOOKS)} is wanted, got {look!r}")
    if faults:
        raise ConfigurationError(faults)
    return LOOKS[look]


def _share(pixels: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    return (pixels / (torch.pi * axes).clamp(min=1e-6)).clamp(max=1.0)


def _parts(scene: Scene, size: Size, device: torch.device) -> Iterator[Scene]:
    """The scene in parts that fit the fast memory, shaped for (n, rows, columns)."""
    rays = size[0] * size[1] * _SAMPLES**2
    at_once = max(1, _RAYS_AT_ONCE.get(device.type, 1 << 16) // rays)
    whole = scene.shaped(3, device, torch.float32)
    for first in range(0, len(scene.p["key"]), at_once):
        yield _slice(whole, slice(first, first + at_once))


def _slice(scene: Scene, part: slice) -> Scene:
    def matrix(rows: tuple[Vector, Vector, Vector]) -> tuple[Vector, Vector, Vector]:
        cut = [(a[part], b[part], c[part]) for a, b, c in rows]
        return (cut[0], cut[1], cut[2])

    return Scene({name: x[part] for name, x in scene.p.items()}, matrix(scene.head), matrix(scene.eye))


def _draw(scene: Scene, size: Size, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks (n, h, w) uint8 of a scene shaped (n, 1, 1)."""
    radiance, part = _trace(scene, size, device)
    total = _sum_of_samples(radiance) * (1 / _SAMPLES**2)
    mask = torch.zeros_like(total, dtype=torch.uint8)
    for which in (SCLERA, IRIS, PUPIL):  # half of the rays decide; each class lies within the one before
        most = _sum_of_samples((part >= which).to(torch.int32)) * 2 >= _SAMPLES**2
        mask = torch.where(most, torch.full_like(mask, which), mask)
    return expose(scene.p, total), mask


def _sum_of_samples(x: torch.Tensor) -> torch.Tensor:
    n, rows, columns = x.shape
    blocks = x.reshape(n, rows // _SAMPLES, _SAMPLES, columns // _SAMPLES, _SAMPLES)
    total = blocks[:, :, 0, :, 0]
    for k in range(1, _SAMPLES**2):
        total = total + blocks[:, :, k // _SAMPLES, :, k % _SAMPLES]
    return total


def _trace(scene: Scene, size: Size, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Radiance and part (0: skin) of every ray, (n, h · samples, w · samples)."""
    p = scene.p
    v, u = (
        (torch.arange(side * _SAMPLES, device=device, dtype=torch.float32) + 0.5) / _SAMPLES - 0.5
        for side in size
    )
    origin, ray = scene.rays(u.reshape(1, 1, -1), v.reshape(1, -1, 1))
    in_camera = lights(scene)

    head_ray = scene.in_head(ray)
    x, y, z = meet_face(p, scene.in_head(origin), head_ray)
    edge = margins(p, x)
    width = p["opening_width_mm"]
    between = torch.minimum(edge.t * width, (1 - edge.t) * width)
    depth = torch.minimum(torch.minimum(edge.upper - y, y - edge.lower), between)  # mm inside the opening
    row = lashes(p, x, y, edge)
    skin = shade_skin(p, _turned(in_camera, scene.in_head), (x, y, z), edge, head_ray)
    skin = mixed(skin, torch.full_like(skin, LASH_ALBEDO), 1 - row.over_skin)

    eye_ray = scene.in_eye(ray)
    hit = meet_eye(p, scene.in_eye(origin), eye_ray)
    under_lid = 1 - 0.55 * (1 - ramp(edge.upper - y, 0.0, 2.6)) - 0.2 * (1 - ramp(y - edge.lower, 0.0, 1.2))
    corners = 1 - 0.35 * (1 - ramp(4 * edge.t * (1 - edge.t), 0.0, 0.75))
    eye = shade_eye(
        p, _turned(in_camera, scene.in_eye), hit, eye_ray, lid_shadow=under_lid * corners * row.over_eye
    )

    opened = (depth * p["px_per_mm"] * _SAMPLES + 0.5).clamp(0, 1)
    return mixed(skin, eye.radiance, opened), torch.where(depth > 0, eye.part, torch.zeros_like(eye.part))


def _turned(lit: Lights, turn: object) -> Lights:
    assert callable(turn)
    return Lights(**{field.name: turn(getattr(lit, field.name)) for field in fields(lit)})
