"""The anonymous memory of training on 10,000, 100,000 and 1,200,000 images of 35×55, from shards to the last step.

    python benchmarks/memory.py --work DIR [--counts 10000,100000,1200000] [--out benchmarks/results/memory.json]

Makes shards of that many labelled synthetic PNG, and a sixth as many real ones, in DIR (about 2.5 GB for the largest),
and trains on them by the default recipe with few steps, in a process of its own: listing, decoding into the
memory-mapped cache, warm-ups with the task network, steps, candidates, checkpoints. RssAnon of that process, what it
holds beside mapped files, is read from the kernel every 20 ms. What is made and measured already is kept: the same
command again continues. Times are those of the machine as it is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch
from measuring import describe_machine, say
from shards import DIFFERENT, PER_SHARD, different_images

from simgan.data.output_folder import open_atomically
from simgan.data.tar_writing import build_header, write_end, write_member

TRAINING = """
import sys
import simgan
few = {"task_steps": 5, "self_ensembling_steps": 5, "discriminator_steps": 5}
simgan.train(
    "default",
    synthetic=simgan.ImageTree(sys.argv[1], "**/*.png"),
    real=simgan.ImageTree(sys.argv[2], "**/*.png"),
    run_dir=sys.argv[3],
    overrides={"training.steps": 20, "run.checkpoint_every": 10, "run.log_every": 1}
    | {f"training.warmup_{name}": steps for name, steps in few.items()},
    progress=lambda at: print(at.phase, at.turn, flush=True),
)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for shards and runs")
    parser.add_argument("--counts", default="10000,100000,1200000")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "memory", "machine": describe_machine(torch.device("cpu"))}
    result["measured"] = []
    if asked.out is not None and asked.out.exists():
        result["measured"] = json.loads(asked.out.read_text("utf-8"))["measured"]
    done = {row["images"] for row in result["measured"]}
    for count in (int(number) for number in asked.counts.split(",")):
        if count in done:
            continue
        synthetic, real = (asked.work / f"{side}-{count}" for side in ("synthetic", "real"))
        write_labelled_shards(synthetic, count)
        write_labelled_shards(real, count // 6)
        row = measure(synthetic, real, asked.work / f"run-{count}")
        result["measured"].append({"images": count, "real_images": count // 6, **row})
        say(f"{count} images: {result['measured'][-1]}")
        if asked.out is not None:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            asked.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def write_labelled_shards(folder: Path, count: int) -> None:
    """Those that are missing; ten class folders."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [cv2.imencode(".png", image)[1].tobytes() for image in different_images()]
    for number in range(-(-count // PER_SHARD)):
        shard = folder / f"shard-{number:06}.tar"
        if shard.exists():
            continue
        with open_atomically(shard) as file:
            for i in range(number * PER_SHARD, min((number + 1) * PER_SHARD, count)):
                png = files[i % DIFFERENT]
                write_member(file, build_header(f"{i % 10}/{i:08}.png", size=len(png), mtime=0), png)
            write_end(file)


def measure(synthetic: Path, real: Path, run: Path) -> dict[str, Any]:
    """Peaks of RssAnon before the first update and after it, in MiB, and how long either took."""
    shutil.rmtree(run, ignore_errors=True)  # of a measurement that was cut short
    started = time.perf_counter()
    peaks, seconds_until_training = {"reading": 0.0, "training": 0.0}, 0.0
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-c", TRAINING, str(synthetic), str(real), str(run)]
        process = subprocess.Popen(command, stdout=said)
        while process.poll() is None:
            phase = "training" if seconds_until_training else "reading"
            peaks[phase] = max(peaks[phase], anonymous_mib(process.pid))
            if not seconds_until_training and said.seek(0, 2):
                seconds_until_training = time.perf_counter() - started
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(f"training on {synthetic} failed; what it said is above")
    return {
        "peak_reading_mib": round(peaks["reading"], 1),
        "peak_training_mib": round(peaks["training"], 1),
        "reading_sec": round(seconds_until_training, 1),
        "training_sec": round(time.perf_counter() - started - seconds_until_training, 1),
    }


def anonymous_mib(process: int) -> float:
    """RssAnon now; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


if __name__ == "__main__":
    main()
