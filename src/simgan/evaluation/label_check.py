"""Did the labels survive? A judge that knows both worlds reads refined images and unseen real ones alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.labels import Labels
from simgan.evaluation.downstream import Arm, Budget, Progress, derive_seeds, halves, train_arm, values_of
from simgan.evaluation.inputs import ImageSet, Inputs
from simgan.measures import percentile_interval, wilson_difference, wilson_interval
from simgan.tasks import TaskModel

TOLERANCE_POINTS = 1.0
_REPLICATES = 2000


def check_labels(inputs: Inputs, *, budget: Budget, seed: int, progress: Progress) -> dict[str, Any]:
    """The `labels` part of evaluation.json.

    Two judges, each trained on the labelled real_dev images and half of the synthetic ones, in equal shares.
    Each reads the refinements of the half that it has not seen, and both read the real test images (their
    mean). judge_on_refined, judge_on_real: accuracy; for values the skill 1 − error/(error of always
    answering the mean label of the same images). `difference_points`: 100 × (refined − real). It `holds`
    when refined images are read at most one point worse than real ones; being read better is no fault.
    Real images may be harder to read; judge_on_synthetic, the same for the originals, shows what refining cost:
    `cost_points` = 100 × (synthetic − refined).
    Intervals are 95 %: Wilson's for accuracies, the bootstrap over images for skills.
    """
    test, refined = inputs.test, inputs.refined
    assert test is not None
    assert test.labels is not None
    seeds = derive_seeds(seed, 2, purpose="judges")
    parts = halves(inputs, seed=seed)
    synthetic_places = {path: i for i, path in enumerate(inputs.synthetic.paths)}
    first = set(parts[0].tolist())
    in_first = np.array([synthetic_places.get(path) in first for path in refined.paths])
    errors_refined = np.zeros(len(refined))
    errors_synthetic = np.zeros(len(inputs.synthetic))
    errors_real = np.zeros(len(test))
    for k, unseen in enumerate((~in_first, in_first)):
        progress(f"label check, judge {k + 1} of 2")
        seen = parts[0] if k == 0 else np.setdiff1d(np.arange(len(inputs.synthetic)), parts[0])
        judge = _train_judge(inputs, inputs.synthetic.take(seen), test.labels, budget, seeds[k])
        originals = np.setdiff1d(np.arange(len(inputs.synthetic)), seen)
        errors_synthetic[originals] = _read(judge, inputs.synthetic.take(originals), inputs)
        errors_real += _read(judge, test, inputs) / 2
        if unseen.any():
            errors_refined[unseen] = _read(judge, refined.take(np.flatnonzero(unseen)), inputs)
    if test.labels.kind == "class":
        result = _compare_accuracy(errors_refined, errors_real)
        on_synthetic = _compare_accuracy(errors_synthetic, errors_real)
    else:
        real = (errors_real, values_of(test), seed)
        result = _compare_skill(errors_refined, values_of(refined), *real)
        on_synthetic = _compare_skill(errors_synthetic, values_of(inputs.synthetic), *real)
    for end in ("", "_low", "_high"):
        result[f"judge_on_synthetic{end}"] = on_synthetic[f"judge_on_refined{end}"]
    result["n_synthetic"] = len(inputs.synthetic)
    result["cost_points"] = 100 * (result["judge_on_synthetic"] - result["judge_on_refined"])
    return result


def _read(judge: TaskModel, images: ImageSet, inputs: Inputs) -> NDArray[np.float64]:
    return judge.errors(images.encode(inputs.value_range), values_of(images))


def _train_judge(inputs: Inputs, synthetic: ImageSet, labels: Labels, budget: Budget, seed: int) -> TaskModel:
    """Real and synthetic images in equal shares: the smaller set is repeated."""
    dev = inputs.dev
    assert dev is not None
    size = max(len(dev), len(synthetic))
    sets = [one.take(np.resize(np.arange(len(one)), size)) for one in (dev, synthetic)]
    images = np.concatenate([one.encode(inputs.value_range) for one in sets])
    values: Any = np.concatenate([values_of(one) for one in sets])
    return train_arm(Arm(images, values, len(dev) + len(synthetic)), labels, budget, seed=seed)


def _compare_accuracy(refined: NDArray[np.float64], real: NDArray[np.float64]) -> dict[str, Any]:
    on_refined, on_real = 1 - float(refined.mean()), 1 - float(real.mean())
    low, high = wilson_difference(on_refined, len(refined), on_real, len(real))
    intervals = wilson_interval(on_refined, len(refined)), wilson_interval(on_real, len(real))
    return _result("accuracy", on_refined, on_real, intervals, (low, high), (len(refined), len(real)))


def _compare_skill(
    refined: NDArray[np.float64],
    refined_labels: NDArray[Any],
    real: NDArray[np.float64],
    real_labels: NDArray[Any],
    seed: int,
) -> dict[str, Any]:
    generator = np.random.default_rng((seed, 4))
    skills, replicates = [], []
    for errors, labels in ((refined, refined_labels), (real, real_labels)):
        guess = np.linalg.norm(labels - labels.mean(axis=0), axis=1)
        drawn = generator.integers(len(errors), size=(_REPLICATES, len(errors)))
        spread = max(float(guess.mean()), 1e-12)
        skills.append(1 - float(errors.mean()) / spread)
        replicates.append(1 - errors[drawn].mean(axis=1) / np.maximum(guess[drawn].mean(axis=1), 1e-12))
    intervals = percentile_interval(replicates[0]), percentile_interval(replicates[1])
    between = percentile_interval(replicates[0] - replicates[1])
    return _result("skill", skills[0], skills[1], intervals, between, (len(refined), len(real)))


def _result(
    metric: str,
    on_refined: float,
    on_real: float,
    intervals: tuple[tuple[float, float], tuple[float, float]],
    between: tuple[float, float],
    counts: tuple[int, int],
) -> dict[str, Any]:
    difference = 100 * (on_refined - on_real)
    return {
        "metric": metric,
        "judge_on_refined": on_refined,
        "judge_on_refined_low": intervals[0][0],
        "judge_on_refined_high": intervals[0][1],
        "judge_on_real": on_real,
        "judge_on_real_low": intervals[1][0],
        "judge_on_real_high": intervals[1][1],
        "difference_points": difference,
        "low": 100 * between[0],
        "high": 100 * between[1],
        "tolerance_points": TOLERANCE_POINTS,
        "holds": difference >= -TOLERANCE_POINTS - 1e-9,
        "n_refined": counts[0],
        "n_real": counts[1],
    }
