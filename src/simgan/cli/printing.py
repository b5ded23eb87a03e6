"""Results on stdout: one JSON document for machines, a few aligned lines for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Lines = Iterable[tuple[str, object]]


def show(record: object, text: str, *, as_json: bool) -> None:
    """Prints `record` as JSON, or `text`."""
    print(json.dumps(plain(record), indent=2, ensure_ascii=False) if as_json else text.rstrip("\n"))


def plain(value: Any) -> Any:
    """`value` in the types of JSON: dataclasses become objects, paths strings, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def align(lines: Lines) -> str:
    """Lines of name and value, values in one column; lines whose value is None or empty are left out."""
    kept = [(name, str(value)) for name, value in lines if value is not None and value != ""]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in kept)


def summarize(record: Any) -> list[tuple[str, object]]:
    """A result's simple fields, one line each, lists by their length."""
    lines: list[tuple[str, object]] = []
    for name, value in plain(record).items():
        if isinstance(value, dict):
            value = value.get("root")
        lines.append((name.removeprefix("n_"), len(value) or None if isinstance(value, list) else value))
    return lines


def bullets(title: str, sentences: Iterable[str]) -> str:
    """`title` and one line for each sentence, or nothing where there is none."""
    lines = [f"  - {sentence}" for sentence in sentences]
    return "\n".join(["", f"{title}:", *lines]) if lines else ""


_WARM_UPS = {
    "warmup_refiner_steps": "of the refiner alone",
    "warmup_task_steps": "of the task network alone",
    "warmup_self_ensembling_steps": "of it with real images",
    "warmup_discriminator_steps": "of the discriminator alone",
}


def describe_plan(found: Mapping[str, Any], configuration: Any) -> str:
    """What `simgan check` says of an assembly's description: data, networks, λ, and how long it will train."""
    values, weight, t = found["value_range"], found["self_regularization_weight"], configuration.training
    r, d, mu = found["refiner"], found["discriminator"], configuration.objective.task_consistency_weight
    levels = (values["high"] - values["low"]) // values["step"] + 1
    invalid = "" if values["invalid"] is None else f", {values['invalid']} means no measurement"
    grid, crop = d["patch_grid"], found["crop"]
    history = f"{t.history_batches * t.batch_size:,} refined images" if t.history_batches else "none"
    labels = found["labels"]
    idle: set[str] = set()
    if not labels:
        idle = {"warmup_task_steps", "warmup_self_ensembling_steps"}
    elif labels["kind"] != "class" or not configuration.objective.self_ensembling_weight:
        idle = {"warmup_self_ensembling_steps"}
    warmups = [
        f"{getattr(t, name):,} {what}"
        for name, what in _WARM_UPS.items()
        if getattr(t, name) and name not in idle
    ]
    updates = f"K_g = {t.refiner_updates_per_step}, K_d = {t.discriminator_updates_per_step}"
    lines: list[tuple[str, object]] = [
        ("recipe", f"{configuration.recipe}, seed {configuration.seed}"),
        ("synthetic", _describe_scan(found["synthetic"], configuration.synthetic)),
        ("real", _describe_scan(found["real"], configuration.real)),
        ("held out", f"{found['real_held_out']:,} real images, which choose the refiner to keep; the "
                     f"discriminator is trained on the other {found['real_training']:,}"),
        ("values", f"{values['low']} to {values['high']}, {levels:,} levels{invalid}"),
        ("images", f"{crop[0]}×{crop[1]} (height×width) in training"),
        ("refiner", f"{r['blocks']} blocks of {r['width']} maps, output {r['output']!r}, {r['parameters']:,} "
                    f"parameters, receptive field {r['receptive_field_px']} px"),
        ("discriminator", f"{len(d['layers'])} layers, {d['scope']}, {d['parameters']:,} parameters, receptive "
                          f"field {d['receptive_field_px']} px, {grid[0]}×{grid[1]} patches"),
        ("λ", f"{weight['mean_form']:.4g} in mean form = {weight['paper_form']:.4g} in the paper's form, "
              f"ψ = {configuration.objective.feature_transform}"),
        ("task", _describe_task(found["labels"], mu)),
        ("history", history),
        ("warm-up", ", ".join(warmups) or "none"),
        ("training", f"{t.steps:,} steps of {t.batch_size} images, {updates}, {t.optimizer}"),
        ("computes on", found["route"]),
    ]  # fmt: skip
    return align(lines) + bullets("warnings", found["warnings"])


def _describe_task(labels: Mapping[str, Any] | None, mu: float) -> str | None:
    if not mu:
        return None
    if labels is None:
        return "consistency of the labels is left out, see the warnings"
    names, what = labels["names"], "classes" if labels["kind"] == "class" else "columns"
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return (
        f"consistency of the labels, μ = {mu:.4g}: {labels['count']:,} labels of the format {labels['format']}, "
        f"{len(names)} {what} ({listed})"
    )


def _describe_scan(scan: Mapping[str, Any], tree: Any) -> str:
    pixels, sizes = scan["pixel_format"], scan["sizes"]
    kind = f"{pixels['bit_depth']}-bit {'grey' if pixels['channels'] == 1 else 'RGB'}"
    alpha = " + alpha" if pixels["alpha"] else ""
    size = f"{sizes[0][0]}×{sizes[0][1]}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    rejects = f", {len(scan['rejects'])} files left out" if scan["rejects"] else ""
    return (
        f"{scan['n']:,} images, {size}, {kind}{alpha}, values {scan['low']} to {scan['high']} "
        f"(mean {scan['level_mean']:.4g}){rejects}: {tree.root}"
    )


