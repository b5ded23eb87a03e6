"""UnityEyes: a JSON file of landmarks and directions beside each image, coordinates with y upwards.

Format (Wood et al., ETRA 2016; UnityEyes writes numbers as text):

    interior_margin_2d, caruncle_2d, iris_2d    lists of "(x, y, depth)", pixel edges from the lower left corner
    eye_details.look_vec                        "(x, y, z, 0)": x to the right, y up, z away from the camera
    head_pose                                   "(pitch, yaw, roll)" in degrees

In an image of height H the point (x, y) of the file lies at column x − 0.5 and row H − y − 0.5, counted at pixel
centres from the upper left. The caruncle, the corner of the eye at the nose, tells a left eye (caruncle on the left of
the image) from a right one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simgan.data.label_set import Labels, raise_label_faults, short
from simgan.data.trees import ImageTree
from simgan.errors import ImageError, LabelError
from simgan.nn.gaze import GAZE_COLUMNS, gaze_faults, unit_vectors

POINT_KEYS = ("interior_margin_2d", "caruncle_2d", "iris_2d")
IRIS_COLUMNS = ("iris_x_px", "iris_y_px")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EyeAnnotation:
    """One UnityEyes file, in the units of simgan: points are (n, 2) column and row at pixel centres, y downwards."""

    interior_margin: FloatArray
    caruncle: FloatArray
    iris: FloatArray
    gaze: FloatArray
    """(3,) unit vector in the camera's space, see `simgan.nn.gaze`."""
    head_pose_deg: FloatArray
    """(3,) pitch, yaw, roll as in the file."""

    @property
    def iris_centre(self) -> FloatArray:
        """(2,) column and row: the mean of the iris's outline."""
        return np.asarray(self.iris.mean(axis=0))

    @property
    def is_left(self) -> bool:
        """Whether it is a left eye: its caruncle lies on the left of the image."""
        return bool(self.caruncle[:, 0].mean() < self.interior_margin[:, 0].mean())

    @property
    def is_closed(self) -> bool:
        """Whether nothing of the iris, and so nothing of the pupil, is seen between the lids."""
        opening = self.interior_margin.astype(np.float32).reshape(-1, 1, 2)
        # The iris is convex: its outline and rings inside it reach into every opening worth the name.
        rings = [
            self.iris_centre + share * (self.iris - self.iris_centre) for share in (1.0, 0.67, 0.33, 0.0)
        ]
        return not any(
            cv2.pointPolygonTest(opening, (float(x), float(y)), False) > 0 for x, y in np.concatenate(rings)
        )


def annotation_path(image: str) -> str:
    """Where the annotation of an image lies: beside it, with the suffix .json."""
    return PurePosixPath(image).with_suffix(".json").as_posix()


def looks_like_unityeyes(tree: ImageTree) -> bool:
    """Whether a UnityEyes file lies beside the first image of the tree."""
    first = tree.paths()[0]
    where = tree.find(annotation_path(tree.place(first)), beside=first)
    try:
        return where is not None and is_unityeyes(tree.read_bytes(where))
    except OSError:
        return False


def is_unityeyes(data: bytes) -> bool:
    """Whether the bytes of a JSON file are meant as a UnityEyes annotation: two of its names stand in them."""
    names = *POINT_KEYS, "eye_details", "look_vec"
    return sum(f'"{name}"'.encode() in data for name in names) >= 2


def read_unityeyes(tree: ImageTree, paths: Sequence[str]) -> list[EyeAnnotation]:
    """The annotations of the images, in that order.

    `LabelError` with all faults counted: no JSON beside an image, keys missing, text that is no numbers, landmarks
    outside the image (another image size, or cropped without its labels), left and right eyes mixed.
    """
    annotations: list[EyeAnnotation] = []
    faults: list[str] = []
    for path in paths:
        where = annotation_path(tree.place(path))
        try:
            size = tree.read_size(path)
            found = tree.find(where, beside=path)
            if found is None:
                faults.append(f"{path} has no annotation: {where} is missing")
            else:
                annotations.append(parse_unityeyes(tree.read_bytes(found), size))
        except ImageError as error:
            faults.append(str(error))
        except (OSError, LabelError) as error:
            faults.append(f"{where}: {error}")
    faults += mixed_sides(dict(zip(paths, annotations, strict=True))) if not faults else []
    next_step = (
        "remove these images or mend their annotations; every image needs a JSON file of UnityEyes beside it"
    )
    raise_label_faults(str(tree.root), faults, next_step)
    return annotations


