from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simgan.errors import DataError
from simgan.evaluation import Evaluation, Outcomes, describe_seeds, pool, summarize


def _outcomes(
    means: dict[str, float], *, seed: int = 0, n: int = 400, task: str = "classification"
) -> Outcomes:
    generator = np.random.default_rng(seed)
    draw = {
        "classification": lambda mean: (generator.random((3, n)) < mean).astype(float),
        "regression": lambda mean: generator.gamma(4, mean / 4, (3, n)),
    }[task]
    return Outcomes(
        task=task,
        unit="share of images" if task == "classification" else "px",
        errors={arm: draw(mean) for arm, mean in means.items()},
        n_train=dict.fromkeys(means, 100),
        groups=np.arange(n) // 20,
        paths=tuple(f"{i}.png" for i in range(n)),
        task_seeds=(seed, seed + 100, seed + 200),
    )


GAP = {"synthetic": 0.4, "synthetic_matched": 0.35, "refined": 0.25, "real": 0.1}


def test_accuracy_gain_and_gap_closed_follow_from_the_errors() -> None:
    summary = summarize([_outcomes(GAP)])
    assert summary["synthetic"]["mean"] == pytest.approx(0.6, abs=0.03)
    assert summary["synthetic"]["low"] < 0.6 < summary["synthetic"]["high"]
    assert summary["gain"]["over_synthetic"]["mean"] == pytest.approx(0.15, abs=0.03)
    assert summary["gain"]["over_synthetic_matched"]["mean"] == pytest.approx(0.10, abs=0.06)
    closed = summary["gap_closed"]
    assert closed["low"] < 0.5 < closed["high"]
    assert closed["n_seeds"] == 1
    means = {arm: summary[arm]["mean"] for arm in GAP}
    by_hand = (means["refined"] - means["synthetic"]) / (means["real"] - means["synthetic"])
    assert closed["median"] == pytest.approx(by_hand)
    assert summary["reason"] is None


def test_a_gain_is_positive_where_refined_is_better_also_for_errors() -> None:
    summary = summarize([_outcomes({arm: 10 * e for arm, e in GAP.items()}, task="regression")])
    assert summary["higher_is_better"] is False
    assert summary["refined"]["mean"] == pytest.approx(2.5, abs=0.2)
    assert summary["gain"]["over_synthetic"]["low"] > 0
    assert summary["gap_closed"]["median"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("real", "gap_is_positive"), [(0.36, True), (0.45, False)])
def test_there_is_no_gap_closed_where_there_is_no_gap_and_the_reason_says_so(
    real: float, gap_is_positive: bool
) -> None:
    summary = summarize([_outcomes({**GAP, "real": real})])
    assert (summary["real"]["mean"] > summary["synthetic"]["mean"]) is gap_is_positive
    assert summary["gap_closed"] is None
    assert "less than two standard errors" in summary["reason"]


def test_arms_without_any_error_have_no_gap() -> None:
    assert summarize([_outcomes(dict.fromkeys(GAP, 0.0))])["gap_closed"] is None


def test_arms_that_were_not_run_are_named_in_the_reason() -> None:
    summary = summarize([_outcomes({"synthetic": 0.4, "refined": 0.2})])
    assert summary["gap_closed"] is None
    assert "not run: ['real']" in summary["reason"]
    assert set(summary["gain"]) == {"over_synthetic"}


def test_outcomes_survive_the_file(tmp_path: Path) -> None:
    outcomes = _outcomes(GAP)
    outcomes.save(tmp_path / "o.npz")
    again = Outcomes.load(tmp_path / "o.npz")
    assert summarize([again]) == summarize([outcomes])
    assert (again.paths, again.task_seeds, again.unit) == (outcomes.paths, outcomes.task_seeds, outcomes.unit)
    (tmp_path / "o.npz").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="run the evaluation again"):
        Outcomes.load(tmp_path / "o.npz")


def _evaluation(seed: int, refined: float, **changes: Any) -> Evaluation:
    part = {"auc": 0.5 + refined, "sliced_wasserstein": refined}
    holds = {
        "judge_on_refined": 0.9,
        "difference_points": -10 * refined,
        "tolerance_points": 1.0,
        "holds": refined < 0.1,
    }
    record = {
        "seed": seed,
        "synthetic": {"sha256": "x"},
        "realism": {"n": 100, "refined": part, "floor": {"auc": 0.5, "sliced_wasserstein": 0.1}},
        "labels": holds,
        "warnings": ["the same"],
        **changes,
    }
    return Evaluation(record, _outcomes({**GAP, "refined": refined}, seed=seed))


def test_pooling_takes_medians_over_runs_and_one_set_of_intervals() -> None:
    evaluations = [_evaluation(seed, refined) for seed, refined in enumerate((0.15, 0.25, 0.35))]
    pooled = pool(evaluations)
    assert pooled["downstream"]["refined"]["n_seeds"] == 9
    assert pooled["downstream"]["gap_closed"]["n_seeds"] == 3
    ratios = [summarize([one.outcomes])["gap_closed"]["median"] for one in evaluations if one.outcomes]
    assert pooled["downstream"]["gap_closed"]["median"] == pytest.approx(np.median(ratios))
    assert pooled["realism"]["refined"] == {
        "auc": 0.75, "auc_low": 0.65, "auc_high": 0.85, "sliced_wasserstein": 0.25,
    }  # fmt: skip
    assert pooled["labels"]["difference_points"] == -2.5
    assert (pooled["labels"]["holds"], pooled["labels"]["n_holding"]) == (False, 0)
    assert pooled["warnings"] == ["the same"]
    assert pooled["seeds"] == [0, 1, 2]


