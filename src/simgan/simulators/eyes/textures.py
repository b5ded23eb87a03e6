"""Textures that every device looks up in the same way: irises, veins and skin, made once from fixed numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.simulators.eyes.looks import N_TEXTURES

TEXTURE_SIDE = 128  # texels; a power of two


@lru_cache(maxsize=4)
def textures(kind: str, device: torch.device) -> torch.Tensor:
    """The textures called "iris", "vein" or "skin", flat: (N_TEXTURES · side · side) float32.

    "iris": brightness over the unit disc, mean 0, sd 1, the pupil's edge at radius 0.3. "vein": 0 none to 1.
    "skin": mean 0, sd 1, without seams.
    """
    make = {"iris": _iris, "vein": _vein, "skin": _skin}[kind]
    stack = np.stack([make(np.random.default_rng((7, len(kind), k))) for k in range(N_TEXTURES)])
    return torch.from_numpy(np.round(stack * 4096).astype(np.float32) / 4096).reshape(-1).to(device)


def look_up(kind: str, which: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The texel at (x, y) in texture units (1 is the whole side, repeated) of texture number `which`."""
    column = (x * TEXTURE_SIDE).floor().to(torch.int32) & (TEXTURE_SIDE - 1)
    row = (y * TEXTURE_SIDE).floor().to(torch.int32) & (TEXTURE_SIDE - 1)
    index = (which.to(torch.int32) * TEXTURE_SIDE + row) * TEXTURE_SIDE + column
    return textures(kind, x.device).index_select(0, index.reshape(-1)).reshape(index.shape)


def _waves(random: np.random.Generator, exponent: float, low: float) -> NDArray[np.float64]:
    """Noise without seams whose spectrum falls as 1/f^exponent above `low` cycles a side; mean 0, sd 1."""
    f = np.fft.fftfreq(TEXTURE_SIDE) * TEXTURE_SIDE
    distance = np.hypot(f[:, None], f[None, :])
    gain = np.where(distance >= low, np.maximum(distance, 1) ** -exponent, 0)
    field = np.fft.ifft2(np.fft.fft2(random.normal(size=(TEXTURE_SIDE, TEXTURE_SIDE))) * gain).real
    return np.asarray((field - field.mean()) / field.std())


def _skin(random: np.random.Generator) -> NDArray[np.float64]:
    coarse, fine = _waves(random, 1.6, 2), _waves(random, 0.6, 12)
    pores = np.minimum(fine, 0.5) - 0.3
    mixed = coarse + 0.6 * pores
    return np.asarray((mixed - mixed.mean()) / mixed.std())


def _vein(random: np.random.Generator) -> NDArray[np.float64]:
    """Zero crossings of noise are winding lines; a second noise lets them fade. Three such nets."""
    nets = [
        np.exp(-np.square(_waves(random, 1.5, 2 + k) / 0.13))
        * np.clip(0.6 + 0.8 * _waves(random, 1.5, 2), 0, 1)
        for k in range(3)
    ]
    return np.asarray(np.max(nets, axis=0))


def _iris(random: np.random.Generator) -> NDArray[np.float64]:
    """Radial fibres that wander, crypts, and a bright collarette around the pupil."""
    centre = (np.arange(TEXTURE_SIDE) + 0.5) / TEXTURE_SIDE * 2 - 1
    radius = np.hypot(centre[:, None], centre[None, :])
    angle = np.arctan2(centre[:, None], centre[None, :])
    wander = _waves(random, 2.0, 1)
    fibres = np.zeros_like(radius)
    for cycles in random.integers(9, 60, size=10):
        phase = random.uniform(0, 2 * np.pi) + wander * random.uniform(0.5, 2.0)
        fibres += np.sin(angle * cycles + phase + 3 * radius * random.normal())
    collarette = np.exp(-np.square((radius - random.uniform(0.42, 0.55)) / 0.07))
    crypts = _waves(random, 1.4, 3)
    mixed = 0.35 * fibres + 1.6 * random.uniform(0.2, 1) * collarette - 0.5 * np.maximum(crypts - 0.8, 0) * 2
    inside = (radius > 0.3) & (radius < 1)
    return np.asarray(np.clip((mixed - mixed[inside].mean()) / mixed[inside].std(), -3, 3))
