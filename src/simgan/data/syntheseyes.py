"""SynthesEyes: the gaze stands in the name of each image, <person>_<number>_<pitch>_<yaw>.png, in radians.

Pitch is positive upwards and yaw positive to the left of the image (Wood et al., ICCV 2015), as in `simgan.nn.gaze`;
they are taken as angles in the camera's space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from simgan.data.label_set import Labels, raise_label_faults
from simgan.data.trees import ImageTree
from simgan.nn.gaze import GAZE_COLUMNS, vectors_of_angles

_NUMBER = r"-?[0-9]{1,2}(?:\.[0-9]+)?"
_NAME = re.compile(rf"(?P<person>[^_]+)_(?P<number>[0-9]+)_(?P<pitch>{_NUMBER})_(?P<yaw>{_NUMBER})")


def read_syntheseyes(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "syntheseyes": `gaze_x`, `gaze_y`, `gaze_z` of the angles in the names; the person is the group.

    `LabelError` where a name has another form, or angles that no visible eye has (90° and more: most likely degrees).
    """
    faults: list[str] = []
    angles: list[tuple[float, float]] = []
    persons: list[str] = []
    for path in paths:
        match = _NAME.fullmatch(PurePosixPath(path).stem)
        if match is None:
            faults.append(f"{path} is not called <person>_<number>_<pitch>_<yaw>")
            continue
        pitch, yaw = float(match["pitch"]), float(match["yaw"])
        if max(abs(pitch), abs(yaw)) >= math.pi / 2:
            faults.append(
                f"{path}: pitch {pitch} and yaw {yaw}: radians below π/2 are wanted; are these degrees?"
            )
        angles.append((pitch, yaw))
        persons.append(match["person"])
    next_step = "name the images as SynthesEyes does, or narrow the images pattern"
    raise_label_faults(str(tree.root), faults, next_step)
    pitches, yaws = np.array(angles, dtype=np.float64).reshape(-1, 2).T
    return Labels("value", vectors_of_angles(pitches, yaws), GAZE_COLUMNS, tuple(persons))
