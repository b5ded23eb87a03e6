"""Labels as files hold them: a UnityEyes annotation for each image, and the rows of labels.csv.

UnityEyes counts pixels from the lower left corner of the image, its pixel centres at halves: (u, v) at pixel centres
from the top left is (u + 0.5, h − 0.5 − v) there. The third number of each landmark is the depth from the camera, in
centimetres. `look_vec` is (x right, y up, z into the scene, 0). `head_pose` is the camera's turn as the head sees it,
in Unity's order: (−pitch, 180 + yaw, −roll) of the head, modulo 360.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.nn.gaze import GAZE_COLUMNS
from simgan.simulators.eyes.landmarks import Ellipses
from simgan.simulators.eyes.render import EyeBatch

IRIS_UNIT_MM = 5.5  # UnityEyes's iris_size 1
_SHAPE_COEFFICIENTS = (
    "opening_width_mm", "canthus_x_mm", "canthus_y_mm", "canthal_tilt_mm", "upper_lid_mm", "lower_lid_mm",
    "upper_peak", "lower_peak", "upper_roundness", "lower_roundness", "caruncle_mm", "crease_mm", "crease_depth",
    "crease_width_mm", "bag_mm", "bag_depth", "nose_slope", "temple_slope", "brow_mm", "cheek_slope",
)  # fmt: skip


@dataclass(frozen=True)
class LabelTable:
    """Columns of labels.csv without the path: names, and (n, columns) float64."""

    names: tuple[str, ...]
    values: NDArray[np.float64]


def label_table(batch: EyeBatch) -> LabelTable:
    """Gaze, angles, head pose, ellipses, corners and visible shares of every eye.

    Gaze is the look in the axes of `simgan.nn.gaze` (y down); where a table has it, it is what is learned, and the
    other columns are there for whoever asks. pitch = asin look_y, yaw = atan2(look_x, −look_z), to the right. Columns
    in `_x_px`, `_y_px` are counted at pixel centres from the top left. Axes are half axes.
    """
    found = batch.landmarks
    x, y, z = found.look.unbind(-1)
    columns = {
        **dict(zip(GAZE_COLUMNS, (x, -y, z), strict=True)),
        "pitch_deg": torch.rad2deg(y.clamp(-1, 1).asin()),
        "yaw_deg": torch.rad2deg(torch.atan2(x, -z)),
        **{name: batch.parameters[name] for name in ("head_pitch_deg", "head_yaw_deg", "head_roll_deg")},
        **_ellipse_columns("pupil", found.pupil),
        **_ellipse_columns("iris", found.iris),
        "inner_corner_x_px": found.interior_margin[:, 0, 0],
        "inner_corner_y_px": found.interior_margin[:, 0, 1],
        "outer_corner_x_px": found.interior_margin[:, 8, 0],
        "outer_corner_y_px": found.interior_margin[:, 8, 1],
        "pupil_visible": batch.pupil_visible,
        "iris_visible": batch.iris_visible,
    }
    return LabelTable(tuple(columns), torch.stack(list(columns.values()), -1).numpy())


def _ellipse_columns(name: str, ellipses: Ellipses) -> dict[str, torch.Tensor]:
    return {
        f"{name}_x_px": ellipses.centre_px[:, 0],
        f"{name}_y_px": ellipses.centre_px[:, 1],
        f"{name}_major_px": ellipses.major_px,
        f"{name}_minor_px": ellipses.minor_px,
        f"{name}_angle_deg": ellipses.angle_deg,
    }


def unityeyes_annotations(batch: EyeBatch) -> list[bytes]:
    """For each eye the text of its UnityEyes annotation file: the same keys and kinds of values.

    Where UnityEyes names its own assets or counts in units of its own, stand numbers of this simulator:
    `pupil_size` is the pupil's radius over the iris's, `pca_shape_coeffs` are twenty lengths and shares of the face
    (see the source), textures are numbered.
    """
    rows = batch.images.shape[2]
    found = batch.landmarks
    margin, caruncle, iris = (
        _texts(k, rows) for k in (found.interior_margin, found.caruncle, found.iris_rim)
    )
    look = [_tuple((*row, 0.0)) for row in found.look.tolist()]
    p = {name: column.tolist() for name, column in batch.parameters.items()}
    return [
        json.dumps(
            {
                "interior_margin_2d": margin[i],
                "caruncle_2d": caruncle[i],
                "iris_2d": iris[i],
                **_details({name: column[i] for name, column in p.items()}, look[i]),
            }
        ).encode()
        for i in range(len(look))
    ]


def _details(p: dict[str, Any], look: str) -> dict[str, Any]:
    """What UnityEyes says besides landmarks, for one eye."""
    turn = (-p["head_pitch_deg"] % 360, (180 + p["head_yaw_deg"]) % 360, -p["head_roll_deg"] % 360)
    return {
        "eye_details": {
            "look_vec": look,
            "pupil_size": f"{p['pupil_radius_mm'] / p['iris_radius_mm']:.7g}",
            "iris_size": f"{p['iris_radius_mm'] / IRIS_UNIT_MM:.7g}",
            "iris_texture": f"iris_{p['iris_texture']:.0f}",
        },
        "lighting_details": {
            "skybox_texture": "room",
            "skybox_exposure": f"{p['exposure']:.7g}",
            "skybox_rotation": f"{p['window_yaw_deg'] % 360:.0f}",
            "ambient_intensity": f"{p['ambient']:.7g}",
            "light_rotation": f"({p['key_pitch_deg']:.1f}, {(180 + p['key_yaw_deg']) % 360:.1f}, 0.0)",
            "light_intensity": f"{p['key']:.7g}",
        },
        "eye_region_details": {
            "pca_shape_coeffs": [f"{p[name]:.7g}" for name in _SHAPE_COEFFICIENTS],
            "primary_skin_texture": f"skin_{p['skin_texture']:.0f}",
        },
        "head_pose": _tuple(turn),
    }


def _texts(points: torch.Tensor, rows: int) -> list[list[str]]:
    """(n, k, 3) landmarks as UnityEyes writes them."""
    u, v, depth = points.unbind(-1)
    theirs = torch.stack([u + 0.5, rows - 0.5 - v, depth / 10], -1)
    return [["(%.4f, %.4f, %.4f)" % tuple(point) for point in eye] for eye in theirs.tolist()]  # noqa: UP031


def _tuple(numbers: tuple[float, ...]) -> str:
    return f"({', '.join(f'{number:.4f}' for number in numbers)})"
