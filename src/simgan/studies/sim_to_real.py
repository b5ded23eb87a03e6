"""The sim-to-real tasks that studies run on: a labelled synthetic tree, and a real set in three parts.

*unlabelled*: the refiner sees these images. *dev*: labels may shape recipes and code. *test*: read once per reported
figure. Parts are split by writer as far as the sets tell, never shuffled.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from simgan.data.output_folder import remove_temporaries
from simgan.data.trees import ImageTree
from simgan.errors import DataError, require_extra
from simgan.images import encode_image, write_atomically
from simgan.simulators import digits

SYNTHETIC_COUNT = 2000
SYNTHETIC_SEED = 0  # the set is the same in every run: seeds vary what is trained, not what is trained on
PART = 599  # images in each of the three parts of the handwritten digits
USPS_UNLABELLED = 3600  # of USPS's 7,291 training images; the others are dev


@dataclass(frozen=True)
class SimToReal:
    """One task's trees, the generator of its synthetic set, and the settings that its images ask for."""

    synthetic: ImageTree
    unlabelled: ImageTree
    dev: ImageTree
    test: ImageTree
    generator: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


def handwritten_digits(folder: Path) -> SimToReal:
    """Digits drawn from fonts → the 1,797 handwritten ones of scikit-learn, 8×8 grey, levels × 15.

    Their file order keeps each writer's digits together: the first 599 are unlabelled, the next 599 dev, the last 599
    test. Written below `folder` where they are not there yet.
    """
    remove_temporaries(folder)  # refining would carry what a killed process was writing
    synthetic = folder / "synthetic"
    if not (synthetic / "parameters.csv").exists():  # written last
        digits.simulate_digits(synthetic, count=SYNTHETIC_COUNT, seed=SYNTHETIC_SEED)
    real = load_digits()
    images = (real.images * digits.LEVEL_STEP).astype(np.uint8)
    parts = {
        name: _write_real(
            folder / f"real-{name}", images[rows], None if name == "unlabelled" else real.target[rows]
        )
        for name, rows in (
            ("unlabelled", slice(0, PART)),
            ("dev", slice(PART, 2 * PART)),
            ("test", slice(2 * PART, 3 * PART)),
        )
    }
    top = 16 * digits.LEVEL_STEP
    return SimToReal(
        synthetic=ImageTree(synthetic),
        **parts,
        generator={"generator": "simgan.simulators.digits", "version": digits.VERSION},
        settings={"data.value_low": 0, "data.value_high": top, "data.value_step": digits.LEVEL_STEP},
    )


def fonts_to_usps(folder: Path) -> SimToReal:
    """Chars74K's font digits → USPS, 16×16 grey; needs $SIMGAN_DATA.

    Of USPS's train split the first 3,600 images are unlabelled and the rest dev; its test split is test.
    """
    root = os.environ.get("SIMGAN_DATA")
    if not root:
        raise DataError(
            "fonts → USPS needs the environment variable SIMGAN_DATA: the folder of digits/usps.h5"
        )
    remove_temporaries(folder)
    h5py = require_extra("h5py", extra="test")
    with h5py.File(Path(root) / "digits" / "usps.h5") as file:
        real = {
            split: (
                np.round(file[split]["data"][:].reshape(-1, 16, 16) * 255).astype(np.uint8),
                file[split]["target"][:].astype(np.int64),
            )
            for split in ("train", "test")
        }
    images, labels = real["train"]
    fonts = np.load(Path(root) / "digits" / "chars74k_fnt_digits_32x32.npz")
    synthetic = folder / "synthetic"
    drawn = fonts["x"].reshape(-1, 32, 32).astype(np.float32)
    for i, (image, label) in enumerate(zip(drawn * (255 / drawn.max()), fonts["y"], strict=True)):
        small = np.round(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)).astype(np.uint8)
        _write_missing(synthetic / str(label) / f"{i:05d}.png", small)
    return SimToReal(
        synthetic=ImageTree(synthetic),
        unlabelled=_write_real(folder / "real-unlabelled", images[:USPS_UNLABELLED], None),
        dev=_write_real(folder / "real-dev", images[USPS_UNLABELLED:], labels[USPS_UNLABELLED:]),
        test=_write_real(folder / "real-test", *real["test"]),
        generator={"generator": "Chars74K font digits, 32×32 averaged to 16×16", "version": 1},
        settings={"data.value_low": 0, "data.value_high": 255},
    )


TASKS: dict[str, Callable[[Path], SimToReal]] = {"digits": handwritten_digits, "usps": fonts_to_usps}


def _write_real(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> ImageTree:
    """Images as `00000.png`, …, and labels.csv where there are labels."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("path", "class"))
    for i, image in enumerate(images):
        _write_missing(folder / f"{i:05d}.png", image)
        if labels is not None:
            writer.writerow((f"{i:05d}.png", labels[i]))
    if labels is not None:
        write_atomically(folder / "labels.csv", table.getvalue().encode())
    return ImageTree(folder)


def _write_missing(path: Path, image: NDArray[np.uint8]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, encode_image(image[:, :, None], ".png"))
