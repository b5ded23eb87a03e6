"""Outcomes: the error of every task model on every test image, kept so that runs can be pooled later."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.errors import DataError
from simgan.images import write_atomically
from simgan.measures import Replicates, bootstrap, median_gap_closed, percentile_interval

_ONE_REFINER = "; the interval does not contain the spread between refiners"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Per-image errors of one evaluation (one refiner seed).

    errors: arm → (task seeds, n_test): 0 right / 1 wrong for classes, distance to the label for values.
    n_train: arm → distinct training images. groups, paths: (n_test). unit: of the errors.
    """

    task: str  # "classification" | "regression"
    unit: str
    errors: Mapping[str, NDArray[np.float64]]
    n_train: Mapping[str, int]
    groups: NDArray[np.int64]
    paths: tuple[str, ...]
    task_seeds: tuple[int, ...]

    def save(self, path: str | Path) -> None:
        """Writes an .npz file, atomically; it holds arrays only, no pickles."""
        arrays: dict[str, Any] = {f"errors/{arm}": errors for arm, errors in self.errors.items()}
        arrays |= {f"n_train/{arm}": np.array(n) for arm, n in self.n_train.items()}
        arrays |= {"groups": self.groups, "paths": np.array(self.paths), "task_seeds": self.task_seeds}
        arrays |= {"task": np.array(self.task), "unit": np.array(self.unit)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Outcomes:
        """The inverse of `save`; `DataError` where the file is not one of these."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return cls(
                task=str(arrays["task"]),
                unit=str(arrays["unit"]),
                errors={n.removeprefix("errors/"): a for n, a in arrays.items() if n.startswith("errors/")},
                n_train={
                    n.removeprefix("n_train/"): int(a) for n, a in arrays.items() if n.startswith("n_train/")
                },
                groups=arrays["groups"],
                paths=tuple(str(p) for p in arrays["paths"]),
                task_seeds=tuple(int(s) for s in arrays["task_seeds"]),
            )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(
                f"{path}: per-image outcomes of an evaluation are wanted (evaluation.npz), but they cannot "
                f"be read: {error}; run the evaluation again"
            ) from error


def summarize(runs: Sequence[Outcomes], *, seed: int = 0) -> dict[str, Any]:
    """The `downstream` part of evaluation.json, over one evaluation or several (one per refiner seed).

    Means and 95 % intervals of the metric per arm: accuracy for classes, mean error for values. `gain` is
    e_other − e_refined, positive where refined is better, whatever the metric; paired over the same
    test images.
    gap_closed = (e_synthetic − e_refined)/(e_synthetic − e_real), e = 1 − accuracy or the mean error: the
    median over the n_seeds refiner seeds, not clipped; null, with the reason, where the
    gap is under two standard errors.
    """
    first = runs[0]
    errors = {arm: np.stack([run.errors[arm] for run in runs]) for arm in first.errors}
    replicates = bootstrap(errors, first.groups, seed=seed)
    is_class = first.task == "classification"
    result: dict[str, Any] = {
        "task": first.task,
        "metric": "accuracy" if is_class else "mean_error",
        "higher_is_better": is_class,
        "unit": first.unit,
    }
    for arm, values in errors.items():
        low, high = percentile_interval(replicates.mean(arm))
        mean = float(values.mean())
        if is_class:
            mean, low, high = 1 - mean, 1 - high, 1 - low
        result[arm] = {
            "mean": mean,
            "low": low,
            "high": high,
            "n_seeds": values.shape[0] * values.shape[1],
            "n_test": values.shape[2],
            "n_train": first.n_train[arm],
        }
    result["gain"] = {
        f"over_{other}": _gain(errors, replicates, other)
        for other in ("synthetic", "synthetic_matched")
        if other in errors and "refined" in errors
    }
    result["gap_closed"], result["reason"] = _gap_closed(errors, replicates, first.unit)
    return result


def describe_seeds(record: Mapping[str, Any]) -> str:
    """How many refiners and task models stand behind the numbers of a record, and what one refiner leaves out."""
    n_refiners = int(record.get("n_runs", 1))
    arms = [part for part in record["downstream"].values() if isinstance(part, dict) and "n_test" in part]
    n_models = int(arms[0]["n_seeds"]) // n_refiners
    counts = f"{n_refiners} refiner{'s' * (n_refiners > 1)} × {n_models} task model{'s' * (n_models > 1)}"
    return f"{counts}{_ONE_REFINER if n_refiners == 1 else ''}"


def _gain(errors: Mapping[str, NDArray[np.float64]], replicates: Replicates, other: str) -> dict[str, float]:
    low, high = percentile_interval(replicates.difference(other, "refined"))
    return {"mean": float(errors[other].mean() - errors["refined"].mean()), "low": low, "high": high}


def _gap_closed(
    errors: Mapping[str, NDArray[np.float64]], replicates: Replicates, unit: str
) -> tuple[dict[str, float] | None, str | None]:
    missing = [arm for arm in ("synthetic", "refined", "real") if arm not in errors]
    if missing:
        return None, f"the share of the gap needs the arms synthetic, refined and real; not run: {missing}"
    gap = float(errors["synthetic"].mean() - errors["real"].mean())
    standard_error = float(np.std(replicates.difference("synthetic", "real"), ddof=1))
    if gap < 2 * standard_error or gap <= 0:
        return None, (
            f"the gap between synthetic and real, {gap:.4g} ({unit}), is less than two standard errors "
            f"({standard_error:.4g} each): there is no gap to close, so a share of it means nothing"
        )
    low, high = percentile_interval(
        replicates.median_ratio(baseline="synthetic", treated="refined", bound="real")
    )
    of_seed = {arm: errors[arm].mean(axis=(1, 2)) for arm in ("synthetic", "refined", "real")}
    median = median_gap_closed(of_seed["synthetic"], of_seed["refined"], of_seed["real"])
    return {"median": float(median), "low": low, "high": high, "n_seeds": errors["refined"].shape[0]}, None
