"""How real? Each side against real images, beside the floor: real images against other real images."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgan.evaluation.downstream import Progress, match_levels
from simgan.evaluation.inputs import FloatImages, Inputs
from simgan.measures import sliced_wasserstein, two_sample_auc

MOST_COMPARED = 1000
FEWEST_COMPARED = 10


def measure_realism(
    inputs: Inputs, *, matching: str, seed: int, progress: Progress
) -> tuple[dict[str, Any] | None, str | None]:
    """The `realism` part of evaluation.json, or None and the reason.

    All comparisons are with the same n real images and have n images on the other side (at most 1,000),
    because both measures depend on n: synthetic, synthetic_matched, refined, and `floor`, n other real
    images. AUC 0.5: cannot be told apart. sliced_wasserstein: whole images as points, levels on [-1, 1].
    """
    scale = inputs.value_range
    n = min(len(inputs.synthetic), len(inputs.refined), len(inputs.real) // 2, MOST_COMPARED)
    if n < FEWEST_COMPARED:
        return None, (
            f"realism was not measured: it needs {FEWEST_COMPARED} synthetic, {FEWEST_COMPARED} refined and "
            f"{2 * FEWEST_COMPARED} real images; there are {len(inputs.synthetic)}, "
            f"{len(inputs.refined)} and {len(inputs.real)}"
        )
    generator = np.random.default_rng((seed, 3))
    drawn = generator.permutation(len(inputs.real))
    reference = inputs.real.take(drawn[:n]).encode(scale)
    synthetic = generator.permutation(len(inputs.synthetic))[:n]
    refined = generator.permutation(len(inputs.refined))[:n]
    sides: dict[str, FloatImages] = {
        "synthetic": inputs.synthetic.take(synthetic).encode(scale),
        "synthetic_matched": match_levels(inputs, matching, seed=seed)[synthetic],
        "refined": inputs.refined.take(refined).encode(scale),
        "floor": inputs.real.take(drawn[n : 2 * n]).encode(scale),
    }
    result: dict[str, Any] = {"n": n}
    for name, images in sides.items():
        progress(f"realism of {name}")
        test = two_sample_auc(reference, images, seed=seed)
        result[name] = {
            "auc": test.auc,
            "auc_low": test.low,
            "auc_high": test.high,
            "sliced_wasserstein": sliced_wasserstein(reference, images, seed=seed),
        }
    return result, None
