"""Which checkpoint: the label-free rule beside the choice that labels of dev would have made, both scored on test.

A rule sees what is known of each candidate without a real label: its distance to held-out real images. Its family has
two constants: which distance, and a slack, the share by which a later candidate may be farther than the nearest one and
is kept all the same. Slack 0 on the sliced Wasserstein distance is what training does; without bound, the last
checkpoint is kept. The constants are fitted on dev scores of all tasks but one, and the rule is scored on that one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from simgan.measures import percentile_interval

MEASURES = ("sliced_wasserstein", "realism_auc")
SLACKS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, math.inf)
WITHIN = 0.9  # of the best choice's gain
_REPLICATES = 2000


@dataclass(frozen=True)
class CandidateScores:
    """The candidates of one run, in the order of their steps.

    `measures`: of each, name → number, none of them from real labels. `dev`, `test`: mean error of a model trained on
    what each candidate refined; `dev_synthetic`, `test_synthetic`: of the same model trained on synthetic images.
    """

    task: str
    seed: int
    steps: tuple[int, ...]
    measures: tuple[Mapping[str, float], ...]
    dev: tuple[float, ...]
    test: tuple[float, ...]
    dev_synthetic: float
    test_synthetic: float

    def gain(self, chosen: int) -> float:
        """e_synthetic − e_chosen on test."""
        return self.test_synthetic - self.test[chosen]

    @property
    def by_labels(self) -> int:
        """The candidate with the smallest error on dev, the later one of equals."""
        return max(range(len(self.dev)), key=lambda k: (-self.dev[k], k))

    def share(self, chosen: int) -> float | None:
        """The gain of a choice as a share of that of `by_labels`, both on test; None where labels gain nothing."""
        best = self.gain(self.by_labels)
        return self.gain(chosen) / best if best > 0 else None

    def dev_share(self, chosen: int) -> float | None:
        """The same on dev, at most 1: what constants are fitted on."""
        best = self.dev_synthetic - self.dev[self.by_labels]
        return (self.dev_synthetic - self.dev[chosen]) / best if best > 0 else None


@dataclass(frozen=True)
class Rule:
    """Keep the last candidate whose `measure` is at most (1 + slack) × the smallest."""

    measure: str = "sliced_wasserstein"
    slack: float = 0.0

    def choose(self, run: CandidateScores) -> int:
        values = [one[self.measure] for one in run.measures]
        return max(k for k, value in enumerate(values) if value <= (1 + self.slack) * min(values))

    def describe(self) -> dict[str, Any]:
        """For a record; a slack without bound is None."""
        return {"measure": self.measure, "slack": self.slack if math.isfinite(self.slack) else None}


IN_TRAINING = Rule()
LAST = Rule(slack=math.inf)


def fit_rule(runs: Sequence[CandidateScores]) -> Rule:
    """The rule with the largest mean over tasks of the mean dev share over their runs; of equals the first in the order
    of `MEASURES` and `SLACKS`, the nearest to what training does."""
    rules = [Rule(measure, slack) for measure, slack in product(MEASURES, SLACKS)]
    return max(rules, key=lambda rule: round(_score(rule, runs), 12))


def _score(rule: Rule, runs: Sequence[CandidateScores]) -> float:
    of_task: dict[str, list[float]] = {}
    for run in runs:
        share = run.dev_share(rule.choose(run))
        if share is not None:
            of_task.setdefault(run.task, []).append(share)
    return float(np.mean([np.mean(shares) for shares in of_task.values()])) if of_task else -math.inf


def compare_rules(runs: Sequence[CandidateScores]) -> dict[str, Any]:
    """The record of the comparison: `n_runs`; for each kind of choice the median over runs of its share of the gain
    that the choice by labels has on test, with a 95 % interval (bootstrap over runs), and in how many runs it is
    within 10 %; `fitted`, the constants of each left-out task; `runs`, the choices of each run.

    Choices: *in training*, what the run kept; *leave one task out*, constants fitted on the others; *last*, the last
    checkpoint; *any*, the mean over checkpoints: what the choice is worth at all. Runs in which labels gain nothing
    have no share: they are counted apart.
    """
    tasks = list(dict.fromkeys(run.task for run in runs))
    fitted = {task: fit_rule([run for run in runs if run.task != task]) for task in tasks if len(tasks) > 1}
    rows: list[dict[str, Any]] = []
    for run in runs:
        chosen = {"in training": IN_TRAINING.choose(run), "last": LAST.choose(run)}
        if fitted:
            chosen["leave one task out"] = fitted[run.task].choose(run)
        every = [run.share(k) for k in range(len(run.steps))]
        shares = {name: run.share(k) for name, k in chosen.items()}
        known = [share for share in every if share is not None]
        rows.append(
            {
                "task": run.task,
                "seed": run.seed,
                "by_labels": run.steps[run.by_labels],
                "gain_by_labels": run.gain(run.by_labels),
                "steps": {name: run.steps[k] for name, k in chosen.items()},
                "shares": {**shares, "any": float(np.mean(known)) if known else None},
            }
        )
    names = list(rows[0]["shares"]) if rows else []
    return {
        "n_runs": len(runs),
        "n_without_gain": sum(row["shares"]["any"] is None for row in rows),
        "choices": {name: _summary([row["shares"][name] for row in rows]) for name in names},
        "fitted": {task: rule.describe() for task, rule in fitted.items()},
        "runs": rows,
    }


def _summary(shares: Sequence[float | None]) -> dict[str, Any]:
    known = np.array([share for share in shares if share is not None], dtype=np.float64)
    if not len(known):
        return {"n": 0, "median": None, "low": None, "high": None, "n_within": 0}
    drawn = np.random.default_rng(0).integers(len(known), size=(_REPLICATES, len(known)))
    low, high = percentile_interval(np.median(known[drawn], axis=1))
    return {
        "n": len(known),
        "median": float(np.median(known)),
        "low": low,
        "high": high,
        "n_within": int((known >= WITHIN).sum()),
    }
