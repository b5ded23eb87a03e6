"""One rank of a tiny training run, started by torchrun: folder, run, number of the turn to stop at (0: none)."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch

from simgan.training import loop

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, run, stop = sys.argv[1:]
    overrides = json.loads((Path(folder) / "overrides.json").read_text())

    def progress(at: loop.Progress) -> None:  # on rank 0 alone
        if at.turn == int(stop):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        loop.train("default", run_dir=run, overrides=overrides, progress=progress)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
