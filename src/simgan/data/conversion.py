"""convert(): a folder into shards, or shards into a folder, every file the same byte for byte, which is verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan.data.left_out import MANIFEST
from simgan.data.output_folder import (
    check_places,
    copy_atomically,
    file_sha256,
    files_below,
    make_folder,
    open_atomically,
    remove_file,
    remove_temporaries,
    wait_for_disk,
)
from simgan.data.shards import INDEX, SUFFIX, ShardFiles, find_shards, in_shards, sample_key
from simgan.data.tar import Member, TarReader, check_name
from simgan.data.tar_writing import write_end, write_file
from simgan.data.trees import ImageTree, Progress
from simgan.errors import ConfigurationError, DataError, OutputError
from simgan.images import write_atomically

_UNFINISHED = ".simgan-convert.json"
_VERSION = 1


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did. Everything that was written has been read again and compared."""

    out: Path
    n_files: int
    n_samples: int
    n_shards: int
    already_done: bool  # nothing was written: all of it was there, and is right


def convert(
    source: str | Path, out_dir: str | Path, *, samples: int = 1000, progress: Progress | None = None
) -> ConversionReport:
    """A folder into shards of `samples` samples each, or shards into a folder, by what `source` is.

    Shards are called `shard-000000.tar` and so on; a sample is never torn, see `simgan.data.shards`. Every file goes
    over byte for byte, labels and others too, with its time of change in seconds. Equal folders give equal shards.
    What was written is read again and compared. The same call again continues, and verifies what is finished.
    `progress(done, total)` is called after each shard. Raises `ConfigurationError`, `DataError` (an archive that is
    refused, two members of one name, names that tar cannot hold), `OutputError`.
    """
    if samples < 1:
        raise ConfigurationError(f"`samples` must be 1 or more, not {samples}")
    shards, out = find_shards(source), Path(out_dir)
    check_places(Path(source) if shards is None else shards.root, out, "converted")
    if shards is None:
        return _pack(Path(source), out, samples, progress)
    return _unpack(shards, out, progress)


def _pack(root: Path, out: Path, samples: int, progress: Progress | None) -> ConversionReport:
    files = ImageTree(root).all_files()
    if not files:
        raise DataError(f"{root}: the folder is empty; there is nothing to convert")
    for name in files:
        check_name(name, where=root)
    shards = [(f"shard-{i:06}{SUFFIX}", names) for i, names in enumerate(in_shards(files, samples))]
    make_folder(out)
    remove_temporaries(out)
    expected = {name for name, _ in shards} | {INDEX}
    foreign = sorted(files_below(out) - expected)
    if foreign:
        raise OutputError(
            f"{out}: holds other files, first {foreign[0]}; choose a new or empty folder for the shards"
        )
    index = _read_index(out)
    entries: dict[str, Any] = {}
    written = 0
    for done, (name, names) in enumerate(shards, 1):
        target = out / name
        if not _is_packed(root, names, target):
            if index is not None:
                raise OutputError(
                    f"{target}: is not what {root} gives (was one of them changed since?); choose another folder, or "
                    f"remove this one"
                )
            with open_atomically(target) as file:
                for member in names:
                    write_file(file, root / member, member)
                write_end(file)
            if not _is_packed(root, names, target):
                raise OutputError(
                    f"{target}: does not hold what was written to it; check the disk, run again"
                )
            written += 1
        entries[name] = {
            "sha256": file_sha256(target),
            "samples": len({sample_key(member) for member in names}),
            "files": len(names),
        }
        if progress is not None:
            progress(done, len(shards))
    record = {"format": "simgan shards", "format_version": _VERSION, "shards": entries}
    if index is None:
        write_atomically(out / INDEX, json.dumps(record, indent=1).encode() + b"\n")
    n_samples = sum(entry["samples"] for entry in entries.values())
    return ConversionReport(out, len(files), n_samples, len(shards), index is not None and not written)


def _is_packed(root: Path, names: list[str], shard: Path) -> bool:
    """Whether the shard holds just these files with these bytes."""
    if not shard.is_file():
        return False
    try:
        with TarReader(shard) as reader:
            members = list(reader)
            return [member.name for member in members] == names and all(
                _equal(reader, member, root / member.name) for member in members
            )
    except DataError:
        return False


def _read_index(out: Path) -> Any:
    """The record of finished shards; None where there is none."""
    try:
        return json.loads((out / INDEX).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"{out / INDEX}: is damaged ({error}); remove the folder {out} and run again"
        ) from error


def _unpack(shards: ShardFiles, out: Path, progress: Progress | None) -> ConversionReport:
    places = _places(shards)
    unfinished = out / _UNFINISHED
    begun = unfinished.is_file()
    if begun:
        remove_temporaries(out)
    there = files_below(out) - {_UNFINISHED} if out.is_dir() else set()
    # Which images were left out has to be known wherever their labels are: a manifest goes along.
    manifest = shards.root / MANIFEST
    carried = manifest.is_file() and MANIFEST not in places
    foreign = sorted(there - places.keys() - ({MANIFEST} if carried else set()))
    if foreign:
        raise OutputError(f"{out}: holds other files, first {foreign[0]}; choose a new or empty folder")
    make_folder(out)
    if not there and not begun:
        write_atomically(unfinished, b"{}\n")
        begun = True
    written = 0
    for done, name in enumerate(shards.names, 1):
        with TarReader(shards.root / name) as reader:
            for member in reader:
                if not member.is_file:
                    continue
                target = out / member.name
                if target.is_file() and _equal(reader, member, target):
                    continue
                if not begun:
                    raise OutputError(
                        f"{target}: is missing, or not what {shards.root / name} holds; choose another folder, or "
                        f"remove this one"
                    )
                make_folder(target.parent)
                with open_atomically(target, durable=False) as file:
                    reader.copy(member, file)
                os.utime(target, (member.mtime, member.mtime))
                if not _equal(reader, member, target):
                    raise OutputError(
                        f"{target}: does not hold what was written to it; check the disk, run again"
                    )
                written += 1
        if progress is not None:
            progress(done, len(shards.names))
    if carried and file_sha256(manifest) != file_sha256(out / MANIFEST):
        copy_atomically(manifest, out / MANIFEST)
    wait_for_disk(out)
    remove_file(unfinished)
    n_samples = len({sample_key(name) for name in places})
    return ConversionReport(out, len(places), n_samples, len(shards.names), not begun and not written)


def _places(shards: ShardFiles) -> dict[str, str]:
    """Every file's name and the shard that it stands in; `DataError` where one folder cannot hold them all.

    All archives are read through: nothing is written before each of them is known to be whole.
    """
    places: dict[str, str] = {}
    folders = set[str]()
    for name in shards.names:
        with TarReader(shards.root / name) as reader:
            for member in reader:
                if not member.is_file:
                    continue
                if member.name in places:
                    raise DataError(
                        f"{shards.root / name}: {member.name} stands in {places[member.name]} too; in one folder there "
                        f"is room for one of them: convert them into two folders"
                    )
                places[member.name] = name
                folders.update(_folders_of(member.name))
    clash = sorted(folders & places.keys())
    if clash:
        raise DataError(f"{shards.root}: {clash[0]} is a file in one shard and a folder in another")
    return places


def _folders_of(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _equal(reader: TarReader, member: Member, path: Path) -> bool:
    try:
        if path.stat().st_size != member.size:
            return False
        digest = hashlib.sha256()
        reader.copy(member, _Digesting(digest))
        return digest.hexdigest() == file_sha256(path)
    except FileNotFoundError:
        return False


class _Digesting:
    """A file that keeps the digest alone of what is written to it."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)
