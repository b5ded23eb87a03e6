"""Folder to folder against the pure compute rate of the published gaze refiner, in one run.

    python benchmarks/refine_folder.py [--count 20000] [--rounds 3] [--out benchmarks/results/refine_folder.json]

Writes that many grey PNG of 35×55 to a temporary folder and measures, taking turns so that all meet the same machine:

- compute: images that are in memory already, through the network alone, by as many threads as refining uses;
- refined: the same with value range, rounding and NaN check, arrays in and arrays out;
- folder: `simgan.refine`, from files to files and a manifest;
- files: those files read, decoded, encoded and written as they are, without any network, as no refining can do without;
  the ceiling is the share of the pure compute rate that would be left if all else cost nothing;
- start: the command `simgan refine` on one image beside `import torch`, each a process of its own.

It prints ratios, medians over rounds with their lowest and highest, and the largest resident memory. Beside the rates
stand those by processor time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import describe_machine
from refining_cpu import in_batches

import simgan
from simgan.data.trees import TreeScan
from simgan.images import PixelFormat, ValueRange, write_atomically, write_image
from simgan.nn.allocation import keep_freed_memory
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.refinement.pipeline import in_parallel
from simgan.weights import TrainedRefiner, save_refiner

HEIGHT, WIDTH = 35, 55


def published_gaze_refiner() -> TrainedRefiner:
    """Four blocks of 64 maps (paper, section 3.1) of random weights that change what they see."""
    torch.manual_seed(0)
    refiner = Refiner(RefinerSpec(channels=1, width=64, blocks=4, output="residual"))
    torch.nn.init.normal_(refiner.tail.weight, std=0.05)
    grey = PixelFormat(1, 8)
    scan = TreeScan(1, grey, {(HEIGHT, WIDTH): 1}, 0, 255, 1, 127.0, 60.0, 10.0, (), "0" * 64)
    return TrainedRefiner(refiner, None, ValueRange(0, 255), grey, scan, {"recipe": "paper-gaze"})


def eye_like_images(count: int) -> list[np.ndarray]:
    """Smooth images: as well compressed as pictures are, unlike noise."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 9, 14)).astype(np.uint8)
    return [cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None] for image in coarse]


Rates = tuple[float, float]  # images per second, and per second of processor time


class Clock:
    """Since it was made."""

    def __init__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def rates(self, count: int) -> Rates:
        return count / (time.perf_counter() - self._began), count / (time.process_time() - self._used)


