"""How the benchmarks measure: medians with spread, on either device, and a machine's ceilings in the same run."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from elsewhere import Taken
from torch import Tensor


def timed(
    function: Callable[[], Any],
    device: torch.device,
    *,
    budget_sec: float = 1.0,
    least: int = 5,
    most: int = 50,
) -> dict[str, float]:
    """Seconds of one call: median, smallest, largest, quartiles, and how many were timed within the budget.

    On a GPU each call is timed by events on its stream, after one that is not counted.
    """
    seconds: list[float] = []
    started = time.perf_counter()
    function()
    synchronize(device)
    while len(seconds) < least or (time.perf_counter() - started < budget_sec and len(seconds) < most):
        if device.type == "cuda":
            before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            before.record()
            function()
            after.record()
            after.synchronize()
            seconds.append(before.elapsed_time(after) / 1e3)
        else:
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        if len(seconds) >= 3 and time.perf_counter() - started > 4 * budget_sec:
            break
    return spread_of(seconds)


def timed_in_turn(
    functions: dict[str, Callable[[], Any]], device: torch.device, *, rounds: int, budget_sec: float = 60.0
) -> dict[str, dict[str, float]]:
    """The same for several functions, called in turn, so that a machine that slows down slows all of them. Those that
    run in another process return what they took there."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    of_processor: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    started = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - started > budget_sec:
            break
        for name, function in functions.items():
            synchronize(device)
            start, start_of_processor = time.perf_counter(), time.process_time()
            taken = function()
            synchronize(device)
            if not isinstance(taken, Taken):
                taken = Taken(time.perf_counter() - start, time.process_time() - start_of_processor)
            seconds[name].append(taken.seconds)
            of_processor[name].append(taken.of_processor)
    return {
        name: {**spread_of(values), "median_processor_sec": statistics.median(of_processor[name])}
        for name, values in seconds.items()
    }


def spread_of(seconds: list[float]) -> dict[str, float]:
    """Median and spread of what was measured."""
    low, middle, high = (
        statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    )
    return {
        "median_sec": middle,
        "quartile_low_sec": low,
        "quartile_high_sec": high,
        "least_sec": min(seconds),
        "most_sec": max(seconds),
        "n": len(seconds),
    }


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(
    m: int, n: int, k: int, dtype: torch.dtype, device: torch.device, *, budget_sec: float = 0.5
) -> dict[str, Any]:
    """Operations a second of (m, k) @ (k, n) on random numbers, and the time."""
    generator = torch.Generator().manual_seed(0)
    left, right = _random((m, k), generator, dtype, device), _random((k, n), generator, dtype, device)
    out = torch.empty((m, n), dtype=dtype, device=device)
    time_taken = timed(lambda: torch.mm(left, right, out=out), device, budget_sec=budget_sec)
    return {"shape": [m, n, k], "flops": 2 * m * n * k / time_taken["median_sec"], **time_taken}


def copy_rate(device: torch.device, *, megabytes: int) -> dict[str, Any]:
    """Bytes a second of a large copy within the device, read and written bytes counted."""
    source = torch.randint(0, 255, (megabytes * 2**20,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    time_taken = timed(lambda: target.copy_(source), device, budget_sec=0.5)
    return {"bytes_per_sec": 2 * source.numel() / time_taken["median_sec"], **time_taken}


def _random(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Tensor:
    if device.type == "cuda":
        return torch.randn(shape, dtype=dtype, device=device)
    return torch.randn(shape, generator=generator).to(dtype)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    machine: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": str(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine |= {
            "gpu": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "gpu_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return machine


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split() if "bf16" in flag}
    return f"{', '.join(sorted(names))} ({', '.join(sorted(flags)) or 'no bf16 units'})"


class Report:
    """Results by section, written after each: a run that is cut short leaves what it had."""

    def __init__(self, out: Path | None, machine: dict[str, Any], seconds: float) -> None:
        self.results: dict[str, Any] = {"machine": machine}
        self._out = out
        self._until = time.perf_counter() + seconds

    @property
    def seconds_left(self) -> float:
        """Of the time that the whole run may take."""
        return self._until - time.perf_counter()

    def section(self, name: str, function: Callable[[], Any], *, needs_sec: float = 0.0) -> Any:
        """`function()` as section `name`. What fails is said and left out, and the rest goes on."""
        if self.seconds_left < needs_sec:
            self._keep(name, {"skipped": f"{self.seconds_left:.0f} s left, it needs {needs_sec:.0f}"})
            say(f"-- {name}: skipped, {self.seconds_left:.0f} s left of the {needs_sec:.0f} that it needs")
            return None
        say(f"-- {name}")
        started = time.perf_counter()
        try:
            result = function()
        except Exception as error:
            traceback.print_exc()
            say(f"   {name} failed: {error}; going on")
            self._keep(name, {"failed": f"{type(error).__name__}: {error}"})
            return None
        self._keep(name, {"section_sec": time.perf_counter() - started, **result})
        say(f"   ({time.perf_counter() - started:.1f} s)")
        return result

    def _keep(self, name: str, result: dict[str, Any]) -> None:
        self.results[name] = result
        if self._out is not None:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._out.write_text(json.dumps(self.results, indent=1), "utf-8")


def say(text: str) -> None:
    """To stdout, at once."""
    print(text, flush=True)


def quiet_warnings() -> None:
    """Once each, so that a table at the end of the output stays readable."""
    warnings.simplefilter("once")
