"""What a run, a refiner or a tree is, as names and values in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from simgan.data.trees import TreeScan
from simgan.images import ValueRange
from simgan.nn.refiner import RefinerSpec
from simgan.reporting.numbers import figure, plural
from simgan.reporting.record import RunRecord
from simgan.settings import TrainingSettings

Facts = dict[str, str]
_SHOWN_SIZES = 3


def run_facts(run: RunRecord) -> dict[str, Facts]:
    """Groups of facts on a run: the run itself, its data, networks, objective and training."""
    c = run.configuration
    groups: dict[str, Facts] = {
        "Run": {
            "folder": str(run.path),
            "state": run.status,
            "recipe": c.recipe,
            "seed": str(c.seed),
            "training time": duration(run.seconds),
        }
    }
    if run.kept is not None:
        groups["Run"]["kept refiner"] = (
            f"step {run.kept['step']:,} of {plural(len(run.candidates), 'candidate')}"
        )
    data = run.data
    if data:
        groups["Run"]["computed on"] = str(data["route"])
        groups["Data"] = _data_facts(run)
        groups["Networks"] = _network_facts(data)
    groups["Objective"] = objective_facts(run)
    groups["Training"] = training_facts(c.training)
    return groups


def tree_facts(scan: TreeScan) -> Facts:
    """Images of one tree: number, format, sizes, levels, what was left out."""
    sizes = sorted(scan.sizes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{height}×{width}" for (height, width), _ in sizes[:_SHOWN_SIZES])
    more = f" and {len(sizes) - _SHOWN_SIZES} more" if len(sizes) > _SHOWN_SIZES else ""
    step = f" in steps of {scan.step}" if scan.step > 1 else ""
    facts = {
        "images": f"{scan.n:,}",
        "format": str(scan.pixel_format),
        "height×width": shown + more,
        "levels": f"{scan.low} to {scan.high}{step}; mean {scan.level_mean:.1f} ± {scan.level_std:.1f}",
    }
    if scan.rejects:
        first = scan.rejects[0]
        facts["left out"] = f"{plural(len(scan.rejects), 'file')}, first {first.path}: {first.reason}"
    return facts


def refiner_facts(spec: RefinerSpec, *, parameters: int, receptive_field: int) -> Facts:
    """A refiner's architecture."""
    output = "a change that is added to the image" if spec.output == "residual" else "the image itself"
    return {
        "layers": f"conv {spec.first_kernel}×{spec.first_kernel}, {plural(spec.blocks, 'residual block')} of "
        f"{spec.kernel}×{spec.kernel}, conv 1×1; {plural(spec.width, 'map')}",
        "computes": output,
        "parameters": f"{parameters:,}",
        "receptive field": f"{receptive_field} px",
    }


def range_in_words(scale: ValueRange) -> str:
    """0 to 240 in steps of 15 (17 levels)."""
    step = f" in steps of {scale.step}" if scale.step > 1 else ""
    holes = "" if scale.invalid is None else f"; {scale.invalid} means no measurement"
    return f"{scale.low} to {scale.high}{step} ({scale.levels:,} levels){holes}"


def duration(seconds: float) -> str:
    """8.7 s, 12 min, 3.4 h."""
    if seconds < 60:
        return f"{figure(seconds)} s" if seconds else "–"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def provenance_facts(provenance: Mapping[str, Any]) -> Facts:
    """Where weights come from, as recorded when they were saved; only plain values."""
    return {
        str(key).replace("_", " "): str(value)
        for key, value in provenance.items()
        if isinstance(value, str | int | float)
    }


def manifest_facts(manifest: Mapping[str, Any]) -> Facts:
    """What became of the images of a refined tree."""
    counts = manifest["counts"]
    facts = {
        "images": f"{counts['images']:,} synthetic, {counts['refined']:,} refined",
        "left out": f"{counts['rejected']:,}",
        "other files carried": f"{counts['carried']:,}",
        "unchanged by the refiner": f"{counts['unchanged']:,}",
    }
    if manifest["rejects"]:
        first = manifest["rejects"][0]
        facts["left out"] += f", first {first['path']}: {first['reason']}"
    if counts["clipped"]:
        facts["values clipped to the range"] = f"{counts['clipped']:,}"
    if counts["lossy"]:
        facts["files written with loss"] = f"{counts['lossy']:,} (JPEG)"
    return facts


def evaluation_facts(evaluation: Mapping[str, Any]) -> Facts:
    """How an evaluation was made."""
    facts = {"made": str(evaluation.get("created", "–")), "seed": str(evaluation.get("seed", "–"))}
    names = {"real_labelled": "test images", "real_dev": "labelled real images for training"}
    for side in ("synthetic", "refined", "real", "real_labelled", "real_dev"):
        part = evaluation.get(side)
        if part is not None:
            facts[names.get(side, f"{side} images")] = f"{part['n']:,} of {part['root']}"
    generator = (evaluation.get("synthetic") or {}).get("generator")
    if generator is not None:
        facts["simulator"] = f"{generator} {evaluation['synthetic'].get('version') or ''}".strip()
    budget = evaluation.get("budget")
    if budget is not None:
        mirror = "with" if budget["mirror"] else "without"
        facts["task training"] = (
            f"{budget['updates']:,} updates of {budget['batch_size']} images, {mirror} mirroring"
        )
    matching = evaluation.get("matching")
    if matching is not None and evaluation.get("downstream") is not None:
        facts["level matching by"] = str(matching["chosen"])
    return facts


