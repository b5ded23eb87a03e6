"""Refining shards: which are still to be done, who does them, and one manifest for all.

An *engine* calls the unit of work, `simgan.refinement.shard.refine_shard`, for each shard, in any order, anywhere. Who
did it does not change a byte. Here are two engines: this process, and a pool of processes of this machine.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from simgan.data.left_out import MANIFEST, images_left_out
from simgan.data.output_folder import (
    check_places,
    file_sha256,
    files_below,
    make_folder,
    output_error,
    refuse_other_command,
    remove_temporaries,
)
from simgan.data.shards import ShardFiles
from simgan.data.trees import ImageTree, Progress, refuse_rejects
from simgan.errors import DataError, OutputError, RunError, list_faults
from simgan.images import write_atomically
from simgan.refinement.journal import JOURNAL, Journal
from simgan.refinement.manifest import RefinementReport, encode_manifest, read_manifest, report_of, summary
from simgan.refinement.pipeline import Refining
from simgan.refinement.shard import REFINER, WORK, ShardRecord, ShardWork, read_record, refine_shard
from simgan.refinement.tally import Tally
from simgan.weights import save_refiner

_MOST_LOST = 3  # workers that end without a word while they refine one and the same shard


@dataclass(frozen=True)
class RefusedShard:
    """A shard that cannot be refined, and why."""

    name: str
    reason: str


Outcome = ShardRecord | RefusedShard
Engine = Callable[[ShardWork, Sequence[str]], Iterator[Outcome]]


def attempt_shard(work: ShardWork, name: str, threads: int) -> Outcome:
    """`refine_shard`; a shard that is refused is an outcome as well: the others go on."""
    try:
        return refine_shard(work, name, threads)
    except DataError as error:
        return RefusedShard(name, str(error))


def in_this_process(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
    """One shard after the other, by as many threads as torch has."""
    return (attempt_shard(work, name, torch.get_num_threads()) for name in names)


def in_processes(workers: int) -> Engine:
    """A pool of so many processes, which share the threads that torch has. A lost one is replaced."""

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
        return _pooled(work, names, workers)

    return engine


def refine_shards(
    tree: ImageTree,
    shards: ShardFiles,
    refining: Refining,
    out: Path,
    command: Mapping[str, Any],
    *,
    engine: Engine,
    max_reject_share: float,
    progress: Progress | None,
) -> RefinementReport:
    """`refine` for shards: each becomes one of the same name in the folder `out`. Memory is that of one shard's rows
    in each worker. Shards that are refused end it with a `DataError` when all others are done."""
    command = {**command, "root": str(shards.root.resolve())}
    check_places(shards.root, out, "refined")
    finished = read_manifest(out)
    if finished is not None:
        _verify(finished, command, shards, out)
        _remove_work(out)
        if progress is not None:
            progress(len(shards.names), len(shards.names))
        return report_of(finished, tree, out, already_done=True)
    work = _shard_work(tree, shards, refining, out, command)
    _refuse_used_folder(out)
    make_folder(out)
    with Journal(out, command):
        _refuse_foreign_files(out, shards)
        make_folder(out / WORK)
        save_refiner(out / WORK / REFINER, refining.trained)
        records = {name: record for name in shards.names if (record := read_record(work, name)) is not None}
        n_continued = sum(record.tally.images for record in records.values())
        refused = []
        todo = [name for name in shards.names if name not in records]
        for outcome in engine(work, todo):
            if isinstance(outcome, RefusedShard):
                refused.append(outcome.reason)
            else:
                records[outcome.name] = outcome
            if progress is not None:
                progress(len(records) + len(refused), len(shards.names))
        if refused:
            raise DataError(
                f"{len(refused)} of {len(shards.names)} shards were refused, the others are refined: mend or remove "
                f"them, and run again{list_faults(sorted(refused))}"
            )
        manifest = _manifest(
            [records[name] for name in shards.names], tree, refining, command, max_reject_share
        )
        write_atomically(out / MANIFEST, encode_manifest(manifest))
    _remove_work(out)
    return report_of(manifest, tree, out, n_continued=n_continued)


def _shard_work(
    tree: ImageTree, shards: ShardFiles, refining: Refining, out: Path, command: Mapping[str, Any]
) -> ShardWork:
    route = refining.trained.route
    assert route is not None
    return ShardWork(
        root=str(shards.root.resolve()),
        out=str(out.resolve()),
        images=tree.images,
        device=str(route.device),
        precision="bfloat16" if route.dtype == torch.bfloat16 else "float32",
        jpeg_quality=refining.jpeg_quality,
        out_of_range=refining.out_of_range,
        max_drift_px=refining.max_drift_px,
        tile=refining.tile,
        digest=hashlib.sha256(json.dumps(command, sort_keys=True).encode()).hexdigest(),
    )


def _manifest(
    records: list[ShardRecord],
    tree: ImageTree,
    refining: Refining,
    command: Mapping[str, Any],
    max_reject_share: float,
) -> dict[str, Any]:
    tally = Tally()
    for record in records:
        tally += record.tally
    if not tally.images:
        raise DataError(
            f"{tree.root}: no member of the shards matches the pattern {tree.images!r} and has the suffix of an image"
        )
    if unusable := tally.unusable():
        refuse_rejects(tree, unusable, tally.images, max_reject_share)
    n_carried = sum(record.n_carried for record in records)
    return {
        **summary(tally, refining.trained, command, n_carried=n_carried, notes=()),
        "lacked_before": sorted(images_left_out(command["root"])),
        "shards": {
            record.name: {
                "source": record.source,
                "refined": record.refined,
                "images": record.tally.images,
                "rejected": len(record.tally.rejects),
                "drifted": len(record.tally.drifted),
                "carried": record.n_carried,
            }
            for record in records
        },
    }


def _verify(manifest: Mapping[str, Any], command: Mapping[str, Any], shards: ShardFiles, out: Path) -> None:
    """`OutputError` unless `out` holds just what refining these shards with `command` gives, by sha256 of each."""
    begun = manifest["command"]
    versions = {"simgan": begun["simgan"], "torch": begun["torch"]}
    wanted = {key: value for key, value in command.items() if key != "root"} | versions
    refuse_other_command(out, begun, wanted, work="refinement")
    entries = manifest.get("shards", {})
    different = sorted(entries.keys() ^ set(shards.names))
    different += [
        name
        for name in entries
        if not different and file_sha256(shards.root / name) != entries[name]["source"]
    ]
    if different:
        raise OutputError(
            f"{out}: was refined from other shards than {shards.root} holds now ({different[0]} is new, gone or "
            f"changed); choose another folder, or remove this one to refine anew"
        )
    damaged = [name for name, entry in entries.items() if file_sha256(out / name) != entry["refined"]]
    if damaged:
        raise OutputError(
            f"{out}: {len(damaged)} shards were changed or removed since it was finished, first {damaged[0]}; remove "
            f"the folder to refine anew"
        )


def _refuse_used_folder(out: Path) -> None:
    try:
        if out.exists() and any(out.iterdir()) and not (out / JOURNAL).is_file():
            raise OutputError(f"{out}: the folder is not empty; choose a new or empty one")
    except OSError as error:
        raise output_error(out, error) from error


def _refuse_foreign_files(out: Path, shards: ShardFiles) -> None:
    remove_temporaries(out)
    there = {path for path in files_below(out) if not path.startswith(f"{WORK}/")}
    foreign = sorted(there - {*shards.names, JOURNAL})
    if foreign:
        raise OutputError(
            f"{out}: holds {len(foreign)} files that do not belong to this refinement, first {foreign[0]} (was the "
            f"shard taken out of the synthetic ones?); remove them, or choose another folder"
        )


def _remove_work(out: Path) -> None:
    """The refinement is finished: its manifest says all that the records said."""
    try:
        (out / JOURNAL).unlink(missing_ok=True)
        if (out / WORK).is_dir():
            shutil.rmtree(out / WORK)
    except OSError as error:
        raise output_error(out / WORK, error) from error


# --- a pool of processes ---------------------------------------------------------------------------------


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    name: str | None = None  # the shard that it has


def _pooled(work: ShardWork, names: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Each worker has one shard at a time. When one is lost, its shard goes to another."""
    todo, lost = deque(names), dict[str, int]()
    threads = max(torch.get_num_threads() // workers, 1)
    pool = [_started(work, threads) for _ in range(min(workers, len(names)))]
    try:
        _give(pool, todo)
        while busy := [worker for worker in pool if worker.name is not None]:
            for worker in _ready(busy):
                name, worker.name = worker.name, None
                assert name is not None
                outcome = _answer(worker)
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome is None:
                    lost[name] = lost.get(name, 0) + 1
                    if lost[name] == _MOST_LOST:
                        raise RunError(
                            f"{name}: {_MOST_LOST} workers ended while they refined this shard (out of memory?); "
                            f"run again with fewer workers: what is done stays done"
                        )
                    todo.appendleft(name)
                    worker.process.join()
                    pool[pool.index(worker)] = _started(work, threads)
                else:
                    yield outcome
            _give(pool, todo)
    finally:
        for worker in pool:
            worker.process.terminate()
            worker.process.join()


def _started(work: ShardWork, threads: int) -> _Worker:
    # A fresh interpreter: one that was forked would inherit torch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, work, threads), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _give(pool: Iterable[_Worker], todo: deque[str]) -> None:
    for worker in pool:
        if worker.name is None and todo:
            worker.name = todo.popleft()
            try:
                worker.line.send(worker.name)
            except OSError:  # lost already: `_answer` finds out
                continue


def _ready(busy: Iterable[_Worker]) -> list[_Worker]:
    lines = {worker.line: worker for worker in busy}
    return [lines[line] for line in wait(list(lines)) if isinstance(line, Connection)]


def _answer(worker: _Worker) -> Outcome | BaseException | None:
    """None where the worker ended without a word."""
    try:
        answer: Outcome | BaseException = worker.line.recv()
    except (EOFError, OSError):
        return None
    return answer


def _serve(line: Connection, work: ShardWork, threads: int) -> None:
    """A worker: names of shards in, outcomes out, until the line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to all: the one that asked ends the others
    torch.set_num_threads(threads)
    while True:
        try:
            name = line.recv()
        except EOFError:
            return
        try:
            answer: Outcome | BaseException = attempt_shard(work, name, threads)
        except Exception as error:
            answer = error
        line.send(answer)
