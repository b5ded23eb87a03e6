"""Files of eye data sets in their official layouts, written for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat

Point = tuple[float, float]


def polygon(centre: Point, radii: Point, count: int) -> list[Point]:
    """`count` points of an ellipse around `centre`."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(centre[0] + radii[0] * np.cos(a), centre[1] + radii[1] * np.sin(a)) for a in angles]


def as_text(points: Sequence[Point]) -> list[str]:
    return [f"({x:.4f}, {y:.4f}, 8.9000)" for x, y in points]


def unityeyes_document(
    *,
    height: int = 60,
    centre: Point = (50.0, 30.0),
    half_width: float = 20.0,
    half_height: float = 10.0,
    iris: Point | None = None,
    look: Sequence[float] = (0.36, 0.48, -0.8, 0.0),
    right_eye: bool = False,
) -> dict[str, Any]:
    """A UnityEyes file for an image of that height, in its own coordinates; `centre`, `iris`: edges, y downwards."""
    iris = iris or centre
    nose = 1 if right_eye else -1

    def up(points: list[Point]) -> list[str]:
        return as_text([(x, height - y) for x, y in points])

    return {
        "interior_margin_2d": up(polygon(centre, (half_width, half_height), 16)),
        "caruncle_2d": up(polygon((centre[0] + nose * (half_width + 3), centre[1]), (2, 2), 7)),
        "iris_2d": up(polygon(iris, (6, 6), 32)),
        "eye_details": {
            "look_vec": "(" + ", ".join(f"{v:.4f}" for v in look) + ")",
            "pupil_size": "0.1020631",
            "iris_size": "0.9349335",
            "iris_texture": "eyeball_brown",
        },
        "lighting_details": {"skybox_texture": "bergen_2k", "light_rotation": "(30.0, 248.5, 0.0)"},
        "eye_region_details": {"pca_shape_coeffs": ["-0.01061361"], "primary_skin_texture": "f02_color"},
        "head_pose": "(355.0770, 203.8451, 0.0000)",
    }


def write_unityeyes(
    folder: Path, name: str, *, size: tuple[int, int] = (60, 100), document: Any = None, **options: Any
) -> Path:
    """`<name>.jpg` (grey noise) and `<name>.json` in the folder; returns the JSON's path."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / f"{name}.jpg"), grey)
    document = unityeyes_document(height=size[0], **options) if document is None else document
    target = folder / f"{name}.json"
    target.write_text(json.dumps(document, indent=2))
    return target


def mpiigaze_eye(n: int, *, seed: int = 0, gaze: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """One side of a .mat file: image, gaze, pose."""
    generator = np.random.default_rng(seed)
    angles = generator.uniform(-0.4, 0.4, (n, 2))
    x, y = -np.sin(angles[:, 1]) * np.cos(angles[:, 0]), -np.sin(angles[:, 0])
    vectors = np.stack([x, y, -np.sqrt(1 - x**2 - y**2)], axis=1)
    return {
        "image": generator.integers(0, 255, (n, 36, 60), dtype=np.uint8),
        "gaze": vectors if gaze is None else gaze,
        "pose": generator.normal(size=(n, 3)),
    }


def write_mpiigaze_day(
    root: Path, person: str, day: str, n: int, *, seed: int = 0, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`Data/Normalized/<person>/<day>.mat` with n photographs 0001.jpg, …; returns what was written."""
    folder = root / "Data" / "Normalized" / person
    folder.mkdir(parents=True, exist_ok=True)
    content = (
        dict(data)
        if data is not None
        else {"left": mpiigaze_eye(n, seed=seed), "right": mpiigaze_eye(n, seed=seed + 1)}
    )
    names = np.array([[f"{i:04d}.jpg"] for i in range(1, n + 1)], dtype=object)
    savemat(folder / f"{day}.mat", {"data": content, "filenames": names})
    return content


def write_evaluation_list(root: Path, person: str, lines: Sequence[str]) -> None:
    folder = root / "Evaluation Subset" / "sample list for eye image"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{person}.txt").write_text("\n".join(lines) + "\n")


def write_eye_gaze(path: Path, images: Mapping[str, np.ndarray], look_vec: np.ndarray | None = None) -> Path:
    """An HDF5 file as in the eye-gaze pair."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("image")
        for name, image in images.items():
            group.create_dataset(name, data=image)
        if look_vec is not None:
            file.create_dataset("look_vec", data=look_vec)
            file.create_dataset("path", data=[f"imgs/{name}.jpg".encode() for name in images])
    return path


def eye_mask(size: tuple[int, int] = (40, 60), *, left: int = 10, top: int = 10, width: int = 40, height: int = 20,
             iris: tuple[int, int] | None = (30, 20)) -> np.ndarray:  # fmt: skip
    """A mask with a rectangular opening and, around the column and row `iris`, an 8×8 iris with a 4×4 pupil."""
    mask = np.zeros(size, np.uint8)
    mask[top : top + height, left : left + width] = 1
    if iris is not None:
        x, y = iris
        mask[y - 4 : y + 4, x - 4 : x + 4] = 2
        mask[y - 2 : y + 2, x - 2 : x + 2] = 3
    return mask


def write_masked_eye(
    root: Path, name: str, mask: np.ndarray, *, channels: int = 1, suffix: str = ".png"
) -> None:
    """`images/<name><suffix>` (noise) and `masks/<name>.png`."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(1).integers(0, 255, mask.shape, dtype=np.uint8)
    cv2.imwrite(str(root / "images" / f"{name}{suffix}"), grey)
    stored = mask if channels == 1 else np.repeat(mask[..., None], channels, axis=2)
    cv2.imwrite(str(root / "masks" / f"{name}.png"), stored)
