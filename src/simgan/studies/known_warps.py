"""Do the two estimators of drift find what is known? Warps of 0.5, 1 and 2 px, and changes that move nothing.

    python -m simgan.studies.known_warps --results benchmarks/results/known_warps.csv

Sources: textures that are sums of waves, whose warps are exact; drawn eyes; and with $SIMGAN_DATA photographs and
renders, warped by Lanczos interpolation. Both images of a pair get independent Gaussian noise of five of 256 levels,
but where the change says otherwise. A row is (source, change, estimator). A warp is `px` long everywhere, so that
what is true does not depend on where an estimator looks: a shift in one direction, and a turn, whose direction changes
slowly from place to place. The same command does the sources that are missing.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simgan.images import read_image, write_atomically
from simgan.measures import flow_drift_px, measure_displacement, percentile_interval
from simgan.measures.known_warps import Field, Images, noisy, shift, turn, warped
from simgan.simulators.eyes import simulate_eyes

WARPS_PX = (0.5, 1.0, 2.0)
TOLERANCE_PX = 0.1
FIELDS = (
    "source", "size", "change", "true_px", "estimator", "n", "measured", "mean_px", "low_px", "high_px",
    "within", "worst_px",
)  # fmt: skip
_COUNT = 50
_REPLICATES = 2000
_PHOTOGRAPHS = {
    "photographed eyes (MPIIGaze)": "mpiigaze-p00/*.png",
    "photographed eyes, close": "eyes/real/images/*",
    "rendered eyes (UnityEyes)": "eyes/synthetic/images/*",
    "photographed signs": "signs/real/*/*",
}


def texture(n: int, height: int, width: int, field: Field | None = None, *, seed: int = 0) -> Images:
    """(n, height, width, 1) sums of 24 waves of 4 to 20 px, deviation 0.3; `field` moves what they show."""
    random = np.random.default_rng(seed)
    images = np.zeros((n, height, width))
    for image in images:
        y, x = np.mgrid[:height, :width].astype(float)
        if field is not None:
            down, right = field(y, x)
            y, x = y - down, x - right
        for _ in range(24):
            length = np.exp(random.uniform(np.log(4), np.log(20)))
            angle, phase = random.uniform(0, 2 * np.pi, 2)
            image += np.sin(2 * np.pi * (y * np.sin(angle) + x * np.cos(angle)) / length + phase)
    return np.asarray(0.3 * images[..., None] / np.sqrt(12), np.float32)


def blurred(images: Images, sigma: float) -> Images:
    """The images out of focus."""
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])
    return np.asarray(soft.reshape(images.shape), np.float32)


CHANGES: dict[str, Callable[[Images], Images]] = {
    "gain": lambda x: 0.5 * x,
    "offset": lambda x: x + np.float32(0.3),
    "light from one side": lambda x: (
        x + np.linspace(0, 0.4, x.shape[2], dtype=np.float32)[None, None, :, None]
    ),
    "noise": lambda x: noisy(x, seed=5),
    "blur": lambda x: blurred(x, 1.5),
    "all of these": lambda x: noisy(0.6 * blurred(x, 1.0) - 0.2, seed=6),
}
"""What moves nothing, done to an image that has noise already."""


def photographs(pattern: str, count: int) -> Images:
    """(n, h, w, 1) grey images of $SIMGAN_DATA, evenly spread over the names; larger ones are averaged to 35×55."""
    paths = sorted(Path(os.environ["SIMGAN_DATA"]).glob(pattern))
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]
    images = [read_image(path)[:, :, :3].mean(axis=2).astype(np.float32) for path in chosen]
    if max(images[0].shape) > 100 or len({image.shape for image in images}) > 1:
        images = [cv2.resize(image, (55, 35), interpolation=cv2.INTER_AREA) for image in images]
    return np.asarray(np.stack(images)[..., None] / 127.5 - 1, np.float32)


Source = Callable[[Field | None], Images]
"""Images with the warp, or without any."""


def _sources(count: int) -> dict[str, Source]:
    drawn = simulate_eyes(count, size=(35, 55), seed=0).images.numpy()[:, 0, :, :, None]
    stacks = {"drawn eyes": drawn.astype(np.float32) / np.float32(127.5) - 1}
    if os.environ.get("SIMGAN_DATA"):
        stacks |= {name: photographs(pattern, count) for name, pattern in _PHOTOGRAPHS.items()}
    exact: dict[str, Source] = {
        f"textures {height}×{width}": partial(texture, count, height, width)
        for height, width in ((35, 55), (64, 64), (90, 120))
    }
    return exact | {name: partial(_resampled, images) for name, images in stacks.items()}


def _resampled(images: Images, field: Field | None) -> Images:
    return images if field is None else warped(images, field)


def measure_source(name: str, source: Source) -> list[dict[str, Any]]:
    """The rows of one source."""
    still = source(None)
    size = still.shape[1], still.shape[2]
    first = noisy(still)
    pairs = [("nothing but noise", 0.0, noisy(still, seed=2))]
    pairs += [(change, 0.0, apply(first)) for change, apply in CHANGES.items()]
    pairs += [
        (kind, px, noisy(source(field), seed=2))
        for px in WARPS_PX
        for kind, field in (("shift", shift(px)), ("turn", turn(px, *size)))
    ]
    rows = []
    for change, px, second in pairs:
        found = {
            "displacement": measure_displacement(first, second).drift_px,
            "optical flow": flow_drift_px(first, second),
        }
        for estimator, drift in found.items():
            identity = {"source": name, "size": f"{size[0]}×{size[1]}", "change": change, "true_px": px}
            rows.append({**identity, "estimator": estimator, **_summary(drift, px)})
    return rows


def _summary(drift: NDArray[np.float64], true_px: float) -> dict[str, Any]:
    """Mean with its 95 % bootstrap interval over images; the share within 0.1 px, and the largest error."""
    known = drift[np.isfinite(drift)]
    drawn = np.random.default_rng(0).integers(len(known), size=(_REPLICATES, len(known)))
    low, high = percentile_interval(known[drawn].mean(axis=1))
    errors = np.abs(known - true_px)
    numbers = {
        "mean_px": known.mean(), "low_px": low, "high_px": high,
        "within": (errors <= TOLERANCE_PX).mean(), "worst_px": errors.max(),
    }  # fmt: skip
    rounded = {name: round(float(value), 4) for name, value in numbers.items()}
    return {"n": len(drift), "measured": len(known), **rounded}


def main() -> None:
    """Measures the sources that the results file lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--count", type=int, default=_COUNT, help="images of each source")
    arguments = parser.parse_args()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if arguments.results.exists():
        with arguments.results.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    for name, source in _sources(arguments.count).items():
        if name in {row["source"] for row in rows}:
            continue
        rows += measure_source(name, source)
        table = io.StringIO()
        writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(arguments.results, table.getvalue().encode())
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
