"""What the report says of annotation drift: a tile, a table in pixels, and how the worst cases are captioned."""

from __future__ import annotations

from typing import Any

from simgan.reporting.charts import strips
from simgan.reporting.numbers import figure, fixed, interval, plural, signed
from simgan.reporting.results import Row, Table
from simgan.reporting.verdict import Tile, metric_of


def drift_tile(evaluation: dict[str, Any]) -> Tile | None:
    """The drift of structure, and beside it what optical flow says, or why it is not known; None in a record that says
    nothing of it."""
    drift, reason = evaluation.get("drift"), evaluation.get("drift_reason")
    if drift is None:
        return None if reason is None else Tile("Drift", "–", reason.removeprefix("drift was "))
    structure, flow = drift["structure"], drift["flow"]
    if structure["mean"] is None:
        return Tile("Drift", "–", f"no structure could be followed in {plural(drift['n'], 'image')}")
    second = "–" if flow["mean"] is None else f"{fixed(flow['mean'], 2)} px"
    kind = "range over runs" if "n_runs" in drift else "95 % interval"
    between = f"{kind} {interval(structure['low'], structure['high'], 2)}"
    return Tile("Drift", f"{fixed(structure['mean'], 2)} px", f"{between}; by optical flow {second}")


def drift_table(drift: dict[str, Any], downstream: dict[str, Any] | None) -> Table | None:
    """Everything that was measured in pixels, on one scale; None where nothing could be."""
    parts = [("Structure", drift["structure"]), ("Structure, by optical flow", drift["flow"])]
    if drift.get("keypoints") is not None:
        parts.append(("Keypoints", drift["keypoints"]))
    if drift.get("masks") is not None:
        parts.append(("Boundaries of masks, by optical flow", drift["masks"]["boundary"]))
    measured = [(name, part) for name, part in parts if part["mean"] is not None]
    if not measured:
        return None
    places, low, high = strips([(p["low"], p["mean"], p["high"]) for _, p in measured], zero=0.0)
    rows = tuple(
        Row(
            name,
            plural(part["n"], "image"),
            f"{fixed(part['mean'], 2)} px",
            interval(part["low"], part["high"], 2),
            place,
            "refined",
        )
        for (name, part), place in zip(measured, places, strict=True)
    )
    return Table(
        _caption(drift, downstream), "Drift of", "Mean", rows, f"{figure(low)} px", f"{figure(high)} px"
    )


def _caption(drift: dict[str, Any], downstream: dict[str, Any] | None) -> str:
    structure, floor = drift["structure"], drift["floor"]
    bars = "Range over runs." if "n_runs" in drift else "Bars are 95 % intervals."
    said = [f"How far refining moved what labels name, means over images. {bars}"]
    floors = [
        f"{fixed(floor[key], 2)} px{name}"
        for key, name in (("structure_px", ""), ("flow_px", " by optical flow"))
        if floor[key] is not None
    ]
    if floors:
        said.append(f"The floor, where only levels changed, is {' and '.join(floors)}.")
    if structure["p95"] is not None:
        said.append(f"Of 100 images, 5 moved by more than {fixed(structure['p95'], 2)} px.")
    if structure["lost"]:
        said.append(f"The structure of {plural(structure['lost'], 'image')} was not found again.")
    if structure["unmeasured"]:
        said.append(f"{plural(structure['unmeasured'], 'image')} had none that could be followed.")
    if drift.get("masks") is not None and drift["masks"]["iou"]["mean"] is not None:
        said.append(
            f"Masks overlap with themselves, moved along, by {fixed(drift['masks']['iou']['mean'], 3)} (IoU)."
        )
    model = drift.get("model")
    if model is not None and model["mean"] is not None:
        said.append(
            f"A model trained on synthetic images alone reads {figure(model['mean'])} ({model['unit']}) otherwise "
            f"after refining; its error on unrefined ones is {figure(model['error_on_synthetic'])}."
        )
    said.append(_beside(drift, downstream))
    return " ".join(said)


def _beside(drift: dict[str, Any], downstream: dict[str, Any] | None) -> str:
    """The gain of the same run: drift alone decides nothing."""
    gain = (drift.get("gain") or {}).get("over_synthetic")
    if gain is None or downstream is None:
        return "Whether it was worth it is not known: the gain was not measured."
    metric = metric_of(downstream)
    between = metric.gain_range(gain["low"], gain["high"])
    return f"The gain of the same run over synthetic: {metric.gain(gain['mean'])} {between}."


def worst_captions(drift: dict[str, Any] | None) -> dict[str, str]:
    """path → "moved by 1.24 px", the largest drift first; empty where drift was not measured, or no structure could be
    followed in any image: then none is worse than another.
    """
    if drift is None or drift["structure"]["mean"] is None:
        return {}
    return {
        case["path"]: "structure not found again"
        if case["drift_px"] is None
        else f"moved by {signed(case['drift_px'], 2).removeprefix('+')} px"
        for case in drift["worst"]
    }
