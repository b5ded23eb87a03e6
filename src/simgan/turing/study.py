"""One visual Turing test in one folder: its images, its subjects, and every answer.

study/
  study.json       what is compared, which images, the seed, the automatic two-sample test
  answers.jsonl    every answer at once, rows only ever added
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.output_folder import make_folder, refuse_other_command
from simgan.data.trees import ImageTree, Progress
from simgan.errors import ConfigurationError, DataError, OutputError
from simgan.evaluation.turing import REAL, Answer
from simgan.images import ValueRange, write_atomically
from simgan.measures import describe_images, two_sample_auc
from simgan.turing.answers import AnswerFile, read_answers
from simgan.turing.pool import Pool, draw_names, encode_png, measure_range, read_pools
from simgan.turing.sessions import Session, Sessions

FORMAT = "simgan turing study"
FORMAT_VERSION = 1
FEWEST_COMPARED, MOST_COMPARED = 10, 1000  # images a side of the automatic test
_LARGEST_COMPARED, _PIXELS_COMPARED = 128, 4 * 10**6  # so that it takes seconds, and little memory


class Study:
    """An open study; one process at a time holds it. `close` lets go of it."""

    def __init__(self, folder: Path, record: dict[str, Any], pools: Mapping[str, Pool], lock: int) -> None:
        self.folder, self.record = folder, record
        self._lock: int | None = lock
        self._pools = pools
        self._range = ValueRange.from_dict(record["value_range"])
        self._file = AnswerFile(folder / "answers.jsonl")
        self.sessions = Sessions(record, self._file)

    @property
    def comparisons(self) -> tuple[str, ...]:
        """What real images are compared with: "refined", "synthetic"."""
        return comparisons_of(self.record)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image, in pixels."""
        height, width = self._pools[REAL].images.shape[1:3]
        return int(height), int(width)

    @property
    def answers(self) -> list[Answer]:
        """Every answer that stands."""
        return self._file.answers.all

    def picture(self, name: str) -> bytes:
        """The PNG of a picture that some session shows, by its id; `KeyError` for any other."""
        shown = self.sessions.pictures[name]
        return encode_png(self._pools[shown.side].images[shown.number], self._range)

    def find(self, session: str) -> Session:
        """The session of that id; `KeyError` for any other."""
        return self.sessions.by_id[session]

    def close(self) -> None:
        """Lets go of the folder."""
        if self._lock is not None:
            self._file.close()
            os.close(self._lock)
            self._lock = None


def begin_study(
    folder: str | Path,
    *,
    real: ImageTree,
    refined: ImageTree | None = None,
    synthetic: ImageTree | None = None,
    real_paths: Sequence[str] | None = None,
    value_range: ValueRange | None = None,
    trials: int = 100,
    examples: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Study:
    """The study in `folder`: a new one, or the one that the same arguments began.

    Real images are compared with refined ones, with synthetic ones, or each with both. real_paths: those of the real
    images to show (unset: all); the ones that the discriminator never saw are the honest choice. value_range: what
    black and white are, else the values that occur. trials: images that a subject judges in one comparison, half of
    them real. examples: labelled images of each side that are always in sight.

    `ConfigurationError` for impossible numbers, `DataError` where images are too few or of several formats,
    `OutputError` where the folder holds something else, is in use, or lies among the images.
    """
    target = Path(folder)
    trees = {REAL: real} | {
        side: tree for side, tree in (("refined", refined), ("synthetic", synthetic)) if tree is not None
    }
    _check_numbers(trees, trials=trials, examples=examples, seed=seed)
    _refuse_within_trees(target, trees)
    command = {
        "seed": seed,
        "trials": trials,
        "examples": examples,
        "sides": {
            side: {"root": str(Path(tree.root).resolve()), "images": tree.images}
            for side, tree in trees.items()
        },
        "real_paths": None
        if real_paths is None
        else hashlib.sha256("\0".join(real_paths).encode()).hexdigest(),
        "value_range": None if value_range is None else value_range.to_dict(),
    }
    lock = _claim(target)
    try:
        record = _read_record(target)
        if record is not None:
            refuse_other_command(target, record["command"], command, work="visual Turing test")
            return Study(target, record, _read_recorded(target, record, progress), lock)
        fewest = examples + trials // 2
        names = {
            side: draw_names(tree, real_paths if side == REAL else None, fewest=fewest, seed=seed + place)
            for place, (side, tree) in enumerate(trees.items())
        }
        pools = read_pools(trees, names, progress)
        scale = value_range or measure_range(pools)
        record = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "command": command,
            "secret": secrets.token_hex(16),  # no id on the page can be worked out without it
            "value_range": scale.to_dict(),
            "pools": {side: {"names": pool.names, "sha256": pool.sha256} for side, pool in pools.items()},
            "automatic": {
                side: _automatic_test(pools[REAL], pools[side], scale, seed) for side in trees if side != REAL
            },
        }
        write_atomically(target / "study.json", json.dumps(record, indent=1).encode() + b"\n")
        return Study(target, json.loads(json.dumps(record)), pools, lock)
    except BaseException:
        os.close(lock)
        raise


