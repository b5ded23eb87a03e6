"""The history of refined images that D is trained on beside the current ones (paper, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simgan.nn.draws import Draws


class HistoryBuffer:
    """At most `capacity` images, as quantized codes in one preallocated tensor (capacity, C, H, W) on `device`."""

    def __init__(
        self,
        capacity: int,
        image_shape: tuple[int, int, int],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capacity = capacity
        self.size = 0
        self._images = torch.zeros((capacity, *image_shape), dtype=dtype, device=device)

    @property
    def is_full(self) -> bool:
        """Whether additions replace: from here on every update does the same work."""
        return self.size == self.capacity

    def sample(self, count: int, draws: Draws) -> Tensor:
        """`count` different entries drawn uniformly, or all there are if fewer."""
        return self._images[draws(lambda: torch.randperm(self.size, generator=draws.generator)[:count])]

    def add(self, codes: Tensor, draws: Draws) -> None:
        """Fills the buffer; once full, replaces as many random entries, each old one with the same chance."""
        free = min(self.capacity - self.size, len(codes))
        if free:
            self._images[self.size : self.size + free] = codes[:free]
            self.size += free
        rest = codes[free : free + self.capacity]
        count = min(len(rest), self.size)
        if count:
            replaced = draws(lambda: torch.randperm(self.size, generator=draws.generator)[:count])
            self._images[replaced] = rest[:count]

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size, "images": self._images[: self.size].to("cpu", copy=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.size = int(state["size"])
        self._images[: self.size] = state["images"].to(self._images.device)
