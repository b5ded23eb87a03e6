"""Refining, both updates and whole steps on a processor: against the plain reference, and against the machine's peak.

    python benchmarks/steps.py --out benchmarks/results/steps.json

All routes of one task are called in turn, so that a machine that slows down slows all of them. Processor time is kept
beside wall time: their ratio tells whether something else was running. The reference runs in a process of its own, at
PyTorch's defaults. Needs the core packages alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from elsewhere import Elsewhere
from made import (
    DEFAULT,
    PAPER_GAZE,
    PAPER_HANDS,
    Batches,
    Task,
    draw_eyes,
    draws_of,
    fill_history,
    players_of,
    reference_of,
)
from measuring import Report, describe_machine, matrix_rate, say, timed_in_turn
from refining_cpu import refining_routes
from roofline import refiner_layers, step_operations

from simgan.nn.allocation import keep_freed_memory
from simgan.nn.route import Route, has_bfloat16_units
from simgan.training.algorithm import Players, adversarial_step, update_discriminator, update_refiner

CPU = torch.device("cpu")
TASKS = {
    "paper-gaze": replace(PAPER_GAZE, batch=32, history_batches=2),
    "default": DEFAULT,
    "paper-hands": replace(PAPER_HANDS, batch=2, history_batches=2),
}
_REFINED = 128
_IN_BFLOAT16 = ("bfloat16", "fast", "compiled")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file of all results")
    parser.add_argument(
        "--tasks", default="paper-gaze,default", help=f"of {', '.join(TASKS)}; hands take minutes"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9, help="calls of each route that are timed")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most, for each comparison")
    parser.add_argument(
        "--compiled", action="store_true", help="also torch.compile for refining; takes a minute"
    )
    chosen = parser.parse_args()
    names = chosen.tasks.split(",")
    unknown = sorted(set(names) - set(TASKS))
    if unknown:
        parser.error(f"no tasks {', '.join(unknown)}; there are: {', '.join(TASKS)}")
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()  # as training does; not in the reference's process
    report = Report(chosen.out, describe_machine(CPU), seconds=3600)
    say(f"{report.results['machine']}")
    peaks = report.section("peak", peak)
    for name in names:
        limits = {dtype: values["best_flops"] for dtype, values in (peaks or {}).items()}
        report.section(
            name,
            lambda n=name, p=limits: compare(
                TASKS[n], p, rounds=chosen.rounds, seconds=chosen.seconds, compiled=chosen.compiled
            ),
        )


def peak() -> dict[str, Any]:
    """The best matrix rate of 2048³, 4096³ and a layer-shaped product (16 images), in either precision."""
    shapes = [(2048,) * 3, (4096,) * 3, (16 * PAPER_GAZE.size[0] * PAPER_GAZE.size[1], 64, 576)]
    result = {}
    for dtype in (torch.bfloat16, torch.float32):
        rates = [matrix_rate(*shape, dtype, CPU, budget_sec=1.0) for shape in shapes]
        best = max(rate["flops"] for rate in rates)
        name = str(dtype).removeprefix("torch.")
        said = ", ".join(f"{'×'.join(map(str, r['shape']))} {r['flops'] / 1e12:.2f}" for r in rates)
        say(f"   {name} products, TFLOP/s: {said}")
        result[name] = {"best_flops": best, "products": rates}
    return result


def compare(
    task: Task, peaks: dict[str, float], *, rounds: int, seconds: float, compiled: bool
) -> dict[str, Any]:
    """Each part of training, and refining, by simgan's routes and by plain ones: times, ratios, shares of the peak."""
    eyes = _eyes(task)
    dtypes = [torch.float32] + ([torch.bfloat16] if has_bfloat16_units(CPU) else [])
    parts: dict[str, dict[str, Callable[[], Any]]] = {}
    for dtype in dtypes:
        players = players_of(task, Route(CPU, dtype))
        fill_history(players, eyes[0][: task.batch])
        for part, function in _parts_of(players, task, eyes).items():
            parts.setdefault(part, {})[f"simgan {str(dtype).removeprefix('torch.')}"] = function
    with ExitStack() as processes:
        references: dict[str, dict[str, Callable[[], Any]]] = {"refine": {}}
        for name, channels_last in (("reference", False), ("reference channels_last", True)):
            make = partial(reference_parts, task, channels_last=channels_last)
            plain = processes.enter_context(Elsewhere(make, torch.get_num_threads()))
            for part, function in plain.functions.items():
                references.setdefault(part, {})[name] = function
        return _compared(task, peaks, parts, references, eyes, rounds, seconds, compiled=compiled)


