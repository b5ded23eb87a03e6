"""Sliced Wasserstein distance: how far one cloud of images must move to become the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS_AT_A_TIME = 2**24  # projected at once: bounds the float64 copy of large images


def sliced_wasserstein(a: NDArray[Any], b: NDArray[Any], *, n_projections: int = 128, seed: int = 0) -> float:
    """Mean over random unit directions u of the 1-D distance W₁(a·u, b·u); 0 for equal sets, in units of a.

    a: (n, ...), b: (m, ...); everything behind the first axis is flattened, so images are compared as points
    in pixel space. W₁ of two samples is ∫|F_a⁻¹(q) − F_b⁻¹(q)| dq, exact also for n ≠ m. On images in [-1, 1]
    a shift of all pixels by δ gives about 0.8·δ when neighbouring directions average out.
    The finite-sample floor depends on n and m: compare only numbers measured at equal sizes.
    """
    if not len(a) or not len(b):
        raise ValueError("both sets need at least one row")
    first, second = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"a has {first.shape[1]} numbers per row, b has {second.shape[1]}")
    directions = np.random.default_rng(seed).standard_normal((first.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    return float(_wasserstein_1d(_project(first, directions), _project(second, directions)).mean())


def _project(rows: NDArray[Any], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    step = max(1, _NUMBERS_AT_A_TIME // max(rows.shape[1], 1))
    parts = [rows[i : i + step].astype(np.float64) @ directions for i in range(0, len(rows), step)]
    return np.concatenate(parts)


def _wasserstein_1d(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """W₁ per column of (n, k) and (m, k). Quantile steps are counted in whole units of 1/(n·m)."""
    n, m = len(a), len(b)
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    weights = np.diff(edges) / (n * m)
    steps = np.abs(a[edges[:-1] // m] - b[edges[:-1] // n])
    return np.asarray(weights @ steps)
