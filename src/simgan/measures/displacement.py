"""How far has the structure of an image moved, in pixels? Levels, contrast, blur and noise do not count.

Around a place, the refined image x̃ is the synthetic one x with another gain and blur, in another light, moved by d:

    x̃(p + d) ≈ a·x(p) + c·∇²x(p) + e + f·p        so with d = s + δ, s whole pixels and δ the rest
    x̃(p + s) ≈ a·x(p) + c·∇²x(p) + e + f·p − a·δ·∇x(p)

s is where the squared correlation of the two windows is highest (squared: inverted contrast is found as well), and the
second line is a linear regression on x, ∇²x, 1, p and ∇x over the window, which gives a and δ at once, with their
covariance. Windows that lack texture, or whose structure is not found again, are counted and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan.nn.movement import BLUR_PX, blurred

FloatArray = NDArray[np.float64]

REACH_PX = 4
"""Farthest displacement that is looked for; an eighth of the shorter side where that is less."""
WINDOW_PX = 16
SMALLEST_SIDE_PX = 16
"""Of images that can be followed: a smaller one has room for one small window, and for a pixel to move."""
FEWEST_FOUND = 0.5
"""Below this share of its textured windows, the structure of an image counts as lost: it has no drift in pixels."""

_CORRELATED = (
    4 * np.pi * BLUR_PX**2
)  # neighbouring residuals that count as one: the autocorrelation of that Gaussian
_SMALLEST_FIT = 0.6  # share of x̃'s variance in the window that the regression must explain
_GOOD_FIT = 0.97  # with which a window that has texture would be located along one axis
_SMALLEST_CONTRAST = 0.03  # standard deviation in a window on [-1, 1], about four of 256 levels
_GONE = 0.004  # deviation of the refined window below which nothing is there; least noise: half of one of 256 levels
_RIDGE = 1e-6
_NEARNESS = 1e-3  # squared correlation that a squared pixel costs: along an edge, the nearest place is taken
_KNOWN_PX = 0.35  # largest standard deviation along an axis for a window to say anything of it
_LARGEST_DEVIATION_PX = (
    0.25  # of a window's displacement along its worse axis, after its neighbours were asked
)
_LEAST_VARIANCE_PX2 = 0.02**2  # no window is surer than its model is true
_UNKNOWN = 1e-6  # information, 1/px², that is added so that the system can be solved where nothing is known
_BEND_PX = 0.5  # by which displacements of windows half a window apart may differ: one standard deviation
_MOST_WINDOWS = 256  # of one image, evenly spread
_WINDOWS_AT_A_TIME = 2**13


@dataclass(frozen=True, eq=False)
class Displacement:
    """What k windows in each of n images say.

    `vectors_px` (n, k, 2): where the structure went, (down, right). `noise_px2` (n, k): what noise is expected to add
    to their squares. `textured` (n, k): the synthetic window has an edge at least. `found` (n, k): and the refined
    one shows it again. `located` (n, k): and with its neighbours it is known where it went along both axes; the
    vectors of other windows mean nothing.
    """

    vectors_px: FloatArray
    noise_px2: FloatArray
    textured: NDArray[np.bool_]
    found: NDArray[np.bool_]
    located: NDArray[np.bool_]

    @cached_property
    def squares_px2(self) -> FloatArray:
        """(n, k) |d|² less what noise adds to it, NaN where not located."""
        squares = (self.vectors_px**2).sum(axis=2) - self.noise_px2
        return np.where(self.located, squares, np.nan)

    @property
    def share_found(self) -> FloatArray:
        """(n,) found windows of the textured ones; NaN where an image has none."""
        textured = self.textured.sum(axis=1).astype(float)
        return np.asarray(self.found.sum(axis=1) / np.where(textured > 0, textured, np.nan))

    @property
    def lost(self) -> NDArray[np.bool_]:
        """(n,) too little of the structure was found again."""
        return np.asarray(self.share_found < FEWEST_FOUND, bool)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(n,) whether the image has a drift in pixels: it is not lost, and a window was located."""
        return np.asarray(self.located.any(axis=1) & np.logical_not(self.lost), bool)

    @property
    def drift_px(self) -> FloatArray:
        """(n,) √ mean |d|² over the located windows, less the noise; NaN where it is not measured."""
        result = np.full(len(self.found), np.nan)
        result[self.measured] = np.sqrt(np.maximum(np.nanmean(self.squares_px2[self.measured], axis=1), 0))
        return result

    @property
    def interval_px(self) -> FloatArray:
        """(n, 2) 95 % interval of `drift_px`, from the spread over windows: √(mean ± 1.96 standard errors).

        Windows overlap by half, so that four count as one. NaN where fewer than two were located.
        """
        counts = self.located.sum(axis=1)
        result = np.full((len(self.found), 2), np.nan)
        several = np.flatnonzero((counts > 1) & self.measured)
        squares, n = self.squares_px2[several], counts[several]
        if len(n):
            error = 1.96 * np.nanstd(squares, axis=1, ddof=1) / np.sqrt(np.maximum(n / 4, 1))
            middle = np.nanmean(squares, axis=1)
            ends = np.stack([middle - error, middle + error], axis=1)
            result[several] = np.sqrt(np.maximum(ends, 0))
        return result

    @property
    def shift_px(self) -> FloatArray:
        """(n, 2) mean vector of the located windows, (down, right): the image as a whole; NaN as in `drift_px`."""
        result = np.full((len(self.found), 2), np.nan)
        located = self.located[self.measured][:, :, None]
        vectors = np.where(located, self.vectors_px[self.measured], 0)
        result[self.measured] = vectors.sum(axis=1) / located.sum(axis=1)
        return result


