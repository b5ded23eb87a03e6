"""The two-sample test by a classifier: how well can one learn to tell two sets of images apart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.measures.descriptors import describe_images
from simgan.measures.intervals import wilson_interval


@dataclass(frozen=True)
class TwoSampleResult:
    """AUC in [0, 1] with its 95 % interval: 0.5 cannot be told apart, 1 always."""

    auc: float
    low: float
    high: float


def two_sample_auc(a: NDArray[Any], b: NDArray[Any], *, folds: int = 5, seed: int = 0) -> TwoSampleResult:
    """Cross-validated AUC of a support vector machine (RBF) that tells rows of b from rows of a.

    a, b: (n, d) numbers, or (n, H, W, C) images in [-1, 1], which are described by `describe_images` first.
    Mean over folds of the AUC on rows that the fold's classifier did not see.
    The interval takes rows as independent: the variance of an AUC never exceeds AUC(1 − AUC)/min(n_a, n_b)
    (Birnbaum & Klose, 1957), so it is Wilson's interval at that n, which also holds at AUC = 1.
    """
    if min(len(a), len(b)) < folds:
        raise ValueError(f"{folds} folds need as many rows on each side, got {len(a)} and {len(b)}")
    if a.ndim == 4:
        a, b = describe_images(a), describe_images(b)
    # Slow to load, see simgan.measures.
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    # scikit-learn's seeds have 32 bits
    rows = np.concatenate([a, b]).astype(np.float64)
    is_b = np.repeat([0, 1], [len(a), len(b)])
    aucs = []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(rows, is_b):
        classifier = make_pipeline(StandardScaler(), SVC(C=1.0))
        classifier.fit(rows[train], is_b[train])
        aucs.append(area_under_curve(classifier.decision_function(rows[test]), is_b[test]))
    auc = float(np.mean(aucs))
    low, high = wilson_interval(auc, min(len(a), len(b)))
    return TwoSampleResult(auc, low, high)


def area_under_curve(scores: NDArray[Any], is_positive: NDArray[Any]) -> float:
    """P(score of a positive > score of a negative) + P(equal)/2, by ranks."""
    from scipy.stats import rankdata  # slow to load, see simgan.measures

    positive = np.asarray(is_positive, dtype=bool)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
