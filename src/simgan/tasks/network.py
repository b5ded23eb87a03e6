"""The task network: one small convolutional net for every arm of a comparison."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

SMALLEST_SIDE = 8
"""The smallest image side, in pixels, that the task network takes."""

_FULL_RESOLUTION_SIDE = 32  # the first layer halves longer sides, so that the cost stays bounded
_LAST_SIDE = 4  # the map handed to the head: coarse, but it still knows where things are
_FEWEST_FEATURES, _MOST_FEATURES = 16, 64


class TaskNetwork(nn.Module):
    """Images (N, C, H, W) in [-1, 1] → (N, outputs) class logits or standardized values.

    conv-BN-ReLU, then one halving stage (two conv-BN-ReLU, the first of stride 2) per factor of two down to
    about 4×4, average pooling to at most 4×4, dropout, linear. Features double from stage to stage and end at
    64. The flattened map keeps positions: a globally pooled head could not read the place of an iris.
    """

    def __init__(self, channels: int, height: int, width: int, outputs: int) -> None:
        super().__init__()
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(f"the task network needs images of at least 8×8 pixels, got {height}×{width}")
        stride = 1
        while max(height, width) > stride * _FULL_RESOLUTION_SIDE:
            stride *= 2
        rows, columns = -(-height // stride), -(-width // stride)
        stages = 0
        while max(rows, columns) > _LAST_SIDE * 3 // 2:
            stages += 1
            rows, columns = -(-rows // 2), -(-columns // 2)
        features = [max(_FEWEST_FEATURES, _MOST_FEATURES >> (stages - i)) for i in range(stages + 1)]
        layers = _convolution(channels, features[0], kernel=2 * stride + 1, stride=stride)
        for now, wider in pairwise(features):
            layers += _convolution(now, wider, kernel=3, stride=2)
            layers += _convolution(wider, wider, kernel=3, stride=1)
        pooling: nn.Module = nn.Identity()  # most often the map is small enough already
        if max(rows, columns) > _LAST_SIDE:
            rows, columns = min(rows, _LAST_SIDE), min(columns, _LAST_SIDE)
            pooling = nn.AdaptiveAvgPool2d((rows, columns))
        self.trunk = nn.Sequential(*layers, pooling, nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(_MOST_FEATURES * rows * columns, outputs))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.trunk(images.contiguous(memory_format=torch.channels_last)))
        return out


def build_network(channels: int, height: int, width: int, outputs: int, *, seed: int) -> TaskNetwork:
    """A `TaskNetwork` whose first weights depend on `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TaskNetwork(channels, height, width, outputs)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
