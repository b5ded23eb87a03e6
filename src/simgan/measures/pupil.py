"""Where is the pupil? An edge between dark and bright is fitted inside the iris, in one image at a time.

The label says where the iris is seen: an ellipse with ρ(x) = 1 on its outline. A pupil is seen as a smaller ellipse of
the same shape, moved to a centre c, and is darker than the iris around it:

    grey(x) ≈ a + b·(1 + tanh((ρ_c(x) − q)·R/w))/2,    R the mean radius of the iris in px

c, q, a and b are fitted by least squares over the pixels that lids and limbus leave, with Huber's weights, since glints
are no part of the pupil; the start is the best of a grid. A fit fails where that edge is not there, lies at the border
of what is looked for, or leaves the centre less sure than `SUREST_PX`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGE_PX = 0.75
"""w: half the width of the edge, that of a pixel and a lens that blurs a little."""
SUREST_PX = 0.3
"""The largest standard error along an axis of a centre that counts as found."""
INSIDE = 0.92
"""Only pixels with ρ below this are fitted: the limbus is another edge."""
SMALLEST, LARGEST = 0.15, 0.78
"""Of a pupil, as a share of its iris."""
FARTHEST = 0.3
"""From the iris's centre to the pupil's, as a share of the iris's radius."""
FEWEST_PIXELS = 15
LEAST_CONTRAST = 0.03
"""b on [-1, 1], about four of 256 levels."""
LEAST_NOISE = 0.01
"""Of pixels on [-1, 1], a little more than one level: where images are cleaner, the model is what is not true."""

_ROUNDS = 15
_HUBER = 1.345
_GRID = np.linspace(-0.24, 0.24, 7)  # of the centre, in iris radii
_SIZES = (0.2, 0.3, 0.4, 0.5, 0.62)
_AT_A_TIME = 64

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PupilFits:
    """n fits: `centres_px` (n, 2) column and row at pixel centres, NaN where not `found` (n)."""

    centres_px: FloatArray
    found: NDArray[np.bool_]


def fit_pupils(images: NDArray[Any], iris: FloatArray, opening: FloatArray) -> PupilFits:
    """The pupils' centres in (n, H, W, C) images in [-1, 1].

    iris: (n, k, 2) points (column, row) evenly spread over the outline of each iris; opening: (n, m, 2) corners of the
    opening between the lids. Of colours the mean is taken.
    """
    grey = np.asarray(images, dtype=np.float64).mean(axis=3)
    parts = [
        _fit_some(grey[i : i + _AT_A_TIME], iris[i : i + _AT_A_TIME], opening[i : i + _AT_A_TIME])
        for i in range(0, len(grey), _AT_A_TIME)
    ]
    centres, found = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PupilFits(centres, found)


