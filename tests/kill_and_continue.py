"""Kills a training run with SIGKILL at random moments, continues each, and compares with the uninterrupted one.

    python tests/kill_and_continue.py FOLDER KILLS SEED

A program of its own, so that children are forked from a process that has computed nothing yet.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - imported once, before all forks

from simgan.config import resolve_configuration
from simgan.settings import Configuration
from simgan.training.loop import train
from tiny_runs import differences, final_state, write_sides

LONGER = {"training.steps": 20, "run.log_every": 1}


def train_in_child(run: Path, configuration: Configuration) -> int:
    """The process id of a child that trains in `run`."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            train(configuration, run_dir=run)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def finish(run: Path, configuration: Configuration) -> float:
    """Seconds that training in `run` took to its end."""
    started = time.monotonic()
    _, status = os.waitpid(train_in_child(run, configuration), 0)
    if status != 0:
        raise SystemExit(f"training in {run} failed")
    return time.monotonic() - started


def kill_at_random(run: Path, configuration: Configuration, seconds: float) -> bool:
    """Kills training in `run` after that time; whether it was still running."""
    child = train_in_child(run, configuration)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(folder: Path, kills: int, seed: int) -> None:
    # Resolved once: all runs are of one configuration, even where a recipe is edited meanwhile.
    configuration = resolve_configuration("default", write_sides(folder) | LONGER)
    chance = random.Random(seed)
    whole = folder / "uninterrupted"
    seconds = finish(whole, configuration)
    wanted = final_state(whole)
    done = identical = attempts = 0
    while done < kills:
        attempts += 1
        run = folder / f"killed-{attempts}"
        if not kill_at_random(run, configuration, chance.uniform(0, seconds)):
            continue  # it had ended already: no kill
        done += 1
        finish(run, configuration)
        found = differences(wanted, final_state(run))
        identical += not found
        if found:
            print(f"{run} differs in {', '.join(found)}", flush=True)
    print(f"{done} kills, {identical} identical")
    raise SystemExit(done != identical)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
