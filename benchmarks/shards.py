"""Many small images in shards, refined here: constant memory, and the share of the pure compute rate.

    python benchmarks/shards.py [--count 1000000] [--width 64] [--blocks 4] [--workers 2] [--cluster ray]
                                [--work DIR] [--out FILE]

Makes shards of grey PNG of 35×55 (10,000 in each, drawn from 1,000 different ones) and refines them, PNG in and PNG
out, with a refiner of random weights; by default of the published size, 64 maps and 4 blocks. The pure compute rate,
images in memory through the network alone, is measured before and after on the same machine. Resident memory of all
processes is read from the kernel after each shard; kept is the largest of each tenth of the run. Beside the rates stand
those by processor time, which other programs on the machine disturb less. With --work, what is done is kept: the same
command again continues. Rates are those of this call's shards alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import measuring  # noqa: F401  (makes simgan importable from ../src)
import numpy as np
import torch
from refining_cpu import in_batches

import simgan
from simgan.cluster import ray_engine
from simgan.data.output_folder import open_atomically
from simgan.data.tar_writing import build_header, write_end, write_member
from simgan.data.trees import TreeScan
from simgan.images import PixelFormat, ValueRange, write_atomically
from simgan.nn.allocation import keep_freed_memory
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.refinement.shard import ShardWork
from simgan.refinement.shards import Engine, Outcome, in_processes, in_this_process
from simgan.weights import TrainedRefiner

HEIGHT, WIDTH, PER_SHARD, DIFFERENT = 35, 55, 10_000, 1_000


def random_refiner(width: int, blocks: int) -> TrainedRefiner:
    """Random weights that change what they see."""
    torch.manual_seed(0)
    refiner = Refiner(RefinerSpec(channels=1, width=width, blocks=blocks, output="residual"))
    torch.nn.init.normal_(refiner.tail.weight, std=0.1)
    grey = PixelFormat(1, 8)
    scan = TreeScan(1, grey, {(HEIGHT, WIDTH): 1}, 0, 255, 1, 127.0, 60.0, 10.0, (), "0" * 64)
    return TrainedRefiner(refiner, None, ValueRange(0, 255), grey, scan, {"recipe": "benchmark"})


def different_images() -> list[np.ndarray]:
    """Smooth images: as well compressed as pictures are, unlike noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (DIFFERENT, 9, 14)).astype(np.uint8)
    return [cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)[..., None] for image in coarse]


def write_shards(folder: Path, count: int, images: list[np.ndarray]) -> None:
    """Those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    for number in range(-(-count // PER_SHARD)):
        shard = folder / f"shard-{number:06}.tar"
        if shard.exists():
            continue
        with open_atomically(shard) as file:
            for i in range(number * PER_SHARD, min((number + 1) * PER_SHARD, count)):
                png, label = files[i % DIFFERENT], b"%d" % (i % 10)
                write_member(file, build_header(f"{i:08}.cls", size=len(label), mtime=0), label)
                write_member(file, build_header(f"{i:08}.png", size=len(png), mtime=0), png)
            write_end(file)


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def compute_rates(trained: TrainedRefiner, images: list[np.ndarray], passes: int = 5) -> tuple[float, float]:
    """Images through the network alone, all threads at work: (per second, per second of processor time)."""
    size = trained.compute_batch(HEIGHT, WIDTH)
    count = len(images) // size * size * passes
    run = in_batches(trained, np.stack(images))
    began, used = time.perf_counter(), cpu_seconds()
    for _ in range(passes):
        run()
    return count / (time.perf_counter() - began), count / (cpu_seconds() - used)


def resident_mib() -> float:
    """Anonymous memory of this process and its children, now."""
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(
                line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
            )
        except OSError:
            continue
        if os.getpid() in (int(process.name), int(status["PPid"])) and "RssAnon" in status:
            total += int(status["RssAnon"].split()[0]) / 1024
    return total


def watched(engine: Engine, memory: list[float]) -> Engine:
    """`engine`, the memory read after each shard, and progress on stderr."""

    def watch(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
        began = time.perf_counter()
        for done, outcome in enumerate(engine(work, names), 1):
            memory.append(resident_mib())
            left = (time.perf_counter() - began) / done * (len(names) - done)
            print(f"{done} of {len(names)} shards, {memory[-1]:.0f} MiB, {left:.0f} s left", file=sys.stderr)
            yield outcome

    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cluster", choices=["ray"], help="by Ray on this machine, not by the pool")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    keep_freed_memory()  # the network alone has what refining has
    trained, images = random_refiner(asked.width, asked.blocks), different_images()
    with tempfile.TemporaryDirectory() as place:
        work = asked.work or Path(place)
        write_shards(work / "in", asked.count, images)
        before = compute_rates(trained, images)
        memory: list[float] = []
        engine = in_this_process if asked.workers == 1 else in_processes(asked.workers)
        if asked.cluster is not None:
            engine = ray_engine(asked.cluster, workers=asked.workers)
        began, used = time.perf_counter(), cpu_seconds()
        report = simgan.refine(
            simgan.ImageTree(work / "in"), trained, work / "out", engine=watched(engine, memory)
        )
        seconds, used = time.perf_counter() - began, cpu_seconds() - used
        after = compute_rates(trained, images)
    refined_now = report.n_refined - report.n_continued
    compute, compute_of_cpu = (2 / (1 / one + 1 / other) for one, other in zip(before, after, strict=True))
    tenths = [part.max() for part in np.array_split(memory, 10) if len(part)]
    result = {
        "benchmark": "shards",
        "images": report.n_refined,
        "refined_in_this_call": 0 if report.already_done else refined_now,
        "size": [HEIGHT, WIDTH],
        "route": str(trained.route),
        "refiner": {"width": asked.width, "blocks": asked.blocks},
        "compute_batch": trained.compute_batch(HEIGHT, WIDTH),
        "threads": torch.get_num_threads(),
        "workers": asked.workers,
        "engine": asked.cluster or "processes",
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"simgan": simgan.__version__, "torch": str(torch.__version__)},
        "images_per_sec": {"compute": compute, "refined": refined_now / seconds},
        "images_per_cpu_sec": {"compute": compute_of_cpu, "refined": refined_now / used},
        "share_of_compute": refined_now / seconds / compute,
        "share_of_compute_by_cpu_time": refined_now / used / compute_of_cpu,
        "seconds": seconds,
        "rss_anon_mib_by_tenth": None if asked.cluster else [round(float(most), 1) for most in tenths],
    }
    print(json.dumps(result, indent=1))
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(asked.out, json.dumps(result, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
