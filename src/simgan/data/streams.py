"""Endless, seeded, resumable batches of native pixels out of an image cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.data.cache import ImageCache
from simgan.errors import DataError, RunError


class BatchStream:
    """Batches (N, C, h, w) without end, as native integers: uint8, or int32 for 16-bit images.

    Every epoch visits each of `indices` (positions in the cache; None: all) once, in a new order, and a batch
    may reach into the next epoch, so nothing is left out. With `crop` = (height, width) each visit takes a
    random window at native scale; without it all images must share one size. Order and windows are a pure
    function of the seed and the position: a stream is resumed by its `state_dict()`, a single integer. Two
    streams that should not run in step need two seeds.

    Raises `DataError`: no images, sizes differ and `crop` is None, or `crop` is larger than some images.
    """

    def __init__(
        self,
        cache: ImageCache,
        *,
        indices: NDArray[np.int64] | None = None,
        batch_size: int,
        seed: int,
        crop: tuple[int, int] | None = None,
    ) -> None:
        chosen = np.arange(len(cache)) if indices is None else np.asarray(indices, np.int64)
        if len(chosen) == 0:
            raise DataError("a stream of no images: at least one is wanted")
        if batch_size < 1:
            raise DataError(f"a batch of at least one image is wanted, got batch size {batch_size}")
        sizes = cache.sizes[chosen]
        if crop is None:
            _check_equal(sizes)
        else:
            check_fits(cache, crop, chosen)
        self._cache, self._indices, self._batch_size, self._seed = cache, chosen, batch_size, seed
        self.size: tuple[int, int] = crop or (int(sizes[0, 0]), int(sizes[0, 1]))
        # One fancy index serves when nothing has to be cut; the whole cache must be regular for that.
        self._whole = cache.equal_size == self.size
        self._position = 0
        self._epoch, self._order = -1, chosen

    def next(self) -> torch.Tensor:
        """The next batch (N, C, h, w)."""
        return self.next_with_indices()[0]

    def next_with_indices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next batch (N, C, h, w), and which images of the cache they are, (N,) int64."""
        images = self._draw()
        if self._whole:
            batch = self._cache.gather(images)
        else:
            batch = self._cut(images)
        self._position += self._batch_size
        channels_first = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        # torch has no arithmetic on uint16
        native = channels_first.astype(np.int32) if batch.dtype == np.uint16 else channels_first
        return torch.from_numpy(native), torch.from_numpy(images)

    def next_windows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the next batch lies in `ImageCache.pixels`, and which images it is of, as `next_with_indices` would cut
        it: (2, N) int64, the place where each window begins and how far its rows are apart; (N,) int64.
        """
        images = self._draw()
        corners = np.zeros((len(images), 2), np.int64) if self._whole else self._corners(images)
        strides = self._cache.sizes[images, 1] * self._cache.scan.pixel_format.channels
        starts = self._cache.offsets[images] + corners[:, 0] * strides
        starts += corners[:, 1] * self._cache.scan.pixel_format.channels
        self._position += self._batch_size
        return torch.from_numpy(np.stack([starts, strides])), torch.from_numpy(images)

    def state_dict(self) -> dict[str, int]:
        """{"position": images drawn so far}."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a stream over the same images, with the same seed, stood."""
        position = state.get("position")
        if not isinstance(position, int) or position < 0:
            raise RunError(
                f"the state of a stream is {{'position': n >= 0}}, got {state!r}; is the checkpoint damaged?"
            )
        self._position = position

    def _draw(self) -> NDArray[np.int64]:
        """The cache indices at the next `batch_size` positions, over as many epochs as that takes."""
        drawn: list[NDArray[np.int64]] = []
        position, end = self._position, self._position + self._batch_size
        while position < end:
            epoch, place = divmod(position, len(self._indices))
            if epoch != self._epoch:
                self._epoch = epoch
                self._order = np.random.default_rng((self._seed, 0, epoch)).permutation(self._indices)
            drawn.append(self._order[place : place + end - position])
            position += len(drawn[-1])
        return np.concatenate(drawn)

    def _corners(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N, 2): top and left of the window that is cut out of each image at this position."""
        room = self._cache.sizes[images] - self.size + 1
        return np.random.default_rng((self._seed, 1, self._position)).integers(0, room)

    def _cut(self, images: NDArray[np.int64]) -> NDArray[Any]:
        height, width = self.size
        pixel_format = self._cache.scan.pixel_format
        batch = np.empty((len(images), height, width, pixel_format.channels), pixel_format.dtype)
        corners = self._corners(images)
        for place, (i, (top, left)) in enumerate(zip(images.tolist(), corners.tolist(), strict=True)):
            batch[place] = self._cache[i][top : top + height, left : left + width]
        return batch


def _check_equal(sizes: NDArray[np.int64]) -> None:
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    if len(kinds) == 1:
        return
    listed = ", ".join(f"{counts[i]} of {_said(kinds[i])}" for i in np.argsort(-counts)[:4])
    raise DataError(
        f"images of {len(kinds)} different sizes (height, width): {listed}{', …' if len(kinds) > 4 else ''}; "
        f"set `crop` in the configuration to train on windows of at most {_said(sizes.min(axis=0))}, "
        f"or bring all images to one size with `simgan prepare`"
    )


def check_fits(cache: ImageCache, crop: tuple[int, int], indices: NDArray[np.int64] | None = None) -> None:
    """`DataError` naming the images among `indices` (None: all) that a crop (height, width) does not fit into."""
    if min(crop) < 1:
        raise DataError(f"crop (height, width): at least (1, 1) is wanted, got {crop}")
    chosen = np.arange(len(cache)) if indices is None else indices
    sizes = cache.sizes[chosen]
    small = np.flatnonzero((sizes < crop).any(axis=1)).tolist()
    if small:
        listed = ", ".join(f"{cache.paths[chosen[i]]} {_said(sizes[i])}" for i in small[:5])
        raise DataError(
            f"a crop (height, width) of {_said(crop)} does not fit into {len(small)} of {len(sizes)} images: "
            f"{listed}{', …' if len(small) > 5 else ''}; set `crop` to at most {_said(sizes.min(axis=0))}, "
            f"or bring the images to one size with `simgan prepare`"
        )


def _said(size: NDArray[np.int64] | tuple[int, int]) -> str:
    return f"({size[0]}, {size[1]})"
