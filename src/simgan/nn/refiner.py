"""The refiner R_θ: a fully convolutional residual network without stride or pooling (paper, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from simgan.nn.fused import relu_of, residual_block
from simgan.nn.receptive_field import Stage, receptive_field

RefinerOutput = Literal["image", "residual"]


@dataclass(frozen=True)
class RefinerSpec:
    """What defines a refiner's shape.

    `output` is "image" (the network computes x̃, as published) or "residual" (x̃ = x + f(x), with f = 0 at the
    start, so that training begins at the identity).
    """

    channels: int
    width: int
    blocks: int
    kernel: int = 3
    first_kernel: int = 3
    output: RefinerOutput = "image"


class ResidualBlock(nn.Module):
    """conv → ReLU → conv → add the input → ReLU (paper, figure 6)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel, padding="same")
        self.second = nn.Conv2d(width, width, kernel, padding="same")

    def forward(self, features: Tensor) -> Tensor:
        return residual_block(self.first, self.second, features)


class Refiner(nn.Module):
    """R_θ: (N, C, H, W) in [-1, 1] → (N, C, H, W), any H and W.

    conv → ReLU → `blocks` residual blocks → conv 1×1. The output is linear: the paper names no output activation,
    and quantization bounds it where it matters.
    """

    def __init__(self, spec: RefinerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.head = nn.Conv2d(spec.channels, spec.width, spec.first_kernel, padding="same")
        self.blocks = nn.Sequential(*(ResidualBlock(spec.width, spec.kernel) for _ in range(spec.blocks)))
        self.tail = nn.Conv2d(spec.width, spec.channels, 1)
        if spec.output == "residual":
            nn.init.zeros_(self.tail.weight)
            assert self.tail.bias is not None
            nn.init.zeros_(self.tail.bias)

    def forward(self, synthetic: Tensor) -> Tensor:
        change: Tensor = self.tail(self.blocks(relu_of(self.head, synthetic)))
        return synthetic + change if self.spec.output == "residual" else change

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the square of input that one output pixel depends on."""
        return refiner_receptive_field(self.spec)


def refiner_receptive_field(spec: RefinerSpec) -> int:
    """Side in pixels: first conv, then two convs a block; the 1×1 adds nothing."""
    return receptive_field([Stage(spec.first_kernel), *[Stage(spec.kernel)] * (2 * spec.blocks)])
