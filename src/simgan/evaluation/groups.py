"""Groups of test images: what rises and falls together is kept together when splitting and resampling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.errors import DataError

BLOCKS = 20


def number_groups(
    paths: Sequence[str], groups: Sequence[str] | None, *, classes: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Group numbers (n,) from the names in `groups`, else contiguous blocks of the sorted paths.

    Blocks are the k-th twentieth of every folder, k = 0..19 (fewer for few images): neighbours in number are
    often frames of one recording, and a folder per class must not make a group per class. With `classes` (n,)
    it is the k-th twentieth of every class in every folder, so that a folder sorted by class makes none either.
    """
    if groups is not None:
        return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    runs: defaultdict[tuple[PurePosixPath, int], list[int]] = defaultdict(list)
    for i in sorted(range(len(paths)), key=lambda i: paths[i]):
        runs[PurePosixPath(paths[i]).parent, 0 if classes is None else int(classes[i])].append(i)
    numbers = np.zeros(len(paths), dtype=np.int64)
    blocks = min(BLOCKS, len(paths))
    for members in runs.values():
        numbers[members] = np.arange(len(members)) * blocks // len(members)
    return numbers


def split_by_group(numbers: NDArray[np.int64], *, named: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of a development and a test half; no group is in both.

    Named groups alternate (they are independent, and often sorted by class); blocks are cut in the middle, so
    that only one pair of blocks are neighbours across the cut.
    """
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise DataError(
            "real_labelled holds one group only, so it cannot be split into a training and a test half by "
            "group; give a second labelled tree as real_dev"
        )
    rank = np.searchsorted(distinct, numbers)
    is_dev = rank % 2 == 0 if named else rank < len(distinct) // 2
    return np.flatnonzero(is_dev), np.flatnonzero(~is_dev)
