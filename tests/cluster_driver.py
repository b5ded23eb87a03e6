"""A script: refines shards on the Ray cluster of this network namespace; kills the other host when some are done.

    python cluster_driver.py REFINER SHARDS OUT ADDRESS NAMESPACE_TO_KILL

prints which shards were done, in their order, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import simgan
from simgan.cluster import ray_engine
from simgan.refinement.shard import ShardWork
from simgan.refinement.shards import Outcome


def main(refiner: str, shards: str, out: str, address: str, namespace: str) -> None:
    on_ray = ray_engine(address, workers=2)
    done: list[str] = []

    def engine(work: ShardWork, names: Sequence[str]) -> Iterator[Outcome]:
        for outcome in on_ray(work, names):
            done.append(outcome.name)
            if len(done) == 2:
                pids = subprocess.run(
                    ["ip", "netns", "pids", namespace], capture_output=True, check=True, text=True
                )
                for pid in pids.stdout.split():
                    os.kill(int(pid), signal.SIGKILL)
            yield outcome

    simgan.refine(simgan.ImageTree(shards), refiner, out, engine=engine)
    print(json.dumps(done))


if __name__ == "__main__":
    main(*sys.argv[1:])
