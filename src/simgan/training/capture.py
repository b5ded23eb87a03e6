"""Whole updates as CUDA graphs: one launch for hundreds of kernels, and no wait of the host inside."""

from __future__ import annotations

from collections.abc import Callable

import torch

from simgan.nn.draws import Draws, Recording
from simgan.training.algorithm import Metrics, Players

Update = Callable[[], Metrics]
"""Draws its own batches and does one update, or one turn of Algorithm 1."""

_EAGER_CALLS = 3  # libraries set themselves up, and optimizers make their state, in the first


def captured(update: Update, draws: Draws, *, is_steady: Callable[[], bool]) -> Update:
    """`update`, on a GPU as one that records itself once and is replayed from then on; elsewhere itself.

    Both compute the same. What changes from call to call has to come through `draws`; as long as `is_steady()` is
    False, because the work itself still changes, every call is run as it is. The metrics of a replayed call are
    overwritten by the next.
    """
    if draws.device.type != "cuda":
        return update
    return _CapturedUpdate(update, draws, is_steady)  # pragma: cuda


def captured_turns(players: Players, *, capturable: bool, **turns: Update) -> dict[str, Update]:
    """The turns of each phase of training, captured where they can be: not with a task network, whose augmentation and
    dropout are made on the host, not where the caller says so (ranks exchange what they have by way of the host, a
    drift budget changes λ), and not before the history is full, because until then each turn's work is another.
    """
    if players.task is not None or not capturable:
        return turns
    history = players.history
    steady = {"warmup_refiner": lambda: True}
    return {
        phase: captured(
            turn,
            players.draws,
            is_steady=steady.get(phase, lambda: history is None or history.is_full),
        )
        for phase, turn in turns.items()
    }


class _CapturedUpdate:  # pragma: cuda
    def __init__(self, update: Update, draws: Draws, is_steady: Callable[[], bool]) -> None:
        self._update, self._draws, self._is_steady = update, draws, is_steady
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._recording = Recording()
        self._metrics: Metrics = {}
        # One stream for calls as they are and for recording: autograd remembers where a weight was first used.
        self._stream = torch.cuda.Stream(draws.device)  # type: ignore[no-untyped-call]

    def __call__(self) -> Metrics:
        current = torch.cuda.current_stream(self._draws.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            metrics = self._call()
        current.wait_stream(self._stream)
        return metrics

    def _call(self) -> Metrics:
        if self._graph is None:
            if self._calls < _EAGER_CALLS or not self._is_steady():
                self._calls += 1
                return self._update()
            self._record()
        assert self._graph is not None, "just recorded"
        self._recording.refill()
        self._graph.replay()
        return self._metrics

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        with self._draws.recorded() as self._recording, torch.cuda.graph(graph, stream=self._stream):
            self._metrics = self._update()
        self._graph = graph
