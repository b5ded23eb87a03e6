"""The unit of work: refine one shard into one shard, and a record of it.

Every engine (one process, a pool of them, a cluster) calls `refine_shard` with the same `ShardWork` and gets the same
bytes: threads and compute batches are its own. It is idempotent and atomic: done again, it finds what it did; done by
two at once, both write the same; killed at any moment, it leaves nothing or all.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Self

from simgan.data.output_folder import file_sha256, make_folder, open_atomically
from simgan.data.tar import Member, TarReader
from simgan.data.tar_writing import copy_member, resized_headers, write_end, write_member
from simgan.data.trees import ImageTree
from simgan.errors import DataError, ImageError
from simgan.images import write_atomically
from simgan.nn.route import Precision
from simgan.refinement.journal import Row
from simgan.refinement.pipeline import Refining, in_groups, in_parallel
from simgan.refinement.tally import Tally
from simgan.weights import OutOfRange, TrainedRefiner, load_refiner

WORK = ".simgan-refine"  # in the folder of the refined shards, until all of them are done
REFINER = "refiner.safetensors"
_LARGEST_IMAGE = 2**31  # bytes of an image file; what is larger is none


@dataclass(frozen=True)
class ShardWork:
    """What is done with each shard: plain values, which travel to any process or host that sees the same folders."""

    root: str  # folder of the synthetic shards
    out: str  # folder of the refined shards; the refiner lies in it
    images: str  # which members are the images
    device: str
    precision: Precision
    jpeg_quality: int
    out_of_range: OutOfRange
    max_drift_px: float | None
    tile: int
    digest: str  # of the whole command: a record of another one does not count


@dataclass(frozen=True)
class ShardRecord:
    """What became of one shard."""

    name: str
    digest: str
    stamp: tuple[int, int]  # size in bytes and time of change in ns of the synthetic shard
    source: str  # sha256 of the synthetic shard
    refined: str  # sha256 of the refined shard
    n_carried: int
    tally: Tally

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {**asdict(self), "tally": self.tally.to_dict()}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; KeyError, TypeError or ValueError where it is none."""
        size, changed = entries["stamp"]
        return cls(**{**entries, "stamp": (size, changed), "tally": Tally.from_dict(entries["tally"])})


def refine_shard(work: ShardWork, name: str, threads: int) -> ShardRecord:
    """Refine the shard `name` by `threads` threads, unless that was done; its record.

    Member by member in their order: images are refined, all others carried byte for byte, headers too; images that
    are left out stand in the record. `DataError` where the archive is refused, `OutputError`, `WeightsError`.
    """
    source, target = Path(work.root) / name, Path(work.out) / name
    done = read_record(work, name)
    if done is not None:
        return done
    stamp, digest = shard_stamp(source), file_sha256(source)
    assert digest is not None
    trained = _loaded(work)
    refining = Refining(trained, work.jpeg_quality, work.out_of_range, work.max_drift_px, work.tile)
    tree = ImageTree(work.root, work.images)
    make_folder(target.parent)
    with TarReader(source) as reader:
        # Read through once, so that nothing is computed for an archive that is refused.
        images = [m.name for m in reader if m.is_file and tree.is_image(m.name)]
    tree.refuse_masks_in_shard(images)
    with open_atomically(target) as file:
        rows, n_carried = _refine_members(tree, refining, name, file, threads)
    if shard_stamp(source) != stamp:
        raise DataError(f"{source}: was changed while it was refined; run again")
    tally = Tally.of(rows, trained.training_scan)
    if rows and not tally.refined and not tally.drifted:
        path, reason = tally.rejects[0]
        raise DataError(f"{source}: none of its {len(rows)} images can be used, first {path}: {reason}")
    refined = file_sha256(target)
    assert refined is not None
    record = ShardRecord(name, work.digest, stamp, digest, refined, n_carried, tally)
    write_atomically(record_file(work, name), json.dumps(record.to_dict()).encode() + b"\n")
    return record


def _refine_members(
    tree: ImageTree, refining: Refining, name: str, target: BinaryIO, threads: int
) -> tuple[list[Row], int]:
    """Write the refined archive; the rows of its images, and how many other files it holds."""
    source = Path(tree.root) / name
    rows: list[Row] = []
    n_carried = 0

    def refine(group: Sequence[_Piece]) -> list[tuple[_Piece, Row | None, bytes | None]]:
        """Of each piece: the row of an image, and its refined bytes where it was not left out."""
        files = [
            (Row(f"{name}/{p.member.name}", (p.member.size, p.member.mtime)), p.data)
            for p in group
            if p.data is not None
        ]
        done = {row.path: (row, data) for row, data in refining.refine_files(files)}
        return [(piece, *done.get(f"{name}/{piece.member.name}", (None, None))) for piece in group]

    with TarReader(source) as reader, TarReader(source) as carried:
        groups = in_groups(_pieces(tree, reader), lambda piece: piece.member.size)
        with closing(in_parallel(refine, groups, threads=threads)) as refined:
            for piece, row, data in itertools.chain.from_iterable(refined):
                if row is None:
                    n_carried += piece.member.is_file
                    copy_member(target, carried, piece.member)
                    continue
                rows.append(row)
                if data is not None:
                    write_member(target, resized_headers(piece.member, len(data)), data)
    write_end(target)
    return rows, n_carried


@dataclass(frozen=True)
class _Piece:
    member: Member
    data: bytes | None  # of images


def _pieces(tree: ImageTree, reader: TarReader) -> Iterator[_Piece]:
    for member in reader:
        is_image = member.is_file and tree.is_image(member.name)
        if is_image and member.size > _LARGEST_IMAGE:
            raise ImageError(
                f"{reader.path}: {member.name}: {member.size:,} bytes are no image; remove the file"
            )
        yield _Piece(member, reader.read(member) if is_image else None)


def read_record(work: ShardWork, name: str) -> ShardRecord | None:
    """The record of a shard that is done and in place; None where it still has to be refined."""
    try:
        record = ShardRecord.from_dict(json.loads(record_file(work, name).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if record.digest != work.digest or record.stamp != shard_stamp(Path(work.root) / name):
        return None
    return record if file_sha256(Path(work.out) / name) == record.refined else None


def record_file(work: ShardWork, name: str) -> Path:
    """Where the record of a shard lies."""
    return Path(work.out) / WORK / f"{name.replace('/', '%2F')}.json"


def shard_stamp(shard: Path) -> tuple[int, int]:
    """(size in bytes, time of change in ns); `DataError` where the shard is gone."""
    try:
        stat = shard.stat()
    except OSError as error:
        raise DataError(f"{shard}: cannot be read: {error.strerror or error}; run again") from error
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=1)
def _loaded(work: ShardWork) -> TrainedRefiner:
    """A worker loads its refiner once."""
    return load_refiner(Path(work.out) / WORK / REFINER, device=work.device, precision=work.precision)
