"""Refining shards on a Ray cluster: the same unit of work as on one machine, on every host that sees the folders.

Each actor refines one shard at a time and holds its refiner. A lost actor's shard goes to another one; what two of them
should both have refined is the same bytes, put in place atomically. Folders must lie under one path on all hosts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from simgan.errors import ConfigurationError, RunError, require_extra
from simgan.refinement.shard import ShardWork
from simgan.refinement.shards import Engine, Outcome, attempt_shard

_MOST_LOST = 5  # actors lost in a row without one shard done: the cluster itself is gone
_PATIENCE_S = 300  # without any actor at work: a cluster that grows on demand has brought a host by then


def ray_engine(address: str, *, workers: int = 0) -> Engine:
    """An engine for `simgan.refine` on Ray. `address` is "ray" (this machine alone), "ray://auto" (the cluster that
    this host belongs to) or "ray://HOST:PORT" (the one whose head is there); `workers` actors, 0: one for each core
    of the cluster. `ConfigurationError`, `MissingExtraError`, `RunError` where no cluster answers.
    """
    scheme, separator, place = address.partition("://")
    if scheme != "ray" or (separator and not place):
        raise ConfigurationError(
            f"`cluster` must be ray (this machine), ray://auto or ray://HOST:PORT, not {address!r}"
        )

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = require_extra("ray", extra="ray")
        try:
            ray.init(
                address=place or "local",
                include_dashboard=False if not place else None,
                log_to_driver=False,
                logging_level="warning",
            )
        except (ConnectionError, RuntimeError) as error:
            raise RunError(f"no Ray cluster answers at {place or 'local'}: {error}") from error
        try:
            yield from _on_actors(ray, work, names, workers)
        finally:
            ray.shutdown()

    return engine


def _on_actors(ray: Any, work: ShardWork, names: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Each actor has one shard at a time. When one is lost, its shard goes to another.

    An actor gets a shard only once it runs: where a host was lost there may be no place for the one that replaces it,
    now or ever, and the others go on without.
    """
    cores = int(ray.cluster_resources().get("CPU", 1))
    count = min(workers or cores, len(names))
    gpus = 1 if work.device.startswith("cuda") else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
    todo, lost_in_a_row = deque(names), 0
    idle: list[Any] = []
    owed: dict[
        Any, tuple[Any, str | None]
    ] = {}  # answer to come -> who owes it, for which shard; None: for its start

    def start() -> None:
        worker = actor.remote(work)
        owed[worker.started.remote()] = worker, None

    for _ in range(count):
        start()
    while todo or any(name is not None for _, name in owed.values()):
        while todo and idle:
            worker, shard = idle.pop(), todo.popleft()
            owed[worker.refine.remote(shard)] = worker, shard
        at_work = any(name is not None for _, name in owed.values())
        ready, _ = ray.wait(list(owed), timeout=None if at_work else _PATIENCE_S)
        if not ready:
            raise RunError(
                f"no worker could be started for {_PATIENCE_S} s: the cluster has no {'GPU' if gpus else 'core'} free; "
                f"what is done stays done: run again when it has"
            )
        worker, name = owed.pop(ready[0])
        try:
            answer = ray.get(ready[0])
        except ray.exceptions.RayTaskError as error:
            raise error.cause or RunError(f"{name}: {error}") from error
        except ray.exceptions.RayError as error:
            if name is not None:
                todo.appendleft(name)
            lost_in_a_row += 1
            if lost_in_a_row > _MOST_LOST + count:
                raise RunError(
                    f"workers are lost one after the other ({error}); what is done stays done: mend the cluster and "
                    f"run again"
                ) from error
            start()
        else:
            idle.append(worker)
            if name is not None:
                lost_in_a_row = 0
                yield answer


class _Worker:
    """What an actor is: one core, one refiner."""

    def __init__(self, work: ShardWork) -> None:
        self._work = work
        torch.set_num_threads(1)

    def started(self) -> None:
        """Answers as soon as the actor has a place to run."""

    def refine(self, name: str) -> Outcome:
        return attempt_shard(self._work, name, threads=1)
