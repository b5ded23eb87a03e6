"""The plain reference in a process of its own, at PyTorch's defaults: whatever simgan sets for its process (the
allocator's thresholds) does not reach it. It waits between its turns, so that both can be timed in turn."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import torch


@dataclass(frozen=True)
class Taken:
    """How long a function took where it ran."""

    seconds: float
    of_processor: float


Made = Callable[[], dict[str, Callable[[], object]]]


class Elsewhere:
    """Functions that another process makes and runs; each returns `Taken`. To be closed."""

    def __init__(self, make: Made, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, threads), daemon=True)
        self._process.start()
        other.close()
        self.functions = {name: partial(self._run, name) for name in self._line.recv()}

    def _run(self, name: str) -> Taken:
        self._line.send(name)
        taken: Taken = self._line.recv()
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        self._process.join()


def _serve(line: Connection, make: Made, threads: int) -> None:
    torch.set_num_threads(threads)
    functions = make()
    line.send(list(functions))
    while True:
        try:
            name = line.recv()
        except EOFError:
            return
        began, used = time.perf_counter(), time.process_time()
        functions[name]()
        line.send(Taken(time.perf_counter() - began, time.process_time() - used))
