"""Trees of images on disk: which files are images, which are not, and what a scan of them finds."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.folder import OpenFolder
from simgan.data.shards import OpenShards, ShardFiles, find_shards, inside, refuse_several_images
from simgan.errors import DataError, ImageError, list_faults
from simgan.headers import parse_header
from simgan.images import IMAGE_SUFFIXES, PixelFormat, decode_image, split_alpha

Progress = Callable[[int, int], None]

_MASK_FOLDER = re.compile(r"(mask|label|seg)", re.IGNORECASE)
_FEW_LEVELS = 12


@dataclass(frozen=True)
class ImageTree:
    """A folder of images and the files that belong to them, or shards of them (see `simgan.data.shards`).

    `images` is a glob relative to `root` (`*` within a folder, `**` any number of folders) that says which
    files are refined; among them only files with an image suffix count, and hidden ones (.name) only where
    the pattern names them. Where `root` names shards, files are called `<shard>/<member>`, and the pattern is that of
    the member. `labels` is the label format, see `simgan.data.labels`; None: found from what lies
    there.
    """

    root: str | Path
    images: str = "**/*"
    labels: str | None = None

    def paths(self) -> tuple[str, ...]:
        """The images: POSIX paths relative to the root, sorted, or in the order in which they stand in shards.

        `DataError` where there is none, or where a wildcard takes in a folder of masks beside the images.
        """
        files = self.all_files()
        found = tuple(self._matching(files))
        if not found:
            raise DataError(self._nothing_found(files))
        self._refuse_mask_folders(found)
        if self.shard_files is not None:
            self._refuse_masks_of_samples(found)
        return found

    @cached_property
    def shard_files(self) -> ShardFiles | None:
        """The shards that `root` names; None where it is a folder of files."""
        return find_shards(self.root)

    @cached_property
    def _store(self) -> OpenFolder | OpenShards:
        return OpenFolder(self.root) if self.shard_files is None else OpenShards(self.shard_files)

    def refuse_masks_in_shard(self, found: Sequence[str]) -> None:
        """`DataError` where the images found in one of the shards seem to be masks, whatever the others hold."""
        self._refuse_mask_folders(found, beside_images=False)
        self._refuse_masks_of_samples(found)

    def is_image(self, place: str) -> bool:
        """Whether a file is one of the images, by its path in the folder or its name in a shard."""
        if os.path.splitext(place)[1].lower() not in IMAGE_SUFFIXES:
            return False
        return _matches(tuple(place.split("/")), _split_glob(self.images))

    def place(self, path: str) -> str:
        """A path as it is in the folder, or would be if the shards were unpacked into one."""
        return path if self.shard_files is None else inside(path)

    def other_files(self) -> tuple[str, ...]:
        """Every other regular file below the root, sorted: what a refined tree carries unchanged."""
        files = self.all_files()
        images = set(self._matching(files))
        return tuple(path for path in files if path not in images)

    def read(self, path: str) -> NDArray[Any]:
        """The pixels (H, W, C) of one of `paths()`, alpha included; `ImageError` where it cannot be used."""
        with self._named(path):
            return decode_image(self._store.read(path), suffix=os.path.splitext(path)[1])

    def read_size(self, path: str) -> tuple[int, int]:
        """(height, width) of one of `paths()` from its header, nothing decoded; raises as `read` does."""
        with self._named(path):
            header = parse_header(self._store.read(path))
        return header.height, header.width

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        where = os.path.join(self.root, path)
        try:
            yield
        except OSError as error:
            raise ImageError(f"{where}: cannot be read: {error.strerror or error}") from error
        except ImageError as error:
            raise ImageError(f"{where}: {error}") from error

    def read_bytes(self, path: str) -> bytes:
        """The bytes of any of its files; OSError."""
        return self._store.read(path)

    def find(self, place: str, *, beside: str = "") -> str | None:
        """The path of the file that lies at `place` in the folder, or would if the shards were unpacked into one:
        of the shard that holds the file `beside`, else of the only one that has it. None where there is none."""
        return self._store.find(place, beside=beside)

    def listing(self) -> tuple[tuple[str, int, int], ...]:
        """(path, size in bytes, time of change in ns) of each image: changes when the files do."""
        return tuple((path, *self._store.stamp(path)) for path in self.paths())

    def all_files(self) -> list[str]:
        """Images and all others, sorted, or in the order in which they stand in shards."""
        return self._store.paths()

    def _matching(self, files: Iterable[str]) -> Iterator[str]:
        _split_glob(self.images)  # a pattern that is none is an error, whether or not there are files
        return (path for path in files if self.is_image(self.place(path)))

    def _nothing_found(self, files: list[str]) -> str:
        if not files:
            return f"{self.root}: the folder is empty; images ({' '.join(sorted(IMAGE_SUFFIXES))}) are wanted"
        counts = Counter(PurePosixPath(path).suffix or "(no suffix)" for path in files)
        held = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(8))
        message = f"{self.root}: no image matches the pattern {self.images!r}; the folder holds {held}"
        if (Path(self.root) / self.images).is_dir():
            return f"{message}; {self.images!r} is a folder: write '{self.images.rstrip('/')}/**/*'"
        images = [path for path in files if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES]
        if images:
            return f"{message}, for instance {images[0]}; adapt the images pattern"
        return f"{message}; images need one of the suffixes {' '.join(sorted(IMAGE_SUFFIXES))}"

    def _refuse_masks_of_samples(self, found: Iterable[str]) -> None:
        """One of several images of a sample may be a mask: a bare wildcard is not enough to take them all."""
        if self.images.split("/")[-1] in ("*", "**"):
            refuse_several_images(found, self.root)

    def _refuse_mask_folders(self, found: Sequence[str], *, beside_images: bool = True) -> None:
        """Masks are images too: refuse to refine them only because a wildcard reached into their folder; with
        `beside_images` only where there are others too."""
        # A folder that the pattern spells out, at least by its beginning, is what the caller wants.
        named = [part for part in self.images.split("/") if not part.startswith("*")]

        def reached_by_wildcard(path: str) -> list[str]:
            return [
                part
                for part in _mask_folders(path)
                if not any(fnmatch.fnmatchcase(part, name) for name in named)
            ]

        masks = [path for path in found if reached_by_wildcard(path)]
        if masks and (len(masks) < len(found) or not beside_images):
            folder = reached_by_wildcard(masks[0])[0]
            rest = next((path for path in found if not reached_by_wildcard(path)), "images/0.png")
            raise DataError(
                f"{self.root}: the pattern {self.images!r} takes in {len(masks)} files of folders like "
                f"{folder!r} (for instance {masks[0]}), most likely label masks, which must not be refined; "
                f"{_narrow(rest)}, or name {folder!r} in the pattern if these are images"
            )


def _mask_folders(path: str) -> list[str]:
    return [part for part in path.split("/")[:-1] if _MASK_FOLDER.match(part)]


def _narrow(example: str) -> str:
    path = PurePosixPath(example)
    top = path.parts[0] + "/**/*" if len(path.parts) > 1 else "*"
    return f"narrow the images pattern (for instance images = '{top}{path.suffix}')"


def _split_glob(pattern: str) -> tuple[str, ...]:
    parts = pattern.split("/")
    if not pattern or pattern.startswith("/") or ".." in parts or "\\" in pattern:
        raise DataError(
            f"images pattern {pattern!r}: a pattern relative to the folder is wanted, with / between "
            f"folders, such as 'images/*.png' or '**/*'"
        )
    return (*parts, "*") if parts[-1] == "**" else tuple(parts)


def _matches(parts: tuple[str, ...], glob: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a glob, `**` standing for any number of folders."""
    if not parts or not glob:
        return not parts and not glob
    hidden = parts[0].startswith(".") and not glob[0].startswith(".")
    if glob[0] == "**":
        return _matches(parts, glob[1:]) or (not hidden and _matches(parts[1:], glob))
    return not hidden and fnmatch.fnmatchcase(parts[0], glob[0]) and _matches(parts[1:], glob[1:])


