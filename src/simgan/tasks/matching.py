"""Matching without learning: give every synthetic image the grey levels of a real one.

This is the opponent that a refiner has to beat. It knows nothing of place or texture; it moves levels only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from simgan.nn.level_matching import LevelMatching

Holes = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Pixels without a level, of the synthetic and of the real images: left out, and left as they are."""


def match_to_real(
    synthetic: NDArray[Any],
    real: NDArray[Any],
    *,
    seed: int,
    histogram: bool = True,
    holes: Holes | None = None,
) -> NDArray[np.float32]:
    """Each synthetic image with the levels of one real image drawn by `seed`; float32, shape of `synthetic`.

    synthetic (n, H, W, C), real (m, h, w, C): numbers on one scale; the sizes may differ.
    histogram=True: channel by channel the whole histogram, x' = F_real⁻¹(F_synthetic(x)); equal levels stay
    equal. histogram=False: mean and standard deviation alone, x' = m_real + s_real · (x − m)/s.
    Partners are dealt out in shuffled rounds, so that every real image is used equally often.
    """
    if synthetic.shape[-1] != real.shape[-1]:
        raise ValueError(f"{synthetic.shape[-1]} synthetic against {real.shape[-1]} real channels")
    partners = deal_partners(len(synthetic), len(real), seed=seed)
    return _match_pairs(
        match_histogram if histogram else match_moments, synthetic, real, partners, holes=holes
    )


def match_by_rank(
    synthetic: NDArray[Any], real: NDArray[Any], *, holes: Holes | None = None
) -> NDArray[np.float32]:
    """Each synthetic image with the histogram of the real image whose mean level has the same rank, see
    `simgan.nn.level_matching`: the partner for which levels move least; float32, shape of `synthetic`.
    """
    if holes is not None:
        partners = _partners_by_rank(_mean_levels(synthetic, holes[0]), _mean_levels(real, holes[1]))
        return _match_pairs(match_histogram, synthetic, real, partners, holes=holes)
    first, second = (
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)) for x in (synthetic, real)
    )
    matched = LevelMatching.fit(synthetic=first, real=second)(first)
    return np.ascontiguousarray(matched.numpy().transpose(0, 2, 3, 1))


def deal_partners(n: int, m: int, *, seed: int) -> NDArray[np.int64]:
    """For each of n images the number of one of m others: shuffled rounds through all m."""
    generator = np.random.default_rng(seed)
    rounds = [generator.permutation(m) for _ in range(-(-n // m))]
    return np.concatenate(rounds)[:n].astype(np.int64)


def _mean_levels(images: NDArray[Any], holes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n,) means over the pixels that have a level; NaN where an image has none."""
    axes = tuple(range(1, images.ndim))
    counts = (~holes).sum(axis=axes)
    sums = np.where(holes, 0.0, images).sum(axis=axes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _partners_by_rank(synthetic: NDArray[np.float64], real: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each synthetic mean level the number of the real image whose mean has its rank."""
    known = np.flatnonzero(~np.isnan(real))
    partners = np.zeros(len(synthetic), dtype=np.int64)
    drawn = np.flatnonzero(~np.isnan(synthetic))
    if len(known) and len(drawn):
        order = known[np.argsort(real[known], kind="stable")]
        middle = (rankdata(synthetic[drawn]) - 0.5) / len(drawn)
        partners[drawn] = order[np.minimum((middle * len(order)).astype(np.int64), len(order) - 1)]
    return partners


def _match_pairs(
    match: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]],
    synthetic: NDArray[Any],
    real: NDArray[Any],
    partners: NDArray[np.int64],
    *,
    holes: Holes | None,
) -> NDArray[np.float32]:
    """Each synthetic image matched to its partner, channel by channel, where both have levels."""
    out = np.array(synthetic, dtype=np.float32)
    for i, partner in enumerate(partners):
        for channel in range(synthetic.shape[-1]):
            image, target = out[i, ..., channel], real[partner, ..., channel]
            if holes is None:
                out[i, ..., channel] = match(synthetic[i, ..., channel], target)
                continue
            valid, wanted = ~holes[0][i, ..., channel], ~holes[1][partner, ..., channel]
            if valid.any() and wanted.any():
                image[valid] = match(synthetic[i, ..., channel][valid], target[wanted])
    return out


def match_histogram(image: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float32]:
    """`image` with the levels of `target`: F_target⁻¹ at the middle of each level's step in F_image."""
    levels, place, counts = np.unique(image.ravel(), return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / image.size
    sorted_target = np.sort(target.ravel()).astype(np.float64)
    grid = (np.arange(sorted_target.size) + 0.5) / sorted_target.size
    mapped = np.interp(middle, grid, sorted_target)
    assert len(mapped) == len(levels)
    return mapped[place].reshape(image.shape).astype(np.float32)


def match_moments(image: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float32]:
    """`image` shifted and stretched to the mean and standard deviation of `target`."""
    centred = image.astype(np.float64) - image.mean()
    spread = centred.std()
    stretch = target.std() / spread if spread > 0 else 0.0
    return np.asarray(target.mean() + stretch * centred, dtype=np.float32)
