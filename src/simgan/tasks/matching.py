"""Matching without learning: give every synthetic image the grey levels of a real one.

This is the opponent that a refiner has to beat. It knows nothing of place or texture; it moves levels only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.nn.level_matching import LevelMatching


def match_to_real(
    synthetic: NDArray[Any], real: NDArray[Any], *, seed: int, histogram: bool = True
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
    match = match_histogram if histogram else match_moments
    out = np.empty(synthetic.shape, dtype=np.float32)
    for i, partner in enumerate(partners):
        for channel in range(synthetic.shape[-1]):
            out[i, ..., channel] = match(synthetic[i, ..., channel], real[partner, ..., channel])
    return out


def match_by_rank(synthetic: NDArray[Any], real: NDArray[Any]) -> NDArray[np.float32]:
    """Each synthetic image with the histogram of the real image whose mean level has the same rank, see
    `simgan.nn.level_matching`: the partner for which levels move least; float32, shape of `synthetic`.
    """
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
