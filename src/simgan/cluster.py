"""Refining shards on a Ray cluster: the same unit of work as on one machine, on every host that sees the folders.

Ray Data takes the names of the shards through a pool of actors. Each refines one shard at a time and holds its refiner.
A lost actor is started anew where there is place, and does its shard again; what two of them should both have refined
is the same bytes, put in place atomically. Folders must lie under one path on all hosts.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from simgan.errors import ConfigurationError, RunError, require_extra
from simgan.refinement.shard import ShardWork, record_file
from simgan.refinement.shards import Engine, Outcome, attempt_shard

_MOST_LOST = 5  # workers that end without a word while they refine one and the same shard
_PATIENCE_S = 300  # without a place for any worker: a cluster that grows on demand has brought a host by then
_UNTOUCHED = (b"raylet", b"gcs_server", b"ray::IDLE", b"ray::MapWorker")
_LONGEST_SHARD_S = 24 * 3600  # without any shard done: the cluster itself is gone


def ray_engine(address: str, *, workers: int = 0) -> Engine:
    """An engine for `simgan.refine` on Ray. `address` is "ray" (this machine alone), "ray://auto" (the cluster that
    this host belongs to) or "ray://HOST:PORT" (the one whose head is there); `workers` actors, 0: one for each core
    of the cluster, or for each GPU. `ConfigurationError`, `MissingExtraError`, `RunError` where no cluster answers.
    """
    scheme, separator, place = address.partition("://")
    if scheme != "ray" or (separator and not place):
        raise ConfigurationError(
            f"`cluster` must be ray (this machine), ray://auto or ray://HOST:PORT, not {address!r}"
        )

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
        if not names:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = require_extra("ray", extra="ray")
        require_extra("ray.data", extra="ray")
        try:
            ray.init(log_to_driver=False, logging_level="error", **_where(place, workers))
        except (ConnectionError, RuntimeError) as error:
            raise RunError(f"no Ray cluster answers at {place or 'local'}: {error}") from error
        try:
            for number, outcome in enumerate(_on_actors(ray, work, names, workers)):
                if number == 0 and not place:
                    _let_workers_go_first()
                yield outcome
        finally:
            ray.shutdown()

    return engine


def _where(place: str, workers: int) -> dict[str, Any]:
    """What `ray.init` is told: a cluster as it is, or this machine with no more than the work needs."""
    if place:
        return {"address": place}
    # Ray's workers would give way to every other program (niceness 15), unlike the pool of processes.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray starts a process for each core that it is told of.
    return {"address": "local", "num_cpus": workers or None, "include_dashboard": False}


def _on_actors(ray: Any, work: ShardWork, names: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Outcomes as they come. Actors without a place, at the start or after a loss, do not hold up the others."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs is raised here as well
    gpus = 1 if work.device.startswith("cuda") else 0
    _await_place(ray, gpus)
    places = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
    shards = ray.data.from_items(list(names), override_num_blocks=len(names))
    shards.context.enable_progress_bars = False
    shards.context.execution_no_progress_timeout_s = _LONGEST_SHARD_S
    answers = shards.map(
        _Worker,
        fn_constructor_args=(work,),
        compute=ray.data.ActorPoolStrategy(
            size=min(workers or places, len(names)), max_tasks_in_flight_per_actor=1
        ),
        num_gpus=gpus,  # and one core
    )
    try:
        # Prefetched, an outcome would wait for the next one.
        for block in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for answer in block["answer"].to_pylist():
                outcome = pickle.loads(answer)
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome
    except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
        raise RunError(
            f"the cluster gave up ({error}); what is done stays done: mend it and run again"
        ) from error


def _await_place(ray: Any, gpus: int) -> None:
    """`RunError` where no worker finds a place in time: Ray Data would wait for ever."""
    if ray.available_resources().get("GPU" if gpus else "CPU", 0) >= 1:
        return
    try:
        ray.get(ray.remote(num_cpus=1, num_gpus=gpus)(lambda: None).remote(), timeout=_PATIENCE_S)
    except ray.exceptions.GetTimeoutError as error:
        raise RunError(
            f"no worker could be started for {_PATIENCE_S} s: the cluster has no {'GPU' if gpus else 'core'} free; "
            f"what is done stays done: run again when it has"
        ) from error


def _let_workers_go_first() -> None:
    """Ray's own actors and monitors on this machine take what the workers leave: each wakes a hundred times a second.

    Not raylet, nor processes that wait for work, since new workers inherit how they run; nor GCS, on which all wait.
    """
    if not hasattr(os, "SCHED_IDLE"):  # Linux alone has it
        return
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    family = [os.getpid()]
    for pid in family:
        family += children.get(pid, [])
    for pid in family[1:]:
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            of_ray = command.startswith(b"ray::") or b"/ray/" in command
            if of_ray and not any(name in command for name in _UNTOUCHED):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))


class _Worker:
    """What an actor is: one core, one refiner."""

    def __init__(self, work: ShardWork) -> None:
        self._work = work
        torch.set_num_threads(1)

    def __call__(self, row: Mapping[str, str]) -> dict[str, bytes]:
        name = row["item"]
        begun = record_file(self._work, name).with_suffix(".begun")
        try:
            if _count_up(begun) > _MOST_LOST:
                raise RunError(
                    f"{name}: {_MOST_LOST} workers ended while they refined this shard (out of memory?); run again "
                    f"with fewer workers: what is done stays done"
                )
            answer: Outcome | Exception = attempt_shard(self._work, name, threads=1)
        except Exception as error:
            answer = error  # raised where the work was asked for; Ray Data would raise one of its own
        begun.unlink(missing_ok=True)
        return {"answer": pickle.dumps(answer)}


def _count_up(file: Path) -> int:
    """How many have come to this file. Ray cannot tell: it tries again for ever, or counts what a lost host takes."""
    with file.open("ab") as counter:
        counter.write(b".")
        return counter.tell()
