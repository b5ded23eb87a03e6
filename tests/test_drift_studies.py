"""The studies of drift, tiny: units are done once, and tables hold what they say they hold."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from simgan.measures.known_warps import turn
from simgan.studies import drift_budget, known_warps


def test_a_turn_moves_everything_by_as_many_pixels_in_directions_that_differ() -> None:
    down, right = turn(1.5, 35, 55)(*np.mgrid[:35, :55].astype(float))
    assert np.hypot(down, right) == pytest.approx(1.5)
    assert (down[0, 0], right[0, 0]) == pytest.approx((0, 1.5))
    assert down.max() == pytest.approx(1.5, abs=0.01)
    assert right.min() < -1.4


def test_the_table_of_known_warps_has_both_estimators_on_every_change_of_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMGAN_DATA", raising=False)
    results = tmp_path / "warps.csv"
    monkeypatch.setattr(sys, "argv", ["known_warps", "--results", str(results), "--count", "3"])
    known_warps.main()
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    before = results.read_bytes()
    monkeypatch.setattr(known_warps, "measure_source", lambda *_: pytest.fail("this source was done before"))
    known_warps.main()
    assert results.read_bytes() == before
    assert tuple(rows[0]) == known_warps.FIELDS
    assert {row["source"] for row in rows} == {
        "textures 35×55", "textures 64×64", "textures 90×120", "drawn eyes",
    }  # fmt: skip
    assert len(rows) == 4 * 2 * (7 + 6)
    assert {row["n"] for row in rows} == {"3"}
    for row in rows:
        if row["source"] == "textures 64×64" and row["estimator"] == "displacement":
            assert float(row["mean_px"]) == pytest.approx(float(row["true_px"]), abs=0.1), row
            assert float(row["low_px"]) <= float(row["mean_px"]) <= float(row["high_px"])


def test_the_study_of_the_budget_measures_each_unit_once_with_its_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COUNT": 40, "TEST_COUNT": 24, "MEASURED": 8, "UPDATES": 2, "TASK_SEEDS": 1}.items():
        monkeypatch.setattr(drift_budget, name, value)
    tiny = {"refiner.width": 4, "refiner.blocks": 1, "discriminator.width": 4, "training.batch_size": 4}
    few = {"training.steps": 50, "run.checkpoint_every": 25, "training.warmup_discriminator_steps": 2}
    monkeypatch.setattr(drift_budget, "SETTINGS", {**drift_budget.SETTINGS, **tiny, **few})
    results = tmp_path / "results" / "rows.csv"
    line = ["drift_budget", "--work", str(tmp_path / "work"), "--results", str(results), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*line, "--budgets", "0.5", "--fixed", "0.1"])
    drift_budget.main()
    with results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["value"], row["seed"], row["n"]) for row in rows] == [
        ("budget", "0.5", "0", "8"),
        ("fixed", "0.1", "0", "8"),
    ]
    held, fixed = rows
    assert float(held["flow_of_warp_px"]) == pytest.approx(0.5, abs=0.2)
    assert fixed["flow_of_warp_px"] == ""
    assert fixed["weight"] == "0.1"
    assert float(held["gain_low"]) <= float(held["gain_px"]) <= float(held["gain_high"])
    before = results.read_bytes()
    monkeypatch.setattr(drift_budget, "run_unit", lambda *_: pytest.fail("this unit was done before"))
    drift_budget.main()
    assert results.read_bytes() == before
    assert drift_budget.draw(rows) == drift_budget.draw(rows)
    assert drift_budget.draw(rows).startswith(b"<?xml")
