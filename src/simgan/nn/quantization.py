"""The grid of levels that image files can hold, on [-1, 1].

Real images come from files, so their values lie on a grid. Refined images are put on the same grid before the
discriminator sees them, current and from the history alike: otherwise the grid alone tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quantization:
    """`levels` equally spaced values from -1 to 1: code c ↔ 2c / (levels − 1) − 1."""

    levels: int

    @property
    def code_dtype(self) -> torch.dtype:
        """The smallest type that holds every code and that torch can index."""
        return torch.uint8 if self.levels <= 256 else torch.int32

    def codes(self, images: Tensor) -> Tensor:
        """The nearest code of each value, 0 … levels − 1; values beyond [-1, 1] take the end code."""
        scaled = (images.float().clamp(-1, 1) + 1) * ((self.levels - 1) / 2)
        return scaled.round().to(self.code_dtype)

    def values(self, codes: Tensor) -> Tensor:
        """The float32 values in [-1, 1] that the codes stand for."""
        return codes.float() * (2 / (self.levels - 1)) - 1

    def quantize(self, images: Tensor) -> Tensor:
        """`images` on the grid. The gradient passes the rounding as if nothing had happened (straight-through), but
        not the clamp: D would otherwise push values ever further out, where nothing changes any more.
        """
        inside = images.float().clamp(-1, 1)
        return inside + (self.values(self.codes(inside)) - inside).detach()
