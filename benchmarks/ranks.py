"""One run on two processes of one thread each, beside the same run on one: how far apart, and how much faster.

    python benchmarks/ranks.py [--batch 32] [--out benchmarks/results/ranks.json]

The published networks (recipe paper-gaze, float32) train on drawn eyes of 35×55 for 4 updates of R, 4 of D and 15 steps
of two updates of R and one of D: 53 updates. Compared are all numbers of metrics.jsonl over the first 50 updates, rates
by the clock of the steps after the first three. The learning rates are a tenth of the published ones: at those, and
after so short a warm-up, every step makes a difference of the last bit about ten times as large, on one process too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import simgan
from simgan.images import write_atomically

WARMUP, STEPS, UPDATES_OF_STEP, COMPARED = 4, 15, 3, 50
SETTINGS = {
    "training.steps": STEPS,
    "training.warmup_refiner_steps": WARMUP,
    "training.warmup_discriminator_steps": WARMUP,
    "training.refiner_learning_rate": 1e-4,
    "training.discriminator_learning_rate": 1e-4,
    "run.log_every": 1,
    "run.checkpoint_every": STEPS,
    "run.device": "cpu",
    "run.precision": "float32",
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def simgan_command(*arguments: str, ranks: int = 1) -> None:
    start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "simgan", "--"]
    command = [sys.executable, "-m", *(start if ranks > 1 else ["simgan"]), *arguments]
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD, stdout=subprocess.DEVNULL)


def rows(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == "step"]


def largest_difference(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> tuple[float, int]:
    """Relative, over all numbers of the first updates; and how many numbers these are."""
    updates, largest, compared = 0, 0.0, 0
    for a, b in zip(one, two, strict=True):
        updates += UPDATES_OF_STEP if a["phase"] == "adversarial" else 1
        for key in a.keys() - {"time_sec"}:
            if updates <= COMPARED + UPDATES_OF_STEP - 1 and isinstance(a[key], float):
                largest = max(largest, abs(a[key] - b[key]) / max(abs(a[key]), 1e-6))
                compared += 1
    return largest, compared


def seconds_of_a_step(found: list[dict[str, Any]]) -> float:
    times = [row["time_sec"] for row in found if row["phase"] == "adversarial"][2:]
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        for look, seed in (("synthetic", 0), ("pseudo-real", 1)):
            drawn = ["--count", "256", "--seed", str(seed), "--look", look, "--size", "35x55"]
            simgan_command("simulate", "eyes", *drawn, "--out", str(work / look))
        roots = {"synthetic.root": work / "synthetic", "real.root": work / "pseudo-real"}
        patterns = {"synthetic.images": "images/*.png", "real.images": "images/*.png"}
        settings = roots | patterns | SETTINGS | {"training.batch_size": asked.batch}
        options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        for ranks in (1, 2):
            simgan_command("train", "paper-gaze", "--run", str(work / f"run{ranks}"), *options, ranks=ranks)
        one, two = (rows(work / f"run{ranks}") for ranks in (1, 2))
    difference, compared = largest_difference(one, two)
    seconds = [seconds_of_a_step(found) for found in (one, two)]
    result = {
        "benchmark": "ranks",
        "recipe": "paper-gaze",
        "batch_size": asked.batch,
        "updates_compared": COMPARED,
        "numbers_compared": compared,
        "largest_relative_difference": difference,
        "seconds_of_a_step": {"one process": seconds[0], "two processes": seconds[1]},
        "steps_timed": STEPS - 3,
        "speed_up": seconds[0] / seconds[1],
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"simgan": simgan.__version__, "torch": str(torch.__version__)},
    }
    print(json.dumps(result, indent=1))
    if asked.out is not None:
        write_atomically(asked.out, json.dumps(result, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
