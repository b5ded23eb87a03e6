"""Does a drift budget hold? Pixels stated against pixels measured, beside fixed λs, with the gain of each run.

    python -m simgan.studies.drift_budget --work runs/drift --results benchmarks/results/drift_budget.csv

Task: drawn eyes → drawn eyes of the look *pseudo-real* (other people, light, lens and sensor), 35×55; nothing here
says anything about real eyes. A unit is (kind, value, seed): a small refiner trained with a budget in pixels, or with
a fixed λ, then its drift on synthetic images by both estimators. Training follows `measures.displacement`; what is
reported is `measures.optical_flow`, which training never asks. Beside it stands what optical flow says of the same
images warped by exactly the budget: known warps calibrate it, never the run. The budget is `active` where its weight
was above its floor when the kept refiner was trained; elsewhere drift lies below the budget for other reasons. The
gain is that of the same refiner: the error of the iris centre, in pixels, on other pseudo-real eyes. The same command
does the missing units.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan.data.labels import read_labels
from simgan.data.trees import ImageTree
from simgan.errors import require_extra
from simgan.evaluation import Outcomes, summarize
from simgan.measures import flow_drift_px, measure_displacement, percentile_interval
from simgan.measures.known_warps import noisy, turn, warped
from simgan.simulators.eyes import write_eyes
from simgan.tasks import StandardAugmentation, train_task
from simgan.training.drift_budget import FIRST, WEAKEST, integral_after
from simgan.training.loop import Run, train
from simgan.weights import TrainedRefiner, load_refiner

SIZE = (35, 55)
BUDGETS_PX, FIXED = (0.15, 0.25, 0.5), (0.01, 0.1, 0.3, 1.0)
COUNT, TEST_COUNT, MEASURED = 1500, 600, 300
# A small network, and no task network: nothing but λ or the budget holds structure in place.
SETTINGS: dict[str, Any] = {
    "refiner.width": 16, "refiner.blocks": 4, "discriminator.width": 24, "training.batch_size": 16,
    "training.steps": 1200, "training.warmup_task_steps": 0, "training.warmup_self_ensembling_steps": 0,
    "objective.task_consistency_weight": 0.0, "objective.self_ensembling_weight": 0.0,
    "data.value_low": 0, "data.value_high": 255, "run.checkpoint_every": 100,
}  # fmt: skip
UPDATES, TASK_SEEDS = 400, 2
FIELDS = (
    "kind", "value", "seed", "kept_step", "active", "weight", "late_low_px", "late_high_px", "n", "lost",
    "displacement_px", "displacement_low", "displacement_high", "flow_px", "flow_low", "flow_high",
    "flow_of_warp_px", "realism_auc", "n_test", "gain_px", "gain_low", "gain_high", "seconds",
)  # fmt: skip
_COLUMNS = ("iris_x_px", "iris_y_px")

FloatArray = NDArray[np.float64]


def run_unit(kind: str, value: float, seed: int, work: Path) -> dict[str, Any]:
    """Trains one refiner (an interrupted one goes on) and measures it; one row."""
    synthetic, real, test = _trees(work)
    started = time.monotonic()
    name = "objective.drift_budget_px" if kind == "budget" else "objective.self_regularization_weight"
    run_dir = work / "runs" / f"{kind}-{value:g}-seed{seed}"
    run = train(
        "default",
        run_dir=run_dir,
        synthetic=synthetic,
        real=real,
        overrides={**SETTINGS, name: value, "seed": seed},
    )
    trained = load_refiner(run.refiner)
    row = {"kind": kind, "value": value, "seed": seed, "kept_step": run.kept_step}
    row |= _course(run, value if kind == "fixed" else None)
    row |= _drift(synthetic, trained, value if kind == "budget" else None)
    row |= _gain(synthetic, test, trained, work)
    shutil.rmtree(run_dir / "cache", ignore_errors=True)
    return {
        field: float(f"{found:.4g}") if isinstance(found := row.get(field, ""), float) else found
        for field in FIELDS
    } | {"seconds": round(time.monotonic() - started)}


def _trees(work: Path) -> tuple[ImageTree, ImageTree, ImageTree]:
    """Synthetic images, unlabelled pseudo-real ones, and labelled pseudo-real ones to test on."""
    sets = (
        ("synthetic", "synthetic", COUNT, 0),
        ("real", "pseudo-real", COUNT, 0),
        ("test", "pseudo-real", TEST_COUNT, 1),
    )
    for folder, look, count, seed in sets:
        write_eyes(work / folder, count=count, size=SIZE, seed=seed, look=look)
    synthetic, real, test = (ImageTree(work / folder, "images/*.png") for folder, *_ in sets)
    return synthetic, real, test


def _course(run: Run, fixed: float | None) -> dict[str, Any]:
    """ν when the kept refiner was trained, the drift that training saw in its last quarter, and realism."""
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text("utf-8").splitlines()]
    kept = [row for row in rows if row["kind"] == "candidate" and row["step"] == run.kept_step][-1]
    held = [row for row in rows if row["kind"] == "drift_budget"]
    settled = held or [row for row in rows if row["kind"] == "candidate"]
    late = [row["drift_px"] for row in settled if row["step"] > 0.75 * settled[-1]["step"]]
    seen = [one for one in late if one is not None]
    before = [row for row in held if row["step"] <= run.kept_step]
    integral = FIRST
    for row in before:
        integral = integral_after(integral, row["excess"])
    weight = before[-1]["movement_weight"] if before else fixed
    return {
        "active": int(bool(weight) and integral > WEAKEST) if before else "",
        "weight": weight,
        "late_low_px": min(seen, default=None),
        "late_high_px": max(seen, default=None) if len(seen) == len(late) else None,
        "realism_auc": kept["realism_auc"],
    }


def _drift(synthetic: ImageTree, trained: TrainedRefiner, budget_px: float | None) -> dict[str, Any]:
    """Both estimators on evenly spread synthetic images; and optical flow on them warped by the budget."""
    paths = synthetic.paths()
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, MEASURED).round().astype(int)]
    native = np.stack([synthetic.read(path) for path in chosen])
    encode = trained.value_range.encode
    before, after = encode(native), encode(trained(native))
    found = measure_displacement(before, after)
    result: dict[str, Any] = {"n": len(chosen), "lost": int(found.lost.sum())}
    for name, drift in (("displacement", found.drift_px), ("flow", flow_drift_px(before, after))):
        mean, low, high = _interval(drift)
        result |= {f"{name}_px": mean, f"{name}_low": low, f"{name}_high": high}
    if budget_px is not None:
        moved = noisy(warped(before, turn(budget_px, *SIZE)))
        result["flow_of_warp_px"] = _interval(flow_drift_px(before, moved))[0]
    return result


def _interval(drift: FloatArray) -> tuple[float, float, float]:
    """Mean over images, and its 95 % bootstrap interval."""
    known = drift[np.isfinite(drift)]
    drawn = np.random.default_rng(0).integers(len(known), size=(2000, len(known)))
    low, high = percentile_interval(known[drawn].mean(axis=1))
    return float(known.mean()), low, high


def _gain(synthetic: ImageTree, test: ImageTree, trained: TrainedRefiner, work: Path) -> dict[str, Any]:
    """e_synthetic − e_refined of models of the iris centre, in pixels, on pseudo-real eyes, with its interval."""
    encode = trained.value_range.encode
    native, answers, _ = _labelled(synthetic)
    real, truth, groups = _labelled(test)

    def errors(images: NDArray[Any]) -> FloatArray:
        models = (
            train_task(encode(images), answers, seed=100 + k, updates=UPDATES, names=_COLUMNS,
                       augmentation=StandardAugmentation())
            for k in range(TASK_SEEDS)
        )  # fmt: skip
        return np.stack([model.errors(encode(real), truth) for model in models])

    baseline = work / "synthetic_errors.npy"  # the same for every refiner
    if not baseline.exists():
        np.save(baseline, errors(native))
    outcomes = Outcomes(
        task="regression",
        unit="px",
        errors={"synthetic": np.load(baseline), "refined": errors(trained(native))},
        n_train={"synthetic": len(native), "refined": len(native)},
        groups=groups,
        paths=tuple(str(i) for i in range(len(real))),
        task_seeds=tuple(range(TASK_SEEDS)),
    )
    gain = summarize([outcomes])["gain"]["over_synthetic"]
    return {"n_test": len(real), "gain_px": gain["mean"], "gain_low": gain["low"], "gain_high": gain["high"]}


def _labelled(tree: ImageTree) -> tuple[NDArray[Any], FloatArray, NDArray[np.int64]]:
    """Images whose iris is seen, its centre, and the person as a number."""
    paths = tree.paths()
    labels = read_labels(tree, paths, "csv-columns")
    seen = np.flatnonzero(labels.values[:, labels.names.index("iris_visible")] > 0.5)
    centre = labels.values[:, [labels.names.index(name) for name in _COLUMNS]].astype(np.float64)
    names = np.array(paths if labels.groups is None else labels.groups)
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return np.stack([tree.read(paths[i]) for i in seen]), centre[seen], groups[seen]


def draw(rows: list[dict[str, str]]) -> bytes:
    """SVG: drift measured against the budget, with ±20 %; and the gain of each run against its drift."""
    require_extra("matplotlib", extra="report")
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    held, traded = figure.subplots(1, 2)
    ends = np.array([0.1, 0.75])
    held.fill_between(ends, 0.8 * ends, 1.2 * ends, color="0.9", label="budget ± 20 %", linewidth=0)
    held.plot(ends, ends, color="0.6", linewidth=1)
    for kind, colour, marker, name in (
        ("budget", "C1", "o", "with a budget"),
        ("fixed", "C0", "s", "fixed λ"),
    ):
        chosen = [
            {k: float(v) for k, v in row.items() if k != "kind" and v} for row in rows if row["kind"] == kind
        ]
        if not chosen:
            continue
        drift, gain = (_with_errors(chosen, key) for key in ("flow", "gain"))
        if kind == "budget":
            budgets = [row["value"] for row in chosen]
            filled = [colour if row["active"] else "white" for row in chosen]
            held.errorbar(budgets, drift[0], drift[1], fmt="none", ecolor=colour, capsize=2)
            held.scatter(budgets, drift[0], s=16, c=filled, edgecolors=colour, zorder=3,
                         label="run (open: not active)")  # fmt: skip
            warps = [row["flow_of_warp_px"] for row in chosen]
            held.scatter(budgets, warps, s=200, c="0.4", marker="_", zorder=2, label="warp by the budget")
        traded.errorbar(drift[0], gain[0], gain[1], drift[1], fmt=marker, color=colour, markersize=4, capsize=2,
                        label=name)  # fmt: skip
        for row in chosen:
            text = f"{row['value']:g} px" if kind == "budget" else f"λ {row['value']:g}"
            traded.annotate(
                text, (row["flow_px"], row["gain_px"]), (4, 4), textcoords="offset points", fontsize=7
            )
    held.set(xscale="log", yscale="log", xlabel="budget, px", ylabel="drift by optical flow, px")
    for axis in (held.xaxis, held.yaxis):
        axis.set_major_locator(matplotlib.ticker.FixedLocator(list(BUDGETS_PX)))
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    held.legend(frameon=False, loc="upper left")
    traded.axhline(0, color="0.8", linewidth=1, zorder=0)
    traded.set(xlabel="drift by optical flow, px", ylabel="gain of the same run, px")
    traded.legend(frameon=False)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "simgan", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _with_errors(rows: list[dict[str, float]], key: str) -> tuple[list[float], FloatArray]:
    """Values, and how far their intervals reach down and up."""
    values = [row[f"{key}_px"] for row in rows]
    reach = [(row[f"{key}_px"] - row[f"{key}_low"], row[f"{key}_high"] - row[f"{key}_px"]) for row in rows]
    return values, np.maximum(np.array(reach).T, 0)


def main() -> None:
    """Does the units that the results file lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="drawn eyes and runs")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--budgets", type=float, nargs="*", default=list(BUDGETS_PX))
    parser.add_argument("--fixed", type=float, nargs="*", default=list(FIXED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for folder in (arguments.work, arguments.results.parent):
        folder.mkdir(parents=True, exist_ok=True)
    units = [("budget", one) for one in arguments.budgets] + [("fixed", one) for one in arguments.fixed]
    for seed in arguments.seeds:
        for kind, value in units:
            if (kind, value, seed) in _done(arguments.results):
                continue
            print(f"{kind} {value:g}, seed {seed}", file=sys.stderr, flush=True)
            row = run_unit(kind, value, seed, arguments.work)
            new = not arguments.results.exists()
            with arguments.results.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
            print(row, flush=True)


def _done(results: Path) -> set[tuple[str, float, int]]:
    if not results.exists():
        return set()
    with results.open(newline="") as file:
        return {(row["kind"], float(row["value"]), int(row["seed"])) for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
