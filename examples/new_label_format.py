"""Labels of a format of your own: here two angles in the file name, such as eye_12.5_-3.0.png.

    python examples/new_label_format.py data/eyes

A format is a function and one line in LABEL_FORMATS. Then `ImageTree(folder, labels="angles-in-name")` has it wherever
labels are read, in `simgan.evaluate` for instance. Label files are never written: refined trees carry them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

import simgan
from simgan.data.labels import LABEL_FORMATS


def read_angles(tree: simgan.ImageTree, paths: Sequence[str]) -> simgan.Labels:
    """Format "angles-in-name": <name>_<pitch>_<yaw>.png, in degrees."""
    rows = []
    for path in paths:
        try:
            _, pitch, yaw = PurePosixPath(path).stem.rsplit("_", 2)
            rows.append((float(pitch), float(yaw)))
        except ValueError as error:
            raise simgan.LabelError(
                f"{tree.root}: {path} is not called <name>_<pitch>_<yaw>; rename it, or narrow the images pattern"
            ) from error
    return simgan.Labels("value", np.array(rows), ("pitch_deg", "yaw_deg"))


LABEL_FORMATS["angles-in-name"] = read_angles


def main(folder: str) -> None:
    labels = simgan.read_labels(simgan.ImageTree(folder, labels="angles-in-name"))
    for name, column in zip(labels.names, labels.values.T, strict=True):
        print(f"{name}: {len(column)} images, {column.min():.1f} to {column.max():.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
