"""Can the two sides match at all? Warnings about labels and levels that no refiner can bring together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from simgan.evaluation.inputs import ImageSet, Inputs
from simgan.images import ValueRange

_UNLIKELY = 0.001  # a difference of label distributions less likely than this by chance …
_TOO_FAR = 0.1  # … and larger than this share is worth a warning
_LEVEL_GAP = 0.25  # of the value range, between the ends of the levels that two sides use


def warn_of_labels(inputs: Inputs) -> Iterator[str]:
    """One sentence per distribution of labels that differs between synthetic and real test images."""
    synthetic, test = inputs.synthetic.labels, inputs.test.labels if inputs.test is not None else None
    if synthetic is None or test is None:
        return
    next_step = "let the simulator draw labels as they occur in reality, or bear it in mind"
    if synthetic.kind == "class":
        counts = np.stack([np.bincount(one.values, minlength=len(one.names)) for one in (synthetic, test)])
        shares = counts / counts.sum(axis=1, keepdims=True)
        distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
        if distance > _TOO_FAR and chi2_contingency(counts[:, counts.sum(axis=0) > 0]).pvalue < _UNLIKELY:
            most = int(np.argmax(np.abs(shares[0] - shares[1])))
            yield (
                f"the classes are not equally frequent: {distance:.0%} of the labels would have to change "
                f"for synthetic to match real_labelled; most of all {synthetic.names[most]!r}, "
                f"{shares[0][most]:.1%} of the synthetic and {shares[1][most]:.1%} of the real ones; "
                f"{next_step}"
            )
        return
    for column, name in enumerate(synthetic.names):
        drawn, real = synthetic.values[:, column], test.values[:, column]
        outside = float(np.mean((real < drawn.min()) | (real > drawn.max())))
        test_result = ks_2samp(drawn, real)
        if outside > _TOO_FAR / 2:
            yield (
                f"{outside:.0%} of the real labels {name!r} lie outside the synthetic range "
                f"{drawn.min():.4g} to {drawn.max():.4g}: no training image shows such values; {next_step}"
            )
        elif test_result.statistic > _TOO_FAR and test_result.pvalue < _UNLIKELY:
            yield (
                f"the labels {name!r} are distributed otherwise: mean {drawn.mean():.4g} ± {drawn.std():.4g} "
                f"synthetic, {real.mean():.4g} ± {real.std():.4g} real; {next_step}"
            )


def warn_of_levels(inputs: Inputs) -> Iterator[str]:
    """One sentence per way in which the levels alone tell synthetic or refined files from real ones."""
    real = inputs.real.cache.scan
    for one in (inputs.synthetic, inputs.refined):
        scan = one.cache.scan
        if scan.step != real.step and max(scan.step, real.step) > 1:
            yield (
                f"{one.name} images use every level that is a multiple of {scan.step}, real ones of "
                f"{real.step}: the levels alone tell them apart; store both with the same levels, or declare "
                f"the real value range when refining"
            )
    scale = inputs.value_range
    ends = {one.name: _used_levels(one, scale) for one in (inputs.synthetic, inputs.refined, inputs.real)}
    for name in ("synthetic", "refined"):
        gaps = np.abs(ends[name] - ends["real"]) / 2
        if gaps.max() > _LEVEL_GAP:
            low, high = ((ends[name] + 1) / 2 * (scale.high - scale.low) + scale.low).round()
            real_low, real_high = ((ends["real"] + 1) / 2 * (scale.high - scale.low) + scale.low).round()
            yield (
                f"{name} images use levels {low:.0f} to {high:.0f} (1st to 99th percentile), real ones "
                f"{real_low:.0f} to {real_high:.0f}: check that both were taken to the same scale"
            )


def _used_levels(images: ImageSet, scale: ValueRange) -> NDArray[np.float64]:
    """1st and 99th percentile of the encoded valid pixels of up to 500 images spread over the set."""
    spread = images.take(np.unique(np.linspace(0, len(images) - 1, 500).round().astype(np.int64)))
    levels = spread.encode(scale)[~spread.holes(scale)]
    return np.asarray(np.percentile(levels, [1, 99])) if len(levels) else np.array([-1.0, -1.0])
