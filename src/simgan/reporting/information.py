"""info(): what lies at a path, in plain words: a run directory, a file of weights, or a tree of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simgan.data.labels import detect_label_format, read_labels
from simgan.data.trees import ImageTree, Progress, scan_tree
from simgan.errors import DataError, LabelError
from simgan.refinement.manifest import read_manifest
from simgan.reporting.facts import (
    Facts,
    manifest_facts,
    provenance_facts,
    range_in_words,
    refiner_facts,
    run_facts,
    tree_facts,
)
from simgan.reporting.record import read_run
from simgan.weights import load_refiner

Kind = Literal["run", "weights", "tree"]


@dataclass(frozen=True)
class InfoReport:
    """`groups`: facts under headings, all text; `warnings`: what a person should know before going on."""

    kind: Kind
    path: str
    groups: dict[str, Facts]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {"kind": self.kind, "path": self.path, **self.groups, "warnings": list(self.warnings)}

    def lines(self) -> list[str]:
        """The same as lines of text: a heading, then its facts, indented and aligned."""
        lines: list[str] = [f"{_TITLES[self.kind]} {self.path}"]
        for title, facts in self.groups.items():
            width = max((len(key) for key in facts), default=0)
            lines += ["", title, *(f"  {key:<{width}}  {value}" for key, value in facts.items())]
        if self.warnings:
            lines += ["", "Warnings", *(f"  - {message}" for message in self.warnings)]
        return lines


_TITLES: dict[Kind, str] = {"run": "Run directory", "weights": "Refiner", "tree": "Tree of images"}


def info(path: str | Path | ImageTree, *, progress: Progress | None = None) -> InfoReport:
    """What lies at `path`. A tree is read once, image by image (`progress(done, total)`).

    `DataError` where there is nothing, or images that cannot be used; `WeightsError` where a file is no refiner;
    `ConfigurationError` where a run's configuration is damaged.
    """
    if isinstance(path, ImageTree):
        return _describe_tree(path, progress)
    here = Path(path)
    if not here.exists():
        raise DataError(
            f"{here}: there is nothing there; give a run directory, a refiner.safetensors, or a folder of images"
        )
    if here.is_file():
        return _describe_weights(here)
    return (
        _describe_run(here) if (here / "config.toml").is_file() else _describe_tree(ImageTree(here), progress)
    )


def _describe_run(path: Path) -> InfoReport:
    run = read_run(path)
    groups = run_facts(run)
    there = {"evaluation": path / "evaluation.json", "report": path / "report.html", "refiner": run.weights}
    groups["Run"] |= {name: str(file) if file.exists() else "none yet" for name, file in there.items()}
    return InfoReport("run", str(path), groups, tuple(run.warnings))


def _describe_weights(path: Path) -> InfoReport:
    trained = load_refiner(path, device="cpu", precision="float32")
    parameters = sum(p.numel() for p in trained.refiner.parameters())
    field = trained.refiner.receptive_field
    images = {"format": str(trained.pixel_format), "value range": range_in_words(trained.value_range)}
    matching = (
        "no"
        if trained.level_matching is None
        else "yes: each image first takes over the levels of a real one"
    )
    groups = {
        "Refiner": refiner_facts(trained.spec, parameters=parameters, receptive_field=field)
        | {"level matching first": matching, "sha256": trained.sha256},
        "Images it takes": images,
        "Trained on": tree_facts(trained.training_scan),
        "Provenance": provenance_facts(trained.provenance),
    }
    return InfoReport("weights", str(path), groups)


def _describe_tree(tree: ImageTree, progress: Progress | None) -> InfoReport:
    scan = scan_tree(tree, max_reject_share=1.0, progress=progress)
    others = Counter(Path(path).suffix or "(no suffix)" for path in tree.other_files())
    carried = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
    groups = {
        "Images": {"pattern": tree.images} | tree_facts(scan) | {"fingerprint": scan.fingerprint},
        "Beside them": {"other files": carried or "none"}
        | _label_facts(tree, {r.path for r in scan.rejects}),
    }
    manifest = read_manifest(Path(tree.root))
    if manifest is not None:
        groups["Refined"] = manifest_facts(manifest) | {"refiner": manifest["refiner"]["sha256"]}
    warnings = [f"{reject.path} cannot be used: {reject.reason}" for reject in scan.rejects[:10]]
    if len(scan.rejects) > 10:
        warnings.append(f"and {len(scan.rejects) - 10} more files that cannot be used")
    return InfoReport("tree", str(tree.root), groups, tuple(warnings))


def _label_facts(tree: ImageTree, rejects: set[str]) -> Facts:
    """Which labels there are; faulty ones are said, not raised: an unlabelled tree is fine as the real side."""
    try:
        format_name = tree.labels or detect_label_format(tree)
        if format_name is None:
            return {"labels": "none"}
        labels = read_labels(tree, [path for path in tree.paths() if path not in rejects], format_name)
    except LabelError as error:
        return {"labels": f"cannot be read: {error}"}
    names = ", ".join(labels.names[:12]) + (
        f" and {len(labels.names) - 12} more" if len(labels.names) > 12 else ""
    )
    what = f"{len(labels.names)} classes" if labels.kind == "class" else f"{len(labels.names)} values"
    facts = {"labels": f"{format_name}: {what} ({names})"}
    if labels.groups is not None:
        facts["groups"] = f"{len(set(labels.groups)):,}"
    return facts
