"""Which checkpoint: rules, their fit and their comparison, on numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from simgan.studies.stopping import IN_TRAINING, LAST, CandidateScores, Rule, compare_rules, fit_rule

FAR = (0.5, 0.5, 0.5)


def scores(
    task: str = "a",
    *,
    distance: tuple[float, ...] = (0.30, 0.20, 0.21),
    auc: tuple[float, ...] = FAR,
    dev: tuple[float, ...] = (0.4, 0.3, 0.2),
    test: tuple[float, ...] = (0.4, 0.3, 0.2),
    synthetic: float = 0.5,
    seed: int = 0,
) -> CandidateScores:
    measures = tuple({"sliced_wasserstein": d, "realism_auc": a} for d, a in zip(distance, auc, strict=True))
    steps = tuple(250 * (k + 1) for k in range(len(distance)))
    return CandidateScores(task, seed, steps, measures, dev, test, synthetic, synthetic)


def test_the_rule_keeps_the_last_candidate_within_its_slack_of_the_nearest() -> None:
    run = scores(distance=(0.30, 0.20, 0.21))
    assert IN_TRAINING.choose(run) == 1
    assert Rule(slack=0.05).choose(run) == 2  # 0.21 = 1.05 × 0.20
    assert Rule(slack=0.02).choose(run) == 1
    assert LAST.choose(run) == 2
    assert Rule("realism_auc").choose(scores(auc=(0.9, 0.9, 0.95))) == 1  # of equals the later one


def test_the_choice_by_labels_is_made_on_dev_and_scored_on_test() -> None:
    run = scores(dev=(0.4, 0.2, 0.3), test=(0.40, 0.30, 0.25), synthetic=0.5)
    assert run.by_labels == 1
    assert run.gain(1) == pytest.approx(0.2)
    assert run.share(0) == pytest.approx(0.5)  # 0.1 of 0.2
    assert run.share(2) == pytest.approx(1.25)  # better on test than what dev chose
    assert run.dev_share(2) == pytest.approx(2 / 3)
    assert scores(dev=(0.2, 0.3, 0.2)).by_labels == 2  # of equals the later one


def test_where_labels_gain_nothing_there_is_no_share() -> None:
    run = scores(test=(0.6, 0.6, 0.55), synthetic=0.5)
    assert [run.share(k) for k in range(3)] == [None] * 3
    assert compare_rules([run])["n_without_gain"] == 1


def test_constants_are_fitted_on_dev_alone() -> None:
    """The slack of 0.05 reaches the third candidate, which is the best one on dev and the worst on test."""
    run = scores(dev=(0.4, 0.3, 0.2), test=(0.2, 0.3, 0.5))
    assert fit_rule([run]) == Rule(slack=0.05)
    # where training's own rule is as good as any, it is the one
    assert fit_rule([scores(dev=(0.4, 0.2, 0.3))]) == IN_TRAINING
    # only the AUC points to the first
    assert fit_rule([scores(auc=(0.6, 0.9, 0.9), dev=(0.1, 0.3, 0.4))]) == Rule("realism_auc", 0.0)


def test_each_task_weighs_alike_in_the_fit_however_many_runs_it_has() -> None:
    """Task a wants the second candidate a little, in three runs; task b the third, much, in one."""
    a = [scores("a", dev=(0.4, 0.20, 0.23), seed=k) for k in range(3)]  # third: 0.27/0.30 = 0.9
    b = [scores("b", dev=(0.4, 0.40, 0.20))]  # second: 0.1/0.3 = 0.33
    # slack 0: (1 + 0.33)/2 = 0.67; slack 0.05: (0.9 + 1)/2 = 0.95
    assert fit_rule([*a, *b]) == Rule(slack=0.05)
    assert fit_rule(a) == IN_TRAINING


def test_the_left_out_task_is_scored_with_constants_of_the_others() -> None:
    a = scores("a", dev=(0.4, 0.3, 0.2), test=(0.4, 0.3, 0.2))  # wants the third: slack 0.05
    b = scores("b", dev=(0.4, 0.2, 0.3), test=(0.4, 0.2, 0.3))  # wants the second: slack 0
    found = compare_rules([a, b])
    assert found["fitted"]["a"] == {"measure": "sliced_wasserstein", "slack": 0.0}
    assert found["fitted"]["b"] == {"measure": "sliced_wasserstein", "slack": 0.05}
    assert [row["by_labels"] for row in found["runs"]] == [750, 500]
    assert [row["steps"]["leave one task out"] for row in found["runs"]] == [500, 750]
    # in training: a keeps the second, 0.2 of 0.3; b the second, all of it. Left out: 2/3 each. Last: 1 and 2/3.
    choices = found["choices"]
    assert choices["in training"]["median"] == pytest.approx((2 / 3 + 1) / 2)
    assert choices["in training"]["n_within"] == 1
    assert choices["leave one task out"]["median"] == pytest.approx(2 / 3)
    assert choices["leave one task out"]["n_within"] == 0
    assert choices["last"]["median"] == pytest.approx((1 + 2 / 3) / 2)
    # any: the mean over the three candidates, (0.1 + 0.2 + 0.3)/3 of 0.3 for both
    assert choices["any"]["median"] == pytest.approx(2 / 3)
    assert choices["any"]["low"] == pytest.approx(2 / 3)
    assert (choices["last"]["low"], choices["last"]["high"]) == pytest.approx((2 / 3, 1))


def test_a_slack_without_bound_is_null_in_a_record() -> None:
    assert Rule(slack=math.inf).describe() == {"measure": "sliced_wasserstein", "slack": None}
