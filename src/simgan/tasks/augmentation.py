"""The standard augmentation: the same for every arm, so that no arm wins by being disturbed more or less."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class StandardAugmentation:
    """Random mirror, shift, scale, gain, bias, blur and noise, drawn anew for every image.

    x' = clip(gain · blur(warp(x)) + bias + noise) in [-1, 1]. Every strength is uniform in the given range.
    Labels that are pixel positions or lengths move along: column names ending in `_x_px`, `_y_px` (positions)
    and other names ending in `_px` (lengths). Every other label is taken to survive shift and scale; whether
    it survives a mirror only the caller knows, hence `mirror=False`.
    """

    mirror: bool = False
    shift: float = 0.08
    """Largest shift as a share of the side: at 8 pixels 0.64 px, at 32 pixels 2.6 px."""
    scale: float = 0.1
    """Largest relative change of size: 0.1 is 90 % to 110 %."""
    gain: float = 0.25
    """Largest relative change of contrast about mid-grey."""
    bias: float = 0.15
    """Largest change of brightness, in units of [-1, 1]."""
    blur: float = 0.5
    """Largest weight of the 3×3 binomial blur; sides of 32 pixels and more use two passes."""
    noise: float = 0.1
    """Largest standard deviation of the Gaussian noise, in units of [-1, 1]."""

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        generator: torch.Generator,
        names: tuple[str, ...] = (),
    ) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) images in [-1, 1] and their labels → the same, disturbed. `names`: label columns."""
        n, _, height, width = images.shape

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=generator)

        flip = torch.ones(n)
        if self.mirror:
            flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        zoom = uniform(1 - self.scale, 1 + self.scale)
        right = uniform(-self.shift, self.shift) * width  # pixels, to the right and down
        down = uniform(-self.shift, self.shift) * height
        images = _warp(images, flip=flip, zoom=zoom, right=right, down=down)
        labels = _move_labels(labels, names, (height, width), flip=flip, zoom=zoom, right=right, down=down)

        return self.disturb_levels(images, generator=generator), labels

    def disturb_levels(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """The part that moves nothing: blur, gain, bias, noise; (N, C, H, W) in [-1, 1] → the same."""
        n, _, height, width = images.shape

        def uniform(low: float, high: float) -> Tensor:
            return (low + (high - low) * torch.rand(n, generator=generator)).view(n, 1, 1, 1)

        weight = uniform(0, self.blur)
        images = images + weight * (_blur(images, passes=1 if min(height, width) < 32 else 2) - images)
        images = images * uniform(1 - self.gain, 1 + self.gain)
        images = images + uniform(-self.bias, self.bias)
        images = images + uniform(0, self.noise) * torch.randn(images.shape, generator=generator)
        return images.clamp_(-1.0, 1.0)


def _warp(images: Tensor, *, flip: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """The affine map p' = c + zoom · flip · (p − c) + (right, down), c the image centre; edges repeat."""
    n, _, height, width = images.shape
    matrix = torch.zeros(n, 2, 3)  # grid_sample asks the inverse: where does an output pixel come from?
    matrix[:, 0, 0] = flip / zoom
    matrix[:, 1, 1] = 1 / zoom
    matrix[:, 0, 2] = -flip / zoom * right * 2 / width
    matrix[:, 1, 2] = -down / zoom * 2 / height
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _move_labels(
    labels: Tensor,
    names: tuple[str, ...],
    size: tuple[int, int],
    *,
    flip: Tensor,
    zoom: Tensor,
    right: Tensor,
    down: Tensor,
) -> Tensor:
    if not any(name.endswith("_px") for name in names):
        return labels
    labels = labels.clone()
    middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2  # pixel centres lie at integers
    for column, name in enumerate(names):
        if name.endswith("_x_px"):
            labels[:, column] = middle_x + zoom * flip * (labels[:, column] - middle_x) + right
        elif name.endswith("_y_px"):
            labels[:, column] = middle_y + zoom * (labels[:, column] - middle_y) + down
        elif name.endswith("_px"):
            labels[:, column] = zoom * labels[:, column]
    return labels


def _blur(images: Tensor, *, passes: int) -> Tensor:
    """The separable kernel (1, 2, 1)/4 along rows and columns, `passes` times; edges repeat."""
    for _ in range(passes):
        padded = F.pad(images, (0, 0, 1, 1), mode="replicate")
        images = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
        padded = F.pad(images, (1, 1, 0, 0), mode="replicate")
        images = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    return images
