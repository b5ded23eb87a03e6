"""The drift budget: the weight of movement follows the drift, survives a restart, and decides what is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import simgan.training.drift_budget as module
import tiny_runs
from simgan.config import resolve_configuration
from simgan.errors import ConfigurationError
from simgan.images import write_image
from simgan.training.candidates import Candidate, drift_px, over_budget
from simgan.training.drift_budget import DriftBudget
from simgan.training.loop import train
from textures import shift, texture

SIZE = (24, 24)


def _tensor(px: float = 0.0) -> torch.Tensor:
    field = shift(px) if px else None
    return torch.from_numpy(texture(8, *SIZE, field)).permute(0, 3, 1, 2)


def _assembly(budget_px: float = 0.5, staged: torch.Tensor | None = None) -> Any:
    images = _tensor() if staged is None else staged
    overrides = {"objective.drift_budget_px": budget_px, "objective.self_regularization_weight": 0.3}
    return SimpleNamespace(
        configuration=resolve_configuration("default", overrides),
        synthetic=SimpleNamespace(cache=range(len(images)), sample=lambda _chosen, _crop: images),
        first_stage=lambda x: x,
        crop=SIZE,
    )


@pytest.fixture
def players() -> Any:
    return tiny_runs.tiny_players(weight=0.3)


def _refiner_moves(monkeypatch: pytest.MonkeyPatch, refined: torch.Tensor) -> None:
    monkeypatch.setattr(module, "refine_batch", lambda *_: refined)


def _says(monkeypatch: pytest.MonkeyPatch, px: float) -> None:
    """The drift of the averaged refiner."""
    monkeypatch.setattr(module, "refine_batch", lambda *_: None)
    monkeypatch.setattr(module, "drift_px", lambda *_: px)


def test_the_weight_follows_the_equation_and_stands_in_the_objective(
    players: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = DriftBudget.of(_assembly())
    assert budget is not None
    monkeypatch.setattr(budget, "held_px", 0.5)
    players.averaging_decay = 1 - 1 / 100  # looked ahead by 50 steps, over which the slope is taken
    integral = 1e-3
    for px, excess, asks in (
        (0.0, -1.0, False),  # far below: I falls as by −½, and nothing is asked
        (0.1, -0.6, False),  # a = 0.1 + 0.1
        (0.2, -0.2, True),  # 0.2 + 0.2
        (0.4, 0.4, True),  # 0.4 + 0.3
        (3.0, 1.0, True),  # far above, of which 1 counts
        (0.5, 0.2, True),  # 0.5 + 0.1
        (0.5, -1.0, False),  # 0.5 − 2.5: on its way down
        (0.5, 0.0, True),  # steady at the aim
    ):
        _says(monkeypatch, px)
        row = budget.update(players)
        assert row["drift_px"] == px
        assert row["excess"] == pytest.approx(excess)
        integral *= math.exp(max(excess, -0.5))
        expected = integral * math.exp(5 * excess) / 0.5 if asks else 0.0
        assert players.objective.movement_weight == pytest.approx(expected)
        assert row["movement_weight"] == players.objective.movement_weight
    assert players.objective.self_regularization_weight == 0.3, "λ stays as it is configured"


@pytest.mark.parametrize("scale", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("px", [0.25, 0.5, 1])
def test_drift_under_a_steady_push_settles_at_the_budget_whatever_the_scale_of_the_weight(
    players: Any, monkeypatch: pytest.MonkeyPatch, scale: float, px: float
) -> None:
    """R is pushed by 0.002 px a step, a weight of `scale` on a budget's movement takes it back by a thirtieth, and R's
    average follows it within 200. The weight begins at 0.001: until the right one is found, the budget is passed."""
    budget = DriftBudget(_assembly(), budget_px=px)
    monkeypatch.setattr(budget, "held_px", px)
    players.averaging_decay = 0.995
    own = average = 0.0
    seen = []
    for step in range(1, 3001):
        asked = players.objective.movement_weight * px / scale
        own += 0.002 * (step > 250) - own * min(asked, 8) / 30
        average += (own - average) / 200
        if budget.due(step):
            _says(monkeypatch, average)
            budget.update(players)
            seen.append(average)
    assert max(seen) < 1.5 * px
    assert seen[-20:] == pytest.approx([px] * 20, rel=0.1)


def test_a_budget_that_nothing_would_break_asks_for_nothing(
    players: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = DriftBudget(_assembly(), budget_px=1.0)
    for px in np.linspace(0, 0.4, 40):
        _says(monkeypatch, float(px))
        assert budget.update(players)["movement_weight"] == 0


def test_aimed_at_is_a_little_less_than_what_is_measured_of_a_warp_by_the_budget() -> None:
    assert DriftBudget(_assembly(), budget_px=1.0).held_px == pytest.approx(0.95, abs=0.13)


def test_structure_that_is_not_found_again_counts_as_far_above_the_budget(
    players: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = DriftBudget(_assembly(), budget_px=0.5)
    _refiner_moves(monkeypatch, torch.from_numpy(texture(8, *SIZE, seed=9)).permute(0, 3, 1, 2))
    lost = budget.update(players)
    assert lost["drift_px"] is None
    assert lost["excess"] == 1


def test_the_averaged_refiner_is_measured(players: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        module, "refine_batch", lambda _assembly, refiner, staged: seen.append(refiner) or staged
    )
    players.averaged_refiner = object()
    DriftBudget(_assembly(), budget_px=0.5).update(players)
    assert seen == [players.averaged_refiner]


def test_the_weight_stays_between_its_bounds(players: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = DriftBudget(_assembly(), budget_px=0.5)
    for px, bound in ((0.0, 1e-4), (4.0, 10.0)):
        _says(monkeypatch, px)
        for _ in range(300):
            budget.update(players)
        assert budget.state_dict()["integral"] == bound


def test_a_restored_budget_goes_on_as_if_it_had_never_stopped(
    players: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (DriftBudget(_assembly(), budget_px=0.5) for _ in range(2))
    _refiner_moves(monkeypatch, _tensor(1.0))
    second.load_state_dict(first.state_dict(), players)
    assert players.objective.movement_weight == 0, "before its first measurement nothing is asked"
    first.update(players)
    other = tiny_runs.tiny_players(weight=0.3)
    second.load_state_dict(first.state_dict(), other)
    assert other.objective.movement_weight == players.objective.movement_weight > 0
    assert first.update(players) == second.update(other)


def test_there_is_no_budget_without_pixels_and_drift_is_measured_every_25_steps() -> None:
    assert DriftBudget.of(_assembly(0.0)) is None
    budget = DriftBudget(_assembly(), budget_px=0.5)
    assert [step for step in range(1, 80) if budget.due(step)] == [25, 50, 75]


def test_a_budget_that_cannot_be_measured_is_refused_before_training() -> None:
    with pytest.raises(ConfigurationError, match="only 0% of the synthetic images, 24×24, have"):
        DriftBudget(_assembly(staged=torch.zeros(8, 1, *SIZE)), budget_px=0.5)
    with pytest.raises(ConfigurationError, match="15×24"):
        DriftBudget(_assembly(staged=_tensor()[:, :, :15]), budget_px=0.5)
    with pytest.raises(ConfigurationError, match="at most 4"):
        resolve_configuration("default", {"objective.drift_budget_px": 5.0})


def test_drift_of_images_is_their_mean_and_unknown_where_most_are_lost() -> None:
    assert drift_px(_tensor(), _tensor(1.0)) == pytest.approx(1, abs=0.1)
    assert drift_px(_tensor(), torch.zeros(8, 1, *SIZE)) is None
    assert drift_px(_tensor()[:, :, :15], _tensor()[:, :, :15]) is None


def test_a_refiner_above_the_budget_is_not_kept_where_one_within_it_is() -> None:
    assert over_budget(0.52, 0.5) == 0
    assert over_budget(0.75, 0.5) == pytest.approx(0.225)
    assert over_budget(None, 0.5) == 4
    assert over_budget(3.0, 0.0) == 0
    within = Candidate(1, 0.5, 0.9, 0.1, 1.0, 0.4, 0.0)
    nearer = replace(within, step=2, sliced_wasserstein=0.1, drift_px=0.9, over_budget_px=0.35)
    assert not nearer.better_than(within)
    assert within.better_than(nearer)
    assert replace(nearer, step=3, over_budget_px=0.1, sliced_wasserstein=0.4).better_than(nearer)
    assert nearer.better_than(None)


def test_a_run_with_a_budget_logs_it_and_continues_exactly_after_an_interruption(tmp_path: Path) -> None:
    for side, seed in (("synthetic", 1), ("real", 2)):
        (tmp_path / side).mkdir()
        for i, image in enumerate(texture(40, 16, 16, seed=seed)):
            write_image(tmp_path / side / f"{i:02}.png", np.clip(127 + 120 * image, 0, 255).astype(np.uint8))
    overrides = {
        "synthetic.root": str(tmp_path / "synthetic"), "real.root": str(tmp_path / "real"), **tiny_runs.TINY,
        "refiner.output": "residual", "objective.drift_budget_px": 0.5, "training.steps": 54,
    }  # fmt: skip
    train(run_dir=tmp_path / "whole", overrides=overrides)

    def stop(progress: Any) -> None:
        if progress.turn >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_dir=tmp_path / "cut", overrides=overrides, progress=stop)
    train(run_dir=tmp_path / "cut", overrides=overrides)
    whole, cut = (tiny_runs.final_state(tmp_path / name) for name in ("whole", "cut"))
    assert tiny_runs.differences(whole, cut) == []
    held = [row for row in whole["metrics"] if row["kind"] == "drift_budget"]
    assert [row["step"] for row in held] == [25, 50]
    assert all(set(row) >= {"drift_px", "excess", "movement_weight"} for row in held)