def _drift(px: float, lost: int, gain: float) -> dict[str, Any]:
    part = {"mean": px, "low": px - 0.1, "high": px + 0.1, "median": px, "p95": 2 * px, "n": 90}
    return {
        "n": 100,
        "structure": {**part, "lost": lost, "unmeasured": 2},
        "flow": {**part, "mean": px + 0.05},
        "floor": {"structure_px": 0.02, "flow_px": 0.06},
        "keypoints": None,
        "gain": {"over_synthetic": {"mean": gain, "low": gain - 0.1, "high": gain + 0.1}},
    }


def test_pooled_drift_is_its_median_and_range_over_runs_with_each_beside_the_gain_of_its_run() -> None:
    drifts = [_drift(0.3, 0, 0.2), _drift(0.5, 4, 0.1), _drift(0.4, 2, 0.3)]
    pooled = pool([_evaluation(seed, 0.2, drift=one) for seed, one in enumerate(drifts)])
    drift = pooled["drift"]
    structure = drift["structure"]
    assert (structure["mean"], structure["low"], structure["high"], structure["lost"]) == (0.4, 0.3, 0.5, 2)
    assert drift["flow"]["mean"] == pytest.approx(0.45)
    assert drift["gain"] == pooled["downstream"]["gain"]
    assert [(run["seed"], run["structure_px"], run["gain"]["mean"]) for run in drift["runs"]] == [
        (0, 0.3, 0.2), (1, 0.5, 0.1), (2, 0.4, 0.3),
    ]  # fmt: skip


def test_drift_that_some_runs_lack_is_not_pooled_and_its_reason_goes_along() -> None:
    why = "drift was not measured: 8×8 images are too small to follow, 16 pixels a side are needed"
    pooled = pool(
        [_evaluation(0, 0.2, drift=_drift(0.3, 0, 0.1)), _evaluation(1, 0.2, drift=None, drift_reason=why)]
    )
    assert (pooled["drift"], pooled["drift_reason"]) == (None, why)
    lost = {**_drift(0.3, 9, 0.1), "structure": {"mean": None, "lost": 98, "unmeasured": 2}}
    pooled = pool([_evaluation(0, 0.2, drift=lost), _evaluation(1, 0.2, drift=_drift(0.3, 0, 0.1))])
    assert pooled["drift"]["structure"]["mean"] is None, (
        "a median over the runs that can be measured would flatter"
    )
    assert [run["structure_px"] for run in pooled["drift"]["runs"]] == [None, 0.3]


def test_refiner_seeds_that_disagree_widen_the_interval() -> None:
    def width(refined: tuple[float, ...]) -> float:
        arm = pool([_evaluation(seed, e) for seed, e in enumerate(refined)])["downstream"]["refined"]
        return float(arm["high"] - arm["low"])

    assert width((0.05, 0.2, 0.35, 0.2)) > 2 * width((0.2, 0.2, 0.2, 0.2))


def test_one_refiner_is_said_to_leave_out_the_spread_between_refiners_and_several_are_not() -> None:
    def alone(seed: int) -> Evaluation:
        record = {"downstream": summarize([_evaluation(seed, 0.2).outcomes])}  # type: ignore[list-item]
        text = describe_seeds(record)
        assert text == "1 refiner × 3 task models; the interval does not contain the spread between refiners"
        return _evaluation(seed, 0.2, **record, warnings=["the same", text])

    pooled = pool([alone(0), alone(1)])
    assert describe_seeds(pooled) == "2 refiners × 3 task models"
    assert pooled["warnings"] == ["the same"]
    assert pool([alone(0)])["warnings"] == ["the same", describe_seeds(alone(0).record)]


def test_what_only_some_of_the_pooled_label_checks_have_is_left_out() -> None:
    first, second = _evaluation(0, 0.05), _evaluation(1, 0.05)
    first.record["labels"]["cost_points"] = 3.0
    assert "cost_points" not in pool([first, second])["labels"]
    second.record["labels"]["cost_points"] = 5.0
    assert pool([first, second])["labels"]["cost_points"] == 4.0


def test_runs_made_with_the_same_seed_are_warned_of() -> None:
    assert "same seed" in pool([_evaluation(0, 0.2), _evaluation(0, 0.2)])["warnings"][-1]


def test_what_differs_between_runs_is_named() -> None:
    first, second = _evaluation(0, 0.2), _evaluation(1, 0.2)
    assert second.outcomes is not None
    other = replace(second.outcomes, paths=("x",) * 400, task_seeds=(1,))
    with pytest.raises(DataError, match="different test images, numbers of task seeds"):
        pool([first, Evaluation(second.record, other)])
    with pytest.raises(DataError, match="1 of 2 evaluations have no downstream outcomes"):
        pool([first, Evaluation(second.record)])
    with pytest.raises(DataError, match="at least one"):
        pool([])


def test_runs_without_realism_or_label_check_pool_without_them() -> None:
    pooled = pool([_evaluation(0, 0.2, realism=None, labels=None), _evaluation(1, 0.2)])
    assert pooled["realism"] is None
    assert pooled["labels"] is None
