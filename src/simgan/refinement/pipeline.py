"""From the bytes of image files to the bytes of refined ones, and the threads that do so side by side.

Each thread takes a group of files through all stages, decode → refine → encode, so that one decodes or writes while
another computes. Within a group, images of one size stand together in batches of the size that
`TrainedRefiner.compute_batch` says: how images fall into groups does not change what comes out.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.errors import ImageError
from simgan.images import PixelFormat, decode_image, encode_image, split_alpha
from simgan.measures.displacement import SMALLEST_SIDE_PX, measure_displacement
from simgan.nn.allocation import keep_freed_memory
from simgan.refinement.journal import Row
from simgan.weights import OutOfRange, TrainedRefiner

Item = TypeVar("Item")
Result = TypeVar("Result")

_FILES_OF_GROUP = 128  # enough to fill the batches of a few sizes
_BYTES_OF_GROUP = (
    2**18
)  # large files go one by one: little is in memory, and little is lost when it is interrupted


@dataclass(frozen=True)
class Refining:
    """What is done with image files, whatever they are stored in."""

    trained: TrainedRefiner
    jpeg_quality: int
    out_of_range: OutOfRange
    max_drift_px: float | None
    tile: int

    def refine_files(self, files: Iterable[tuple[Row, bytes]]) -> Iterator[tuple[Row, bytes | None]]:
        """Of each file, in no particular order: its row, filled in, and the refined file's bytes; None where the row
        says why the image was left out."""
        waiting: dict[tuple[int, ...], list[_Decoded]] = {}
        full: dict[tuple[int, ...], int] = {}  # images of a batch, by their shape
        for row, data in files:
            try:
                image = decode_image(data, suffix=os.path.splitext(row.path)[1])
                measured = self._measured(row, image)
            except ImageError as error:
                yield replace(row, reason=str(error)), None
                continue
            if image.shape not in full:
                full[image.shape] = self.trained.compute_batch(*image.shape[:2])
            batch = waiting.setdefault(image.shape, [])
            batch.append(_Decoded(measured, data, image))
            if len(batch) == full[image.shape]:
                yield from self._refined(waiting.pop(image.shape))
        for batch in waiting.values():
            yield from self._refined(batch)

    def _refined(self, batch: list[_Decoded]) -> Iterator[tuple[Row, bytes | None]]:
        images = np.stack([decoded.image for decoded in batch])
        refined = self.trained(images, out_of_range="clip", tile=self.tile)
        for decoded, image in zip(batch, refined, strict=True):
            row, written = self._followed(decoded.row, decoded.image, image), decoded.data
            if row.drifted:
                yield row, None
                continue
            unchanged = np.array_equal(image, decoded.image)
            if not unchanged:
                try:
                    written = encode_image(image, os.path.splitext(row.path)[1], self.jpeg_quality)
                except ImageError as error:
                    yield replace(row, reason=str(error)), None
                    continue
            source, refined_digest = (hashlib.sha256(data).hexdigest() for data in (decoded.data, written))
            yield replace(row, unchanged=unchanged, source=source, refined=refined_digest), written

    def _followed(self, row: Row, synthetic: NDArray[Any], refined: NDArray[Any]) -> Row:
        """`row` with the drift of the image, and why it is left out where that is too much. One image at a time: the
        last bit of a drift may not depend on the images beside it either."""
        if self.max_drift_px is None or min(synthetic.shape[:2]) < SMALLEST_SIDE_PX:
            return row
        encode = self.trained.value_range.encode
        found = measure_displacement(*(encode(split_alpha(one)[0])[None] for one in (synthetic, refined)))
        if found.lost[0]:
            share = found.share_found[0]
            reason = f"drifted: only {share:.0%} of its structure was found again after refining"
            return replace(row, reason=reason, drifted=True)
        if not found.measured[0]:
            return row
        drift = round(float(found.drift_px[0]), 4)
        row = replace(row, drift_px=drift)
        if drift <= self.max_drift_px:
            return row
        reason = f"drifted: its structure moved by {drift:.2f} px, the limit is {self.max_drift_px:g} px"
        return replace(row, reason=reason, drifted=True)

    def _measured(self, row: Row, image: NDArray[Any]) -> Row:
        """`row` with the size and the levels of `image`; `ImageError` where it is not of the trained kind."""
        wanted, found = self.trained.pixel_format, PixelFormat.of(image)
        if found != wanted:
            raise ImageError(f"is {found}, but the refiner was trained on {wanted} images")
        colour, _ = split_alpha(image)
        value_range = self.trained.value_range
        low, high = int(colour.min()), int(colour.max())
        values = colour.ravel().astype(np.int64)
        within = value_range.low <= low and high <= value_range.high
        outside = 0 if within else value_range.count_outside(colour)
        if outside and self.out_of_range == "refuse":
            raise ImageError(
                f"{outside} values lie outside the trained range {value_range.low} to {value_range.high} (they reach "
                f"from {low} to {high}); rescale them, or have them clipped with out_of_range='clip'"
            )
        off_grid = 0
        if value_range.step > 1:
            between = (values - value_range.low) % value_range.step != 0
            off_grid = int(np.count_nonzero(between & ~value_range.is_invalid(values)))
        return replace(
            row,
            height=colour.shape[0],
            width=colour.shape[1],
            values=colour.size,
            low=low,
            high=high,
            total=int(values.sum()),
            squares=int(values @ values),
            outside=outside,
            off_grid=off_grid,
        )


@dataclass(frozen=True)
class _Decoded:
    row: Row
    data: bytes
    image: NDArray[Any]


def in_groups(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items in order, in lists of what one thread takes at a time; `size_of` gives the bytes of an item's file."""
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if len(group) == _FILES_OF_GROUP or size >= _BYTES_OF_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None
) -> Generator[Result, None, None]:
    """function(item) for each item, in order, by as many threads as torch has (or `threads`) and one more, each with
    no further threads of its own. `items` are drawn as they are needed.

    One convolution of small images does not keep many cores busy; and so no last bit depends on their number.
    """
    keep_freed_memory()  # each batch frees and allocates the same feature maps
    before = torch.get_num_threads()
    workers = (threads or before) + 1  # one is always waiting for the disk
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
