"""Random choices: drawn on the host from seeded sources, used on the device.

A GPU then trains on the very choices that the CPU would make, a checkpoint holds the state of one generator whatever
the device, and nothing waits: what is drawn goes ahead of the computation in small pinned blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

Draw = Callable[[], Tensor]
"""Makes one choice on the host; each call the next."""


@dataclass
class Recording:
    """The choices of one captured update: how each is made, and where on the device it is read from."""

    draws: list[Draw] = field(default_factory=list)
    places: list[Tensor] = field(default_factory=list)
    waiting: list[Tensor] | None = field(default_factory=list)

    def refill(self) -> None:
        """New choices in the same order and the same places; the first time, those made while recording."""
        drawn = [draw() for draw in self.draws] if self.waiting is None else self.waiting
        self.waiting = None
        for place, choice in zip(self.places, drawn, strict=True):
            place.copy_(_ready_to_send(choice, place.device), non_blocking=True)


class Draws:
    """`draws(draw)` is the tensor that `draw()` makes, on `device`; `generator` is what draws are made from."""

    def __init__(self, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        self.generator = generator
        self.device = torch.device(device)
        self._recording: Recording | None = None

    def __call__(self, draw: Draw) -> Tensor:
        drawn = draw()
        if self._recording is None:
            return _ready_to_send(drawn, self.device).to(self.device, non_blocking=True)
        place = torch.empty(drawn.shape, dtype=drawn.dtype, device=self.device)
        if self.device.type == "cpu":  # a GPU only records now; a processor computes as well
            place.copy_(drawn)
        self._recording.draws.append(draw)
        self._recording.places.append(place)
        assert self._recording.waiting is not None, "recorded once"
        self._recording.waiting.append(drawn)
        return place

    @contextmanager
    def recorded(self) -> Iterator[Recording]:
        """Within, every choice is given a place of its own, which `Recording.refill` fills."""
        recording = self._recording = Recording()
        try:
            yield recording
        finally:
            self._recording = None


def _ready_to_send(choice: Tensor, device: torch.device) -> Tensor:
    """Pinned for a GPU: torch keeps such a block from being used again before its copy has ended."""
    return choice.pin_memory() if device.type == "cuda" else choice
