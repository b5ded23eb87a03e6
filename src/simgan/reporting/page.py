"""report(): one self-contained HTML page on a run, for a person who decides in a minute."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simgan.config import to_toml
from simgan.data.trees import ImageTree
from simgan.errors import OutputError
from simgan.evaluation import Evaluation, Outcomes
from simgan.images import write_atomically
from simgan.refinement.manifest import read_manifest
from simgan.reporting.curves import training_charts
from simgan.reporting.drift import drift_table, drift_tile, worst_captions
from simgan.reporting.error_curves import error_curves
from simgan.reporting.facts import commands, evaluation_facts, manifest_facts, provenance_facts, run_facts
from simgan.reporting.pictures import gather_album
from simgan.reporting.record import RunRecord, find_evaluation, read_run
from simgan.reporting.results import arms_table, gains_table, labels_table, realism_tables
from simgan.reporting.verdict import judge, tiles
from simgan.templates import open_templates
from simgan.training.loop import Run
from simgan.weights import load_refiner

FILE_NAME = "report.html"
_SUFFIXES = (".html", ".htm")
# Near the beginning of every page, see the template.
_MARKER = b'<meta name="generator" content="simgan report">'


def report(
    run_dir: str | Path | Run,
    evaluation: Evaluation | str | Path | None = None,
    out: str | Path | None = None,
    *,
    refined: ImageTree | str | Path | None = None,
) -> Path:
    """The path of the HTML page written about a run; it needs no other file and no network.

    `evaluation`: of `simgan.evaluate`, or its file; None takes evaluation.json of the run directory where there
    is one. `out`: the file to write, else report.html in the run directory. `refined`: the refined tree whose
    images are shown; without it the kept refiner makes them. An unfinished run, or one without evaluation, gives
    a page that says so. Equal inputs give equal bytes, but for the date.

    `RunError` where `run_dir` is no run directory, `DataError` where the evaluation cannot be read,
    `OutputError` where the page cannot be written, or would overwrite anything but an earlier report,
    `MissingExtraError` without jinja2.
    """
    run = read_run(run_dir.path if isinstance(run_dir, Run) else run_dir)
    found = find_evaluation(run, evaluation)
    tree = refined if isinstance(refined, ImageTree) or refined is None else _beside(run, refined)
    target = run.path / FILE_NAME if out is None else Path(out)
    if target.is_dir():
        target = target / FILE_NAME
    _refuse_to_overwrite(target)
    record, outcomes = (None, None) if found is None else (found.record, found.outcomes)
    page = render(run, record, tree, outcomes, created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: this folder for the report cannot be made: {error.strerror or error}; choose another"
        ) from error
    write_atomically(target, page.encode("utf-8", "backslashreplace"))
    return target


def _refuse_to_overwrite(target: Path) -> None:
    """`OutputError` unless `target` is called like a page, and is new or an earlier report."""
    if target.suffix.lower() not in _SUFFIXES:
        raise OutputError(
            f"{target}: the name of a report must end in .html or .htm; write {target}.html, or give a folder"
        )
    try:
        with target.open("rb") as file:
            ours = _MARKER in file.read(1024)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OutputError(
            f"{target}: there is something that cannot be read ({error.strerror or error}), and that is not "
            "overwritten; choose another name with --out"
        ) from error
    if not ours:
        raise OutputError(
            f"{target}: exists already, is not a report of simgan and was left alone; choose another name with --out"
        )


def render(
    run: RunRecord,
    evaluation: dict[str, Any] | None,
    refined: ImageTree | None,
    outcomes: Outcomes | None = None,
    *,
    created: str,
) -> str:
    """The page as text; everything that comes from files is escaped."""
    templates = open_templates("simgan.reporting", extra="report")
    trained = load_refiner(run.weights) if run.weights.exists() else None
    groups = run_facts(run)
    notes = _doubts(run, evaluation)
    if refined is not None and (manifest := read_manifest(Path(refined.root))) is not None:
        groups["Refined images"] = {"folder": str(refined.root)} | manifest_facts(manifest)
        notes += manifest["warnings"]
        if trained is not None and manifest["refiner"]["sha256"] != trained.sha256:
            notes.append(
                "the refined images shown here were made by another refiner than the one this run keeps"
            )
    if trained is not None:
        groups["Kept weights"] = {"file": str(run.weights), "sha256": trained.sha256}
        groups["Kept weights"] |= provenance_facts(trained.provenance)
    downstream = realism = labels = drift = None
    if evaluation is not None:
        groups["Evaluation"] = evaluation_facts(evaluation)
        groups["Evaluated with"] = {str(k): str(v) for k, v in evaluation.get("versions", {}).items()}
        downstream, realism, labels, drift = (
            evaluation.get(part) for part in ("downstream", "realism", "labels", "drift")
        )
    drifted = None if evaluation is None else drift_tile(evaluation)
    script, _, _ = templates.loader.get_source(templates, "compare.js")
    text: str = templates.get_template("report.html").render(
        name=run.path.resolve().name,
        created=created,
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        run=run,
        verdict=judge(run, evaluation),
        tiles=[*tiles(evaluation), *([] if drifted is None else [drifted])],
        album=gather_album(run, trained, refined, worst_captions(drift)),
        evaluation=evaluation,
        arms=None if downstream is None else arms_table(downstream),
        gains=None if downstream is None else gains_table(downstream),
        errors=error_curves(outcomes),
        no_gap=None if downstream is None else downstream.get("reason"),
        realism=[] if realism is None else realism_tables(realism),
        labels=None if labels is None else labels_table(labels),
        drift=None if drift is None else drift_table(drift, downstream),
        notes=notes,
        charts=training_charts(run),
        groups=groups,
        commands=commands(run, evaluation),
        toml=to_toml(run.configuration),
    )
    return text


def _doubts(run: RunRecord, evaluation: dict[str, Any] | None) -> list[str]:
    """What the evaluation warns of, and whether it is of this run's images at all."""
    if evaluation is None:
        return []
    notes = list(evaluation.get("warnings", []))
    trained_on = run.data.get("synthetic", {}).get("fingerprint")
    evaluated = (evaluation.get("synthetic") or {}).get("sha256")
    if trained_on is not None and evaluated is not None and trained_on != evaluated:
        notes.append("the evaluation is of other synthetic images than those this run was trained on")
    return notes


def _beside(run: RunRecord, refined: str | Path) -> ImageTree:
    """A refined tree has the paths of its synthetic one, so the same pattern finds its images."""
    return ImageTree(refined, run.configuration.synthetic.images)
