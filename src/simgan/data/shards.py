"""Shards: WebDataset-format tar files whose members are what a folder would hold, images and any sidecars.

A *sample* is a run of files of one key: the name up to the first dot of its last part, so that `eyes/0001.png` and
`eyes/0001.json` belong together. Within a set a file is called `<shard>/<member>`, such as
`shard-000000.tar/eyes/0001.png`.
"""

from __future__ import annotations

import glob
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simgan.data.left_out import MANIFEST
from simgan.data.tar import TarReader
from simgan.errors import DataError

SUFFIX = ".tar"
INDEX = "simgan-shards.json"  # beside shards that simgan made from a folder

_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.[^/]*")


def sample_key(name: str) -> str:
    """What the files of a sample share; a name without a dot, or hidden, is a sample of its own."""
    match = _KEY.fullmatch(name)
    return match[1] if match else name


def inside(path: str) -> str:
    """The member of a path `<shard>/<member>`."""
    return path.partition(f"{SUFFIX}/")[2]


@dataclass(frozen=True)
class ShardFiles:
    """The shards below `root`, by their relative names, sorted."""

    root: Path
    names: tuple[str, ...]


def find_shards(root: str | Path) -> ShardFiles | None:
    """The shards that `root` names: a tar file, a pattern of them (`data/train-*.tar`), or a folder that holds tar
    files and nothing else. None where it names no shards; `DataError` where a pattern of tar files finds none."""
    path = Path(root)
    if glob.has_magic(str(root)) and not path.exists():
        if path.suffix != SUFFIX:
            return None
        base = Path(*path.parts[: _first_pattern(path)])
        names = sorted(str(p.relative_to(base)) for p in map(Path, glob.glob(str(root), recursive=True)))
        if not names:
            raise DataError(f"{root}: no tar file matches this pattern (current folder: {Path.cwd()})")
        return ShardFiles(base, tuple(names))
    if path.is_file() and path.suffix == SUFFIX:
        return ShardFiles(path.parent, (path.name,))
    if not path.is_dir():
        return None
    names = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.is_file():
                    names.append(entry.name)
                elif entry.name not in (MANIFEST, INDEX):
                    return None
    except OSError:
        return None  # listing its images says why
    return ShardFiles(path, tuple(sorted(names))) if names else None


def _first_pattern(path: Path) -> int:
    return next(i for i, part in enumerate(path.parts) if glob.has_magic(part))


class OpenShards:
    """The files of shards, read one by one wherever they lie, by an index in memory."""

    def __init__(self, shards: ShardFiles) -> None:
        self.shards = shards
        self._numbers: dict[str, int] = {}
        self._offsets, self._sizes = (
            array("q"),
            array("q"),
        )  # of each file's data: numbers alone, there are millions

    def paths(self) -> list[str]:
        """Every file, in the order of shards and members; the archives are read through."""
        self._numbers, self._offsets, self._sizes = {}, array("q"), array("q")
        for name in self.shards.names:
            with TarReader(self.shards.root / name) as reader:
                for member in reader:
                    if member.is_file:
                        self._numbers[f"{name}/{member.name}"] = len(self._numbers)
                        self._offsets.append(member.offset)
                        self._sizes.append(member.size)
        return list(self._numbers)

    def stamp(self, path: str) -> tuple[int, int]:
        """(size of the file, time of change of its shard in ns) of one of `paths`."""
        return self._sizes[self._numbers[path]], os.stat(self._shard_of(path)).st_mtime_ns

    def read(self, path: str) -> bytes:
        """The bytes of one of `paths`."""
        if not self._numbers:
            self.paths()
        number = self._numbers[path]
        with TarReader(self._shard_of(path)) as reader:
            return reader.read_at(self._offsets[number], self._sizes[number])

    def find(self, place: str, *, beside: str) -> str | None:
        """The path of the member `place`: of the shard that holds the file `beside`, else of the only one that has
        it. None where none has it, or several have."""
        if not self._numbers:
            self.paths()
        near = f"{beside.removesuffix(inside(beside))}{place}"
        if near in self._numbers:
            return near
        there = [path for name in self.shards.names if (path := f"{name}/{place}") in self._numbers]
        return there[0] if len(there) == 1 else None

    def _shard_of(self, path: str) -> Path:
        return self.shards.root / path.removesuffix(f"/{inside(path)}")


def refuse_several_images(names: Iterable[str], where: str | Path) -> None:
    """`DataError` where a bare wildcard takes several images of one sample: most likely one of them is a mask."""
    seen: dict[str, str] = {}
    for name in names:
        key = sample_key(name)
        if key in seen:
            first = seen[key]
            raise DataError(
                f"{where}: the sample {key!r} has several images, {first} and {name}, and one may be a label mask, "
                f"which must not be refined; name the images in the pattern, such as '**/*{first[len(key) :]}'"
            )
        seen[key] = name


def in_shards(names: Iterable[str], samples: int) -> Iterator[list[str]]:
    """The file names of one shard after the other, `samples` samples in each, none of them torn."""
    shard: list[str] = []
    keys = set[str]()
    for key, name in sorted((sample_key(name), name) for name in names):
        if key not in keys and len(keys) == samples:
            yield shard
            shard, keys = [], set()
        shard.append(name)
        keys.add(key)
    if shard:
        yield shard
