"""How cost grows with image size, batch, width, blocks and number of images: seconds against the work they make.

    python benchmarks/growth.py [--out benchmarks/results/growth.json]

Each series changes one of them in the published gaze refiner, or in the step of Algorithm 1 with its networks (batch
16), and measures all its points in turn, so that a machine that slows down slows all of them. Beside the seconds stands
the work: multiplications and additions of the convolutions. The slope is that of log seconds over log work, by least
squares over the points whose work is within a factor of 20 of the most; 1 is growth as the work, above 1 is faster.
Below those points, what each call costs whatever it does flattens the curve.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made import PAPER_GAZE, Batches, Task, draw_eyes, draws_of, fill_history, players_of
from measuring import describe_machine, say, timed_in_turn
from refining_cpu import in_batches, trained_of
from roofline import refiner_layers, step_operations

from simgan.nn.allocation import keep_freed_memory
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import choose_route
from simgan.training.algorithm import adversarial_step

CPU = torch.device("cpu")
SMALL_STEP = replace(PAPER_GAZE, batch=16, history_batches=2)
_FACTOR = 20  # of work: the points that the slope is of

Point = tuple[float, float, Callable[[], Any]]
"""What is varied, the work in operations, and what is timed."""


def refining(spec: RefinerSpec, size: tuple[int, int], count: int) -> tuple[float, Callable[[], Any]]:
    """The work of refining so many images, and how."""
    torch.manual_seed(0)
    refiner = Refiner(spec)
    images = draw_eyes(count, real=False, device=CPU, size=size).permute(0, 2, 3, 1).numpy()
    trained = trained_of(refiner, size)
    count = count // trained.compute_batch(*size) * trained.compute_batch(*size)
    work = count * sum(layer.operations for layer in refiner_layers(spec, size))
    return work, in_batches(trained, images)


def stepping(task: Task) -> tuple[float, Callable[[], Any]]:
    """The work of a step, and how; as training on this machine does it."""
    players = players_of(task, choose_route(device="cpu"))
    eyes = [draw_eyes(max(64, task.batch), real=real, device=CPU, size=task.size) for real in (False, True)]
    fill_history(players, eyes[0][: task.batch])
    draws = draws_of(players, *(Batches(side, batch=task.batch, seed=i) for i, side in enumerate(eyes)))
    return step_operations(task)["step"], lambda: adversarial_step(
        players, *draws, refiner_updates=task.refiner_updates, discriminator_updates=1
    )


def series_of() -> dict[str, list[Point]]:
    """By name."""
    spec, size = PAPER_GAZE.refiner, PAPER_GAZE.size
    sides = [16, 24, 32, 48, 64, 96, 128]
    step_sides = [24, 32, 48, 64, 96]
    return {
        "refine, side of the image in px": [(s, *refining(spec, (s, s), 32)) for s in sides],
        "refine, width": [(w, *refining(replace(spec, width=w), size, 16)) for w in (16, 32, 64, 128, 256)],
        "refine, blocks": [(b, *refining(replace(spec, blocks=b), size, 16)) for b in (1, 2, 4, 8, 16)],
        "refine, number of images": [(n, *refining(spec, size, n)) for n in (16, 64, 256, 1024)],
        "step, side of the image in px": [
            (s, *stepping(replace(SMALL_STEP, size=(s, s)))) for s in step_sides
        ],
        "step, batch": [(b, *stepping(replace(SMALL_STEP, batch=b))) for b in (4, 8, 16, 32, 64)],
        "step, width of R": [
            (w, *stepping(replace(SMALL_STEP, refiner=replace(spec, width=w)))) for w in (16, 32, 64, 128)
        ],
        "step, blocks of R": [
            (b, *stepping(replace(SMALL_STEP, refiner=replace(spec, blocks=b)))) for b in (1, 2, 4, 8, 16)
        ],
    }


def slope_of(work: list[float], seconds: list[float]) -> float:
    """Of log seconds over log work, over the points within a factor of 20 of the most work."""
    near = [i for i, one in enumerate(work) if one * _FACTOR >= max(work)]
    return float(np.polyfit(np.log([work[i] for i in near]), np.log([seconds[i] for i in near]), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for each series")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    result: dict[str, Any] = {"benchmark": "growth", "machine": describe_machine(CPU), "series": {}}
    result["machine"]["load"] = os.getloadavg()[0]
    for name, points in series_of().items():
        calls = {str(at): call for at, _, call in points}
        times = timed_in_turn(calls, CPU, rounds=asked.rounds, budget_sec=asked.seconds)
        work = [work for _, work, _ in points]
        wall, processor = (
            [times[str(at)][key] for at, _, _ in points] for key in ("median_sec", "median_processor_sec")
        )
        rows = [{"at": at, "operations": work, **times[str(at)]} for at, work, _ in points]
        slopes = {"slope": slope_of(work, wall), "slope_in_processor_time": slope_of(work, processor)}
        result["series"][name] = {**slopes, "points": rows}
        said = ", ".join(f"{at:g}: {sec * 1e3:.1f} ms" for (at, _, _), sec in zip(points, wall, strict=True))
        n = statistics.median(row["n"] for row in rows)
        say(f"{name}: slope {slopes['slope']:.2f} ({slopes['slope_in_processor_time']:.2f} in processor time); "
            f"{said}; {n:.0f} rounds")  # fmt: skip
        if asked.out is not None:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            asked.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
