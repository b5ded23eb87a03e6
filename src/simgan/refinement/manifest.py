"""The manifest of a refined tree, and the report on it. It holds no times: equal refinements, equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan.data.left_out import MANIFEST
from simgan.data.output_folder import file_sha256, refuse_other_command
from simgan.data.trees import ImageTree, Reject, TreeScan
from simgan.errors import DataError, OutputError
from simgan.images import ValueRange
from simgan.refinement.journal import Row
from simgan.refinement.tally import Tally, is_lossy
from simgan.weights import TrainedRefiner

FORMAT_VERSION = 1

# The level statistics of two trees are called different above these; both see well-exposed images of one camera
# as alike, and images that are twice as bright as different.
_MEAN_SHARE_OF_RANGE = 0.1
_STD_RATIO = 1.5


@dataclass(frozen=True)
class RefinementReport:
    """What `refine` did; everything but the last two fields stands in the manifest too."""

    tree: ImageTree  # the refined tree
    manifest: Path
    n_images: int  # images in the synthetic tree
    n_refined: int
    n_unchanged: int  # of the refined ones: every pixel came out as it was
    n_clipped: int  # values that lay outside the trained range and were clipped to it
    n_lossy: int  # files written with loss (JPEG)
    n_drifted: int  # left out because their structure moved by more than the limit, or was not found again
    n_carried: int  # other files, copied byte for byte
    rejects: tuple[Reject, ...]  # images left out, and why
    warnings: tuple[str, ...]
    n_continued: int = 0  # images that an interrupted call had refined before
    already_done: bool = False  # nothing was written: the finished tree was verified


def build_manifest(
    rows: list[Row],
    trained: TrainedRefiner,
    command: Mapping[str, Any],
    *,
    n_carried: int,
    lacked_before: Iterable[str],
    notes: Iterable[str],
) -> dict[str, Any]:
    """The manifest for the rows of all images, sorted by path, one refined at least. `lacked_before` are images that
    the synthetic tree lacks already, refined itself; `notes` are warnings from elsewhere."""
    tally = Tally.of(rows, trained.training_scan)
    return {
        **summary(tally, trained, command, n_carried=n_carried, notes=notes),
        "lacked_before": sorted(lacked_before),
        "images": {row.path: _image_entry(row) for row in rows if row.reason is None},
    }


def summary(
    tally: Tally, trained: TrainedRefiner, command: Mapping[str, Any], *, n_carried: int, notes: Iterable[str]
) -> dict[str, Any]:
    """What the manifests of a tree and of shards have in common. `DataError` where every image was left out."""
    _refuse_all_drifted(tally, command)
    levels = tally.levels()
    return {
        "format": "simgan refinement",
        "format_version": FORMAT_VERSION,
        # Where the tree lies is of no interest later.
        "command": {key: value for key, value in command.items() if key != "root"},
        "refiner": {"sha256": trained.sha256, "provenance": trained.provenance},
        "counts": tally.counts(n_carried),
        "levels": {"synthetic": levels, "training": _training_levels(trained.training_scan)},
        "warnings": [
            *notes,
            *_warnings(tally, levels, trained),
            *_drift_warnings(tally, command["max_drift_px"]),
        ],
        "rejects": [{"path": path, "reason": reason} for path, reason in tally.rejects],
    }


def _image_entry(row: Row) -> dict[str, Any]:
    entry: dict[str, Any] = {"source": row.source, "refined": row.refined}
    if row.outside:
        entry["clipped"] = row.outside
    if is_lossy(row):
        entry["lossy"] = True
    if row.unchanged:
        entry["unchanged"] = True
    if row.drift_px is not None:
        entry["drift_px"] = row.drift_px
    return entry


def _refuse_all_drifted(tally: Tally, command: Mapping[str, Any]) -> None:
    """`DataError` where no image is left: that is no refined tree, and the limit or the refiner is wrong."""
    if tally.drifted and not tally.refined:
        first = tally.drifted[0]
        raise DataError(
            f"{command['root']}: every image that could be refined drifted too far, first {first}, which "
            f"{dict(tally.rejects)[first]}; raise max_drift_px above {command['max_drift_px']}, or train with a "
            f"smaller objective.drift_budget_px"
        )


def _training_levels(scan: TreeScan) -> dict[str, float]:
    return {"low": scan.low, "high": scan.high, "mean": scan.level_mean, "std": scan.level_std}


def _warnings(tally: Tally, levels: dict[str, float], trained: TrainedRefiner) -> list[str]:
    """In words, what a user should know before using the tree."""
    warnings = []
    if tally.rejects:
        path, reason = tally.rejects[0]
        warnings.append(
            f"{len(tally.rejects)} of {tally.images} images were left out, first {path}: {reason}; "
            f"files of labels, carried as they are, still name them; simgan passes over their rows, other programs may "
            f"not"
        )
    scan, value_range = trained.training_scan, trained.value_range
    heights, widths = zip(*scan.sizes, strict=True)
    if tally.first_odd is not None:
        path, height, width = tally.first_odd
        trained_sizes = f"{min(heights)}×{min(widths)}"
        if len(scan.sizes) > 1:
            trained_sizes += f" to {max(heights)}×{max(widths)}"
        warnings.append(
            f"{tally.odd_images} of {tally.refined} images have another size than the refiner was trained on "
            f"({path} is {height}×{width}, training images were {trained_sizes}): if objects appear at another "
            f"scale, refine images prepared like the training images"
        )
    if _differ(levels, scan, value_range):
        warnings.append(
            f"the levels differ from those the refiner was trained on (mean {levels['mean']:.4g}, standard deviation "
            f"{levels['std']:.4g}; in training {scan.level_mean:.4g} and {scan.level_std:.4g}): it was not trained "
            f"for such images; refine images from the same simulator settings, or train on these"
        )
    if tally.off_grid_images:
        warnings.append(
            f"{tally.off_grid_images} of {tally.refined} images hold values between the levels of the training images "
            f"(multiples of {value_range.step}): such values were rounded to the nearest level"
        )
    if tally.clipped_images:
        warnings.append(
            f"{tally.clipped_images} of {tally.refined} images hold values outside the range {value_range.low} to "
            f"{value_range.high}: they were clipped to it"
        )
    if tally.unchanged > tally.refined / 2:
        warnings.append(
            f"{tally.unchanged} of {tally.refined} images came out unchanged: the refiner hardly changes anything; "
            f"train it longer, or with a smaller self_regularization_weight"
        )
    return warnings


def _drift_warnings(tally: Tally, limit: float | None) -> list[str]:
    if limit is None or not tally.unfollowed:
        return []
    return [
        f"{tally.unfollowed} of {tally.refined} images have no structure whose drift could be measured, first "
        f"{tally.first_unfollowed}: they were kept, although they may have drifted by more than {limit:g} px"
    ]


def _differ(levels: Mapping[str, float], scan: TreeScan, value_range: ValueRange) -> bool:
    span = value_range.high - value_range.low
    ratio = (levels["std"] + 1) / (
        scan.level_std + 1
    )  # + 1 level: flat images differ by less than they seem to
    far = abs(levels["mean"] - scan.level_mean) > _MEAN_SHARE_OF_RANGE * span
    return far or not 1 / _STD_RATIO < ratio < _STD_RATIO


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it lies on disk."""
    return json.dumps(manifest, indent=1).encode() + b"\n"


