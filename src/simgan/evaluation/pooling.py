"""Several evaluations, one per refiner seed, as one set of numbers with one set of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from simgan.errors import DataError
from simgan.evaluation.evaluate import SCHEMA, Evaluation
from simgan.evaluation.outcomes import Outcomes, describe_seeds, summarize

_SPREAD = ("mean", "low", "high", "median", "p95")


def pool(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """One record over evaluations that differ in the refiner seed alone; keys as in evaluation.json.

    downstream: `summarize` over all runs: intervals over refiner seed × task seed × test group, the median
    gap_closed. realism, drift: the median over runs of each number, with its range; `drift["runs"]` has the
    drift of each run beside its gain. labels: medians, and in how many runs they hold. `DataError` where
    test images, arms or task seeds of the runs do not agree.
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
    downstream = summarize(runs) if runs else None
    return {
        "schema": SCHEMA,
        "n_runs": len(records),
        "seeds": [record["seed"] for record in records],
        "synthetic": records[0]["synthetic"],
        "realism": _pool_realism([record["realism"] for record in records]),
        "downstream": downstream,
        "labels": _pool_labels([record["labels"] for record in records]),
        "drift": _pool_drift(records, None if downstream is None else downstream["gain"]),
        "drift_reason": next((why for one in records if (why := one.get("drift_reason")) is not None), None),
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


def _pool_drift(records: Sequence[dict[str, Any]], gain: dict[str, Any] | None) -> dict[str, Any] | None:
    """Medians over runs as in evaluation.json, `low` and `high` their range; None where a run has no drift."""
    parts = [record["drift"] for record in records if record.get("drift") is not None]
    if len(parts) < len(records) or not parts:
        return None

    def over_runs(name: str) -> dict[str, Any] | None:
        found = [
            part[name] for part in parts if part.get(name) is not None and part[name]["mean"] is not None
        ]
        if len(found) < len(parts):
            return None if name == "keypoints" else {**parts[0][name], "n": 0, **dict.fromkeys(_SPREAD)}
        means = [one["mean"] for one in found]
        middle = {key: median(one[key] for one in found) for key in ("mean", "median", "p95")}
        return {**middle, "low": min(means), "high": max(means), "n": min(one["n"] for one in found)}

    structure = {
        **(over_runs("structure") or {}),
        **{key: round(median(part["structure"][key] for part in parts)) for key in ("lost", "unmeasured")},
    }
    floors = {
        key: None if None in (of_run := [part["floor"][key] for part in parts]) else median(of_run)
        for key in ("structure_px", "flow_px")
    }
    return {
        "n": min(part["n"] for part in parts),
        "n_runs": len(parts),
        "unit": "px",
        "structure": structure,
        "flow": over_runs("flow"),
        "floor": floors,
        "keypoints": over_runs("keypoints"),
        "masks": None,
        "model": None,
        "worst": [],
        "gain": gain,
        "runs": [
            {
                "seed": record["seed"],
                "structure_px": part["structure"]["mean"],
                "flow_px": part["flow"]["mean"],
                "gain": (part.get("gain") or {}).get("over_synthetic"),
            }
            for record, part in zip(records, parts, strict=True)
        ],
    }
