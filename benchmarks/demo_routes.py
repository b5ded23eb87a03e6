"""The demo on the fast route of this processor, and again in float32 throughout: do the results agree?

    python benchmarks/demo_routes.py --work DIR [--seed 0] [--out benchmarks/results/demo_routes.json]

Everything is that of `simgan demo --seed N`; the second time with `run.precision = "float32"`, which refining follows.
Killed, the same command continues.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from measuring import describe_machine, say

from simgan.nn.route import choose_route
from simgan.studies.demo import run_demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of both demos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "demo_routes", "machine": describe_machine(torch.device("cpu"))}
    result |= {"seed": asked.seed, "routes": {}}
    for name, precision in (("default", "auto"), ("float32", "float32")):
        started = time.perf_counter()
        evaluation = run_demo(
            asked.work / name, seed=asked.seed, overrides={"run.precision": precision}, say=say
        )
        result["routes"][name] = {
            "route": str(choose_route(device="cpu", precision=precision)),  # type: ignore[arg-type]
            "seconds": round(time.perf_counter() - started, 1),
            "evaluation": evaluation.record,
        }
        if asked.out is not None:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            asked.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
