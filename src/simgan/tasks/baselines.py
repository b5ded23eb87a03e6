"""The gaze estimators of the paper's Table 3 beside its network: k nearest neighbours, support vector regression,
random forest, and adaptive linear regression.

All see the image alone, as a small grey picture of mean 0 and length 1, and answer with a unit vector. The works that
Table 3 cites also give them the head pose, and cluster by it; that is not done here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import lars_path
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.svm import SVR

from simgan.nn.gaze import unit_vectors
from simgan.tasks.training import as_tensor

GRID = (9, 15)
"""Rows and columns of the features of k-NN, support vector regression and random forest: 135 numbers."""
COARSE_GRID = (3, 5)
"""Those of adaptive linear regression: 15 numbers (Lu et al., PAMI 2014)."""
NEIGHBOURS = 5
MOST_VECTORS = 5000
"""Support vector regression takes at most so many images, drawn by seed: its cost grows with their square."""
SUPPORT = 200
"""Adaptive linear regression chooses its few images among so many nearest ones."""
RESIDUAL = 0.1
"""ε of adaptive linear regression: how far, of length 1, the combined image may be from the one to be read."""

FloatArray = NDArray[np.floating]


class Baseline(Protocol):
    """Something fitted: images → gaze."""

    def predict(self, images: FloatArray) -> NDArray[np.float64]:
        """(n, H, W, C) images in [-1, 1] → (n, 3) unit gaze vectors."""
        ...


def eye_features(images: FloatArray, grid: tuple[int, int] = GRID) -> NDArray[np.float64]:
    """(n, rows · columns) mean levels over a grid, all channels together, of mean 0 and length 1 for each image."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(as_tensor(images).mean(dim=1, keepdim=True), grid)
    flat = pooled.flatten(1).double().numpy()
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.where(length > 0, length, 1.0))


class _Regressor:
    """A scikit-learn regressor on `eye_features`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, images: FloatArray) -> NDArray[np.float64]:
        """See `Baseline`."""
        return unit_vectors(self._model.predict(eye_features(images)))


class AdaptiveLinearRegression:
    """Lu et al.: the gaze of an image is that of the few training images which combine to it.

    For each image e:  ŵ = argmin ‖w‖₁  so that  ‖E w − e‖₂ ≤ ε,  ĝ = G ŵ,  with E the features and G the gaze of its
    `SUPPORT` nearest training images. The path of the lasso passes through the solution: its first point with that
    residual, between two breakpoints. Where no combination comes so near, it is the end of the path.
    """

    def __init__(self, images: FloatArray, gaze: FloatArray) -> None:
        self._features = eye_features(images, COARSE_GRID)
        self._gaze = np.asarray(gaze, dtype=np.float64)
        self._search = NearestNeighbors(n_neighbors=min(SUPPORT, len(gaze))).fit(self._features)

    def predict(self, images: FloatArray) -> NDArray[np.float64]:
        """See `Baseline`."""
        features = eye_features(images, COARSE_GRID)
        near = self._search.kneighbors(features, return_distance=False)
        rows = [
            self._gaze[chosen].T @ sparsest_weights(self._features[chosen].T, one, RESIDUAL)
            for chosen, one in zip(near, features, strict=True)
        ]
        return unit_vectors(np.stack(rows))


def sparsest_weights(
    basis: NDArray[np.float64], wanted: NDArray[np.float64], residual: float
) -> NDArray[np.float64]:
    """(m,) argmin ‖w‖₁ so that ‖basis · w − wanted‖ ≤ residual; basis (d, m), wanted (d,)."""
    _, _, path = lars_path(basis, wanted, method="lasso")
    distances = np.linalg.norm(basis @ path - wanted[:, None], axis=0)
    reached = np.flatnonzero(distances <= residual)
    if len(reached) == 0 or reached[0] == 0:
        return np.asarray(path[:, -1 if len(reached) == 0 else 0])
    before, after = path[:, reached[0] - 1], path[:, reached[0]]
    # Between breakpoints the path is a straight line: ‖r + t·s‖² = residual², t the smaller root in [0, 1].
    r, s = basis @ before - wanted, basis @ (after - before)
    a, b, c = s @ s, r @ s, r @ r - residual**2
    t = (-b - np.sqrt(max(b * b - a * c, 0.0))) / a
    return np.asarray(before + t * (after - before))


def fit_neighbours(images: FloatArray, gaze: FloatArray, *, seed: int) -> Baseline:
    """k-NN: the mean gaze of the 5 nearest training images, weighted by 1/distance."""
    model = KNeighborsRegressor(min(NEIGHBOURS, len(gaze)), weights="distance")
    return _Regressor(model.fit(eye_features(images), gaze))


def fit_support_vectors(images: FloatArray, gaze: FloatArray, *, seed: int) -> Baseline:
    """Support vector regression with a Gaussian kernel, one for each component of the gaze."""
    chosen = np.random.default_rng(seed).permutation(len(gaze))[:MOST_VECTORS]
    model = MultiOutputRegressor(SVR(C=1.0, epsilon=0.02))
    return _Regressor(model.fit(eye_features(images[chosen]), gaze[chosen]))


def fit_forest(images: FloatArray, gaze: FloatArray, *, seed: int) -> Baseline:
    """A random forest of 100 trees."""
    model = RandomForestRegressor(100, min_samples_leaf=2, max_features=1 / 3, random_state=seed)
    return _Regressor(model.fit(eye_features(images), gaze))


def fit_adaptive(images: FloatArray, gaze: FloatArray, *, seed: int) -> Baseline:
    """Adaptive linear regression; nothing in it is random."""
    return AdaptiveLinearRegression(images, gaze)


BASELINES: dict[str, Callable[..., Baseline]] = {
    "k-NN": fit_neighbours,
    "support vector regression": fit_support_vectors,
    "random forest": fit_forest,
    "adaptive linear regression": fit_adaptive,
}
