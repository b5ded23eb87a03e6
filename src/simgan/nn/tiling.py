"""Exact inference on images of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def apply_tiled(
    network: Callable[[Tensor], Tensor], images: Tensor, *, receptive_field: int, tile: int
) -> Tensor:
    """network(images) computed tile by tile; (N, C, H, W) → (N, C, H, W), the same within rounding.

    Each tile of side `tile` is cut with a margin of (field − 1)/2 on every side, so that each output pixel sees all
    that it depends on; at the image's own border the margin ends where the image ends, and the network's zero
    padding is the same as in the whole. `network` has stride 1 and "same" padding.
    """
    height, width = images.shape[2:]
    if height <= tile and width <= tile:
        return network(images)
    margin = (receptive_field - 1) // 2
    refined = torch.empty_like(images)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - margin, 0), max(left - margin, 0)
            part = network(images[:, :, y : bottom + margin, x : right + margin])
            refined[:, :, top:bottom, left:right] = part[:, :, top - y : bottom - y, left - x : right - x]
    return refined
