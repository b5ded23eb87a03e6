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
    """Each actor has one shard at a time. When one is lost, its shard goes to another."""
    cores = int(ray.cluster_resources().get("CPU", 1))
    count = min(workers or cores, len(names))
    gpus = 1 if work.device.startswith("cuda") else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Worker)
    todo, lost_in_a_row = deque(names), 0
    idle = [actor.remote(work) for _ in range(count)]
    busy: dict[Any, tuple[Any, str]] = {}  # answer to come -> who owes it, for which shard
    while todo or busy:
        while todo and idle:
            worker, name = idle.pop(), todo.popleft()
            busy[worker.refine.remote(name)] = worker, name
        (ready, *_), _ = ray.wait(list(busy))
        worker, name = busy.pop(ready)
        try:
            yield ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause or RunError(f"{name}: {error}") from error
        except ray.exceptions.RayError as error:
            todo.appendleft(name)
            lost_in_a_row += 1
            if lost_in_a_row > _MOST_LOST + count:
                raise RunError(
                    f"{name}: workers are lost one after the other ({error}); what is done stays done: mend the "
                    f"cluster and run again"
                ) from error
            idle.append(actor.remote(work))
        else:
            lost_in_a_row = 0
            idle.append(worker)


class _Worker:
    """What an actor is: one core, one refiner."""

    def __init__(self, work: ShardWork) -> None:
        self._work = work
        torch.set_num_threads(1)

    def refine(self, name: str) -> Outcome:
        return attempt_shard(self._work, name, threads=1)
