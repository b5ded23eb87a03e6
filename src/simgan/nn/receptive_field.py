"""Receptive fields and output sizes of stacks of convolutions, from their kernels and strides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Stage(NamedTuple):
    """One convolution or pooling stage with "same" padding: square `kernel`, `stride`, in pixels."""

    kernel: int
    stride: int = 1


def receptive_field(stages: Iterable[Stage]) -> int:
    """Side in input pixels of the square that one output pixel sees: 1 + Σᵢ (kᵢ − 1)·Πⱼ﹤ᵢ sⱼ."""
    field, jump = 1, 1
    for stage in stages:
        field += (stage.kernel - 1) * jump
        jump *= stage.stride
    return field


def output_size(size: int, stages: Iterable[Stage]) -> int:
    """Output pixels along one side of `size` input pixels under "same" padding: ⌈·/s⌉ at each stage."""
    for stage in stages:
        size = -(-size // stage.stride)
    return size
