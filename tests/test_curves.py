from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from simgan.reporting.curves import training_charts
from simgan.reporting.facts import duration, manifest_facts, objective_facts
from simgan.reporting.record import RunRecord
from simgan.settings import Configuration, ObjectiveSettings


def run_with(
    rows: list[dict[str, Any]], *, patches: Any = "mean", data: dict[str, Any] | None = None
) -> RunRecord:
    configuration = Configuration(objective=ObjectiveSettings(patches=patches))
    return RunRecord(
        Path("runs/a"), configuration, data or {}, tuple(rows), Path("runs/a/refiner.safetensors")
    )


def step(number: int, **numbers: float) -> dict[str, Any]:
    return {"kind": "step", "phase": "adversarial", "step": number, **numbers}


def candidate(number: int, *, kept: bool) -> dict[str, Any]:
    return {
        "kind": "candidate", "step": number, "sliced_wasserstein": 0.2, "realism_auc": 0.9,
        "distance_from_identity": 0.1, "diversity": 0.9, "kept": kept,
    }  # fmt: skip


def test_charts_are_drawn_of_what_was_logged() -> None:
    rows = [step(1, discriminator_loss=1.4, adversarial_loss=0.7, discriminator_accuracy=0.5)]
    assert [chart.title for chart in training_charts(run_with(rows))] == ["Losses", "Discriminator accuracy"]
    rows += [candidate(2, kept=True)]
    assert [chart.title for chart in training_charts(run_with(rows))][:2] == [
        "Distance to real",
        "Told from real",
    ]
    assert training_charts(run_with([])) == []
    with_task = training_charts(run_with([step(1, task_consistency=0.3)]))
    assert [chart.title for chart in with_task] == ["Task consistency"]


def test_the_last_kept_candidate_is_marked() -> None:
    rows = [candidate(1, kept=True), candidate(2, kept=True), candidate(4, kept=False)]
    charts = training_charts(run_with(rows))
    assert {chart.marker for chart in charts} == {50.0}
    assert [dot.kept for dot in charts[0].lines[0].dots] == [False, True, False]


def test_with_a_drift_budget_the_drift_that_it_followed_and_its_weight_are_drawn_beside_the_budget() -> None:
    rows = [{**candidate(50, kept=True), "drift_px": 0.3}]
    rows += [
        {
            "kind": "drift_budget",
            "step": 25 * k,
            "drift_px": 0.1 * k,
            "excess": 0.2 * k - 1,
            "movement_weight": 0.3 / k,
        }
        for k in (1, 2)
    ]
    configuration = Configuration(objective=ObjectiveSettings(drift_budget_px=0.5))
    run = RunRecord(Path("runs/a"), configuration, {}, tuple(rows), Path("runs/a/refiner.safetensors"))
    charts = {chart.title: chart for chart in training_charts(run)}
    assert [line.name for line in charts["Drift"].lines] == ["drift", "what ν followed"]
    assert charts["Drift"].reference is not None
    assert charts["ν"].lines[0].name == "ν"
    assert objective_facts(run)["ν, following a drift budget"] == "of 0.500 px; ended at 0.150"
    assert "ν" not in {chart.title for chart in training_charts(run_with([candidate(1, kept=True)]))}


def test_changes_are_shares_of_the_value_range() -> None:
    """0.1 on [-1, 1] is 5 % of its width."""
    change = next(
        c for c in training_charts(run_with([candidate(1, kept=True)])) if c.title == "Change of the images"
    )
    assert change.lines[0].dots[0].text == "step 1: 5.00\u202f%"


@pytest.mark.parametrize(
    ("patches", "data", "level"),
    [("mean", {}, 2 * math.log(2)), ("sum", {"discriminator": {"patch_grid": [2, 3]}}, 12 * math.log(2))],
)
def test_a_discriminator_that_guesses_loses_two_log_two_a_patch(
    patches: Any, data: Any, level: float
) -> None:
    rows = [step(1, discriminator_loss=0.0), step(2, discriminator_loss=2 * level)]
    losses = training_charts(run_with(rows, patches=patches, data=data))[0]
    assert losses.reference is not None
    first, last = (float(point.split(",")[1]) for point in losses.lines[0].points.split())
    assert 10 * losses.reference.at == pytest.approx((first + last) / 2, abs=0.2)


def test_without_a_patch_grid_summed_losses_have_no_such_level() -> None:
    assert training_charts(run_with([step(1, discriminator_loss=1.0)], patches="sum"))[0].reference is None


def test_numbers_that_are_not_finite_are_not_drawn() -> None:
    rows = [step(1, discriminator_loss=math.nan), step(2, discriminator_loss=1.0)]
    assert training_charts(run_with(rows))[0].lines[0].points.count(",") == 1


def test_warm_up_is_no_part_of_the_curves() -> None:
    warm_up = {"kind": "step", "phase": "warmup_discriminator", "step": 40, "discriminator_loss": 9.0}
    losses = training_charts(run_with([warm_up, step(1, discriminator_loss=1.0)]))[0]
    assert "9.0" not in losses.description


def test_training_time_is_summed_over_sessions() -> None:
    """The clock starts anew when a run continues: 5 and then 3 seconds."""
    rows = [step(1, time_sec=2.0), step(2, time_sec=5.0), step(3, time_sec=1.0), step(4, time_sec=3.0)]
    assert run_with(rows).seconds == 8.0
    assert [duration(s) for s in (0.0, 8.0, 600.0, 7200.0)] == ["–", "8.00 s", "10 min", "2.0 h"]


def test_warnings_say_when_they_were_given() -> None:
    during = {"kind": "warning", "step": 1200, "message": "alike"}
    assert run_with([during], data={"warnings": ["levels differ"]}).warnings == [
        "levels differ",
        "step 1,200: alike",
    ]


def test_everything_that_happened_to_refined_images_is_counted() -> None:
    counts = {
        "images": 5,
        "refined": 3,
        "rejected": 2,
        "carried": 7,
        "unchanged": 1,
        "clipped": 9,
        "lossy": 3,
    }
    facts = manifest_facts({"counts": counts, "rejects": [{"path": "a.png", "reason": "truncated"}]})
    assert facts == {
        "images": "5 synthetic, 3 refined",
        "left out": "2, first a.png: truncated",
        "other files carried": "7",
        "unchanged by the refiner": "1",
        "values clipped to the range": "9",
        "files written with loss": "3 (JPEG)",
    }