def read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of a finished tree; None where there is none."""
    path = out / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        version = manifest["format_version"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise OutputError(
            f"{path}: is damaged ({error}); remove the folder {out} and refine again"
        ) from error
    if version != FORMAT_VERSION:
        raise OutputError(
            f"{path}: has format {version}, this version of simgan reads {FORMAT_VERSION}; choose another folder"
        )
    return dict(manifest)


def report_of(manifest: Mapping[str, Any], tree: ImageTree, out: Path, **rest: Any) -> RefinementReport:
    """The report on the tree in `out` refined from `tree`."""
    counts = manifest["counts"]
    return RefinementReport(
        tree=ImageTree(out, images=tree.images, labels=tree.labels),
        manifest=out / MANIFEST,
        n_images=counts["images"],
        n_refined=counts["refined"],
        n_unchanged=counts["unchanged"],
        n_clipped=counts["clipped"],
        n_lossy=counts["lossy"],
        n_drifted=counts["drifted"],
        n_carried=counts["carried"],
        rejects=tuple(Reject(**reject) for reject in manifest["rejects"]),
        warnings=tuple(manifest["warnings"]),
        **rest,
    )


def verify(
    manifest: Mapping[str, Any], command: Mapping[str, Any], tree: ImageTree, others: Iterable[str], out: Path
) -> None:
    """`OutputError` unless `out` holds just what refining `tree` with `command` gives, by sha256 of every image.

    Versions of simgan and torch are not compared: a finished tree stays what it is.
    """
    begun = manifest["command"]
    versions = {"simgan": begun["simgan"], "torch": begun["torch"]}
    wanted = {key: value for key, value in command.items() if key != "root"} | versions
    refuse_other_command(out, begun, wanted, work="refinement")
    images = manifest["images"]
    rejected = {reject["path"] for reject in manifest["rejects"]}
    different = sorted(set(tree.paths()) ^ (images.keys() | rejected))
    for path, entry in images.items():
        if not different and file_sha256(Path(tree.root) / path) != entry["source"]:
            different = [path]
    if different:
        raise OutputError(
            f"{out}: was refined from other images than {tree.root} holds now ({different[0]} is new, gone or "
            f"changed); choose another folder, or remove this one to refine anew"
        )
    damaged = [path for path, entry in images.items() if file_sha256(out / path) != entry["refined"]]
    damaged += [path for path in others if _size(out / path) != _size(Path(tree.root) / path)]
    if damaged:
        raise OutputError(
            f"{out}: {len(damaged)} files were changed or removed since it was finished, first {damaged[0]}; remove "
            f"the folder to refine anew"
        )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
