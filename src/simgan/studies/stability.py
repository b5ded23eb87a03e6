"""Does the recipe `default` hold on every task and seed, and does its rule keep the right refiner? Units of minutes.

    python -m simgan.studies.stability --work runs/stability --results benchmarks/results/stability

Four tasks × five seeds, the recipe unchanged; all but the digits need $SIMGAN_DATA. A unit is one (task, seed) and has
three parts, see `simgan.studies.stability_unit`; each leaves its files in `results/<task>-seed<N>` when it ends. The
same command does what is missing, then writes `units.csv` and `pooled.json`. Several processes may run it at once with
the same folders: a unit that another one works on is passed over.

Every read of a test part is a row of `test_reads.csv`, written before it is read. Where a study of the gap with these
seeds lies beside the results and has measured this very refiner (the same refined pixels), its record is taken and the
test part is not read again. Weights, and images made with them, stay in the work folder.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from simgan.evaluation import Evaluation, Outcomes, summarize
from simgan.images import write_atomically
from simgan.studies.stability_unit import (
    ARMS,
    TASKS,
    Unit,
    do_candidates,
    do_run,
    do_training,
    say,
    write_json,
)
from simgan.studies.stopping import CandidateScores, compare_rules
from simgan.studies.verdicts import judge_run, verdict_of_task

PARTS = {"training": do_training, "run": do_run, "candidates": do_candidates}


def pool_units(results: Path) -> dict[str, Any]:
    """What `pooled.json` holds of the units that are there: `runs`, a row for each; `tasks`, `summarize` over the runs
    and the verdict of each task; `totals`; `stopping`, see `compare_rules`."""
    runs: list[dict[str, Any]] = []
    tasks: dict[str, Any] = {}
    for task in TASKS:
        evaluations, verdicts = [], []
        for folder in _folders(results, task, "run"):
            record = json.loads((folder / "run.json").read_bytes())
            evaluation = None if record["diverged"] else Evaluation.load(folder / "evaluation.json")
            verdict = judge_run(record, None if evaluation is None else evaluation.outcomes)
            verdicts.append(verdict)
            parts = [folder / f"{part}.json" for part in PARTS]
            records = [json.loads(path.read_bytes()) for path in parts if path.exists()]
            seconds = sum(one.get("seconds", 0.0) for one in records)
            runs.append(_row(record, evaluation, verdict) | {"seconds": seconds})
            evaluations += [] if evaluation is None else [evaluation]
        if verdicts:
            downstream = _pool(evaluations)
            tasks[task] = {"downstream": downstream, "verdict": verdict_of_task(verdicts, downstream)}
    counts = ("n_runs", "n_collapsed", "n_helping")
    scores = [
        _read_scores(folder)
        for task in TASKS
        for folder in _folders(results, task, "candidates")
        if json.loads((folder / "candidates.json").read_bytes())["diverged"] is None
    ]
    return {
        "tasks": tasks,
        "totals": {name: sum(one["verdict"][name] for one in tasks.values()) for name in counts},
        "stopping": compare_rules(scores) if scores else None,
        "runs": runs,
    }


def _pool(evaluations: list[Evaluation]) -> dict[str, Any] | None:
    """`summarize` of all, of the arms that each of them has: records that were taken over may lack one."""
    runs = [one.outcomes for one in evaluations if one.outcomes is not None]
    if not runs:
        return None
    shared = [arm for arm in runs[0].errors if all(arm in run.errors for run in runs)]
    return summarize([replace(run, errors={arm: run.errors[arm] for arm in shared}) for run in runs])


def _folders(results: Path, task: str, part: str) -> list[Path]:
    found = {int(path.parent.name.rsplit("seed", 1)[1]): path.parent
             for path in results.glob(f"{task}-seed*/{part}.json")}  # fmt: skip
    return [found[seed] for seed in sorted(found)]


def _row(record: dict[str, Any], evaluation: Evaluation | None, verdict: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"task": record["task"], "seed": record["seed"]}
    if evaluation is not None:
        downstream, drift = evaluation.record["downstream"], record["drift"]
        row |= {arm: downstream[arm]["mean"] for arm in ARMS if arm in downstream}
        row |= {name: record[name] for name in ("kept_step", "diversity", "taken_from_gap")}
        row["drift_px"] = None if drift is None else drift["structure"]["mean"]
    return row | verdict


def _read_scores(folder: Path) -> CandidateScores:
    record = json.loads((folder / "candidates.json").read_bytes())
    rows = sorted(record["candidates"], key=lambda row: int(row["step"]))
    means = {
        part: {arm: float(errors.mean())
               for arm, errors in Outcomes.load(folder / f"candidates-{part}.npz").errors.items()}
        for part in ("dev", "test")
    }  # fmt: skip
    names = [f"step_{row['step']:06d}" for row in rows]
    return CandidateScores(
        task=record["task"],
        seed=record["seed"],
        steps=tuple(row["step"] for row in rows),
        measures=tuple(rows),
        dev=tuple(means["dev"][name] for name in names),
        test=tuple(means["test"][name] for name in names),
        dev_synthetic=means["dev"]["synthetic"],
        test_synthetic=means["test"]["synthetic"],
    )


def write_results(results: Path) -> dict[str, Any]:
    """`pooled.json`, and its runs as `units.csv`."""
    pooled = pool_units(results)
    table = io.StringIO()
    fields = ("task", "seed", *ARMS, "gain", "standard_error", "helps", "gap_closed", "collapse", "diversity",
              "drift_px", "kept_step", "taken_from_gap", "seconds")  # fmt: skip
    writer = csv.DictWriter(table, fields, lineterminator="\n", restval="")
    writer.writeheader()
    for row in pooled["runs"]:
        writer.writerow({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()})
    write_atomically(results / "units.csv", table.getvalue().encode())
    write_json(results / "pooled.json", pooled)
    return pooled


@contextmanager
def _claimed(unit: Unit) -> Iterator[bool]:
    """Whether no other process works on the unit; it is ours as long as this lasts."""
    path = unit.work / f"{unit.name}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def main() -> None:
    """Does the parts of units that the results folder lacks, then pools all that are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="sets, runs, weights: not to be shared")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--parts", nargs="+", default=["run", "candidates"], choices=["run", "candidates"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for folder in (chosen.work, chosen.results):
        folder.mkdir(parents=True, exist_ok=True)
    for task, seed in product(chosen.tasks, chosen.seeds):
        unit = Unit(task, seed, chosen.work, chosen.results)
        missing = [part for part in chosen.parts if not unit.record(part).exists()]
        with _claimed(unit) as ours:
            if not missing or not ours:
                continue
            sets = TASKS[task].open(unit.data)
            if not unit.record("training").exists():
                missing.insert(0, "training")
            for part in missing:
                say(f"unit {unit.name}: {part}")
                PARTS[part](unit, sets)
        write_results(chosen.results)
    print(json.dumps(write_results(chosen.results), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