def commands(run: RunRecord, evaluation: Mapping[str, Any] | None) -> list[str]:
    """What to type to make all this again."""
    c, here = run.configuration, shlex.quote(str(run.path))
    config = shlex.quote(str(run.path / "config.toml"))
    lines = [
        f"simgan train {config} --run NEW_RUN",
        f"simgan refine {here} {shlex.quote(c.synthetic.root)} --out REFINED",
    ]
    if evaluation is not None and evaluation.get("command"):
        lines.append(str(evaluation["command"]))
    return [*lines, f"simgan report {here}"]


def _data_facts(run: RunRecord) -> Facts:
    c, data = run.configuration, run.data
    facts: Facts = {}
    for name, settings in (("synthetic", c.synthetic), ("real", c.real)):
        found = tree_facts(TreeScan.from_dict(data[name]))
        facts[name] = f"{settings.root} ({settings.images})"
        facts[f"{name} images"] = (
            f"{found['images']}, {found['format']}, height×width {found['height×width']}, levels {found['levels']}"
        )
        if "left out" in found:
            facts[f"{name} left out"] = found["left out"]
    facts["real, D sees"] = (
        f"{data['real_training']:,}; held out to choose the refiner: {data['real_held_out']:,}"
    )
    facts["value range"] = range_in_words(ValueRange.from_dict(data["value_range"]))
    facts["training crop"] = f"{data['crop'][0]}×{data['crop'][1]}"
    facts["level matching first"] = "yes" if c.data.level_matching else "no"
    return facts


def _network_facts(data: Mapping[str, Any]) -> Facts:
    r, d = data["refiner"], data["discriminator"]
    spec = RefinerSpec(**{key: r[key] for key in RefinerSpec.__dataclass_fields__})
    refiner = refiner_facts(spec, parameters=r["parameters"], receptive_field=r["receptive_field_px"])
    height, width = d["patch_grid"]
    bounded = ", spectral normalization" if d["spectral_normalization"] else ""
    return {
        "refiner R": f"{refiner['layers']}; computes {refiner['computes']}",
        "R parameters": refiner["parameters"],
        "R receptive field": refiner["receptive field"],
        "discriminator D": f"{_layers_in_words(d['layers'])}; {d['scope']}{bounded}",
        "D parameters": f"{d['parameters']:,}",
        "D receptive field": f"{d['receptive_field_px']} px",
        "D patch grid": f"{height}×{width}",
    }


def _layers_in_words(layers: Sequence[Mapping[str, int]]) -> str:
    words = []
    for layer in layers:
        kernel, stride = layer["kernel"], f" s{layer['stride']}" if layer["stride"] > 1 else ""
        maps = layer["width"]
        words.append(
            f"conv {kernel}×{kernel}{stride}-{maps}" if maps else f"max-pool {kernel}×{kernel}{stride}"
        )
    return ", ".join([*words, "conv 1×1 to logits"])


def objective_facts(run: RunRecord) -> Facts:
    """λ in both forms, ν, ψ, μ."""
    o = run.configuration.objective
    facts = {"λ, mean form": figure(o.self_regularization_weight)}
    forms = run.data.get("self_regularization_weight")
    if forms is not None:
        facts["λ, as in the paper"] = (
            f"{figure(forms['paper_form'])} (sum over pixels beside sum over patches)"
        )
    held = [row for row in run.rows if row.get("kind") == "drift_budget"]
    if held:
        facts["ν, following a drift budget"] = (
            f"of {figure(o.drift_budget_px)} px; ended at {figure(held[-1]['movement_weight'])}"
        )
    facts["ψ"] = o.feature_transform
    if o.task_consistency_weight:
        facts["task consistency μ"] = figure(o.task_consistency_weight)
        facts["self-ensembling"] = figure(o.self_ensembling_weight)
    return facts | {"patches of an image": {"mean": "averaged", "sum": "summed"}[o.patches]}


def training_facts(t: TrainingSettings) -> Facts:
    """How long and how it was trained."""
    history = t.history_batches * t.batch_size
    task = f", then the task network {t.warmup_task_steps:,}" if t.warmup_task_steps else ""
    if t.warmup_self_ensembling_steps:
        task += f", then the same with real images {t.warmup_self_ensembling_steps:,}"
    return {
        "steps T": f"{t.steps:,}",
        "batch b": str(t.batch_size),
        "updates a step": f"R {t.refiner_updates_per_step} (K_g), D {t.discriminator_updates_per_step} (K_d)",
        "warm-up": f"R {t.warmup_refiner_steps:,}{task}, then D {t.warmup_discriminator_steps:,} updates",
        "history B": f"{plural(history, 'image')} ({t.history_batches} batches)" if history else "none",
        "optimizer": f"{t.optimizer}, R {t.refiner_learning_rate:g}, D {t.discriminator_learning_rate:g}, "
        f"decay {t.learning_rate_decay}",
    }