def _fit_some(
    grey: FloatArray, iris: FloatArray, opening: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    middle = iris.mean(axis=1)
    # Points of a circle have the covariance ½; every affine map takes it along.
    from_middle = iris - middle[:, None]
    shape = np.linalg.inv(2 * np.einsum("nki,nkj->nij", from_middle, from_middle) / iris.shape[1])
    radius = np.linalg.det(shape) ** -0.25
    places, levels, weights = _pixels_inside(grey, middle, shape, opening)
    there = weights.sum(axis=1) >= FEWEST_PIXELS
    model = _Model(places - middle[:, None], levels, weights, shape, radius)
    theta = model.start()
    centre, deviation = model.descend(theta)
    q, b = theta[:, 2], theta[:, 4]
    away = np.hypot(theta[:, 0], theta[:, 1]) / radius
    found = (
        there
        & (b >= LEAST_CONTRAST)
        & (q > SMALLEST)
        & (q < LARGEST)
        & (away < FARTHEST)
        & (deviation <= SUREST_PX)
    )
    return np.where(found[:, None], centre + middle, np.nan), found


class _Model:
    """n images of P pixels each: `x` (n, P, 2) from the iris's centre, grey `y` (n, P), `w` (n, P) 1 or 0."""

    def __init__(
        self, x: FloatArray, y: FloatArray, w: FloatArray, shape: FloatArray, radius: FloatArray
    ) -> None:
        self.x, self.y, self.w, self.shape, self.radius = x, y, w, shape, radius

    def start(self) -> FloatArray:
        """(n, 5) c, q, a, b: of all centres and sizes on the grid, those with the least squares; b above 0."""
        n = len(self.x)
        best, theta = np.full(n, np.inf), np.zeros((n, 5))
        total = np.maximum(self.w.sum(axis=1), 1)
        mean_y = (self.w * self.y).sum(axis=1) / total
        for u in _GRID:
            for v in _GRID:
                c = np.stack([u * self.radius, v * self.radius], axis=1)
                rho, _ = self._distance(c)
                for q in _SIZES:
                    edge = _edge((rho - q) * self.radius[:, None])
                    mean_e = (self.w * edge).sum(axis=1) / total
                    spread = (self.w * (edge - mean_e[:, None]) ** 2).sum(axis=1)
                    both = (self.w * (edge - mean_e[:, None]) * (self.y - mean_y[:, None])).sum(axis=1)
                    b = both / np.maximum(spread, 1e-9)
                    cost = np.where(
                        (b > 0) & (spread > 1e-3), -b * both, np.inf
                    )  # what the edge does not explain
                    row = np.column_stack([c, np.full(n, q), mean_y - b * mean_e, b])
                    theta = np.where((cost < best)[:, None], row, theta)
                    best = np.minimum(cost, best)
        return theta

    def descend(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Moves theta (n, 5) to the least squares, in place; returns centres (n, 2), the larger standard error (n)."""
        for _ in range(
            2
        ):  # what is far from the fit is told by how far most pixels are, which is known better then
            scale = self._scale(theta)
            normal = self._descend(theta, scale)
        noise = self._scale(theta)
        covariance = np.linalg.pinv(normal, hermitian=True) * (noise**2)[:, None, None]
        deviation = np.sqrt(np.maximum(covariance[:, 0, 0], covariance[:, 1, 1]).clip(0))
        return theta[:, :2].copy(), deviation

    def _descend(self, theta: FloatArray, scale: FloatArray) -> FloatArray:
        """Levenberg and Marquardt's rounds; returns JᵀWJ (n, 5, 5) where they end."""
        damping = np.full(len(theta), 1e-2)
        cost, normal, gradient = self._normal(theta, scale)
        for _ in range(_ROUNDS):
            diagonal = np.maximum(np.einsum("nii->ni", normal), 1e-9)
            damped = normal + damping[:, None, None] * np.eye(5) * diagonal[:, None]
            trial = theta - np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
            trial[:, 2] = trial[:, 2].clip(0.5 * SMALLEST, 1.2 * LARGEST)
            new_cost, new_normal, new_gradient = self._normal(trial, scale)
            better = new_cost <= cost
            theta[better], cost[better] = trial[better], new_cost[better]
            normal[better], gradient[better] = new_normal[better], new_gradient[better]
            damping = np.where(better, damping * 0.3, damping * 5).clip(1e-6, 1e6)
        return normal

    def _scale(self, theta: FloatArray) -> FloatArray:
        """(n,) the residuals' deviation, by their median; at least `LEAST_NOISE`."""
        r, _, _ = self._residuals(theta)
        return 1.4826 * _median(np.where(self.w > 0, np.abs(r), np.nan)).clip(LEAST_NOISE / 1.4826)

    def _normal(self, theta: FloatArray, scale: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Huber's cost (n), JᵀWJ (n, 5, 5) and JᵀWr (n, 5)."""
        r, edge, slope = self._residuals(theta)
        steep = theta[:, 4, None] * 2 * edge * (1 - edge) * self.radius[:, None] / EDGE_PX
        columns = (steep[..., None] * slope, -steep[..., None], np.ones_like(r)[..., None], edge[..., None])
        jacobian = np.concatenate(columns, axis=2)
        size, limit = np.abs(r), _HUBER * scale[:, None]
        weight = self.w * np.minimum(1, limit / np.maximum(size, 1e-12))
        loss = np.where(size <= limit, 0.5 * r * r, limit * (size - 0.5 * limit))
        weighted = jacobian * weight[..., None]
        normal = np.einsum("npi,npj->nij", weighted, jacobian)
        return (self.w * loss).sum(axis=1), normal, np.einsum("npi,np->ni", weighted, r)

    def _residuals(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(n, P) model − grey, the edge's values, and the derivative (n, P, 2) of ρ by the centre."""
        rho, slope = self._distance(theta[:, :2])
        edge = _edge((rho - theta[:, 2, None]) * self.radius[:, None])
        return theta[:, 3, None] + theta[:, 4, None] * edge - self.y, edge, slope

    def _distance(self, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ρ about the centres c, (n, P), and its derivative by c, (n, P, 2)."""
        d = self.x - c[:, None]
        pulled = np.einsum("nij,npj->npi", self.shape, d)
        rho = np.sqrt((pulled * d).sum(axis=2).clip(1e-9))
        return rho, -pulled / rho[..., None]


def _edge(distance_px: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(distance_px / EDGE_PX)))


def _median(values: FloatArray) -> FloatArray:
    """Over the second axis, without NaN; 0 where nothing is there."""
    empty = np.isnan(values).all(axis=1, keepdims=True)
    return np.asarray(np.nanmedian(np.where(empty, 0.0, values), axis=1))


def _pixels_inside(
    grey: FloatArray, middle: FloatArray, shape: FloatArray, opening: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Places (n, P, 2), grey levels (n, P) and weights (n, P) of the pixels inside iris and opening, 0 for padding."""
    n, height, width = grey.shape
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)
    d = pixels[None] - middle[:, None]
    inside = (np.einsum("nij,npj->npi", shape, d) * d).sum(axis=2) < INSIDE**2
    inside &= _in_polygon(pixels, opening)
    most = max(int(inside.sum(axis=1).max()), 1)
    order = np.argsort(~inside, axis=1, kind="stable")[:, :most]
    weights = np.take_along_axis(inside, order, axis=1).astype(np.float64)
    return pixels[order], np.take_along_axis(grey.reshape(n, -1), order, axis=1), weights


def _in_polygon(points: FloatArray, corners: FloatArray) -> NDArray[np.bool_]:
    """(n, P) whether each of (P, 2) points lies in each of n polygons (n, m, 2): a ray crosses sides oddly often."""
    inside = np.zeros((len(corners), len(points)), dtype=bool)
    x, y = points[None, :, 0], points[None, :, 1]
    for k in range(corners.shape[1]):
        (x0, y0), (x1, y1) = corners[:, k - 1].T[:, :, None], corners[:, k].T[:, :, None]
        spans = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        inside ^= spans & (x < crossing)
    return inside
