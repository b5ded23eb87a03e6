"""The model card: what a person who is handed the weights has to know. Markdown, beside the weights.

It is passed on with them: it holds counts, digests and figures, and no names of files or folders of this disk.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from simgan.data.trees import TreeScan
from simgan.errors import OutputError, RunError
from simgan.evaluation import Evaluation
from simgan.images import write_atomically
from simgan.reporting.drift import drift_table
from simgan.reporting.facts import (
    Facts,
    objective_facts,
    provenance_facts,
    range_in_words,
    refiner_facts,
    training_facts,
    tree_facts,
)
from simgan.reporting.numbers import figure, fixed, interval
from simgan.reporting.record import RunRecord, find_evaluation, read_run
from simgan.reporting.results import Table, arms_table, gains_table, labels_table, realism_tables
from simgan.reporting.verdict import judge
from simgan.training.loop import Run
from simgan.weights import TrainedRefiner, load_refiner

FILE_NAME = "MODEL_CARD.md"
_MARKER = "<!-- written by simgan report; it writes this file anew unless this line is removed -->"


def model_card(run_dir: str | Path | Run, evaluation: Evaluation | str | Path | None = None) -> Path:
    """The path of MODEL_CARD.md, written beside the weights of a run: data, training, figures with intervals, limits.

    `evaluation`: of `simgan.evaluate`, or its file; None takes evaluation.json of the run directory where there is
    one. Without any, the card says that nothing was shown. Equal inputs give equal bytes.

    `RunError` where there is no run, or nothing was trained yet; `DataError` where the evaluation cannot be read;
    `OutputError` where a card of another hand is there (see its second line), or it cannot be written.
    """
    run = read_run(run_dir.path if isinstance(run_dir, Run) else run_dir)
    if not run.weights.exists():
        raise RunError(f"{run.path}: there is no trained refiner to write a card on yet ({run.status})")
    target = run.path / FILE_NAME
    if target.exists() and _MARKER not in target.read_text("utf-8", "replace"):
        raise OutputError(
            f"{target}: was written or changed by hand, and left alone; rename it to have a new one written"
        )
    found = find_evaluation(run, evaluation)
    text = render_card(run, load_refiner(run.weights), None if found is None else found.record)
    write_atomically(target, text.encode("utf-8", "backslashreplace"))
    return target


def render_card(run: RunRecord, trained: TrainedRefiner, evaluation: dict[str, Any] | None) -> str:
    """The card as text."""
    verdict = judge(run, evaluation)
    said = [verdict.sentence, f"It rests on {verdict.foot}." if verdict.foot else "", verdict.next_step]
    parts = [
        f"# SimGAN refiner: recipe {_plain(run.configuration.recipe)}, seed {run.configuration.seed}",
        _MARKER,
        f"A SimGAN refiner: it changes how synthetic {trained.pixel_format} images look within its receptive field, so "
        "that they look like real ones. It moves no objects, and is meant to leave labels true; whether they still are "
        "was measured where it says so below.",
        f"**{verdict.label}.** {' '.join(part for part in said if part)}",
        *_section("Weights", _weight_facts(run, trained)),
        *_section("Training images", _image_facts(run)),
        *_section("Training", objective_facts(run) | training_facts(run.configuration.training)),
        *_figures(evaluation),
        "## Limits",
        "\n".join(f"- {sentence}" for sentence in _limits(run, trained, evaluation)),
        "## Use",
        "    simgan refine refiner.safetensors SYNTHETIC --out REFINED\n"
        "    simgan export refiner.safetensors --images-of SYNTHETIC --out refiner.onnx",
        "## Licence",
        "simgan claims nothing on these weights and grants nothing. Whoever trained them says how they may be used; "
        "the licences of the images that they were trained on may say more.",
    ]
    return "\n\n".join(parts) + "\n"


def _weight_facts(run: RunRecord, trained: TrainedRefiner) -> Facts:
    spec, field = trained.spec, trained.refiner.receptive_field
    parameters = sum(weights.numel() for weights in trained.refiner.parameters())
    return {
        "file": run.weights.name,
        "sha256": trained.sha256,
        **refiner_facts(spec, parameters=parameters, receptive_field=field),
        "takes": f"{trained.pixel_format} images, values {range_in_words(trained.value_range)}",
        "level matching first": "no" if trained.level_matching is None else "yes",
        **provenance_facts(trained.provenance),
    }


def _image_facts(run: RunRecord) -> Facts:
    """What was on both sides, without a name of this disk."""
    facts: Facts = {}
    for side in ("synthetic", "real"):
        if side in run.data:
            found = tree_facts(TreeScan.from_dict({**run.data[side], "rejects": ()}))
            facts[side] = ", ".join(
                [
                    f"{found['images']} images",
                    found["format"],
                    found["height×width"],
                    f"levels {found['levels']}",
                ]
            )
            facts[f"{side} left out"] = str(len(run.data[side]["rejects"]))
    if run.data:
        facts["real, seen by D"] = f"{run.data['real_training']:,}"
        facts["real, held out to choose the refiner"] = f"{run.data['real_held_out']:,}"
    return facts


def _figures(evaluation: dict[str, Any] | None) -> list[str]:
    if evaluation is None:
        return ["## Evaluation", "Not evaluated: nothing shows that it helps, or that labels hold."]
    downstream, realism, labels = (evaluation.get(part) for part in ("downstream", "realism", "labels"))
    parts = ["## Evaluation", f"Made {_plain(str(evaluation['created']))}. All intervals are 95 %."]
    tables: list[Table] = []
    if downstream is not None:
        gains = gains_table(downstream)
        tables += [arms_table(downstream), *([] if gains is None else [gains])]
    tables += [] if realism is None else realism_tables(realism)
    tables += [] if labels is None else [labels_table(labels)]
    drift = evaluation.get("drift")
    drifted = None if drift is None else drift_table(drift, downstream)
    tables += [] if drifted is None else [drifted]
    parts += [part for table in tables for part in _table(table)]
    gap = None if downstream is None else downstream.get("gap_closed")
    if gap is not None:
        parts.append(
            f"Share of the gap to labelled real images that is closed: {fixed(gap['median'], 2)} "
            f"{interval(gap['low'], gap['high'], 2)}."
        )
    elif downstream is not None:
        parts.append(f"Share of the gap closed: not said; {_plain(str(downstream['reason']))}.")
    return parts


def _table(table: Table) -> list[str]:
    """The caption, without what only the drawn bars have, and the rows."""
    caption = table.caption.replace("the dashed line at 0", "0")
    caption = re.sub(r" ?(Bars are 95 % intervals[.,]|[Tt]he dashed line is [^.]*\.)", "", caption).rstrip(
        ", "
    )
    lines = [f"| {table.name} | {table.value} | interval |", "|---|---|---|"]
    lines += [
        f"| {' · '.join(p for p in (r.name, r.note) if p)} | {r.value} | {r.range} |" for r in table.rows
    ]
    return [caption if caption.endswith(".") else f"{caption}.", "\n".join(lines)]


def _limits(run: RunRecord, trained: TrainedRefiner, evaluation: dict[str, Any] | None) -> list[str]:
    scan = trained.training_scan
    sizes = sorted(scan.sizes)
    shown = f"{sizes[0][0]}×{sizes[0][1]}" + (f" to {sizes[-1][0]}×{sizes[-1][1]}" if len(sizes) > 1 else "")
    found = [
        f"It was trained on synthetic images of {shown} pixels (height×width) with a mean level of "
        f"{figure(scan.level_mean)} ± {figure(scan.level_std)}; images of another scale, simulator or exposure are "
        "outside of what was tried.",
        "Pose, layout and how often each label occurs stay those of the simulator.",
        "One seed gives one refiner; another seed gives another.",
    ]
    if not run.finished:
        found.append(f"Training was not finished ({run.status}).")
    own = [row["message"] for row in run.rows if row.get("kind") == "warning"]
    found += [f"Warning in training: {_warning(message)}" for message in own]
    if evaluation is None:
        return found
    trained_on = run.data.get("synthetic", {}).get("fingerprint")
    evaluated = (evaluation.get("synthetic") or {}).get("sha256")
    if trained_on is not None and evaluated is not None and trained_on != evaluated:
        found.append("The evaluation is of other synthetic images than those it was trained on.")
    return found + [f"Warning of the evaluation: {_warning(w)}" for w in evaluation.get("warnings", [])]


def _section(title: str, facts: Facts) -> list[str]:
    lines = [f"- {_plain(name)}: {_plain(value)}" for name, value in facts.items()]
    return [f"## {title}", "\n".join(lines)] if lines else []


def _warning(sentence: object) -> str:
    """A warning without the paths of this disk that it may name."""
    return _plain(re.sub(r"/?[\w.~-]+(/[\w.-]+)+/?|(?<!\S)/[\w.-]+", "…", str(sentence)))


def _plain(text: str) -> str:
    """Text from files on one line, with nothing that Markdown or HTML would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
