"""Sections of gpu.py: whole steps of Algorithm 1, their losses beside the reference's, and a whole training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made import (
    PAPER_GAZE,
    Batches,
    Task,
    copy_weights,
    draw_eyes,
    draws_of,
    fill_history,
    players_of,
    reference_of,
)
from measuring import say, synchronize, timed
from pictures import write_grid
from reference import Reference
from refining_routes import float_convolutions, fused_convolutions
from roofline import Ceilings, step_bound, step_operations

from simgan.nn.route import Route
from simgan.training.algorithm import (
    Metrics,
    Players,
    adversarial_step,
    update_discriminator,
    update_refiner,
)
from simgan.training.capture import captured


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    task: Task
    large_products: tuple[int, ...]
    batches: tuple[int, ...]
    copy_megabytes: int
    refined: int
    chunks: tuple[int, ...]
    streamed: int
    stream_chunk: int
    synthetic: int
    real: int
    warmup_refiner: int
    warmup_discriminator: int
    curve_steps: int
    steps: int

    @staticmethod
    def whole() -> Scale:
        return Scale(PAPER_GAZE, (4096, 8192), (512, 2048, 8192), 4096, 8192, (64, 256, 512, 2048), 1_200_000, 16_384,
                     1_200_000, 214_000, 1000, 200, 200, 10_000)  # fmt: skip

    @staticmethod
    def quick() -> Scale:
        task = replace(PAPER_GAZE, batch=8, history_batches=2)
        return Scale(task, (256,), (2,), 16, 16, (8,), 64, 32, 200, 200, 4, 8, 12, 12)


@dataclass
class _Setting:
    """Players with their data, ready for steps with a filled history."""

    players: Players
    synthetic: Batches
    real: Batches
    task: Task

    def step(self) -> Metrics:
        draw_synthetic, draw_real = draws_of(self.players, self.synthetic, self.real)
        return adversarial_step(
            self.players,
            draw_synthetic,
            draw_real,
            refiner_updates=self.task.refiner_updates,
            discriminator_updates=1,
        )

    def update_refiner(self) -> Metrics:
        return update_refiner(self.players, self.synthetic.next_on_device(self.players.draws))

    def warm_up_refiner(self) -> Metrics:
        return update_refiner(
            self.players, self.synthetic.next_on_device(self.players.draws), adversarial=False
        )

    def update_discriminator(self) -> Metrics:
        draws = self.players.draws
        return update_discriminator(
            self.players, self.synthetic.next_on_device(draws), self.real.next_on_device(draws)
        )

    def captured(self, update: Callable[[], Metrics]) -> Callable[[], Metrics]:
        history = self.players.history
        assert history is not None, "benchmarks train with a history"
        return captured(update, self.players.draws, is_steady=lambda: history.is_full)


def _setting(
    task: Task, device: torch.device, eyes: tuple[torch.Tensor, torch.Tensor], *, filled: bool = True
) -> _Setting:
    players = players_of(task, Route(device, torch.bfloat16))
    synthetic, real = (Batches(side, batch=task.batch, seed=i) for i, side in enumerate(eyes))
    if filled:
        fill_history(players, eyes[0][: task.batch])
    return _Setting(players, synthetic, real, task)


def _eyes(scale: Scale, device: torch.device, count: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        draw_eyes(count or scale.synthetic, real=False, device=device),
        draw_eyes(min(count or scale.real, scale.real), real=True, device=device, seed=1),
    )


def _reference_step(reference: Reference, synthetic: Batches, real: Batches, task: Task) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for _ in range(task.refiner_updates):
        metrics |= reference.update_refiner(synthetic.next_array())
    return metrics | reference.update_discriminator(synthetic.next_array(), real.next_array())


def step_times(
    scale: Scale, device: torch.device, limits: dict[str, Ceilings], *, compiling: bool = False
) -> dict[str, Any]:
    """Whole steps by each route, images a second, and the ratio to the reference; the bound of the roofline beside."""
    task, on_gpu = scale.task, device.type == "cuda"
    eyes = _eyes(scale, device, min(scale.synthetic, 100_000))
    bounds = {name: step_bound(task, limit) for name, limit in limits.items()}
    rows: dict[str, Any] = {}

    def keep(name: str, taken: dict[str, float], part: str = "step") -> None:
        shares = {
            f"share_of_{kind}_bound": least[part] / taken["median_sec"] for kind, least in bounds.items()
        }
        rate = step_operations(task)[part] / taken["median_sec"]
        rows[name] = {**taken, **shares, "flops": rate}
        said = ", ".join(f"{share:.0%} of {kind[9:-6]}" for kind, share in shares.items())
        spread = f"{taken['quartile_low_sec'] * 1e3:.2f} to {taken['quartile_high_sec'] * 1e3:.2f}"
        say(f"   {name}: {taken['median_sec'] * 1e3:.2f} ms ({spread}; {rate / 1e12:.0f} TFLOP/s; {said})")

    def measure(name: str, *, fusing: bool, capture: bool, part: str = "step", tuned: bool = False) -> None:
        before = torch.backends.cudnn.benchmark
        try:
            setting = _setting(task, device, eyes)
            torch.backends.cudnn.benchmark = tuned
            if compiling:
                torch._dynamo.reset()
                for network in ("refiner", "discriminator"):
                    getattr(setting.players, network).compile(dynamic=False)
            with fused_convolutions(fusing):
                update = getattr(setting, part)
                call = setting.captured(update) if capture else update
                for _ in range(5):
                    call()
                keep(name, timed(call, device, budget_sec=1.0), part)
        except Exception as problem:
            rows[name] = {"failed": f"{type(problem).__name__}: {problem}"}
            say(f"   {name}: {type(problem).__name__}: {str(problem)[:300]}")
        finally:
            torch.backends.cudnn.benchmark = before

    if compiling:
        measure("compiled, captured", fusing=False, capture=True)
        return {"batch": task.batch, "routes": rows}
    for strict in (False, True):
        name = "reference, strict float32" if strict else "reference, float32 as torch defaults"
        setting = _setting(task, device, eyes)
        reference = _reference_like(setting, device)
        with float_convolutions(strict=strict):
            call = lambda r=reference, s=setting: _reference_step(r, s.synthetic, s.real, task)  # noqa: E731
            keep(name, timed(call, device, budget_sec=2.0))
    measure("simgan, call by call", fusing=True, capture=False)
    if on_gpu:
        measure("simgan, captured", fusing=True, capture=True)
        measure("simgan, captured, not fused", fusing=False, capture=True)
        measure("simgan, captured, cuDNN tries its kernels", fusing=True, capture=True, tuned=True)
    for part in ("update_refiner", "update_discriminator"):
        measure(f"simgan, {part}", fusing=True, capture=on_gpu, part=part)
    fast = rows.get("simgan, captured" if on_gpu else "simgan, call by call", {})
    ratios = {
        name: row["median_sec"] / fast["median_sec"]
        for name, row in rows.items()
        if name.startswith("reference") and "median_sec" in fast
    }
    for name, ratio in ratios.items():
        say(f"   {ratio:.2f}× as fast as the {name}")
    result = {"batch": task.batch, "bounds_sec": bounds, "routes": rows, "times_as_fast": ratios}
    if {"simgan, update_refiner", "simgan, update_discriminator"} <= rows.keys() and "median_sec" in fast:
        result["extrapolated_sec"] = _extrapolated(scale, rows, fast["median_sec"])
    return result


def _extrapolated(scale: Scale, rows: dict[str, Any], step_sec: float) -> float:
    """Warm-ups and all steps at the measured times; R's warm-up costs no more than its update."""
    whole = scale.warmup_refiner * rows["simgan, update_refiner"].get("median_sec", 0.0)
    whole += scale.warmup_discriminator * rows["simgan, update_discriminator"].get("median_sec", 0.0)
    whole += scale.steps * step_sec
    say(f"   warm-ups and {scale.steps:,} steps would take {whole:.0f} s")
    return whole


