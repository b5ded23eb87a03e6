"""The section of docs/results.md on real eyes, from benchmarks/results/eyes."""

from __future__ import annotations

from typing import Any

TASKS = {
    "iris": "Iris centre (mean error, eye widths)",
    "parts": "Eye parts (1 − mean IoU over skin, sclera, iris with pupil)",
}
SETS = {"renders": "890 UnityEyes renders", "drawn": "eyes drawn by `simgan simulate eyes`"}
PLANNED = 5  # refiners


def section(pooled: list[dict[str, Any]], reads: int, arms: dict[str, str]) -> str:
    """Markdown: for each task a table, a column for each record, then what refining gained."""
    parts = [
        "\n## Real eyes\n\n"
        "Real: 270 frames of eye-camera close-ups (EYEDATASET, Öz et al., 2021), cropped around the opening, 35×55 "
        "grey, cut into three contiguous blocks with a gap of 10 frames at each cut; a fold rotates which block is "
        "unlabelled (85 images or so, all that the refiner sees), dev and test. Synthetic: UnityEyes renders, and eyes "
        "drawn by this project, cropped alike. The bound trains on the labelled unlabelled and dev parts. Recipe "
        "`default`; every arm has the same task model, augmentation (mirror included) and updates; intervals over "
        "refiner seed × task seed × ten frames.\n\n"
        f"Test parts were read {reads} times, each a row of `test_reads.csv`.\n"
    ]
    for task, title in TASKS.items():
        records = [one for one in pooled if one["task"] == task and one["downstream"] is not None]
        if records:
            parts.append(_task(title, records, arms))
    return "".join(parts)


def _task(title: str, records: list[dict[str, Any]], arms: dict[str, str]) -> str:
    heads = [_head(one, arms) for one in records]
    rows = "".join(
        f"| {name} | {' | '.join(_interval(one['downstream'].get(arm)) for one in records)} |\n"
        for arm, name in arms.items()
    )
    gains = "".join(
        f"- {head}: {_gains(one['downstream'])}. {_command(one)}\n"
        for head, one in zip(heads, records, strict=True)
    )
    return (
        f"\n### {title}\n\n| trained on | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}\n{rows}\n"
        f"Lower is better. What refining gained (positive: refined errs less):\n\n{gains}"
    )


def _command(one: dict[str, Any]) -> str:
    """What makes the record, and how many of its planned refiners are there."""
    seeds, folds = (" ".join(map(str, one[name])) for name in ("seeds", "folds"))
    short = f" ({len(one['seeds'])} of {PLANNED} planned refiners)" if len(one["seeds"]) < PLANNED else ""
    return (
        "`python -m simgan.studies.eyes refined --work runs/eyes --results benchmarks/results/eyes --synthetic "
        f"{one['synthetic']} --variants '{one['variant']}' --folds {folds} --seeds {seeds} --tasks {one['task']} "
        f"--part {one['part']} --task-seeds 2`{short}"
    )


def _head(one: dict[str, Any], arms: dict[str, str]) -> str:
    recipe = "" if one["variant"] == "default" else f", {one['variant']}"
    n = next(arm["n_test"] for name, arm in one["downstream"].items() if name in arms)
    folds, seeds = (", ".join(map(str, one[name])) for name in ("folds", "seeds"))
    return f"{SETS[one['synthetic']]}{recipe}; {one['part']}, folds {folds}, refiners {seeds}, n = {n}"


def _interval(arm: dict[str, Any] | None) -> str:
    return "–" if arm is None else f"{arm['mean']:.4f} [{arm['low']:.4f}, {arm['high']:.4f}]"


def _gains(downstream: dict[str, Any]) -> str:
    gains = ", ".join(
        f"{name.replace('_', ' ')} {gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        for name, gain in (downstream.get("gain") or {}).items()
    )
    closed = downstream["gap_closed"]
    if closed is None:
        return f"{gains}; gap closed: not said, {downstream['reason']}"
    return (
        f"{gains}; gap closed, median over refiners: {closed['median']:.2f} "
        f"[{closed['low']:.2f}, {closed['high']:.2f}] (the goal is 0.6)"
    )
