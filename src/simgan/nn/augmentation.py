"""The same random changes for refined and real images before D, so that D cannot learn the few real ones by heart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from simgan.nn.draws import Draws


@dataclass(frozen=True)
class DiscriminatorAugmentation:
    """Differentiable; one draw an image. Shift by up to `shift_px` (edges repeated) and gain of 1 ± `gain`."""

    shift_px: int = 1
    gain: float = 0.1

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(N, C, H, W) → the same shape; all randomness from `draws`."""
        count, _, height, width = images.shape
        device, shift = images.device, self.shift_px
        padded = pad(images, (shift, shift, shift, shift), mode="replicate")
        moves = draws(lambda: torch.randint(0, 2 * shift + 1, (2, count), generator=draws.generator))
        rows = moves[0][:, None] + torch.arange(height, device=device)
        columns = moves[1][:, None] + torch.arange(width, device=device)
        index = torch.arange(count, device=device)[:, None, None]
        shifted = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        gain = 1 + self.gain * (
            2 * draws(lambda: torch.rand((count, 1, 1, 1), generator=draws.generator)) - 1
        )
        return (shifted + 1) * gain - 1