def _reference_like(setting: _Setting, device: torch.device) -> Reference:
    """The reference with weights and history of the players as they are."""
    players = setting.players
    reference = reference_of(setting.task, players, device)
    assert players.history is not None, "benchmarks train with a history"
    reference.history = players.quantization.values(players.history.state_dict()["images"]).numpy()
    return reference


def loss_curves(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Losses of the fast and the reference path from one start on the same batches and choices.

    Bound: in every window of a tenth of the steps, the mean of each loss within 5 % of the strict reference's.
    """
    eyes = _eyes(scale, device, min(scale.synthetic, 100_000))
    task, steps = scale.task, scale.curve_steps
    start = _setting(task, device, eyes)
    warm = start.captured(start.warm_up_refiner)
    for _ in range(min(100, scale.warmup_refiner)):
        warm()
    curves: dict[str, list[dict[str, float]]] = {}
    for name in ("fast", "reference", "strict reference"):
        setting = _setting(task, device, eyes)
        copy_weights(start.players.refiner, setting.players.refiner)
        setting.players.draws.generator.manual_seed(7)
        if name == "fast":
            step = setting.captured(setting.step)
            rows = []
            for _ in range(steps):
                rows.append(torch.stack([value.clone() for value in _in_order(step())]))
            names = sorted(_LOSSES)
            values = torch.stack(rows).tolist()
            curves[name] = [dict(zip(names, row, strict=True)) for row in values]
        else:
            reference = _reference_like(setting, device)
            reference.generator.manual_seed(7)
            with float_convolutions(strict=name.startswith("strict")):
                curves[name] = [
                    _reference_step(reference, setting.synthetic, setting.real, task) for _ in range(steps)
                ]
    window = max(1, steps // 10)
    worst: dict[str, Any] = {}
    for name in ("fast", "reference"):
        worst[name] = {}
        for loss in sorted(_LOSSES):
            mine, exact = (
                np.array([row[loss] for row in curves[which]])[: steps // window * window]
                .reshape(-1, window)
                .mean(1)
                for which in (name, "strict reference")
            )
            worst[name][loss] = float(np.max(np.abs(mine - exact) / np.abs(exact)))
        said = ", ".join(f"{loss} {difference:.2%}" for loss, difference in worst[name].items())
        say(f"   {name} beside the strict reference, largest difference of a window's mean: {said}")
    holds = all(difference <= 0.05 for difference in worst["fast"].values())
    say(f"   within 5 %: {'yes' if holds else 'no'}")
    return {"steps": steps, "window": window, "worst": worst, "within_bounds": holds, "curves": curves}


_LOSSES = ("discriminator_loss", "refiner_loss", "self_regularization")


def _in_order(metrics: Metrics) -> list[torch.Tensor]:
    return [metrics[name] for name in sorted(_LOSSES)]


def check_capture(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Two runs of the captured step from one start, and one call by call: are the weights the same to the bit?"""
    eyes = _eyes(scale, device, min(scale.synthetic, 20_000))
    weights = {}
    for name in ("captured", "captured again", "call by call"):
        setting = _setting(scale.task, device, eyes)
        call = setting.step if name == "call by call" else setting.captured(setting.step)
        for _ in range(12):
            call()
        networks = (setting.players.refiner, setting.players.discriminator)
        weights[name] = [p.detach().clone() for network in networks for p in network.parameters()]
    result = {}
    for name in ("captured again", "call by call"):
        pairs = zip(weights["captured"], weights[name], strict=True)
        result[name] = max(float((a - b).abs().max()) for a, b in pairs)
        say(f"   captured beside {name}, after 12 steps: largest difference of a weight {result[name]:.2e}")
    return {"largest_difference": result}


def profile(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Where the time of a step goes: kernels by their time on the device, three steps call by call."""
    setting = _setting(scale.task, device, _eyes(scale, device, min(scale.synthetic, 20_000)))
    for _ in range(2):
        setting.step()
    kind = torch.profiler.ProfilerActivity
    activities = [kind.CPU, kind.CUDA] if device.type == "cuda" else [kind.CPU]
    with torch.profiler.profile(activities=activities) as profiled:
        for _ in range(3):
            setting.step()
        synchronize(device)
    spent = {
        event.key: event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        for event in profiled.key_averages()
        if device.type == "cpu" or event.device_type != torch.autograd.DeviceType.CPU
    }
    whole = sum(spent.values()) or 1.0
    top = sorted(spent.items(), key=lambda item: -item[1])[:25]
    for name, microseconds in top:
        say(f"   {microseconds / whole:6.1%} {microseconds / 3e3:8.3f} ms  {name[:150]}")
    return {"total_ms_per_step": whole / 3e3, "kernels": [{"name": n, "share": t / whole} for n, t in top]}


def train_whole(scale: Scale, device: torch.device, folder: Path) -> dict[str, Any]:
    """Warm-ups and all steps, really run, on as many drawn eyes as the paper has images; samples before and after."""
    began = time.perf_counter()
    eyes = _eyes(scale, device)
    synchronize(device)
    drawn = time.perf_counter()
    setting = _setting(scale.task, device, eyes, filled=False)
    players, shown = setting.players, 12
    _write_samples(folder / "samples-before.png", players, eyes, shown)
    seconds: dict[str, float] = {}
    rows: list[dict[str, float]] = []
    phases = {
        "warm-up of R": (setting.warm_up_refiner, scale.warmup_refiner),
        "warm-up of D": (setting.update_discriminator, scale.warmup_discriminator),
        "steps": (setting.step, scale.steps),
    }
    for phase, (update, count) in phases.items():
        started = time.perf_counter()
        call = captured(
            update, players.draws, is_steady=lambda phase=phase: phase == "warm-up of R" or players.history.is_full
        )  # fmt: skip
        for turn in range(count):
            metrics = call()
            if (turn + 1) % max(1, count // 10) == 0:
                numbers = {name: float(value) for name, value in metrics.items()}
                rows.append({"turn": turn + 1, **numbers})
                said = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                say(f"   {phase} {turn + 1}: {said}")
        synchronize(device)
        seconds[phase] = time.perf_counter() - started
    whole = time.perf_counter() - drawn
    _write_samples(folder / "samples-after.png", players, eyes, shown)
    distance = _distances(players, eyes)
    for phase, taken in seconds.items():
        say(f"   {phase}: {taken:.1f} s")
    say(
        f"   drawing the eyes: {drawn - began:.1f} s; warm-ups and steps: {whole:.1f} s; distances: {distance}"
    )
    return {"images": [len(side) for side in eyes], "drawing_sec": drawn - began, "phases_sec": seconds,
            "training_sec": whole, "metrics": rows, "distances": distance}  # fmt: skip


@torch.inference_mode()
def _refined(players: Players, images: torch.Tensor) -> torch.Tensor:
    parts = [players.refine(players.quantization.values(part)) for part in images.split(512)]
    return players.quantization.codes(torch.cat(parts))


def _write_samples(path: Path, players: Players, eyes: tuple[torch.Tensor, torch.Tensor], shown: int) -> None:
    """Rows: synthetic, refined, real; twice."""
    rows = []
    for start in (0, shown):
        synthetic, real = (side[start : start + shown] for side in eyes)
        rows += [synthetic, _refined(players, synthetic), real]
    write_grid(path, [row[:, 0].cpu().numpy() for row in rows], zoom=2)
    say(f"   wrote {path}")


def _distances(players: Players, eyes: tuple[torch.Tensor, torch.Tensor]) -> dict[str, float]:
    """Sliced Wasserstein distance of pixels to real images that were set aside for it: synthetic, refined, real."""
    count = min(10_000, len(eyes[1]) // 2)
    synthetic, real, other = eyes[0][:count], eyes[1][:count], eyes[1][-count:]
    generator = torch.Generator(real.device).manual_seed(0)
    directions = torch.randn((real[0].numel(), 256), generator=generator, device=real.device)
    directions /= directions.norm(dim=0)

    def along(images: torch.Tensor) -> torch.Tensor:
        return (players.quantization.values(images).flatten(1) @ directions).sort(dim=0).values

    exact = along(real)
    sides = {"synthetic": synthetic, "refined": _refined(players, synthetic), "real": other}
    return {name: float((along(side) - exact).abs().mean()) for name, side in sides.items()}
