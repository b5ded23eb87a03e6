"""Do the labels of drawn eyes say what their pixels show? A gaze network learns drawn eyes and reads other ones.

    python -m simgan.studies.drawn_gaze --results benchmarks/results/drawn-gaze.json

The eyes of two seeds share no person. Leaves the figures of the test eyes: each shows another person, so the interval
is by bootstrap over eyes and over the networks' seeds. With `--model FILE` the first network's weights are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.images import ValueRange, write_atomically
from simgan.measures import angular_errors, bootstrap, percentile_interval, summarize_angles
from simgan.nn.route import choose_route
from simgan.simulators.eyes import VERSION, simulate_eyes
from simgan.tasks import StandardAugmentation, train_gaze

TEST_SEED = 1
_BLOCK = 1024


def drawn_eyes(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Images (n, 35, 55, 1) in [-1, 1] and gaze (n, 3) of the first eyes of a seed, see `simgan.nn.gaze`."""
    images, gaze = [], []
    for start in range(0, count, _BLOCK):
        batch = simulate_eyes(min(_BLOCK, count - start), seed=seed, start=start)
        images.append(ValueRange(0, 255).encode(batch.images.permute(0, 2, 3, 1).numpy()))
        gaze.append(batch.landmarks.look.numpy() * (1.0, -1.0, 1.0))  # y down
    return np.concatenate(images), np.concatenate(gaze)


def run(*, n_train: int, n_test: int, updates: int, seeds: int, model: Path | None = None) -> dict[str, Any]:
    """The record of one run."""
    started = time.monotonic()
    images, gaze = drawn_eyes(n_train, 0)
    unseen, truth = drawn_eyes(n_test, TEST_SEED)
    route = choose_route()
    errors = []
    for seed in range(seeds):

        def say(done: int, total: int, seed: int = seed) -> None:
            if done % max(total // 20, 1) == 0:
                print(f"network {seed + 1} of {seeds}: {done} of {total}", file=sys.stderr, flush=True)

        trained = train_gaze(
            images,
            gaze,
            seed=seed,
            updates=updates,
            augmentation=StandardAugmentation(),
            route=route,
            progress=say,
        )
        errors.append(angular_errors(trained.predict(unseen), truth))
        if model is not None and seed == 0:
            torch.save(trained.network.state_dict(), model)
    all_errors = np.stack(errors)
    angles = summarize_angles(all_errors.ravel())
    replicates = bootstrap({"drawn": all_errors[None]}, np.arange(n_test))
    low, high = percentile_interval(replicates.mean("drawn"))
    return {
        "version": VERSION, "n_train": n_train, "n_test": n_test, "updates": updates, "seeds": seeds,
        "mean_deg": angles.mean_deg, "low": low, "high": high, "median_deg": angles.median_deg,
        "within": {f"{k:g}": v for k, v in angles.within.items()},
        "each_seed": [float(one.mean()) for one in errors], "route": str(route),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def main() -> None:
    """Runs it and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--test", type=int, default=2_000)
    parser.add_argument("--updates", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", type=Path)
    asked = parser.parse_args()
    record = run(
        n_train=asked.train, n_test=asked.test, updates=asked.updates, seeds=asked.seeds, model=asked.model
    )
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(asked.results, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
