"""The history of refined images that D is trained on beside the current ones (paper, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class HistoryBuffer:
    """At most `capacity` images, as quantized codes in one preallocated tensor (capacity, C, H, W)."""

    def __init__(self, capacity: int, image_shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self.capacity = capacity
        self.size = 0
        self._images = torch.zeros((capacity, *image_shape), dtype=dtype)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` different entries drawn uniformly, or all there are if fewer."""
        chosen = torch.randperm(self.size, generator=generator)[:count]
        return self._images[chosen]

    def add(self, codes: Tensor, generator: torch.Generator) -> None:
        """Fills the buffer; once full, replaces as many random entries, each old one with the same chance."""
        free = min(self.capacity - self.size, len(codes))
        self._images[self.size : self.size + free] = codes[:free]
        self.size += free
        rest = codes[free : free + self.capacity]
        if len(rest):
            replaced = torch.randperm(self.size, generator=generator)[: len(rest)]
            self._images[replaced] = rest[: len(replaced)]

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size, "images": self._images[: self.size].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.size = int(state["size"])
        self._images[: self.size] = state["images"]
