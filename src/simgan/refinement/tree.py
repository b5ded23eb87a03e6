"""Refining a tree: every image through the refiner, every other file carried, and a manifest."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import simgan
from simgan.data.left_out import MANIFEST, images_left_out
from simgan.data.output_folder import (
    check_places,
    copy_atomically,
    files_below,
    input_error,
    make_folder,
    output_error,
    remove_file,
    remove_temporaries,
)
from simgan.data.trees import ImageTree, Progress, Reject, refuse_rejects
from simgan.errors import ConfigurationError, DataError, ImageError, OutputError
from simgan.images import PixelFormat, decode_image, encode_image, split_alpha, write_atomically
from simgan.measures.displacement import REACH_PX, SMALLEST_SIDE_PX, measure_displacement
from simgan.refinement.journal import JOURNAL, Journal, Row
from simgan.refinement.manifest import (
    RefinementReport,
    build_manifest,
    encode_manifest,
    read_manifest,
    report_of,
    verify,
)
from simgan.weights import TILE, OutOfRange, TrainedRefiner, load_refiner

Item = TypeVar("Item")
Result = TypeVar("Result")


def refine(
    synthetic: ImageTree,
    refiner: TrainedRefiner | str | Path,
    out_dir: str | Path,
    *,
    jpeg_quality: int = 95,
    out_of_range: OutOfRange = "refuse",
    max_reject_share: float = 0.05,
    max_drift_px: float | None = None,
    tile: int = TILE,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> RefinementReport:
    """Write to `out_dir` the tree with every image refined: same relative paths, sizes, channels, bit depth.

    `refiner` is a trained one, its file, or a run directory. Every file that is not an image of the tree (labels,
    masks, notes) is carried byte for byte; so is an image of which every pixel stays as it was. JPEG is written
    4:4:4 at `jpeg_quality`, everything else without loss. Images that cannot be read, or are not of the kind that
    the refiner was trained on, are left out and listed in the report and the manifest; with `out_of_range`
    "refuse" so are those with values outside the trained range, with "clip" such values are clipped. More than
    `max_reject_share` of them end it with a `DataError`. With `max_drift_px`, images whose structure moved by more
    pixels (`measures.displacement`), or was not found again, are left out and listed too, however many they are; the
    manifest then says each image's drift.

    The same call again continues an interrupted one, to the same bytes, and verifies a finished one.
    `progress(done, total)` is called after each image, `warn(sentence)` for each warning of the report. Raises
    `WeightsError` or `RunError` where there is no trained refiner, `ConfigurationError`, `DataError`, and
    `OutputError` (`out_dir` inside the tree or the reverse, not empty, refined with something else, in use, disk
    full or read-only).
    """
    _check_arguments(jpeg_quality, out_of_range, max_reject_share, max_drift_px, tile)
    trained = refiner if isinstance(refiner, TrainedRefiner) else load_refiner(refiner)
    root, out = Path(synthetic.root), Path(out_dir)
    check_places(root, out, "refined")
    paths = synthetic.paths()
    others = [path for path in synthetic.other_files() if path not in (MANIFEST, JOURNAL)]
    lacked_before = images_left_out(root)
    command = {
        "root": str(root.resolve()),
        "images": synthetic.images,
        "refiner": trained.sha256,
        "route": str(trained.route),
        "jpeg_quality": jpeg_quality,
        "out_of_range": out_of_range,
        "max_drift_px": max_drift_px,
        "tile": tile,
        "simgan": simgan.__version__,
        "torch": str(torch.__version__),
    }
    finished = read_manifest(out)
    if finished is not None:
        verify(finished, command, synthetic, others, out)
        remove_file(out / JOURNAL)
        report = report_of(finished, synthetic, out, already_done=True)
        if progress is not None:
            progress(len(paths), len(paths))
    else:
        _refuse_used_folder(out)
        make_folder(out)
        with Journal(out, command) as journal:
            _refuse_foreign_files(out, {*paths, *others, JOURNAL})
            todo = _still_to_do(synthetic, paths, out, journal)
            n_continued = len(paths) - len(todo)
            worker = _Worker(synthetic, trained, out, jpeg_quality, out_of_range, max_drift_px, tile)
            _refine_images(worker, paths, todo, journal, max_reject_share, progress)
            for path in others:
                if _stamp(root / path) != _stamp(out / path):
                    copy_atomically(root / path, out / path)
            notes = []
            if (root / MANIFEST).is_file():
                notes.append(
                    f"{root} was refined before: its {MANIFEST} was not carried, this tree has its own"
                )
            rows = [journal.rows[path] for path in paths]
            _refuse_all_drifted(synthetic, rows, max_drift_px)
            manifest = build_manifest(
                rows,
                trained,
                command,
                n_carried=len(others),
                lacked_before=lacked_before,
                notes=notes,
            )
            write_atomically(out / MANIFEST, encode_manifest(manifest))
            journal.remove()
        report = report_of(manifest, synthetic, out, n_continued=n_continued)
    if warn is not None:
        for warning in report.warnings:
            warn(warning)
    return report


def _check_arguments(
    jpeg_quality: int, out_of_range: str, max_reject_share: float, max_drift_px: float | None, tile: int
) -> None:
    rules = [
        (1 <= jpeg_quality <= 100, f"`jpeg_quality` must be from 1 to 100, not {jpeg_quality}"),
        (
            out_of_range in get_args(OutOfRange),
            f"`out_of_range` must be 'refuse' or 'clip', not {out_of_range!r}",
        ),
        (0 <= max_reject_share <= 1, f"`max_reject_share` must be from 0 to 1, not {max_reject_share}"),
        (
            max_drift_px is None or 0 < max_drift_px <= REACH_PX,
            f"`max_drift_px` must be above 0 and at most {REACH_PX} pixels, as far as drift is measured, not "
            f"{max_drift_px}",
        ),
        (tile >= 1, f"`tile` must be 1 pixel or more, not {tile}"),
    ]
    faults = [fault for holds, fault in rules if not holds]
    if faults:
        raise ConfigurationError(faults)


def _refuse_all_drifted(tree: ImageTree, rows: Iterable[Row], limit: float | None) -> None:
    """`DataError` where no image is left: that is no refined tree, and the limit or the refiner is wrong."""
    drifted = [row for row in rows if row.drifted]
    if drifted and all(row.reason is not None for row in rows):
        raise DataError(
            f"{tree.root}: every image that could be refined drifted too far, first {drifted[0].path}, which "
            f"{drifted[0].reason}; raise max_drift_px above {limit}, or train with a smaller objective.drift_budget_px"
        )


def _refuse_used_folder(out: Path) -> None:
    """`OutputError` unless `out` is missing, empty, or holds a refinement that was begun."""
    try:
        if out.exists() and any(out.iterdir()) and not (out / JOURNAL).is_file():
            raise OutputError(f"{out}: the folder is not empty; choose a new or empty one")
    except OSError as error:
        raise output_error(out, error) from error


def _refuse_foreign_files(out: Path, expected: set[str]) -> None:
    """`OutputError` where `out` holds files that would stand in the refined tree without belonging to it."""
    remove_temporaries(out)
    foreign = sorted(files_below(out) - expected)
    if foreign:
        raise OutputError(
            f"{out}: holds {len(foreign)} files that do not belong to this refinement, first {foreign[0]} (was "
            f"it taken out of the synthetic tree?); remove them, or choose another folder"
        )


def _still_to_do(tree: ImageTree, paths: Iterable[str], out: Path, journal: Journal) -> list[str]:
    """The images that have no row, whose file changed since, or whose refined file is gone."""

    def is_done(path: str) -> bool:
        row = journal.rows.get(path)
        if row is None or row.stamp != _stamp(Path(tree.root) / path):
            return False
        return row.reason is not None or (out / path).is_file()

    return [path for path in paths if not is_done(path)]


def _refine_images(
    worker: _Worker,
    paths: tuple[str, ...],
    todo: list[str],
    journal: Journal,
    max_reject_share: float,
    progress: Progress | None,
) -> None:
    """Read, refine, write, several images at once; a row in the journal after each file, in order."""
    done = len(paths) - len(todo)
    ended = set(paths) - set(todo)
    before = [journal.rows[path] for path in sorted(ended)]
    rejects = [Reject(row.path, row.reason) for row in before if row.reason is not None and not row.drifted]
    if rejects:
        refuse_rejects(worker.tree, rejects, len(paths), max_reject_share)
    with closing(_in_parallel(worker.process, todo)) as rows:
        for row in rows:
            done += 1
            journal.add(row)
            if row.reason is not None and not row.drifted:
                rejects.append(Reject(row.path, row.reason))
                refuse_rejects(worker.tree, rejects, len(paths), max_reject_share)
            if progress is not None:
                progress(done, len(paths))


def _in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """function(item) for each item, in order, each computed by one thread with no further threads of its own.

    One convolution of a small image does not keep many cores busy; and so no last bit depends on their number.
    """
    threads = torch.get_num_threads()
    workers = threads + 2  # some are always waiting for the disk
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Worker:
    """What is done with one image."""

    tree: ImageTree
    trained: TrainedRefiner
    out: Path
    jpeg_quality: int
    out_of_range: OutOfRange
    max_drift_px: float | None
    tile: int

    def process(self, path: str) -> Row:
        """Read, refine, write; the row that says so, or why the image was left out."""
        source, target = Path(self.tree.root) / path, self.out / path
        stamp = _stamp(source)
        if stamp is None:
            raise DataError(f"{source}: is gone; it was there when refining began: run again")
        row = Row(path, stamp)
        try:
            data = source.read_bytes()
            synthetic = decode_image(data, suffix=source.suffix)
            row = self._measured(row, synthetic)
            refined = self.trained(synthetic, out_of_range="clip", tile=self.tile)
            row = self._followed(row, synthetic, refined)
            if row.drifted:
                remove_file(target)
                return row
            unchanged = np.array_equal(refined, synthetic)
            written = data if unchanged else encode_image(refined, target.suffix, self.jpeg_quality)
        except (ImageError, OSError) as error:
            remove_file(target)  # one from before the synthetic image changed
            reason = (
                f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            )
            return replace(row, reason=reason)
        make_folder(target.parent)
        write_atomically(target, written)
        return replace(
            row,
            source=hashlib.sha256(data).hexdigest(),
            refined=hashlib.sha256(written).hexdigest(),
            unchanged=unchanged,
        )

    def _followed(self, row: Row, synthetic: NDArray[Any], refined: NDArray[Any]) -> Row:
        """`row` with the drift of the image, and why it is left out where that is too much."""
        if self.max_drift_px is None or min(synthetic.shape[:2]) < SMALLEST_SIDE_PX:
            return row
        encode = self.trained.value_range.encode
        found = measure_displacement(*(encode(split_alpha(one)[0])[None] for one in (synthetic, refined)))
        if found.lost[0]:
            share = found.share_found[0]
            reason = f"drifted: only {share:.0%} of its structure was found again after refining"
            return replace(row, reason=reason, drifted=True)
        if not found.measured[0]:
            return row
        drift = round(float(found.drift_px[0]), 4)
        row = replace(row, drift_px=drift)
        if drift <= self.max_drift_px:
            return row
        reason = f"drifted: its structure moved by {drift:.2f} px, the limit is {self.max_drift_px:g} px"
        return replace(row, reason=reason, drifted=True)

    def _measured(self, row: Row, image: NDArray[Any]) -> Row:
        """`row` with the size and the levels of `image`; `ImageError` where it is not of the trained kind."""
        wanted, found = self.trained.pixel_format, PixelFormat.of(image)
        if found != wanted:
            raise ImageError(f"is {found}, but the refiner was trained on {wanted} images")
        colour, _ = split_alpha(image)
        value_range = self.trained.value_range
        low, high = int(colour.min()), int(colour.max())
        outside = value_range.count_outside(colour)
        if outside and self.out_of_range == "refuse":
            raise ImageError(
                f"{outside} values lie outside the trained range {value_range.low} to {value_range.high} (they reach "
                f"from {low} to {high}); rescale them, or have them clipped with out_of_range='clip'"
            )
        values = colour.ravel().astype(np.int64)
        off_grid = 0
        if value_range.step > 1:
            between = (values - value_range.low) % value_range.step != 0
            off_grid = int(np.count_nonzero(between & ~value_range.is_invalid(values)))
        return replace(
            row,
            height=colour.shape[0],
            width=colour.shape[1],
            values=colour.size,
            low=low,
            high=high,
            total=int(values.sum()),
            squares=int(values @ values),
            outside=outside,
            off_grid=off_grid,
        )


def _stamp(path: Path) -> tuple[int, int] | None:
    """(size in bytes, time of change in ns), by which a changed file is told; None where there is none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise input_error(path, error) from error
    return stat.st_size, stat.st_mtime_ns