def _compared(
    task: Task,
    peaks: dict[str, float],
    parts: dict[str, dict[str, Callable[[], Any]]],
    references: dict[str, dict[str, Callable[[], Any]]],
    eyes: list[torch.Tensor],
    rounds: int,
    seconds: float,
    *,
    compiled: bool,
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "batch": task.batch,
        "refined_images": _REFINED,
        "reference_ran": "in a process of its own, at PyTorch's defaults",
    }
    operations = step_operations(task)
    operations["refine"] = _REFINED * sum(
        layer.operations for layer in refiner_layers(task.refiner, task.size)
    )
    for part, functions in {"refine": {}, **parts}.items():
        errors: dict[str, Any] = {}
        if part == "refine":
            functions, errors = _refining(task, eyes[0], compiled=compiled)
        functions = functions | references[part]
        times = timed_in_turn(functions, CPU, rounds=rounds, budget_sec=seconds)
        reference = times["reference"]
        for route, taken in times.items():
            rate = operations[part] / taken["median_sec"]
            best = peaks.get("bfloat16" if any(name in route for name in _IN_BFLOAT16) else "float32")
            ratio = reference["median_sec"] / taken["median_sec"]
            in_processor_time = reference["median_processor_sec"] / taken["median_processor_sec"]
            extra = {
                "times_as_fast_as_reference": ratio,
                "in_processor_time": in_processor_time,
                "flops": rate,
            }
            share = ""
            if best:
                extra["share_of_peak"] = rate / best
                share = f", {rate / best:.0%} of the peak"
            result.setdefault(part, {})[route] = {**taken, **extra, **errors.get(route, {})}
            say(f"   {part}, {route}: {_said(taken)}, {ratio:.2f}× the reference "
                f"({in_processor_time:.2f}× in processor time){share}")  # fmt: skip
    return result


def _refining(
    task: Task, eyes: torch.Tensor, *, compiled: bool
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    players = players_of(task, Route(CPU, torch.float32))
    torch.nn.init.normal_(players.refiner.tail.weight, std=0.05)  # type: ignore[union-attr, arg-type]
    plain = reference_of(task, players, CPU).refiner
    images = eyes[:_REFINED].permute(0, 2, 3, 1).numpy()
    routes = refining_routes(players.refiner, plain, images, compiled=compiled)  # type: ignore[arg-type]
    errors = {
        name: {"error": asdict(route.error)} for name, route in routes.items() if route.error is not None
    }
    for name, route in routes.items():
        if route.error is not None:
            say(f"   {name}: {route.error}")
    return {name: route.run for name, route in routes.items()}, errors


def _said(taken: dict[str, float]) -> str:
    low, high = (taken[f"quartile_{end}_sec"] * 1e3 for end in ("low", "high"))
    return f"{taken['median_sec'] * 1e3:.1f} ms ({low:.1f} to {high:.1f})"


def _parts_of(players: Players, task: Task, eyes: list[torch.Tensor]) -> dict[str, Callable[[], Any]]:
    synthetic, real = (Batches(side, batch=task.batch, seed=i) for i, side in enumerate(eyes))
    draw_synthetic, draw_real = draws_of(players, synthetic, real)
    return {
        "update_refiner": lambda: update_refiner(players, draw_synthetic().images),
        "update_discriminator": lambda: update_discriminator(players, draw_synthetic().images, draw_real()),
        "step": lambda: adversarial_step(
            players,
            draw_synthetic,
            draw_real,
            refiner_updates=task.refiner_updates,
            discriminator_updates=1,
        ),
    }


def _eyes(task: Task) -> list[torch.Tensor]:
    return [draw_eyes(max(_REFINED, task.batch), real=r, device=CPU, size=task.size) for r in (False, True)]


def reference_parts(task: Task, *, channels_last: bool) -> dict[str, Callable[[], Any]]:
    """The plain implementation of each part."""
    eyes = _eyes(task)
    players = players_of(task, Route(CPU, torch.float32))
    fill_history(players, eyes[0][: task.batch])
    reference = reference_of(task, players, CPU)
    assert players.history is not None, "benchmarks train with a history"
    reference.history = players.quantization.values(players.history.state_dict()["images"]).numpy()
    synthetic, real = (Batches(side, batch=task.batch, seed=i) for i, side in enumerate(eyes))
    if channels_last:
        for network in (reference.refiner, reference.discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step() -> None:
        for _ in range(task.refiner_updates):
            reference.update_refiner(synthetic.next_array())
        reference.update_discriminator(synthetic.next_array(), real.next_array())

    images = (
        eyes[0][:_REFINED].float().div(127.5).sub(1) if eyes[0].dtype == torch.uint8 else eyes[0][:_REFINED]
    )

    @torch.no_grad()
    def refine() -> None:
        for batch in images.split(task.batch):  # larger ones are slower: the allocator maps their memory anew
            reference.refiner(batch)

    return {
        "refine": refine,
        "update_refiner": lambda: reference.update_refiner(synthetic.next_array()),
        "update_discriminator": lambda: reference.update_discriminator(synthetic.next_array(), real.next_array()),
        "step": step,
    }  # fmt: skip


if __name__ == "__main__":
    main()
