"""What a run and a task are said to be: collapsed or not, helping or not. In one place, so that tables agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simgan.evaluation import Outcomes
from simgan.measures import bootstrap

LEAST_DIVERSITY = 0.5  # of the synthetic set's
STANDARD_ERRORS = 2.0
GAP_GOAL = 0.5


def judge_run(record: dict[str, Any], outcomes: Outcomes | None) -> dict[str, Any]:
    """The verdict of one run; `outcomes` None where training diverged.

    collapse: None, or why: losses that are no numbers, a refined set with under half of the synthetic one's diversity,
    or models trained on it worse than those trained on synthetic images by two standard errors (bootstrap over task
    seeds and groups of test images). gain: e_synthetic − e_refined, both augmented, with its standard error; `helps`
    where it is above 0. gap_closed: the share of the gap to real, None where real images do no better.
    """
    if outcomes is None:
        why = f"losses are no numbers: {record['diverged']}"
        return {"collapse": why, "gain": None, "standard_error": None, "helps": False, "gap_closed": None}
    errors = {arm: values[None] for arm, values in outcomes.errors.items()}
    replicates = bootstrap(errors, outcomes.groups, seed=record["seed"])
    gain = float(errors["synthetic"].mean() - errors["refined"].mean())
    standard_error = float(np.std(replicates.difference("synthetic", "refined"), ddof=1))
    collapse = None
    if record["diversity"] < LEAST_DIVERSITY:
        collapse = f"refined images have {record['diversity']:.0%} of the synthetic ones' diversity"
    elif gain < -STANDARD_ERRORS * standard_error:
        collapse = f"worse than synthetic by {-gain:.4g}, standard error {standard_error:.2g}"
    gap = float(errors["synthetic"].mean() - errors["real"].mean())
    return {
        "collapse": collapse,
        "gain": gain,
        "standard_error": standard_error,
        "helps": gain > 0,
        "gap_closed": gain / gap if gap > 0 else None,
    }


def verdict_of_task(verdicts: Sequence[dict[str, Any]], downstream: dict[str, Any] | None) -> dict[str, Any]:
    """Counts over the runs of a task, and whether the median gap closed reaches the goal.

    downstream: `summarize` over its runs. The median and the answer are None where that says that there is no gap.
    """
    closed = None if downstream is None else downstream["gap_closed"]
    return {
        "n_runs": len(verdicts),
        "n_collapsed": sum(one["collapse"] is not None for one in verdicts),
        "n_helping": sum(one["helps"] for one in verdicts),
        "median_gap_closed": None if closed is None else closed["median"],
        "reaches_goal": None if closed is None else closed["median"] >= GAP_GOAL,
    }
