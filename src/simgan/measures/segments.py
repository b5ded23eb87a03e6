"""How well class masks agree: intersection over union."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.integer]


def confusions(predicted: Masks, masks: Masks, classes: int) -> NDArray[np.int64]:
    """(n, classes, classes) pixel counts of each image: [i, true class, predicted class]. Masks are (n, H, W)."""
    if predicted.shape != masks.shape or masks.ndim != 3:
        raise ValueError(f"two sets (n, H, W) of masks are wanted, got {predicted.shape} and {masks.shape}")
    n = len(masks)
    pair = masks.astype(np.int64) * classes + predicted + np.arange(n)[:, None, None] * classes**2
    return np.bincount(pair.ravel(), minlength=n * classes**2).reshape(n, classes, classes)


def mean_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(…) mean over classes of |true ∩ predicted| / |true ∪ predicted| of (…, classes, classes) confusions.

    A class that is in neither is left out of the mean. Of each image: pass (n, …); of a whole set: their sum.
    """
    both = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - both
    there = union > 0
    iou = np.where(there, both / np.where(there, union, 1), 0.0)
    return np.asarray(iou.sum(axis=-1) / there.sum(axis=-1))