@dataclass(frozen=True)
class Reject:
    """A file that matches the pattern but cannot be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class TreeScan:
    """What one pass over all images found. Levels are native integers, all channels together, no alpha."""

    n: int
    pixel_format: PixelFormat
    sizes: dict[tuple[int, int], int]  # (height, width) -> number of images
    low: int
    high: int
    step: int  # greatest common divisor of all levels; 1 where only level 0 occurs
    level_mean: float  # over all pixels of all images
    level_std: float
    image_mean_std: (
        float  # standard deviation, over images, of an image's mean level: how much exposure varies
    )
    rejects: tuple[Reject, ...]
    fingerprint: str  # sha256 over paths, sizes and decoded pixels: the same data, wherever it lies

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {**asdict(self), "sizes": [[h, w, count] for (h, w), count in sorted(self.sizes.items())]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TreeScan:
        """The inverse of `to_dict`, also after a trip through JSON."""
        return cls(
            **{
                **fields,
                "pixel_format": PixelFormat(**fields["pixel_format"]),
                "sizes": {(h, w): count for h, w, count in fields["sizes"]},
                "rejects": tuple(Reject(**reject) for reject in fields["rejects"]),
            }
        )


def scan_tree(
    tree: ImageTree, *, max_reject_share: float = 0.05, progress: Progress | None = None
) -> TreeScan:
    """Read every image of the tree once; see `TreeScan`. Raises `DataError` as `Scanner.result` does."""
    scanner = Scanner(tree)
    for path, array in scanner.images(tree.paths(), progress):
        scanner.add(path, array)
    return scanner.result(max_reject_share)


def refuse_rejects(tree: ImageTree, rejects: Sequence[Reject], n_files: int, max_reject_share: float) -> None:
    """`DataError`, with the first few reasons, where more than that share of the files cannot be used."""
    share = len(rejects) / n_files
    if share <= max_reject_share and len(rejects) < n_files:
        return
    raise DataError(
        f"{tree.root}: {len(rejects)} of {n_files} images cannot be used ({share:.0%}; at most "
        f"{max_reject_share:.0%} may be left out): mend or remove them, or narrow the images pattern"
        + list_faults([f"{reject.path}: {reject.reason}" for reject in rejects])
    )


class Scanner:
    """Gathers a `TreeScan` image by image, in memory that does not grow with their number."""

    def __init__(self, tree: ImageTree) -> None:
        self._tree = tree
        self._formats: dict[PixelFormat, list[str]] = {}  # format -> first examples
        self._format_counts: Counter[PixelFormat] = Counter()
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._alpha, self._few_levels = False, set[PixelFormat]()
        self._histogram = np.zeros(65536, np.int64)
        self._means = np.zeros(3)  # count, mean, sum of squared deviations (Welford) of image means
        self._rejects: list[Reject] = []
        self._seen = 0
        self._hash = hashlib.sha256()

    def images(self, paths: Iterable[str], progress: Progress | None) -> Iterator[tuple[str, NDArray[Any]]]:
        """(path, colour channels) of each usable file; the others are noted as rejects."""
        paths = tuple(paths)
        for self._seen, path in enumerate(paths, 1):
            try:
                array = self._tree.read(path)
            except ImageError as error:
                reason = str(error).removeprefix(f"{Path(self._tree.root) / path}: ")
                self._rejects.append(Reject(path, reason))
            else:
                colour, alpha = split_alpha(array)
                self._alpha |= alpha is not None
                yield path, colour
            if progress is not None:
                progress(self._seen, len(paths))

    def add(self, path: str, colour: NDArray[Any]) -> None:
        """Take one image (H, W, 1|3) into account."""
        pixel_format = PixelFormat.of(colour)
        examples = self._formats.setdefault(pixel_format, [])
        counts = np.bincount(colour.ravel())
        if len(examples) < 3:
            examples.append(path)
            if np.count_nonzero(counts) <= _FEW_LEVELS < colour.size:
                self._few_levels.add(pixel_format)
        self._format_counts[pixel_format] += 1
        self._sizes[colour.shape[0], colour.shape[1]] += 1
        self._histogram[: len(counts)] += counts
        mean = float(counts @ np.arange(len(counts)) / colour.size)
        number, average, squares = self._means
        deviation = mean - average
        average += deviation / (number + 1)
        self._means[:] = number + 1, average, squares + deviation * (mean - average)
        self._hash.update(os.fsencode(f"{path}\0{colour.shape}\0{colour.dtype.str}\0"))
        self._hash.update(np.ascontiguousarray(colour).data)

    def result(self, max_reject_share: float) -> TreeScan:
        """The scan. `DataError` where too many files were rejected, or channels or bit depths are mixed."""
        refuse_rejects(self._tree, self._rejects, self._seen, max_reject_share)
        if len(self._formats) > 1:
            raise DataError(self._mixture())
        (pixel_format,) = self._formats
        levels = np.flatnonzero(self._histogram)
        counts = self._histogram[levels]
        mean = float(levels @ counts / counts.sum())
        return TreeScan(
            n=int(self._means[0]),
            pixel_format=PixelFormat(pixel_format.channels, pixel_format.bit_depth, self._alpha),
            sizes=dict(self._sizes),
            low=int(levels[0]),
            high=int(levels[-1]),
            step=int(np.gcd.reduce(levels)) or 1,
            level_mean=mean,
            level_std=float(np.sqrt((levels - mean) ** 2 @ counts / counts.sum())),
            image_mean_std=float(np.sqrt(self._means[2] / self._means[0])),
            rejects=tuple(self._rejects),
            fingerprint=self._hash.hexdigest(),
        )

    def _mixture(self) -> str:
        (majority, number), *minority = self._format_counts.most_common()
        parts = [
            f"{count} are {kind} (for instance {', '.join(self._formats[kind])})" for kind, count in minority
        ]
        masks = any(kind in self._few_levels for kind, _ in minority) or any(
            _mask_folders(path) for kind, _ in minority for path in self._formats[kind]
        )
        hint = "; those hold few levels, or lie in a mask folder: most likely label masks" if masks else ""
        return (
            f"{self._tree.root}: images of one kind are wanted, but {number} are {majority} and "
            f"{'; '.join(parts)}{hint}; {_narrow(self._formats[majority][0])}, or convert them"
        )
