"""Refining a tree: every image through the refiner, every other file carried, and a manifest."""

from __future__ import annotations

import filecmp
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simgan.data.left_out import MANIFEST, images_left_out
from simgan.data.output_folder import (
    check_places,
    copy_atomically,
    file_sha256,
    files_below,
    input_error,
    make_folder,
    output_error,
    remove_file,
    remove_temporaries,
    wait_for_disk,
)
from simgan.data.trees import ImageTree, Progress, Reject, refuse_rejects
from simgan.errors import DataError, OutputError
from simgan.images import write_atomically
from simgan.refinement.journal import JOURNAL, Journal, Row
from simgan.refinement.manifest import (
    RefinementReport,
    build_manifest,
    encode_manifest,
    read_manifest,
    report_of,
    verify,
)
from simgan.refinement.pipeline import Refining, in_groups, in_parallel


def refine_tree(
    tree: ImageTree,
    refining: Refining,
    out: Path,
    command: Mapping[str, Any],
    *,
    max_reject_share: float,
    progress: Progress | None,
) -> RefinementReport:
    """`refine` for a folder: into the folder `out`, by what `command` records."""
    root = Path(tree.root)
    check_places(root, out, "refined")
    paths = tree.paths()
    others = [path for path in tree.other_files() if path not in (MANIFEST, JOURNAL)]
    lacked_before = images_left_out(root)
    finished = read_manifest(out)
    if finished is not None:
        verify(finished, command, tree, others, out)
        remove_file(out / JOURNAL)
        if progress is not None:
            progress(len(paths), len(paths))
        return report_of(finished, tree, out, already_done=True)
    _refuse_used_folder(out)
    make_folder(out)
    with Journal(out, command) as journal:
        _refuse_foreign_files(out, {*paths, *others, JOURNAL})
        todo = _still_to_do(tree, paths, out, journal)
        files = _Files(tree, refining, out)
        _refine_images(files, paths, todo, journal, max_reject_share, progress)
        with closing(in_parallel(files.carry, others)) as carried:
            deque(carried, maxlen=0)
        notes = []
        if (root / MANIFEST).is_file():
            notes.append(f"{root} was refined before: its {MANIFEST} was not carried, this tree has its own")
        manifest = build_manifest(
            [journal.rows[path] for path in paths],
            refining.trained,
            command,
            n_carried=len(others),
            lacked_before=lacked_before,
            notes=notes,
        )
        wait_for_disk(out)  # once for all files, and before anything calls them finished
        write_atomically(out / MANIFEST, encode_manifest(manifest))
        journal.remove()
    return report_of(manifest, tree, out, n_continued=len(paths) - len(todo))


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
    """The images that have no row, whose file changed since, or whose refined file is gone or not what it was."""

    def is_done(path: str) -> bool:
        row = journal.rows.get(path)
        if row is None or row.stamp != _stamp(Path(tree.root) / path):
            return False
        # By its bytes: until the disk has all of them, a power cut leaves what it will.
        return row.reason is not None or file_sha256(out / path) == row.refined

    return [path for path in paths if not is_done(path)]


def _refine_images(
    files: _Files,
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
        refuse_rejects(files.tree, rejects, len(paths), max_reject_share)
    groups = in_groups(todo, lambda path: files.stamp(path)[0])
    with closing(in_parallel(files.refine, groups)) as refined:
        for rows, failure in refined:
            for row in rows:
                if files.stamp(row.path) != row.stamp:
                    raise DataError(
                        f"{Path(files.tree.root) / row.path}: was changed while it was refined: run again"
                    )
                done += 1
                journal.add(row)
                if row.reason is not None and not row.drifted:
                    rejects.append(Reject(row.path, row.reason))
                    refuse_rejects(files.tree, rejects, len(paths), max_reject_share)
                if progress is not None:
                    progress(done, len(paths))
            if failure is not None:
                raise failure


@dataclass(frozen=True)
class _Files:
    """Image files of the tree and of the refined tree."""

    tree: ImageTree
    refining: Refining
    out: Path

    def refine(self, paths: Sequence[str]) -> tuple[list[Row], BaseException | None]:
        """Read, refine, write; the rows that say so, or why an image was left out, and what ended it early."""
        done: dict[str, Row] = {}
        folders: set[str] = set()  # that are there
        ended: BaseException | None = None
        try:
            for row, written in self.refining.refine_files(self._read(paths, done)):
                if written is None:
                    remove_file(self.out / row.path)  # one from before the synthetic image changed
                else:
                    target = f"{self.out}/{row.path}"
                    folder = os.path.dirname(target)
                    if folder not in folders:
                        make_folder(Path(folder))
                        folders.add(folder)
                    write_atomically(target, written, durable=False)
                done[row.path] = row
        except BaseException as error:  # raised again when the rows are noted
            ended = error
        return [done[path] for path in paths if path in done], ended

    def _read(self, paths: Iterable[str], done: dict[str, Row]) -> Iterator[tuple[Row, bytes]]:
        for path in paths:
            row = Row(path, self.stamp(path))
            try:
                with open(f"{self.tree.root}/{path}", "rb", buffering=0) as file:
                    data = file.read()
            except OSError as error:
                remove_file(self.out / path)
                done[path] = replace(row, reason=f"cannot be read: {error.strerror or error}")
            else:
                yield row, data

    def stamp(self, path: str) -> tuple[int, int]:
        """That of a synthetic image; `DataError` where it is gone."""
        source = f"{self.tree.root}/{path}"
        stamp = _stamp(source)
        if stamp is None:
            raise DataError(f"{source}: is gone; it was there when refining began: run again")
        return stamp

    def carry(self, path: str) -> None:
        """Copy another file of the tree, unless that was done before."""
        source, target = Path(self.tree.root) / path, self.out / path
        # After a power cut a file may have its size and its time, and not all of its bytes.
        if _stamp(source) != _stamp(target) or not filecmp.cmp(source, target, shallow=False):
            copy_atomically(source, target, durable=False)


def _stamp(path: str | Path) -> tuple[int, int] | None:
    """(size in bytes, time of change in ns), by which a changed file is told; None where there is none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise input_error(Path(path), error) from error
    return stat.st_size, stat.st_mtime_ns
