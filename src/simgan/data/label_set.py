"""What every label reader gives, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simgan.data.trees import ImageTree
from simgan.errors import LabelError, list_faults


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of n images, in the order of their paths.

    kind "class": `values` is (n,) int64, an index into `names`, the classes in natural order (2, then 10).
    kind "value": `values` is (n, d) float64, all finite, and `names` are the d columns.
    `groups` (n) tells which recording, person or track an image comes from, to be kept whole when splitting;
    or None.
    """

    kind: Literal["class", "value"]
    values: NDArray[np.int64] | NDArray[np.float64]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> Labels:
        """The labels of the images at `indices`, in that order; class numbers keep their meaning."""
        chosen = np.asarray(indices, dtype=np.int64)
        groups = None if self.groups is None else tuple(self.groups[i] for i in chosen)
        return replace(self, values=self.values[chosen], groups=groups)


LabelReader = Callable[[ImageTree, Sequence[str]], Labels]


def short(text: str) -> str:
    """The text in quotes, cut where it is long."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def raise_label_faults(where: str, faults: Sequence[str], next_step: str) -> None:
    """Raise a `LabelError` naming the first five faults, their number and the next step, if there are any."""
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise LabelError(f"{where}: {count} in the labels:{list_faults(faults)}\nNext: {next_step}")