def compute_rate(trained: TrainedRefiner, images: list[np.ndarray]) -> Rates:
    """The network alone, all threads at work."""
    size = trained.compute_batch(HEIGHT, WIDTH)
    run = in_batches(trained, np.stack(images))
    clock = Clock()
    run()
    return clock.rates(len(images) // size * size)


def refined_rate(trained: TrainedRefiner, images: list[np.ndarray]) -> Rates:
    """From arrays to arrays."""
    size = trained.compute_batch(HEIGHT, WIDTH)
    batches = [np.stack(images[i : i + size]) for i in range(0, len(images), size)]
    clock = Clock()
    with closing(in_parallel(trained, batches)) as done:
        deque(done, maxlen=0)
    return clock.rates(len(images))


def folder_rate(trained: TrainedRefiner, folder: Path, out: Path) -> Rates:
    """From files to files."""
    clock = Clock()
    report = simgan.refine(simgan.ImageTree(folder), trained, out)
    return clock.rates(report.n_refined)


def files_rate(folder: Path, out: Path) -> Rates:
    """The plainest way from image files to image files: no check, no manifest, nothing that a crash could not tear."""
    out.mkdir()

    def copy(path: Path) -> None:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        (out / path.name).write_bytes(cv2.imencode(".png", image)[1].tobytes())

    paths = sorted(folder.iterdir())
    clock = Clock()
    with closing(in_parallel(copy, paths)) as done:
        deque(done, maxlen=0)
    return clock.rates(len(paths))


def together(before: Rates, after: Rates) -> Rates:
    """The rates over both."""
    wall, cpu = (2 / (1 / one + 1 / other) for one, other in zip(before, after, strict=True))
    return wall, cpu


def seconds_of(command: list[str]) -> float:
    """Of a process from start to end."""
    began = time.perf_counter()
    source = str(Path(simgan.__file__).parents[1])
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": source})
    return time.perf_counter() - began


def start_seconds(work: Path, trained: TrainedRefiner, image: np.ndarray) -> tuple[float, float]:
    """(the command on one image, import torch), in seconds."""
    folder = work / "one"
    folder.mkdir(exist_ok=True)
    write_image(folder / "0.png", image)
    save_refiner(work / "refiner.safetensors", trained)
    shutil.rmtree(work / "one-refined", ignore_errors=True)
    refine = ["refine", str(work / "refiner.safetensors"), str(folder), "--out", str(work / "one-refined")]
    command = seconds_of([sys.executable, "-m", "simgan.cli", *refine])
    return command, seconds_of([sys.executable, "-c", "import torch"])


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    trained = published_gaze_refiner()
    images = eye_like_images(asked.count)
    rounds: dict[str, list[Rates]] = {"compute": [], "refined": [], "folder": [], "files": []}
    starts: list[float] = []
    keep_freed_memory()  # the network alone has what refining has
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "in").mkdir()
        for i, image in enumerate(images):
            png = cv2.imencode(".png", image)[1].tobytes()
            write_atomically(work / "in" / f"{i:06}.png", png, durable=False)
        sample = images[: max(asked.count // 4, 512)]
        for turn in range(asked.rounds):
            # Half of the pure rates before, half after: the machine may be slower at one time than at another.
            before = compute_rate(trained, sample), refined_rate(trained, sample)
            out = work / f"out-{turn}"
            rounds["folder"].append(folder_rate(trained, work / "in", out))
            shutil.rmtree(out)
            rounds["files"].append(files_rate(work / "in", out))
            shutil.rmtree(out)
            rounds["compute"].append(together(before[0], compute_rate(trained, sample)))
            rounds["refined"].append(together(before[1], refined_rate(trained, sample)))
            command, torch_alone = start_seconds(work, trained, images[0])
            starts.append(command - torch_alone)
            rates = ", ".join(f"{name} {values[-1][0]:.0f}/s" for name, values in rounds.items())
            print(f"round {turn + 1}: {rates}, start {starts[-1]:.2f} s beyond torch", file=sys.stderr)
    pairs = list(zip(rounds["folder"], rounds["compute"], strict=True))
    ceilings = [
        (1 / compute[1]) / (1 / compute[1] + 1 / files[1])
        for files, compute in zip(rounds["files"], rounds["compute"], strict=True)
    ]
    result = {
        "benchmark": "refine_folder",
        "images": asked.count,
        "size": [HEIGHT, WIDTH],
        "route": str(trained.route),
        "compute_batch": trained.compute_batch(HEIGHT, WIDTH),
        "rounds": asked.rounds,
        "machine": describe_machine(torch.device("cpu")) | {"load": os.getloadavg()[0]},
        "versions": {"simgan": simgan.__version__, "torch": str(torch.__version__)},
        "images_per_sec": {name: spread([wall for wall, _ in values]) for name, values in rounds.items()},
        "images_per_cpu_sec": {name: spread([cpu for _, cpu in values]) for name, values in rounds.items()},
        "folder_share_of_compute": spread([folder[0] / compute[0] for folder, compute in pairs]),
        "folder_share_of_compute_by_cpu_time": spread([folder[1] / compute[1] for folder, compute in pairs]),
        "ceiling_by_cpu_time": spread(ceilings),
        "start_beyond_torch_sec": spread(starts),
        "largest_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(result, indent=1))
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(asked.out, json.dumps(result, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
