"""A whole data set in the memory of the device, as native integers; batches are cut out of it there."""

from __future__ import annotations

import torch
from torch import Tensor


class ResidentImages:
    """All pixels of a data set, one image after the other, each H·W·C, in one flat tensor: uint8, or int16 that holds
    the bits of 16-bit images, because torch has hardly any operation on uint16.
    """

    def __init__(self, pixels: Tensor, *, channels: int, size: tuple[int, int]) -> None:
        """`pixels` flat, on any device; `size` (height, width) of the windows that batches are made of."""
        self._pixels = pixels
        self._channels = channels
        self.size = size

    def cut(self, windows: Tensor) -> Tensor:
        """`windows` (2, N) int64: where each window begins in `pixels`, and how far its rows are apart → (N, C, h, w),
        uint8, or int32 for 16-bit images, channels_last.
        """
        height, width = self.size
        starts, strides = windows
        device = windows.device
        rows = starts[:, None] + strides[:, None] * torch.arange(height, device=device)
        places = rows[:, :, None] + torch.arange(width * self._channels, device=device)
        native = self._pixels[places]
        if native.dtype == torch.int16:
            native = native.int() & 0xFFFF
        return native.view(-1, height, width, self._channels).permute(0, 3, 1, 2)


def encode_native(native: Tensor, *, low: int, high: int, invalid: int | None = None) -> Tensor:
    """Native integers → float32 in [-1, 1]: x = 2 (v − low) / (high − low) − 1, clipped; `invalid` becomes −1.

    The same values, to the bit, as the encoding of image files.
    """
    scale = torch.tensor(2 / (high - low), dtype=torch.float32).item()
    x = ((native.float() - low) * scale - 1).clamp(-1, 1)
    return x if invalid is None else torch.where(native == invalid, -1.0, x)
