"""The files of a folder and of those below it. Links are followed inside the folder only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from simgan.errors import DataError


class OpenFolder:
    """The files below `root`, by their relative POSIX paths."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def paths(self) -> list[str]:
        """Every regular file, sorted; `DataError` where the root is no folder, or a link leads out of it."""
        root = self.root
        if not root.exists():
            raise DataError(
                f"{root}: no such folder; a folder of images is wanted (current folder: {Path.cwd()})"
            )
        if not root.is_dir():
            raise DataError(f"{root}: is a file; the folder that holds the images is wanted")
        return sorted(_walk(root, PurePosixPath(), root.resolve(), frozenset()))

    def stamp(self, path: str) -> tuple[int, int]:
        """(size in bytes, time of change in ns) of one of `paths`."""
        try:
            stat = os.stat(self.root / path)
        except OSError as error:
            raise DataError(f"{error.filename}: vanished while the folder was listed; run again") from error
        return stat.st_size, stat.st_mtime_ns

    def read(self, path: str) -> bytes:
        """The bytes of one of `paths`; OSError."""
        # Not through Path, which takes as long as a small file.
        with open(os.path.join(self.root, path), "rb") as file:
            return file.read()

    def find(self, place: str, *, beside: str) -> str | None:
        """The path of the file that lies at `place`; None where there is none. `beside` matters for shards."""
        return place if os.path.isfile(self.root / place) else None


def _walk(root: Path, below: PurePosixPath, real_root: Path, above: frozenset[Path]) -> Iterator[str]:
    folder = root / below
    above |= {folder.resolve()}
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed: {error.strerror}; check the rights of the folder"
        ) from error
    for entry in entries:
        relative = below / entry.name
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not target.is_relative_to(real_root):
                raise DataError(
                    f"{entry.path}: a link that leads out of the tree, to {target}; copy the file into the "
                    f"tree, or give the folder that the links lead to"
                )
            if not target.exists():
                raise DataError(f"{entry.path}: a link that leads nowhere ({target}); remove or mend it")
            if target in above:
                raise DataError(f"{entry.path}: a link to a folder that holds it ({target}); remove it")
        if entry.is_dir():
            yield from _walk(root, relative, real_root, above)
        elif entry.is_file():
            yield relative.as_posix()