def read_unityeyes_gaze(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "unityeyes": the gaze vector in the camera's space, columns `gaze_x`, `gaze_y`, `gaze_z`."""
    annotations = read_unityeyes(tree, paths)
    return Labels("value", np.array([one.gaze for one in annotations]).reshape(-1, 3), GAZE_COLUMNS)


def read_unityeyes_iris(tree: ImageTree, paths: Sequence[str]) -> Labels:
    """Format "unityeyes-iris": the centre of the iris in the image, columns `iris_x_px`, `iris_y_px`."""
    annotations = read_unityeyes(tree, paths)
    return Labels("value", np.array([one.iris_centre for one in annotations]).reshape(-1, 2), IRIS_COLUMNS)


def count_closed(tree: ImageTree, paths: Sequence[str]) -> int:
    """How many of the images show a closed eye: no pupil to be seen, though the gaze is known."""
    return sum(one.is_closed for one in read_unityeyes(tree, paths))


def load_document(data: bytes) -> dict[str, Any]:
    """The JSON object in the bytes; `LabelError` where there is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise LabelError(f"a JSON object of UnityEyes is wanted, found {type(document).__name__}")
    return document


def parse_unityeyes(data: bytes, size: tuple[int, int]) -> EyeAnnotation:
    """The annotation in the bytes of a UnityEyes file, for an image of `size` (height, width).

    `LabelError` naming what is missing, is no number, or does not fit the image.
    """
    document = load_document(data)
    details = document.get("eye_details")
    missing = [key for key in (*POINT_KEYS, "eye_details", "head_pose") if key not in document]
    if isinstance(details, dict) and "look_vec" not in details:
        missing.append("eye_details.look_vec")
    if missing or not isinstance(details, dict):
        raise LabelError(
            f"keys of a UnityEyes file are missing: {', '.join(missing) or 'eye_details is no object'}"
        )
    height, width = size
    points = {key: to_pixels(parse_points(document[key], key), height) for key in POINT_KEYS}
    look = parse_numbers(details["look_vec"], "eye_details.look_vec", (3, 4))[:3]
    gaze = np.array([look[0], -look[1], look[2]])
    faults = gaze_faults(gaze)
    margin = points["interior_margin_2d"]
    outside = (margin < -1.0).any(axis=1) | (margin > (width, height)).any(axis=1)
    if outside.mean() > 0.5:
        faults.append(
            f"{int(outside.sum())} of {len(margin)} points of interior_margin_2d lie outside the image of "
            f"{height}×{width} (height×width): the labels belong to an image of another size, or the image was cropped "
            f"or resized without them (`simgan prepare` moves both)"
        )
    if faults:
        raise LabelError("; ".join(faults))
    return EyeAnnotation(
        interior_margin=margin,
        caruncle=points["caruncle_2d"],
        iris=points["iris_2d"],
        gaze=unit_vectors(gaze),
        head_pose_deg=np.array(parse_numbers(document["head_pose"], "head_pose", (3,))),
    )


def to_pixels(points: FloatArray, height: int) -> FloatArray:
    """(n, 2) columns and rows at pixel centres of (n, 3) points of a file: (x − 0.5, H − y − 0.5)."""
    return np.stack([points[:, 0] - 0.5, height - points[:, 1] - 0.5], axis=1)


def parse_points(value: Any, key: str) -> FloatArray:
    """(n, 3) x, y, depth of a list of texts like "(371.5, 296.4, 8.9)"; at least three points."""
    if not isinstance(value, list) or len(value) < 3:
        raise LabelError(f"{key}: a list of at least 3 points is wanted, got {short(str(value))}")
    return np.array([parse_numbers(point, key, (3,)) for point in value], dtype=np.float64)


def parse_numbers(value: Any, key: str, counts: tuple[int, ...]) -> list[float]:
    """The finite numbers in a text like "(0.34, 0.39, -0.86)"; `LabelError` unless there are as many as wanted."""
    numbers: list[float] = []
    if isinstance(value, str) and value.startswith("(") and value.endswith(")"):
        try:
            numbers = [float(part) for part in value[1:-1].split(",")]
        except ValueError:
            numbers = []
    if len(numbers) not in counts or not all(map(math.isfinite, numbers)):
        wanted = " or ".join(map(str, counts))
        raise LabelError(
            f'{key}: {wanted} numbers in the form "(1.5, 2.5, 3.5)" are wanted, with points as decimal marks, '
            f"got {short(str(value))}"
        )
    return numbers


def mixed_sides(annotations: Mapping[str, EyeAnnotation]) -> list[str]:
    """One fault where some images show a left eye and others a right one: half of the gazes would be mirrored."""
    left = [path for path, one in annotations.items() if one.is_left]
    right = [path for path, one in annotations.items() if not one.is_left]
    if not left or not right:
        return []
    return [
        f"left and right eyes are mixed: by their caruncles {len(left)} images show a left eye (for instance "
        f"{left[0]}) and {len(right)} a right one (for instance {right[0]}); prepare each kind apart, by a "
        f"pattern, and one of them with `simgan prepare --mirror`, which moves the labels along"
    ]


def eye_opening(annotation: EyeAnnotation) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) edges, in pixels, of the box around the interior margin."""
    left, top = annotation.interior_margin.min(axis=0) + 0.5
    right, bottom = annotation.interior_margin.max(axis=0) + 0.5
    return float(top), float(left), float(bottom), float(right)
