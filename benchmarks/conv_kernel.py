"""A 3×3 convolution of 64 maps with bias, residual and ReLU as one Triton kernel: a candidate to measure."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS, STAGES = 128, 4, 3


@triton.jit
def _convolve(
    x, taps, bias, residual, out, pixels,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ADDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    maps = tl.arange(0, 64)
    row, column = place // WIDTH % HEIGHT, place % WIDTH
    total = tl.zeros((BLOCK, 64), tl.float32)
    for tap in tl.static_range(9):
        down: tl.constexpr = tap // 3 - 1
        right: tl.constexpr = tap % 3 - 1
        inside = (row + down >= 0) & (row + down < HEIGHT) & (column + right >= 0) & (column + right < WIDTH)
        source = (place + down * WIDTH + right).to(tl.int64)
        part = tl.load(
            x + source[:, None] * 64 + maps[None, :], mask=(inside & (place < pixels))[:, None], other=0.0
        )
        weight = tl.load(taps + tap * 4096 + maps[:, None] * 64 + maps[None, :])
        total = tl.dot(part, weight, total)
    total += tl.load(bias + maps)[None, :].to(tl.float32)
    target = place.to(tl.int64)[:, None] * 64 + maps[None, :]
    if ADDS:
        total += tl.load(residual + target, mask=(place < pixels)[:, None], other=0.0).to(tl.float32)
    tl.store(out + target, tl.maximum(total, 0.0).to(out.dtype.element_ty), mask=(place < pixels)[:, None])


def convolve(features: Tensor, taps: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
    """(N, 64, H, W) bf16 channels_last; `taps` (9, 64 in, 64 out) → ReLU(taps ∗ features + bias + residual)."""
    count, _, height, width = features.shape
    out = torch.empty_like(features, memory_format=torch.channels_last)
    pixels = count * height * width
    grid = (triton.cdiv(pixels, BLOCK),)
    added = features if residual is None else residual
    _convolve[grid](
        features, taps, bias, added, out, pixels, height, width, residual is not None, BLOCK,
        num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    return out
