"""Exported refiners beside torch: how far apart on real images, and how fast, each route in turn in one process.

    SIMGAN_DATA=… python benchmarks/export_parity.py [--refiner RUN] --out benchmarks/results/export_parity.json

Parity: over 1,000 real eyes where SIMGAN_DATA is set, by the refiner of a run on 8-bit grey images (--refiner), else by
one of the gaze recipe's architecture (4 blocks of 64 maps, level matching); and a smaller one over the 1,797 digits of
scikit-learn. Weights are random where no run is given, of a size that changes images by some ten grey levels. Speed:
batches of the same images, float32 network alone, routes interleaved, one thread each; each figure is the median over
rounds, given as a ratio to torch in float32; --rounds 0 leaves it out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from simgan.data.trees import TreeScan
from simgan.exporting.graph import native_graph, network_graph
from simgan.exporting.onnx_file import computed_by_onnx
from simgan.exporting.parity import computed_by, in_float32, measure_parity
from simgan.exporting.runtimes import OPEN_SESSION, RUNTIMES, Session
from simgan.images import PixelFormat, ValueRange, read_image, write_atomically
from simgan.nn.level_matching import LevelMatching
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Route
from simgan.weights import TrainedRefiner, load_refiner

Images = NDArray[np.uint8]
BATCH, FEW = 32, 7  # images at once; batches on which all but the exported file are compared


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--refiner", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # every route has one
    digits = (load_digits().images[:, :, :, None] * 15).astype(np.uint8)
    small = random_refiner(RefinerSpec(1, 32, 3, output="residual"), digits)
    cases = {"digits of scikit-learn, 8×8": (digits, small)}
    root = os.environ.get("SIMGAN_DATA")
    if root is None:
        print("SIMGAN_DATA is not set: real eyes are left out")
    else:
        paths = sorted((Path(root) / "mpiigaze-p00").glob("*.png"))
        chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, 1000).astype(int)]
        eyes = np.stack([read_image(path)[:35, :55] for path in chosen])
        trained = random_refiner(RefinerSpec(1, 64, 4, output="residual"), eyes)
        if arguments.refiner is not None:
            trained = load_refiner(arguments.refiner, device="cpu", precision="float32")
        cases["MPIIGaze eyes, 35×55"] = (eyes, trained)
    record: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("simgan", "torch", "onnx", "onnxruntime", "openvino")},
        "cases": {},
    }
    for name, (images, trained) in cases.items():
        found = {"parity": parities(trained, images), "speed": {}}
        if arguments.rounds:
            found["speed"] = speeds(trained.refiner, images, arguments.rounds)
        said = {
            key: trained.provenance[key] for key in ("recipe", "step", "seed") if key in trained.provenance
        }
        about = {
            "n_images": len(images),
            "refiner": asdict(trained.spec),
            "provenance": said or "random weights",
        }
        record["cases"][name] = about | found
        print_case(name, found)
        if arguments.out is not None:  # after each case: what was measured stays
            write_atomically(
                arguments.out, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
            )


def random_refiner(spec: RefinerSpec, images: Images) -> TrainedRefiner:
    """Random weights; levels are matched from darker images to these."""
    torch.manual_seed(0)
    refiner = Refiner(spec)
    torch.nn.init.normal_(refiner.tail.weight, std=0.05)
    scale, kind = ValueRange(0, 255), PixelFormat(1, 8)
    real = torch.from_numpy(scale.encode(images[:200]).transpose(0, 3, 1, 2).copy())
    matching = LevelMatching.fit(synthetic=real * 0.7 - 0.3, real=real)
    scan = TreeScan(len(images), kind, {images.shape[1:3]: len(images)}, 0, 255, 1, 128, 60, 20, (), "0" * 64)
    route = Route(torch.device("cpu"), torch.float32)
    return TrainedRefiner(refiner, matching, scale, kind, scan, route=route)


def parities(trained: TrainedRefiner, images: Images) -> dict[str, Any]:
    """Each route beside torch in float32: the exported file end to end, the runtimes' network, torch in bfloat16."""
    reference = in_float32(trained)
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    graph = network_graph(trained.refiner).SerializeToString()
    routes = {"exported file": computed_by_onnx(native_graph(trained).SerializeToString())}
    for runtime in RUNTIMES:
        session, label = OPEN_SESSION[runtime](graph)
        routes[label] = computed_by(through(trained, session))
    routes["torch bfloat16"] = computed_by(through(trained, bfloat16_session(trained.refiner)))
    return {
        label: asdict(
            measure_parity(
                computed_by(reference), route, batches if label == "exported file" else batches[:FEW], step=1
            )
        )
        for label, route in routes.items()
    }


def through(trained: TrainedRefiner, session: Session) -> TrainedRefiner:
    computed = replace(trained)
    computed.network = lambda x: torch.from_numpy(session(np.ascontiguousarray(x.numpy())))
    return computed


def bfloat16_session(refiner: Refiner) -> Session:
    return torch_session(refiner, torch.bfloat16)


def torch_session(refiner: Refiner, dtype: torch.dtype) -> Session:
    """torch as refining calls it: channels last, autocast for bfloat16."""
    route = Route(torch.device("cpu"), dtype)
    network = route.place(refiner)

    @torch.inference_mode()
    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with route.autocast():
            return np.asarray(network(route.put(torch.from_numpy(images))).float().numpy(), np.float32)

    return run


def speeds(refiner: Refiner, images: Images, rounds: int) -> dict[str, Any]:
    """Median seconds a batch of each route, the routes in turn, and how many times as fast as torch in float32."""
    x = ValueRange(0, 255).encode(images[:BATCH]).transpose(0, 3, 1, 2).copy()
    graph = network_graph(refiner).SerializeToString()
    sessions: dict[str, Session] = {
        "torch float32": torch_session(refiner, torch.float32),
        "torch bfloat16": bfloat16_session(refiner),
    }
    for runtime in RUNTIMES:
        session, label = OPEN_SESSION[runtime](graph)
        sessions[label] = session
    seconds: dict[str, list[float]] = {label: [] for label in sessions}
    for round_ in range(rounds + 1):
        for label, session in sessions.items():
            took = timed(lambda session=session: session(x))  # type: ignore[misc]
            if round_:  # the first one warms up
                seconds[label].append(took)
    ratios = {
        label: [a / b for a, b in zip(seconds["torch float32"], took, strict=True)]
        for label, took in seconds.items()
    }
    return {
        label: {
            "median_batch_sec": float(np.median(seconds[label])),
            "times_torch_float32": float(np.median(found)),
            "quartiles": [float(q) for q in np.quantile(found, (0.25, 0.75))],
            "n_rounds": rounds,
        }
        for label, found in ratios.items()
    }


def timed(call: Callable[[], object]) -> float:
    """Seconds a call, over as many as take a quarter of a second at least."""
    calls, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < 0.25:
        call()
        calls += 1
    return took / calls


def print_case(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}")
    for label, p in found["parity"].items():
        print(
            f"  {label:32} n {p['n_images']:5} on [-1, 1] {p['value_difference']:.1e}  levels {p['level_difference']}"
            f"  pixels on another level {p['differing_share']:.4%}"
        )
    for label, s in found["speed"].items():
        low, high = s["quartiles"]
        print(f"  {label:32} {s['times_torch_float32']:.2f} × torch float32  [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
