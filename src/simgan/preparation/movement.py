"""Where pixels go when an image is cropped, resized and mirrored: the one rule that images and labels share.

With a crop from (left, top) and the scale s = new size / crop size, along each axis
    pixels and points (the centre of pixel i is i):   x' = (x − left + 0.5) · s − 0.5
    edges (boxes, polygons; pixel i is [i, i + 1]):   x' = (x − left) · s
and then, mirrored left to right in the new width W,
    pixels and points:   x'' = W − 1 − x'            edges:   x'' = W − x'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simgan.errors import ConfigurationError, DataError
from simgan.images import MAX_PIXELS

Array = NDArray[Any]
Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class CenterCrop:
    """The middle `height` × `width` pixels of each image; of an odd rest, the larger half is cut at the
    end."""

    height: int
    width: int


@dataclass(frozen=True)
class EyeCrop:
    """The paper's crop: around the opening of the eye in each image, with the aspect of the new size.

    `margin`: what is left free on each side, as a share of the width (or height) of the opening. The box is as wide
    as the next multiple of the new size's smallest ratio allows, so both axes scale alike; at a border of the image
    it is shifted inside.
    """

    margin: float = 0.05


Box = tuple[int, int, int, int]  # (top, left, height, width)
Crop = Box | CenterCrop | EyeCrop  # a box is the same for every image


@dataclass(frozen=True)
class Movement:
    """What happens to one image of `height` × `width` pixels: the crop, the resize to the new size, the mirror."""

    height: int
    width: int
    top: int
    left: int
    crop_height: int
    crop_width: int
    new_height: int
    new_width: int
    mirror: bool = False

    @property
    def scale_y(self) -> float:
        """New pixels per old pixel, downwards."""
        return self.new_height / self.crop_height

    @property
    def scale_x(self) -> float:
        """New pixels per old pixel, to the right."""
        return self.new_width / self.crop_width

    @property
    def keeps_aspect(self) -> bool:
        """Whether both scales are the same: only then does a length without a direction have a new value."""
        return self.new_height * self.crop_width == self.new_width * self.crop_height

    @property
    def crops(self) -> bool:
        """Whether any pixel is cut away."""
        return (self.crop_height, self.crop_width) != (self.height, self.width)

    @property
    def is_identity(self) -> bool:
        """Whether the image stays as it is."""
        same_size = (self.new_height, self.new_width) == (self.height, self.width)
        return not self.crops and not self.mirror and same_size

    def point_x(self, x: float) -> float:
        """A column, counted at pixel centres, after the movement."""
        moved = (x - self.left + 0.5) * self.scale_x - 0.5
        return self.new_width - 1 - moved if self.mirror else moved

    def point_y(self, y: float) -> float:
        """A row, counted at pixel centres, after the movement."""
        return (y - self.top + 0.5) * self.scale_y - 0.5

    def edge_x(self, x: float) -> float:
        """A column, counted at pixel edges, after the movement."""
        moved = (x - self.left) * self.scale_x
        return self.new_width - moved if self.mirror else moved

    def edge_y(self, y: float) -> float:
        """A row, counted at pixel edges, after the movement."""
        return (y - self.top) * self.scale_y

    def image(self, array: Array, invalid: int | None = None) -> Array:
        """The moved image (H', W', C), same dtype.

        Each axis is resampled by itself: pixel areas are averaged where it shrinks (cv2.INTER_AREA),
        neighbours are interpolated linearly where it grows (cv2.INTER_LINEAR), so no value beyond the old
        ones appears. Values equal to `invalid` are left out of the averages; a new value is invalid where
        less than half of what it covers is valid.
        """
        if self.mirror:
            return np.ascontiguousarray(replace(self, mirror=False).image(array, invalid)[:, ::-1])
        cropped = self._crop(array)
        if invalid is None:
            # In floating point, or the value would be rounded twice; float32 holds 16-bit values exactly.
            return np.rint(self._resample(cropped.astype(np.float32))).astype(array.dtype)
        valid = cropped != invalid
        weight = self._resample(valid.astype(np.float64))
        total = self._resample(np.where(valid, cropped, 0).astype(np.float64))
        mean = total / np.maximum(weight, 0.5)  # below one half the value is not used
        return np.where(weight < 0.5, invalid, np.rint(mean)).astype(array.dtype)

    def mask(self, array: Array) -> Array:
        """The moved class mask (H', W', C): the class of the nearest old pixel, no new classes."""
        rows = (2 * np.arange(self.new_height) + 1) * self.crop_height // (2 * self.new_height)
        columns = (2 * np.arange(self.new_width) + 1) * self.crop_width // (2 * self.new_width)
        if self.mirror:
            columns = columns[::-1]
        return np.ascontiguousarray(self._crop(array)[rows[:, None], columns])

    def _crop(self, array: Array) -> Array:
        cropped = array[self.top : self.top + self.crop_height, self.left : self.left + self.crop_width]
        return np.ascontiguousarray(cropped)

    def _resample(self, array: Array) -> Array:
        # One axis at a time: cv2.INTER_AREA is no average any more as soon as either axis grows.
        for height, width in ((self.new_height, array.shape[1]), (self.new_height, self.new_width)):
            if (height, width) != array.shape[:2]:
                grows = height > array.shape[0] or width > array.shape[1]
                how = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
                array = cv2.resize(array, (width, height), interpolation=how).reshape(height, width, -1)
        return array


@lru_cache(maxsize=4096)
def movement_of(
    size: Size, crop: Box | CenterCrop | None, new_size: Size | None, mirror: bool = False
) -> Movement | None:
    """The movement of an image of `size`; None where the crop does not fit into it."""
    height, width = size
    top, left, crop_height, crop_width = 0, 0, height, width
    if isinstance(crop, CenterCrop):
        crop_height, crop_width = crop.height, crop.width
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
    elif crop is not None:
        top, left, crop_height, crop_width = crop
    if top < 0 or left < 0 or top + crop_height > height or left + crop_width > width:
        return None
    new_height, new_width = new_size or (crop_height, crop_width)
    return Movement(height, width, top, left, crop_height, crop_width, new_height, new_width, mirror)


class Movements(Mapping[str, Movement]):
    """The movement of each image of a tree, by its path. `boxes`: the crop of each image, where `crop` is an `EyeCrop`.

    Raises `ConfigurationError` for a crop or size that is none, `DataError` where the crop leaves an image.
    """

    def __init__(
        self,
        sizes: Mapping[str, Size],
        crop: Crop | None = None,
        size: Size | None = None,
        *,
        mirror: bool = False,
        boxes: Mapping[str, Box] | None = None,
    ) -> None:
        check_movement(crop, size)
        self._sizes = sizes
        self._crop = crop if crop is None or isinstance(crop, CenterCrop | EyeCrop) else _four(crop)
        self._size = None if size is None else (size[0], size[1])
        self._mirror = mirror
        self._boxes = boxes or {}
        self._paths_of_stem: dict[str, list[str]] | None = None
        outside = [path for path in sizes if self._movement(path) is None]
        if outside:
            examples = ", ".join(f"{path} is {sizes[path][0]}×{sizes[path][1]}" for path in outside[:5])
            raise DataError(
                f"{crop} does not fit into {len(outside)} of {len(sizes)} images (height×width: {examples}); "
                f"make the crop smaller, or narrow the images pattern"
            )

    def __getitem__(self, path: str) -> Movement:
        movement = self._movement(path)
        assert movement is not None, "refused when this was built"
        return movement

    def _movement(self, path: str) -> Movement | None:
        crop = self._boxes[path] if isinstance(self._crop, EyeCrop) else self._crop
        return movement_of(self._sizes[path], crop, self._size, self._mirror)

    def __iter__(self) -> Any:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def with_stem(self, stem: str) -> list[str]:
        """The images whose file name without suffix is `stem`, in whatever folder."""
        if self._paths_of_stem is None:
            self._paths_of_stem = {}
            for path in self._sizes:
                self._paths_of_stem.setdefault(PurePosixPath(path).stem, []).append(path)
        return self._paths_of_stem.get(stem, [])


def check_movement(crop: Crop | None, size: Size | None) -> None:
    """Raise `ConfigurationError` with every fault of what is to be done to the images."""
    faults = _crop_faults(crop) + _size_faults(size)
    if isinstance(crop, EyeCrop) and size is None:
        faults.append("crop: the crop around the eye needs the size that it is resized to, such as 35x55")
    if faults:
        raise ConfigurationError(faults)


def _four(crop: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    top, left, height, width = crop  # a list, as configuration files give it, becomes a tuple
    return top, left, height, width


def _crop_faults(crop: Crop | None) -> list[str]:
    if crop is None:
        return []
    if isinstance(crop, EyeCrop):
        fine = 0 <= crop.margin <= 2
        return [] if fine else [f"crop: a margin from 0 to 2 eye widths is wanted, got {crop.margin}"]
    if isinstance(crop, CenterCrop):
        fine = _whole(crop.height, 1) and _whole(crop.width, 1)
        return [] if fine else [f"crop: whole numbers of at least 1 are wanted, got {crop}"]
    fine = len(crop) == 4 and all(_whole(v, low) for v, low in zip(crop, (0, 0, 1, 1), strict=True))
    wanted = "(top, left, height, width), whole numbers, height and width at least 1"
    return [] if fine else [f"crop: {wanted}, are wanted, got {crop}"]


def _size_faults(size: Size | None) -> list[str]:
    if size is None:
        return []
    if len(size) != 2 or not all(_whole(v, 1) for v in size):
        return [f"size: (height, width), whole numbers of at least 1, is wanted, got {size}"]
    if size[0] * size[1] > MAX_PIXELS:
        return [
            f"size: at most {MAX_PIXELS:,} pixels are wanted, {size[0]:,}×{size[1]:,} are {size[0] * size[1]:,}"
        ]
    return []


def _whole(value: object, low: int) -> bool:
    return isinstance(value, int) and value >= low
