"""The eye-gaze pair of HDF5 files that replications of the paper use: `gaze.h5` (UnityEyes) and `real_gaze.h5`.

image        a group with one data set (H, W) of uint8 for each eye, 35×55
look_vec     (n, 3) or (n, 4), in the order of the names in `image`; y upwards, as in UnityEyes; synthetic file only
path         (n) where each image came from; synthetic file only
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simgan.data.label_set import raise_label_faults
from simgan.data.mpiigaze import GazeImages
from simgan.errors import DataError, require_extra
from simgan.nn.gaze import gaze_faults, unit_vectors


def read_eye_gaze(path: str | Path) -> GazeImages:
    """The images of one file, in the order of their names; `gaze` where the file has `look_vec`, else None.

    `DataError` where it is no such file or its images differ in size, `LabelError` where gaze vectors are faulty.
    """
    where = Path(path)
    h5py = require_extra("h5py", extra="hdf5")
    try:
        with h5py.File(where, "r") as file:
            group = file.get("image")
            if not isinstance(group, h5py.Group) or len(group) == 0:
                held = ", ".join(sorted(file)) or "nothing"
                raise DataError(
                    f"{where}: a group 'image' with one data set for each eye is wanted, the file holds {held}"
                )
            names = tuple(group)
            images = [_image(group[name], h5py) for name in names]
            look = file["look_vec"][()] if "look_vec" in file else None
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise DataError(f"{where}: cannot be read as an HDF5 file of eye images: {error}") from error
    odd = [name for name, image in zip(names, images, strict=True) if image is None]
    if odd:
        raise DataError(
            f"{where}: {len(odd)} of {len(names)} data sets in 'image' are no grey image (H, W) of uint8, for instance "
            f"{odd[0]!r}"
        )
    arrays = [image for image in images if image is not None]
    sizes = {image.shape for image in arrays}
    if len(sizes) > 1:
        raise DataError(
            f"{where}: images of one size are wanted, found {len(sizes)} sizes: {sorted(sizes)[:4]}"
        )
    gaze = None if look is None else _gaze(where, names, np.asarray(look))
    return GazeImages(np.stack(arrays), gaze, names)


def _image(dataset: Any, h5py: Any) -> Any:
    """(H, W) uint8, or None where it is something else. Numbers stored as floats count where they are whole."""
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.ndim != 2
        or not np.issubdtype(dataset.dtype, np.number)
    ):
        return None
    values = np.asarray(dataset[()])
    levels = values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else None
    return levels if levels is not None and np.array_equal(levels, values) else None


def _gaze(where: Path, names: tuple[str, ...], look: Any) -> Any:
    if look.ndim != 2 or look.shape[0] != len(names) or look.shape[1] not in (3, 4) or look.dtype.kind != "f":
        raise DataError(
            f"{where}: look_vec is {look.shape} of {look.dtype}, wanted are 3 or 4 numbers for each of the "
            f"{len(names)} images"
        )
    gaze = look[:, :3].astype(np.float64) * np.array([1.0, -1.0, 1.0])
    faults = [f"{name}: {fault}" for name, one in zip(names, gaze, strict=True) for fault in gaze_faults(one)]
    raise_label_faults(str(where), faults, "look_vec holds unit vectors of UnityEyes, with z below 0")
    return unit_vectors(gaze)
