"""A script: refines shards on the Ray cluster of this network namespace; kills the other host while it writes a shard.

    python cluster_driver.py REFINER SHARDS OUT ADDRESS NAMESPACE_TO_KILL

prints, as JSON, which shards were done, in their order, and what the other host was writing when it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import simgan
from simgan.cluster import ray_engine
from simgan.refinement.shard import ShardWork
from simgan.refinement.shards import Outcome


def processes(namespace: str) -> list[int]:
    """Those of a network namespace."""
    wanted, found = Path("/run/netns", namespace).stat().st_ino, []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "ns" / "net").stat().st_ino == wanted:
                found.append(int(entry.name))
    return found


def written_by(pid: int, folder: Path) -> list[str]:
    """Files of the folder that the process has open and that are not yet in place."""
    opened = []
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                opened.append(os.readlink(descriptor))
    return [path for path in opened if path.startswith(f"{folder}/.") and path.endswith(".tmp")]


def kill_in_mid_shard(namespace: str, out: Path, writing: list[str], killed: Event) -> None:
    while not writing:
        time.sleep(0.01)
        pids = processes(namespace)
        writing += [path for pid in pids for path in written_by(pid, out)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed.set()


def main(refiner: str, shards: str, out: str, address: str, namespace: str) -> None:
    on_ray = ray_engine(address, workers=2)
    done: list[str] = []
    writing: list[str] = []
    killed = Event()
    Thread(target=kill_in_mid_shard, args=(namespace, Path(out), writing, killed), daemon=True).start()

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
        for outcome in on_ray(work, names):
            done.append(outcome.name)
            killed.wait(5)  # one host must not have done all of it before the other one has started
            yield outcome

    simgan.refine(simgan.ImageTree(shards), refiner, out, engine=engine)
    print(json.dumps({"done": done, "cut_off": writing}))


if __name__ == "__main__":
    main(*sys.argv[1:])
