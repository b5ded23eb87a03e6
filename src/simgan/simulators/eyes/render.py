"""simulate_eyes(): a batch of drawn eyes with exact labels, as tensors, no files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from simgan.errors import ConfigurationError
from simgan.simulators.eyes.landmarks import Landmarks, find_landmarks, visible_share
from simgan.simulators.eyes.looks import LOOKS, Look, draw_parameters, persons_of
from simgan.simulators.eyes.scene import Scene, Size, build_scene
from simgan.simulators.eyes.sensor import expose
from simgan.simulators.eyes.tracing import PLACES, draw

VERSION = 1  # raise it whenever the same seed would draw something else

MIN_SIDE, MAX_SIDE = 16, 1024
_PLACES_AT_ONCE = {
    "cpu": 1 << 18,
    "cuda": 1 << 25,
}  # more would leave the fast memory


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
    images, masks = _render(scene, size, place)
    landmarks = find_landmarks(scene)
    return EyeBatch(
        images=images[:, None],
        masks=masks[:, None],
        landmarks=landmarks,
        parameters=parameters,
        pupil_visible=visible_share(scene, landmarks.pupil),
        iris_visible=visible_share(scene, landmarks.iris),
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


def _render(scene: Scene, size: Size, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and masks, (n, h, w) uint8, drawn in parts that fit the fast memory."""
    at_once = max(1, _PLACES_AT_ONCE.get(device.type, 1 << 16) // (size[0] * size[1] * PLACES))
    whole = scene.shaped(3, device, torch.float32)
    images, masks = [], []
    for first in range(0, len(scene.p["key"]), at_once):
        part = whole.part(slice(first, first + at_once))
        radiance, mask = draw(part, size)
        images.append(expose(part.p, radiance))
        masks.append(mask)
    return torch.cat(images), torch.cat(masks)