def measure_displacement(synthetic: NDArray[Any], refined: NDArray[Any]) -> Displacement:
    """The displacement of refined (n, H, W, C) against synthetic, both in [-1, 1], in windows all over the images.

    Windows are 16 px wide and half overlap; at most 256 of an image. Up to 4 px are found (an eighth of the shorter
    side below 32 px). Warps of smooth, textured images are found to a few hundredths of a pixel, see the tests.
    """
    a, b = _grey(synthetic), _grey(refined)
    n, height, width = a.shape
    reach, side = _reach(height, width)
    tops, lefts = (_places(reach, extent - reach - side, side // 2) for extent in (height, width))
    y, x = (places.ravel() for places in np.meshgrid(tops, lefts, indexing="ij"))
    chosen = np.unique(np.linspace(0, len(y) - 1, min(len(y), _MOST_WINDOWS)).round().astype(np.int64))
    corners = torch.from_numpy(np.stack([y[chosen], x[chosen]], axis=1)).expand(n, -1, 2)
    return _locate(a, b, corners, reach, side)


def displacement_at(synthetic: NDArray[Any], refined: NDArray[Any], points_px: FloatArray) -> Displacement:
    """The same in windows around given places: `points_px` (n, k, 2), (y, x) of pixel centres from the top left.

    A window that would reach over the border is moved inside; places that are not finite, or outside of the image,
    are not textured.
    """
    a, b = _grey(synthetic), _grey(refined)
    _, height, width = a.shape
    reach, side = _reach(height, width)
    size = np.array([height, width])
    inside = np.all(np.isfinite(points_px) & (points_px > -0.5) & (points_px < size - 0.5), axis=2)
    corners = np.where(np.expand_dims(inside, 2), points_px, 0).round().astype(np.int64) - side // 2
    corners = np.clip(corners, reach, size - reach - side)
    found = _locate(a, b, torch.from_numpy(corners), reach, side)
    return Displacement(
        found.vectors_px,
        found.noise_px2,
        *(of & inside for of in (found.textured, found.found, found.located)),
    )


def _reach(height: int, width: int) -> tuple[int, int]:
    """Farthest shift, and the side of a window, for images of this size."""
    shorter = min(height, width)
    if shorter < SMALLEST_SIDE_PX:
        raise ValueError(
            f"{height}×{width} images are too small to follow: at least {SMALLEST_SIDE_PX} pixels a side are wanted"
        )
    reach = min(REACH_PX, shorter // 8)
    return reach, min(WINDOW_PX, shorter - 2 * reach)


def _places(first: int, last: int, step: int) -> NDArray[np.int64]:
    """From `first` to `last`, evenly, at most `step` apart."""
    count = int(np.ceil((last - first) / step)) + 1
    return np.linspace(first, last, count).round().astype(np.int64)


def _grey(images: NDArray[Any]) -> Tensor:
    """(n, H, W, C) → (n, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.mean(axis=3), dtype=np.float32))


def _locate(a: Tensor, b: Tensor, corners: Tensor, reach: int, side: int) -> Displacement:
    """Each window of a with its top left at `corners` (n, k, 2), found in b, with the help of its neighbours.

    One window may see an edge only, which says nothing of a movement along it. With v_i and information matrices Λ_i
    of all windows of an image, and a spring between windows at distance r_ij (in half windows), the displacements are

        d = argmin Σ_i (d_i − v_i)ᵀ Λ_i (d_i − v_i) + Σ_{i<j} w_ij |d_i − d_j|²,    w_ij = e^{−r²/2}/(0.5 px)², r < 2.5
    """
    n, k, _ = corners.shape
    image = torch.arange(n).repeat_interleave(k)
    flat = corners.reshape(-1, 2)
    curvature = blurred(a, down=2) + blurred(a, right=2)
    regressors = blurred(a, down=1), blurred(a, right=1), blurred(a), curvature
    target = blurred(b)
    parts = [
        _regress(regressors, target, image[part], flat[part], reach, side)
        for part in torch.split(torch.arange(n * k), _WINDOWS_AT_A_TIME)
    ]
    vectors, information, textured, found = (
        torch.cat(one).reshape(n, k, *one[0].shape[1:]) for one in zip(*parts, strict=True)
    )
    vectors, covariance, noise = _smoothed(vectors, information, corners, side)
    worse = torch.linalg.eigvalsh(covariance)[:, :, -1]
    located = found & (worse < _LARGEST_DEVIATION_PX**2)
    return Displacement(vectors.numpy(), noise.numpy(), textured.numpy(), found.numpy(), located.numpy())


def _smoothed(
    vectors: Tensor, information: Tensor, corners: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(n, k, 2) displacements, (n, k, 2, 2) their covariance, (n, k) the squared noise in them."""
    n, k, _ = vectors.shape
    squared = (corners[:, :, None] - corners[:, None]).double().pow(2).sum(3) / (side / 2) ** 2
    spring = torch.exp(-squared / 2) * (squared < 6.25) / _BEND_PX**2
    spring = spring - torch.diag_embed(spring.diagonal(dim1=1, dim2=2))
    laplacian = torch.diag_embed(spring.sum(2)) - spring
    system = torch.einsum("nij,ab->niajb", laplacian, torch.eye(2, dtype=torch.float64))
    each = torch.arange(k)
    system[:, each, :, each, :] += information.transpose(0, 1)
    flat = system.reshape(n, 2 * k, 2 * k) + _UNKNOWN * torch.eye(2 * k, dtype=torch.float64)
    inverse = torch.linalg.inv(flat)
    known = (information @ vectors[..., None]).reshape(n, 2 * k, 1)
    solved = (inverse @ known).reshape(n, k, 2)
    blocks = inverse.reshape(n, k, 2, k, 2)
    covariance = blocks[:, each, :, each, :].transpose(0, 1)
    answer = torch.einsum("niajb,njbc->niajc", blocks, information)
    noise = torch.einsum("niajc,niajc->ni", answer, blocks)
    return solved, covariance, noise


def _regress(
    a: Sequence[Tensor], b: Tensor, image: Tensor, corner: Tensor, reach: int, side: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """m windows: (m, 2) displacement, (m, 2, 2) its information matrix, whether there is texture, and was found."""
    offsets = torch.arange(side)

    def window(images: Tensor, shift: Tensor) -> Tensor:
        """(m, side²) pixels of `images` in the windows moved by `shift` (m, 2)."""
        at = corner + shift
        y, x = at[:, 0, None] + offsets, at[:, 1, None] + offsets
        return images[image[:, None, None], y[:, :, None], x[:, None, :]].flatten(1)

    still = torch.zeros_like(corner)
    slope = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / side
    light = [one.flatten().expand(len(corner), -1) for one in torch.meshgrid(slope, slope, indexing="ij")]
    x = torch.stack([*(window(one, still).double() for one in a), *light], dim=2)
    x = x - x.mean(dim=1, keepdim=True)  # the offset b
    energy = (x[:, :, 2] ** 2).sum(1).clamp_min(1e-12)

    # -- whole pixels: the shift with the highest squared correlation ------------------------------------------
    pattern = (x[:, :, 2] / energy.sqrt()[:, None]).float()
    best, shift = torch.full((len(corner),), -1.0), still.clone()
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            y = window(b, torch.tensor([down, right]))
            y = y - y.mean(dim=1, keepdim=True)
            correlation = (pattern * y).sum(1) ** 2 / (y**2).sum(1).clamp_min(1e-12)
            correlation = correlation - _NEARNESS * (down**2 + right**2)
            better = correlation > best
            best = torch.where(better, correlation, best)
            shift[better] = torch.tensor([down, right])

    # -- the rest: the regression, once more where it points to another pixel ----------------------------------
    normal = x.transpose(1, 2) @ x
    scale = normal.diagonal(dim1=1, dim2=2).clamp_min(1e-12).sqrt()
    product = scale[:, :, None] * scale[:, None, :]
    ridge = _RIDGE * torch.eye(x.shape[2], dtype=torch.float64)  # along a perfect edge the system is singular
    inverse = torch.linalg.inv(normal / product + ridge) / product
    values, axes = torch.linalg.eigh(inverse[:, :2, :2])  # variance along each axis, in units of the noise
    freedom = max(side * side / _CORRELATED - x.shape[2] - 1, 1.0)
    for _ in range(3):
        y = window(b, shift).double()
        y = y - y.mean(dim=1, keepdim=True)
        weights = (inverse @ (x.transpose(1, 2) @ y[:, :, None]))[:, :, 0]
        gain = torch.where(weights[:, 2].abs() < 1e-6, 1e-6, weights[:, 2])
        residual = ((y - (x @ weights[:, :, None])[:, :, 0]) ** 2).sum(1) + (side * _GONE) ** 2
        variance = values.clamp_min(1e-12) * (residual / freedom / gain**2)[:, None] + _LEAST_VARIANCE_PX2
        along = axes.transpose(1, 2) @ (-weights[:, :2] / gain[:, None])[:, :, None]
        known = variance < _KNOWN_PX**2
        rest = (axes @ (along * known[:, :, None]))[:, :, 0]  # along an edge nothing is known: 0
        moved = (shift + rest.round()).clamp(-reach, reach).long()
        last, shift = shift, moved
        if bool((moved == last).all()):
            break
    total = (y**2).sum(1)
    fit = (1 - residual / total.clamp_min(1e-12)) * (total / side**2 > _GONE**2)
    textured = energy / side**2 > _SMALLEST_CONTRAST**2
    textured &= energy * (1 - _GOOD_FIT) / freedom * values[:, 0] < _KNOWN_PX**2
    found = textured & (fit >= _SMALLEST_FIT) & (rest.abs().amax(1) < 1) & known.any(1)
    information = axes @ torch.diag_embed(torch.where(known, 1 / variance, 0.0)) @ axes.transpose(1, 2)
    return last + rest, information * found[:, None, None], textured, found