OWN_FOLDERS = """the same with your own folders:
  simgan new default my.toml --synthetic SYNTHETIC --real REAL
  simgan check my.toml
  simgan train my.toml --run runs/mine
  simgan refine runs/mine SYNTHETIC --out REFINED
  simgan evaluate --synthetic SYNTHETIC --refined REFINED --real REAL \\
    --run runs/mine --real-labelled TEST --out runs/mine
  simgan report runs/mine"""

_ARM_ORDER = ("synthetic_plain", "synthetic", "synthetic_matched", "refined", "synthetic_plus_refined",
              "refined_plus_some_real", "real")  # fmt: skip


def describe_evaluation(record: Mapping[str, Any]) -> str:
    """What `simgan evaluate` says: realism, the downstream task, the label check, warnings."""
    parts = [
        *_realism(record.get("realism")),
        *_downstream(record),
        *_labels(record.get("labels")),
        *_drift(record),
    ]
    return "\n".join(parts) + bullets("warnings", record["warnings"])


def _realism(realism: Mapping[str, Any] | None) -> list[str]:
    if realism is None:
        return ["realism: not measured"]
    rows: list[tuple[str, object]] = [
        (f"  {name}", f"AUC {side['auc']:.3f} [{side['auc_low']:.3f}, {side['auc_high']:.3f}], "
         f"sliced Wasserstein {side['sliced_wasserstein']:.4f}")
        for name, side in realism.items() if isinstance(side, Mapping)
    ]  # fmt: skip
    head = f"realism against {realism['n']:,} real images (AUC 0.5: cannot be told apart; floor: real against real)"
    return [head, align(rows)]


def _downstream(record: Mapping[str, Any]) -> list[str]:
    from simgan.evaluation import describe_seeds  # late: it loads torch

    downstream = record.get("downstream")
    if downstream is None:
        return ["downstream: not measured"]
    unit = downstream["unit"]
    arms = [name for name in _ARM_ORDER if name in downstream]
    rows: list[tuple[str, object]] = []
    for name in arms:
        arm = downstream[name]
        rows.append((f"  {name}", f"{arm['mean']:.4g} [{arm['low']:.4g}, {arm['high']:.4g}]"))
    first = downstream[arms[0]]
    head = (
        f"downstream {downstream['task']}, {downstream['metric']} ({unit}) on {first['n_test']:,} real test images, "
        f"{describe_seeds(record)}"
    )
    for name, gain in downstream["gain"].items():
        rows.append((f"  gain {name}", f"{gain['mean']:+.4g} [{gain['low']:+.4g}, {gain['high']:+.4g}]"))
    closed = downstream["gap_closed"]
    if closed is not None:
        rows.append(("  gap closed", f"{closed['median']:.0%} [{closed['low']:.0%}, {closed['high']:.0%}]"))
    else:
        rows.append(("  gap closed", f"not said: {downstream['reason']}"))
    return ["", head, align(rows)]


def _labels(labels: Mapping[str, Any] | None) -> list[str]:
    if labels is None:
        return []
    verdict = "hold" if labels["holds"] else "DO NOT HOLD"
    cost = labels.get("cost_points", 100 * (labels["judge_on_synthetic"] - labels["judge_on_refined"]))
    beside = f"refining cost {cost:+.1f} points"
    if not labels["holds"] and cost <= labels.get("tolerance_points", 1.0):
        beside += ", so it is not the refiner"
    return [
        "",
        f"labels {verdict}: a judge reads refined images at {labels['judge_on_refined']:.3f}, real ones at "
        f"{labels['judge_on_real']:.3f} ({labels['difference_points']:+.1f} points "
        f"[{labels['low']:+.1f}, {labels['high']:+.1f}]), the unrefined originals at "
        f"{labels['judge_on_synthetic']:.3f} ({beside})",
    ]


def _drift(record: Mapping[str, Any]) -> list[str]:
    """Drift in pixels, with the gain of the same run beside it."""
    drift = record.get("drift")
    if drift is None:
        return []  # the reason is among the warnings
    parts = [("structure", drift["structure"]), ("by optical flow", drift["flow"])]
    parts += [("keypoints", drift["keypoints"])] if drift["keypoints"] else []
    parts += [("masks, boundary", drift["masks"]["boundary"])] if drift["masks"] else []
    rows: list[tuple[str, object]] = [
        (
            f"  {name}",
            f"{part['mean']:.2f} px [{part['low']:.2f}, {part['high']:.2f}], 95 % below {part['p95']:.2f}",
        )
        if part["mean"] is not None
        else (f"  {name}", "nothing to follow")
        for name, part in parts
    ]
    if drift["masks"] and drift["masks"]["iou"]["mean"] is not None:
        rows.append(("  masks, IoU", f"{drift['masks']['iou']['mean']:.3f}"))
    model = drift["model"]
    if model is not None:
        rows.append(("  frozen model", f"reads {model['mean']:.4g} ({model['unit']}) otherwise; its error on synthetic "
                                       f"is {model['error_on_synthetic']:.4g}"))  # fmt: skip
    if drift["structure"]["lost"]:
        rows.append(("  not found again", f"{drift['structure']['lost']} of {drift['n']} images"))
    floor = drift["floor"]["structure_px"]
    if floor is not None:
        rows.append(("  floor", f"{floor:.2f} px where only levels changed"))
    gain = (drift["gain"] or {}).get("over_synthetic")
    beside = (
        "not measured" if gain is None else f"{gain['mean']:+.4g} [{gain['low']:+.4g}, {gain['high']:+.4g}]"
    )
    rows.append(("  gain beside it", beside))
    return ["", f"drift of {drift['n']:,} images, mean over images", align(rows)]
