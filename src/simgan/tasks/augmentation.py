"""The standard augmentation: the same for every arm, so that no arm wins by being disturbed more or less."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from simgan.nn.gaze import changes_sign_mirrored


@dataclass(frozen=True)
class StandardAugmentation:
    """Random mirror, shift, scale, gain, bias, blur and noise, drawn anew for every image.

    x' = clip(gain · blur(warp(x)) + bias + noise) in [-1, 1]. Every strength is uniform in the given range.
    Labels that are pixel positions or lengths move along: column names ending in `_x_px`, `_y_px` (positions)
    and other names ending in `_px` (lengths); names that point sideways (`gaze_x`, `…_yaw_deg`, `…_x_widths`, …) change
    their sign with the mirror. Every other label is taken to survive shift and scale; whether it survives a mirror
    only the caller knows, hence `mirror=False`.
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
        motion = self._draw_motion(images, generator)
        labels = _move_labels(labels, names, (images.shape[2], images.shape[3]), motion)
        return self.disturb_levels(_warp(images, motion), generator), labels

    def with_masks(
        self, images: Tensor, masks: Tensor, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images and their class masks (N, H, W) → the same, disturbed; a mask keeps the class of the nearest pixel."""
        motion = self._draw_motion(images, generator)
        moved = _warp(masks[:, None].float(), motion, mode="nearest")[:, 0].to(masks.dtype)
        return self.disturb_levels(_warp(images, motion), generator), moved

    def _draw_motion(self, images: Tensor, generator: torch.Generator) -> _Motion:
        n, _, height, width = images.shape
        flip = torch.ones(n)
        if self.mirror:
            flip = torch.where(_uniform(n, 0, 1, generator) < 0.5, -1.0, 1.0)
        return _Motion(
            flip=flip,
            zoom=_uniform(n, 1 - self.scale, 1 + self.scale, generator),
            right=_uniform(n, -self.shift, self.shift, generator) * width,
            down=_uniform(n, -self.shift, self.shift, generator) * height,
        )

    def disturb_levels(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The part that moves nothing: blur, gain, bias, noise; (N, C, H, W) in [-1, 1] → the same."""
        n, _, height, width = images.shape

        def each(low: float, high: float) -> Tensor:
            return _uniform(n, low, high, generator).view(n, 1, 1, 1)

        blurred = _blur(images, passes=1 if min(height, width) < 32 else 2)
        images = images + each(0, self.blur) * (blurred - images)
        images = images * each(1 - self.gain, 1 + self.gain)
        images = images + each(-self.bias, self.bias)
        images = images + each(0, self.noise) * torch.randn(images.shape, generator=generator)
        return images.clamp_(-1.0, 1.0)


@dataclass(frozen=True)
class _Motion:
    """What moves each of n images: flip (±1), zoom, and the shift in pixels to the right and down."""

    flip: Tensor
    zoom: Tensor
    right: Tensor
    down: Tensor


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _warp(images: Tensor, motion: _Motion, mode: str = "bilinear") -> Tensor:
    """The affine map p' = c + zoom · flip · (p − c) + (right, down), c the image centre; edges repeat."""
    n, _, height, width = images.shape
    flip, zoom, right, down = motion.flip, motion.zoom, motion.right, motion.down
    matrix = torch.zeros(n, 2, 3)  # grid_sample asks the inverse: where does an output pixel come from?
    matrix[:, 0, 0] = flip / zoom
    matrix[:, 1, 1] = 1 / zoom
    matrix[:, 0, 2] = -flip / zoom * right * 2 / width
    matrix[:, 1, 2] = -down / zoom * 2 / height
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)


def _move_labels(labels: Tensor, names: tuple[str, ...], size: tuple[int, int], motion: _Motion) -> Tensor:
    if not any(name.endswith("_px") or changes_sign_mirrored(name) for name in names):
        return labels
    flip, zoom, right, down = motion.flip, motion.zoom, motion.right, motion.down
    labels = labels.clone()
    middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2  # pixel centres lie at integers
    for column, name in enumerate(names):
        if name.endswith("_x_px"):
            labels[:, column] = middle_x + zoom * flip * (labels[:, column] - middle_x) + right
        elif name.endswith("_y_px"):
            labels[:, column] = middle_y + zoom * (labels[:, column] - middle_y) + down
        elif name.endswith("_px"):
            labels[:, column] = zoom * labels[:, column]
        elif changes_sign_mirrored(name):
            labels[:, column] = flip * labels[:, column]
    return labels


def _blur(images: Tensor, *, passes: int) -> Tensor:
    """The separable kernel (1, 2, 1)/4 along rows and columns, `passes` times; edges repeat."""
    for _ in range(passes):
        padded = F.pad(images, (0, 0, 1, 1), mode="replicate")
        images = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
        padded = F.pad(images, (1, 1, 0, 0), mode="replicate")
        images = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    return images
