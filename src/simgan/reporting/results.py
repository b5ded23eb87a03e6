"""The tables of results: rows of text with the place of each interval on a shared scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simgan.reporting.charts import Strip, strips
from simgan.reporting.numbers import figure, fixed, interval, percent, plural, signed
from simgan.reporting.verdict import cost_of_refining, metric_of

_ARMS = {
    "synthetic_plain": "Synthetic, not augmented",
    "synthetic": "Synthetic",
    "synthetic_matched": "Synthetic, levels matched to real",
    "refined": "Refined",
    "synthetic_plus_refined": "Half synthetic, half refined",
    "refined_plus_some_real": "Refined, and a few labelled real",
    "real": "Real, labelled (the bound)",
}
_LOOKS = {
    "refined": "refined",
    "synthetic_plus_refined": "mixed",
    "refined_plus_some_real": "mixed",
    "real": "real",
    "floor": "real",
}
_SIDES = {
    "synthetic": "Synthetic",
    "synthetic_matched": "Synthetic, levels matched",
    "refined": "Refined",
    "floor": "Other real images (the floor)",
}


@dataclass(frozen=True)
class Row:
    """`look`: class of the style sheet; `note`: small print under the name."""

    name: str
    note: str
    value: str
    range: str
    strip: Strip
    look: str


@dataclass(frozen=True)
class Table:
    """Rows that share a scale from `low` to `high`, both as text."""

    caption: str
    name: str
    value: str
    rows: tuple[Row, ...]
    low: str
    high: str


def arms_table(downstream: dict[str, Any]) -> Table:
    """Every arm with its metric on real test images."""
    metric = metric_of(downstream)
    arms = [arm for arm in _ARMS if arm in downstream]
    parts = [downstream[arm] for arm in arms]
    baseline = downstream.get("synthetic", parts[0])["mean"]
    places, low, high = strips([(p["low"], p["mean"], p["high"]) for p in parts], zero=baseline)
    rows = tuple(
        Row(
            _ARMS[arm],
            plural(part["n_train"], "image"),
            metric.value(part["mean"]),
            metric.range(part["low"], part["high"]),
            place,
            _LOOKS.get(arm, "synthetic"),
        )
        for arm, part, place in zip(arms, parts, places, strict=True)
    )
    better = "higher" if metric.higher_is_better else "lower"
    caption = (
        f"{metric.name.capitalize()} on {plural(parts[0]['n_test'], 'real test image')}, {better} is better; "
        f"{plural(parts[0]['n_seeds'], 'trained model')} per row. Bars are 95 % intervals, "
        "the dashed line is synthetic."
    )
    return Table(caption, "Trained on", metric.name.capitalize(), rows, metric.value(low), metric.value(high))


def gains_table(downstream: dict[str, Any]) -> Table | None:
    """Refined against its two opponents, positive where refined is better; None where neither was run."""
    metric = metric_of(downstream)
    names = {"over_synthetic": "Over synthetic", "over_synthetic_matched": "Over level matching alone"}
    gains = {key: downstream["gain"][key] for key in names if key in downstream.get("gain", {})}
    if not gains:
        return None
    places, low, high = strips([(g["low"], g["mean"], g["high"]) for g in gains.values()], zero=0.0)
    rows = tuple(
        Row(names[key], "", metric.gain(g["mean"]), metric.gain_range(g["low"], g["high"]), place, "refined")
        for (key, g), place in zip(gains.items(), places, strict=True)
    )
    caption = (
        "Gain of refined, positive where refined is better. Both sides are tested on the same images; "
        "an interval that crosses the dashed line at 0 shows no gain."
    )
    ends = (signed(metric.factor * end, metric.decimals) for end in (low, high))
    return Table(caption, "Refined", "Gain", rows, *ends)


def realism_tables(realism: dict[str, Any]) -> list[Table]:
    """AUC and sliced Wasserstein of every side against real images, beside the floor."""
    sides = [side for side in _SIDES if side in realism]
    aucs = [(realism[s]["auc_low"], realism[s]["auc"], realism[s]["auc_high"]) for s in sides]
    distances = [float(realism[s]["sliced_wasserstein"]) for s in sides]
    images = plural(realism["n"], "image")
    what = "Range over runs." if "n_runs" in realism else "Bars are 95 % intervals."
    captions = (
        f"AUC of a classifier that tells a side from real images, {images} each: 0.5 is indistinguishable, 1 is "
        f"told without error. {what} The dashed line is real against real.",
        f"Sliced Wasserstein distance to the same {images}: lower is nearer. "
        "The dashed line is real against real, which is as near as can be.",
    )
    floor = realism.get("floor", {})
    auc_places, auc_low, auc_high = strips(aucs, zero=floor.get("auc", 0.5))
    far_places, _, far_high = strips(
        [(0.0, d, d) for d in distances], zero=floor.get("sliced_wasserstein", 0.0)
    )
    auc_rows = [
        Row(_SIDES[s], "", fixed(mid, 3), interval(low, high, 3), place, _LOOKS.get(s, "synthetic"))
        for s, (low, mid, high), place in zip(sides, aucs, auc_places, strict=True)
    ]
    far_rows = [
        Row(_SIDES[s], "", figure(distance), "", place, _LOOKS.get(s, "synthetic"))
        for s, distance, place in zip(sides, distances, far_places, strict=True)
    ]
    return [
        Table(
            captions[0], "Compared with real", "AUC", tuple(auc_rows), fixed(auc_low, 2), fixed(auc_high, 2)
        ),
        Table(captions[1], "Compared with real", "Distance", tuple(far_rows), "0", figure(far_high)),
    ]


def labels_table(labels: dict[str, Any]) -> Table:
    """What the judge reads right on refined and on real images."""
    write = percent if labels.get("metric", "accuracy") == "accuracy" else _skill
    sides = [
        (
            f"On {name} images",
            plural(labels[f"n_{side}"], "image") if f"n_{side}" in labels else "",
            labels[f"judge_on_{side}"],
            labels.get(f"judge_on_{side}_low", labels[f"judge_on_{side}"]),
            labels.get(f"judge_on_{side}_high", labels[f"judge_on_{side}"]),
            side,
        )
        for name, side in (("refined", "refined"), ("unrefined", "synthetic"), ("unseen real", "real"))
        if f"judge_on_{side}" in labels
    ]
    places, low, high = strips([(s[3], s[2], s[4]) for s in sides], zero=labels["judge_on_real"])
    rows = tuple(
        Row(name, note, write(mid), f"[{write(a)}, {write(b)}]", place, look)
        for (name, note, mid, a, b, look), place in zip(sides, places, strict=True)
    )
    tolerance = fixed(labels.get("tolerance_points", 1.0), 1)
    between = interval(labels["low"], labels["high"], 1, sign=True)
    cost = cost_of_refining(labels)
    beside = "" if cost is None else f" Beside the originals, refining cost {signed(cost, 1)} points."
    caption = (
        f"A judge trained on real and synthetic images reads labels off refined images that it has not seen. "
        f"Difference {signed(labels['difference_points'], 1)} points {between}: labels "
        f"{'hold' if labels['holds'] else 'do not hold'} (they hold down to \u2212{tolerance} points).{beside}"
    )
    return Table(caption, "Judge", "Accuracy" if write is percent else "Skill", rows, write(low), write(high))


def _skill(value: float) -> str:
    return fixed(value, 2)
