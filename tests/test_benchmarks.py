"""What the benchmarks compare must be the same thing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import growth
import made
import roofline
from pictures import write_grid
from reference import Reference

from published import published
from simgan.config import resolve_configuration
from simgan.images import read_image
from simgan.nn.route import Route
from simgan.training.algorithm import adversarial_step

BENCHMARKS = Path(made.__file__).parent
CPU = torch.device("cpu")
SMALL = replace(made.PAPER_GAZE, batch=4, history_batches=1)


@pytest.mark.parametrize("task", [made.PAPER_GAZE, made.PAPER_HANDS], ids=lambda task: task.name)
def test_benchmarks_run_the_recipes(task: made.Task) -> None:
    refiner, discriminator = published(task.name)
    c = resolve_configuration(task.name)
    assert (task.refiner, task.discriminator) == (refiner, discriminator)
    assert task.weight == c.objective.self_regularization_weight
    assert task.sums == (c.objective.patches == "sum")
    assert (task.optimizer, task.learning_rate) == (c.training.optimizer, c.training.refiner_learning_rate)
    assert task.learning_rate == c.training.discriminator_learning_rate
    assert (task.batch, task.history_batches) == (c.training.batch_size, c.training.history_batches)
    assert task.refiner_updates == c.training.refiner_updates_per_step
    assert c.training.discriminator_updates_per_step == 1


def test_the_reference_computes_the_losses_of_the_algorithm() -> None:
    """From the same weights, batches and choices, step after step, before the history is full and after."""
    players = made.players_of(SMALL, Route(CPU, torch.float32))
    reference: Reference = made.reference_of(SMALL, players, CPU)
    eyes = [made.draw_eyes(30, real=real, device=CPU) for real in (False, True)]
    mine, theirs = ([made.Batches(side, batch=4, seed=i) for i, side in enumerate(eyes)] for _ in range(2))
    for _ in range(5):
        metrics = adversarial_step(
            players, *made.draws_of(players, *mine), refiner_updates=2, discriminator_updates=1
        )
        plain = {}
        for _ in range(2):
            plain |= reference.update_refiner(theirs[0].next_array())
        plain |= reference.update_discriminator(theirs[0].next_array(), theirs[1].next_array())
        for name, value in plain.items():
            assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    assert players.history is not None
    assert players.history.is_full
    assert len(reference.history) == 4


def test_a_layer_costs_what_is_counted_by_hand() -> None:
    first = roofline.refiner_layers(made.PAPER_GAZE.refiner, (35, 55))[1]
    assert first.operations == 2 * 64 * 64 * 9 * 35 * 55
    assert first.forward_bytes == 2 * 2 * 64 * 35 * 55
    layers = roofline.refiner_layers(made.PAPER_GAZE.refiner, (35, 55))
    assert sum(layer.operations for layer in layers) == pytest.approx(
        1.14e9, rel=0.01
    )  # as the paper's network
    assert [layer.out_size for layer in roofline.discriminator_layers(made.PAPER_GAZE.discriminator, (35, 55))] == [
        (18, 28), (9, 14), (9, 14), (9, 14), (9, 14)
    ]  # fmt: skip


def test_the_bound_is_the_longer_of_computing_and_moving() -> None:
    assert roofline.Ceilings(10.0, 5.0).least_sec(20, 5) == 2
    assert roofline.Ceilings(10.0, 5.0).least_sec(20, 50) == 10


def test_drawn_eyes_are_the_same_for_the_same_seed_and_the_camera_changes_them() -> None:
    eyes = made.draw_eyes(5, real=False, device=CPU)
    assert eyes.dtype == torch.uint8
    assert eyes.shape == (5, 1, 35, 55)
    assert torch.equal(eyes, made.draw_eyes(5, real=False, device=CPU))
    assert not torch.equal(eyes, made.draw_eyes(5, real=True, device=CPU))


def test_a_grid_is_a_picture_of_its_rows(tmp_path: Path) -> None:
    rows = [np.full((3, 4, 5), level, np.uint8) for level in (10, 200)]
    write_grid(tmp_path / "grid.png", rows, zoom=2)
    picture = read_image(tmp_path / "grid.png")
    assert picture.shape == (2 * (8 + 4), 3 * (10 + 4), 1)
    assert picture[4, 4, 0] == 10
    assert picture[16, 4, 0] == 200
    assert picture[0, 0, 0] == 255


def test_the_slope_is_the_exponent_of_the_points_with_most_work() -> None:
    work = np.array([1.0, 10.0, 100.0, 1000.0])
    assert growth.slope_of(list(work), list(work**1.5)) == pytest.approx(1.5)
    overhead = [5.0, 5.0, *(work[2:] ** 1.2)]  # the first two are beyond a factor of 20
    assert growth.slope_of(list(work), overhead) == pytest.approx(1.2)


def test_benchmarks_run_without_the_packages_of_the_command_line() -> None:
    names = ["steps", "refine_folder", "growth", "memory", "shards", "demo_routes"]
    code = f"""
import sys
sys.path[:0] = [{str(BENCHMARKS)!r}]
sys.modules |= dict.fromkeys(["cyclopts", "rich", "ray", "openvino", "onnxruntime", "starlette"])
import {", ".join(names)}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
