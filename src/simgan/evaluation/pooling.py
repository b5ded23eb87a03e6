"""Several evaluations, one per refiner seed, as one set of numbers with one set of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from simgan.errors import DataError
from simgan.evaluation.evaluate import SCHEMA, Evaluation
from simgan.evaluation.outcomes import Outcomes, describe_seeds, summarize


def pool(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """One record over evaluations that differ in the refiner seed alone; keys as in evaluation.json.

    downstream: `summarize` over all runs: intervals over refiner seed × task seed × test group, the median
    gap_closed. realism: the median over runs of each number, with its range. labels: medians, and in how
    many runs they hold. `DataError` where test images, arms or task seeds of the runs do not agree.
    """
    if not evaluations:
        raise DataError("pooling needs at least one evaluation")
    records = [one.record for one in evaluations]
    runs = [one.outcomes for one in evaluations if one.outcomes is not None]
    if runs and len(runs) != len(evaluations):
        raise DataError(
            f"{len(evaluations) - len(runs)} of {len(evaluations)} evaluations have no downstream outcomes; "
            f"run them again with labelled real images, or pool them apart"
        )
    for run in runs[1:]:
        _check_poolable(runs[0], run)
    single = set() if len(records) == 1 else {describe_seeds(one) for one in records if one.get("downstream")}
    warnings = [
        text
        for text in dict.fromkeys(text for record in records for text in record["warnings"])
        if text not in single  # what one refiner leaves out, several show
    ]
    if len({run.task_seeds for run in runs}) < len(runs):
        warnings.append(
            "some of the pooled evaluations were made with the same seed, so their task seeds are the same "
            "and the intervals too narrow; give each run its own seed"
        )
    return {
        "schema": SCHEMA,
        "n_runs": len(records),
        "seeds": [record["seed"] for record in records],
        "synthetic": records[0]["synthetic"],
        "realism": _pool_realism([record["realism"] for record in records]),
        "downstream": summarize(runs) if runs else None,
        "labels": _pool_labels([record["labels"] for record in records]),
        "warnings": warnings,
    }


def _check_poolable(first: Outcomes, other: Outcomes) -> None:
    checks = {
        "tasks": (first.task, other.task),
        "test images": (first.paths, other.paths),
        "groups of test images": (first.groups.tolist(), other.groups.tolist()),
        "arms": (sorted(first.errors), sorted(other.errors)),
        "numbers of task seeds": (len(first.task_seeds), len(other.task_seeds)),
    }
    different = [what for what, (here, there) in checks.items() if here != there]
    if different:
        raise DataError(
            f"evaluations to be pooled must agree in all but the refiner; these have different "
            f"{', '.join(different)}; evaluate all runs against the same trees with the same settings"
        )


def _pool_realism(parts: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    measured = [part for part in parts if part is not None]
    if len(measured) < len(parts) or not measured:
        return None
    result: dict[str, Any] = {"n": min(part["n"] for part in measured), "n_runs": len(measured)}
    for side in (name for name in measured[0] if name != "n"):
        aucs = [part[side]["auc"] for part in measured]
        distances = [part[side]["sliced_wasserstein"] for part in measured]
        result[side] = {
            "auc": median(aucs),
            "auc_low": min(aucs),
            "auc_high": max(aucs),
            "sliced_wasserstein": median(distances),
        }
    return result


def _pool_labels(parts: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    checked = [part for part in parts if part is not None]
    if len(checked) < len(parts) or not checked:
        return None
    shared = {key: value for key, value in checked[0].items() if all(key in part for part in checked)}
    numbers = [key for key, value in shared.items() if isinstance(value, float)]
    middle: dict[str, Any] = {key: float(np.median([part[key] for part in checked])) for key in numbers}
    n_holding = sum(bool(part["holds"]) for part in checked)
    return {
        **shared,
        **middle,
        "holds": middle["difference_points"] >= -middle["tolerance_points"],
        "n_holding": n_holding,
        "n_runs": len(checked),
    }
