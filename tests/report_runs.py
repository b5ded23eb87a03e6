"""Small runs and hand-made evaluation records for the tests of reporting."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from simgan.evaluation import Evaluation
from simgan.training.loop import train
from tiny_runs import Overrides, write_sides

HOSTILE = "<img src=x onerror=alert(1)>&'\".png"


def make_run(folder: Path, *, synthetic: int = 10, overrides: Overrides | None = None, **kind: Any) -> Path:
    """A finished run, on images of which one on each side has a hostile name."""
    sides = write_sides(folder, synthetic=synthetic, real=40, **kind)
    for side in ("synthetic", "real"):
        (folder / side / "005.png").rename(folder / side / HOSTILE)
    small = {
        "training.steps": 4,
        "run.checkpoint_every": 2,
        "run.log_every": 1,
        "objective.self_regularization_weight": 0.1,
        "objective.task_consistency_weight": 0.0,
        "data.level_matching": False,
    }
    train("default", run_dir=folder / "run", overrides=sides | small | (overrides or {}))
    return folder / "run"


def _arm(mean: float) -> dict[str, float]:
    return {
        "mean": mean,
        "low": mean - 0.02,
        "high": mean + 0.02,
        "n_seeds": 3,
        "n_test": 599,
        "n_train": 1000,
    }


_SET = {"root": "data/some", "n": 599, "sha256": "0" * 64}

RECORD: dict[str, Any] = {
    "schema": 1,
    "seed": 0,
    "created": "2026-01-02T03:04:05+00:00",
    "versions": {"python": "3.11.7", "simgan": "0.1.0"},
    "command": "simgan evaluate runs/a --real-labelled data/test",
    "synthetic": {**_SET, "generator": "digits", "version": "1"},
    "refined": _SET,
    "real": _SET,
    "real_labelled": _SET,
    "real_dev": _SET,
    "value_range": {"low": 0, "high": 240, "step": 1, "invalid": None},
    "budget": {"updates": 300, "batch_size": 64, "mirror": False},
    "matching": {"chosen": "histogram", "error_on_real_dev": None},
    "realism": {
        "n": 350,
        "synthetic": {"auc": 0.99, "auc_low": 0.98, "auc_high": 1.0, "sliced_wasserstein": 0.25},
        "synthetic_matched": {"auc": 0.97, "auc_low": 0.96, "auc_high": 0.98, "sliced_wasserstein": 0.2},
        "refined": {"auc": 0.8, "auc_low": 0.77, "auc_high": 0.83, "sliced_wasserstein": 0.15},
        "floor": {"auc": 0.53, "auc_low": 0.48, "auc_high": 0.58, "sliced_wasserstein": 0.05},
    },
    "downstream": {
        "task": "classification",
        "metric": "accuracy",
        "higher_is_better": True,
        "unit": "share of images",
        "synthetic_plain": _arm(0.6),
        "synthetic": _arm(0.7),
        "synthetic_matched": _arm(0.719),
        "refined": _arm(0.741),
        "real": _arm(0.832),
        "gain": {
            "over_synthetic": {"mean": 0.041, "low": 0.029, "high": 0.053},
            "over_synthetic_matched": {"mean": 0.022, "low": 0.01, "high": 0.034},
        },
        "gap_closed": {"median": 0.31, "low": 0.22, "high": 0.4, "n_seeds": 1},
        "reason": None,
    },
    "labels": {
        "metric": "accuracy",
        "judge_on_refined": 0.968,
        "judge_on_refined_low": 0.95,
        "judge_on_refined_high": 0.98,
        "judge_on_real": 0.971,
        "judge_on_real_low": 0.955,
        "judge_on_real_high": 0.985,
        "judge_on_synthetic": 0.975,
        "judge_on_synthetic_low": 0.964,
        "judge_on_synthetic_high": 0.983,
        "cost_points": 0.7,
        "difference_points": -0.3,
        "low": -2.0,
        "high": 1.4,
        "tolerance_points": 1.0,
        "holds": True,
        "n_refined": 1000,
        "n_synthetic": 1000,
        "n_real": 599,
    },
    "warnings": ["the classes are not equally frequent"],
}


def changed(**changes: Any) -> dict[str, Any]:
    """The record with values at dotted paths replaced ("downstream__gain__over_synthetic" for dots)."""
    record = copy.deepcopy(RECORD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = record
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return record


def gain(mean: float, low: float, high: float) -> dict[str, float]:
    """A gain with its interval."""
    return {"mean": mean, "low": low, "high": high}


def evaluation(**changes: Any) -> Evaluation:
    """An evaluation of the record with changes."""
    return Evaluation(changed(**changes))


def regression(**changes: Any) -> dict[str, Any]:
    """The record of a regression task, errors in pixels."""
    return changed(
        **{
            "downstream__task": "regression",
            "downstream__metric": "mean_error",
            "downstream__higher_is_better": False,
            "downstream__unit": "px",
            "downstream__synthetic": _arm(2.6),
            "downstream__refined": _arm(1.8),
            "downstream__gain__over_synthetic": gain(0.8, 0.62, 0.98),
            "downstream__gain__over_synthetic_matched": gain(0.5, 0.31, 0.69),
            "labels__metric": "skill",
            "labels__judge_on_refined": 0.91,
            "labels__judge_on_real": 0.93,
            "labels__judge_on_synthetic": 0.92,
            **changes,
        }
    )