def continue_study(folder: str | Path, *, progress: Progress | None = None) -> Study:
    """The study that `folder` holds, as it was begun; `DataError` where there is none or its images have changed."""
    target = Path(folder)
    if not (target / "study.json").is_file():
        raise DataError(_no_study(target))
    lock = _claim(target)
    try:
        record = _read_record(target)
        assert record is not None
        return Study(target, record, _read_recorded(target, record, progress), lock)
    except BaseException:
        os.close(lock)
        raise


def read_results(folder: str | Path) -> tuple[dict[str, Any], list[Answer]]:
    """study.json and every answer that stands; also while the study is open, and without its images."""
    target = Path(folder)
    record = _read_record(target)
    if record is None:
        raise DataError(_no_study(target))
    return record, read_answers(target / "answers.jsonl")[0].all


def comparisons_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What the study of this record compares real images with."""
    return tuple(side for side in record["command"]["sides"] if side != REAL)


def _no_study(folder: Path) -> str:
    return (
        f"{folder}: there is no study (no study.json); begin one with "
        "`simgan turing` and --real, --refined or --synthetic"
    )


def _check_numbers(trees: Mapping[str, ImageTree], *, trials: int, examples: int, seed: int) -> None:
    faults = []
    if len(trees) < 2:
        raise ConfigurationError(
            "real images are compared with refined ones, synthetic ones or both; give one of them"
        )
    if trials < 2 or trials % 2 or trials > 2000:
        faults.append(f"trials: an even number from 2 to 2,000 is wanted, half of them real; got {trials}")
    if not 1 <= examples <= 50:
        faults.append(f"examples: 1 to 50 of each side are wanted, always in sight; got {examples}")
    if not 0 <= seed < 2**63:
        faults.append(f"seed: 0 to 2**63 - 1 is wanted, got {seed}")
    if faults:
        raise ConfigurationError(faults)


def _refuse_within_trees(folder: Path, trees: Mapping[str, ImageTree]) -> None:
    for tree in trees.values():
        if folder.resolve().is_relative_to(Path(tree.root).resolve()):
            raise OutputError(
                f"{folder}: lies among the images of {tree.root}; choose a folder outside of it"
            )


def _claim(folder: Path) -> int:
    """The lock of the folder, which is made where it is not there."""
    make_folder(folder)
    foreign = [path.name for path in folder.iterdir() if path.name not in _OWN_NAMES]
    if foreign and not (folder / "study.json").is_file():
        raise OutputError(
            f"{folder}: is not a study and not empty (it holds {foreign[0]!r}); choose a new folder"
        )
    try:
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OutputError(
            f"{folder}: another `simgan turing` serves this study already; open its page, or end it first"
        ) from None
    return lock


_OWN_NAMES = {".lock", "answers.jsonl", "answers.damaged"}


def _read_record(folder: Path) -> dict[str, Any] | None:
    """study.json; None where there is none yet."""
    path = folder / "study.json"
    try:
        record = json.loads(path.read_bytes())
        version = record["format_version"] if record["format"] == FORMAT else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: is damaged ({error}); restore it from a backup") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: has format {version}, this version of simgan reads {FORMAT_VERSION}")
    return dict(record)


def _read_recorded(folder: Path, record: Mapping[str, Any], progress: Progress | None) -> dict[str, Pool]:
    """The images of the record; `DataError` where they are not those that answers were given to."""
    trees = {side: ImageTree(**where) for side, where in record["command"]["sides"].items()}
    pools = read_pools(trees, {side: pool["names"] for side, pool in record["pools"].items()}, progress)
    for side, pool in pools.items():
        if pool.sha256 != record["pools"][side]["sha256"]:
            raise DataError(
                f"{trees[side].root}: the {side} images have changed since {folder} was begun, and its answers are "
                "to the old ones; bring these back, or begin a new study in another folder"
            )
    return pools


def _automatic_test(real: Pool, other: Pool, scale: ValueRange, seed: int) -> dict[str, Any] | None:
    """What a classifier makes of the same images, as many of each side; None where they are too few.

    Large images are halved until they have at most 128 px a side, about as they are seen on the page."""
    first = _halved(real.images[:1].astype(np.float32))
    area = first.shape[1] * first.shape[2]
    n = min(
        len(real.images), len(other.images), MOST_COMPARED, max(FEWEST_COMPARED, _PIXELS_COMPARED // area)
    )
    if n < FEWEST_COMPARED:
        return None

    def describe(images: NDArray[Any]) -> NDArray[np.float32]:
        seen = np.concatenate([_halved(scale.encode(images[k : k + 1])) for k in range(n)])
        return describe_images(seen)

    found = two_sample_auc(describe(real.images), describe(other.images), seed=seed)
    return {"n": n, "auc": found.auc, "low": found.low, "high": found.high}


def _halved(images: NDArray[Any]) -> NDArray[Any]:
    """(n, H, W, C), averaged over 2×2 pixels until no side is larger than 128."""
    while max(images.shape[1:3]) > _LARGEST_COMPARED:
        height, width = (side // 2 * 2 for side in images.shape[1:3])
        even = images[:, :height, :width]
        images = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    return images
