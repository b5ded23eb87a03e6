"""A script: refines a tree, kills the process at random moments, continues, and compares with an uninterrupted run.

    python kill_refine.py REFINER TREE WORK KILLS SEED

prints "N kills, N identical". Each trial is a child forked from this process, so that only the first pays for the
imports; a kill counts only where it came before the child had finished.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from simgan.data.trees import ImageTree
from simgan.refinement import refine
from simgan.weights import load_refiner


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, temporary and hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def main(refiner: str, root: str, work: str, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    trained, tree = load_refiner(refiner, device="cpu"), ImageTree(root, "images/**/*")
    began = time.perf_counter()
    refine(tree, trained, Path(work) / "uninterrupted")
    seconds = time.perf_counter() - began
    wanted = contents(Path(work) / "uninterrupted")
    chance = random.Random(seed)
    killed = identical = 0
    while killed < kills:
        out = Path(work) / "killed"
        kills_before = killed
        for _ in range(chance.randint(1, 3)):
            child = os.fork()
            if child == 0:
                refine(tree, trained, out)
                os._exit(0)
            time.sleep(chance.uniform(0, 1.2) * seconds)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            killed += os.WIFSIGNALED(status)
        refine(tree, trained, out)
        identical += (killed - kills_before) * (contents(out) == wanted)
        shutil.rmtree(out)
    print(f"{killed} kills, {identical} identical")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))
