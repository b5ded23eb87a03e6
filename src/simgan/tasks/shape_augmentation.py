"""Random changes of shape: what hands and cameras vary and simulators do not, for networks that must see through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from simgan.tasks.augmentation import StandardAugmentation

_CONTROL_POINTS = 3  # a side, of the smooth field of elastic displacements


@dataclass(frozen=True)
class ShapeAugmentation:
    """Random rotation, shear, stretch, shift and smooth elastic displacement, then the photometric changes of
    `StandardAugmentation`; drawn anew for every image, one resampling, edges repeat.

    For class labels only: it does not say where a labelled point goes.
    """

    rotation_deg: float = 12.0
    """Largest rotation either way."""
    shear: float = 0.2
    """Largest shift of a row, in units of its distance from the middle row."""
    stretch: float = 0.18
    """Largest relative change of width and of height, each its own."""
    shift: float = 0.1
    """Largest shift as a share of the side."""
    elastic: float = 0.04
    """Standard deviation of the displacement at 3×3 control points, as a share of the side."""

    def __call__(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """(N, C, H, W) in [-1, 1] → the same, disturbed. All randomness from `generator` (on the CPU)."""
        n = len(images)

        def uniform(largest: float, *shape: int) -> Tensor:
            return largest * (2 * torch.rand(n, *shape, generator=generator) - 1)

        angle, shear = uniform(math.radians(self.rotation_deg)), uniform(self.shear)
        wide, high = 1 + uniform(self.stretch), 1 + uniform(self.stretch)
        cosine, sine = angle.cos(), angle.sin()
        # The inverse map, from output to input, in units of half a side: rotation · shear · stretch, then shift.
        matrix = torch.stack(
            [
                torch.stack([cosine / wide, (shear * cosine - sine) / wide, 2 * uniform(self.shift)], dim=1),
                torch.stack([sine / high, (cosine + shear * sine) / high, 2 * uniform(self.shift)], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        points = torch.randn(n, 2, _CONTROL_POINTS, _CONTROL_POINTS, generator=generator) * 2 * self.elastic
        grid = grid + elastic_field(points, (images.shape[2], images.shape[3])).permute(0, 2, 3, 1)
        warped = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return StandardAugmentation().disturb_levels(warped, generator)


def elastic_field(points: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 2, 3, 3) control points, the outer ones in the corners → (N, 2, *size), their bicubic interpolation.

    It is linear, and two products of matrices are many times faster than torch's own.
    """
    down, across = (_bicubic(side) for side in size)
    return down @ points @ across.T


@cache
def _bicubic(side: int) -> Tensor:
    """(side, 3): the weight of each control point at each pixel of a side."""
    unit = torch.eye(_CONTROL_POINTS)[None, None]
    return F.interpolate(unit, size=(side, _CONTROL_POINTS), mode="bicubic", align_corners=True)[0, 0]
