"""The decoded cache: every image of a tree, decoded once, in one memory-mapped file of native integers.

On disk, in a folder of its own: `pixels.bin` (all images one after the other, H·W·C each, uint8 or uint16),
`sizes.npy` (height and width of each) and `cache.json` (paths, scan, format version). The name of the folder
holds a digest of the listing of the tree, so a cache never outlives a change of the files; it appears under
that name when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from array import array as packed_array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.trees import ImageTree, Progress, Scanner, TreeScan, refuse_rejects
from simgan.errors import DataError, OutputError

_VERSION = 1


class ImageCache:
    """The colour channels of all usable images of a tree, in the order of `paths`; alpha is left out.

    `cache[i]` is a read-only view (H, W, C) of native integers; nothing is loaded before it is looked at. Image i is
    `pixels[offsets[i] : offsets[i + 1]]` of one flat array.
    """

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "cache.json").read_text("utf-8"))
        if record["version"] != _VERSION:
            raise ValueError(f"cache version {record['version']}")
        self.scan: TreeScan = TreeScan.from_dict(record["scan"])
        self.paths: tuple[str, ...] = tuple(record["paths"])
        with (folder / "sizes.npy").open("rb") as file:
            self.sizes: NDArray[np.int64] = np.load(file)  # (n, 2): height, width
        if self.sizes.shape != (len(self.paths), 2):
            raise ValueError("sizes and paths disagree")
        lengths = self.sizes.prod(axis=1) * self.scan.pixel_format.channels
        self.offsets: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)])
        dtype = self.scan.pixel_format.dtype
        if (folder / "pixels.bin").stat().st_size != int(self.offsets[-1]) * dtype.itemsize:
            raise ValueError("pixels.bin has another size than the sizes say")
        self.pixels: NDArray[Any] = np.memmap(folder / "pixels.bin", dtype, mode="r")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> NDArray[Any]:
        """Image i, a view (H, W, C)."""
        i = range(len(self))[i]  # negative indices, IndexError
        height, width = (int(v) for v in self.sizes[i])
        flat = self.pixels[int(self.offsets[i]) : int(self.offsets[i + 1])]
        return np.asarray(flat).reshape(height, width, self.scan.pixel_format.channels)

    @property
    def equal_size(self) -> tuple[int, int] | None:
        """(height, width) if all images share it, else None."""
        return next(iter(self.scan.sizes)) if len(self.scan.sizes) == 1 else None

    def gather(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Images `indices` as one array (N, H, W, C), copied. `DataError` where the images differ in size."""
        if self.equal_size is None:
            raise DataError(
                f"images of {len(self.scan.sizes)} different sizes cannot be stacked; take them one by one"
            )
        whole = self.pixels.reshape(len(self), *self.equal_size, self.scan.pixel_format.channels)
        return np.asarray(whole)[indices]


def open_cache(
    tree: ImageTree,
    cache_dir: str | Path,
    *,
    max_reject_share: float = 0.05,
    progress: Progress | None = None,
) -> ImageCache:
    """The cache of `tree` below `cache_dir`, built where there is none for the files as they are now.

    `progress(done, total)` is called while building. Raises `DataError` as `Scanner.result` does (too many
    unusable files, mixed formats), `OutputError` where the cache cannot be written.
    """
    listing = tree.listing()
    where = f"{Path(tree.root).resolve()}\n{tree.images}"
    place = hashlib.sha256(os.fsencode(where)).hexdigest()[:12]
    digest = hashlib.sha256(f"{_VERSION}\n{json.dumps(listing)}".encode()).hexdigest()[:16]
    folder = Path(cache_dir) / f"{place}-{digest}"
    cache = _load(folder)
    if cache is None:
        try:
            cache = _build(tree, [path for path, _, _ in listing], folder, max_reject_share, progress)
        except OSError as error:
            raise OutputError(
                f"{folder}: the image cache cannot be written: {error.strerror or error}; nothing was left "
                f"behind; free some space, or choose another cache folder"
            ) from error
        for older in Path(cache_dir).glob(f"{place}-*"):
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)
    # A cache that was built under a laxer limit must not pass a stricter one.
    refuse_rejects(tree, cache.scan.rejects, len(listing), max_reject_share)
    return cache


def _load(folder: Path) -> ImageCache | None:
    """The cache in `folder`; None where there is none, or a damaged one: building it again mends that."""
    try:
        return ImageCache(folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _build(
    tree: ImageTree, paths: list[str], folder: Path, max_reject_share: float, progress: Progress | None
) -> ImageCache:
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        _write(tree, paths, temporary, max_reject_share, progress)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        try:
            os.rename(temporary, folder)
        except OSError:
            if _load(folder) is None:  # otherwise another process finished the same cache first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ImageCache(folder)


def _write(
    tree: ImageTree, paths: list[str], folder: Path, max_reject_share: float, progress: Progress | None
) -> None:
    scanner = Scanner(tree)
    kept: list[str] = []
    sizes = packed_array("q")
    with (folder / "pixels.bin").open("wb") as file:
        for path, colour in scanner.images(paths, progress):
            scanner.add(path, colour)
            kept.append(path)
            sizes.extend(colour.shape[:2])
            file.write(np.ascontiguousarray(colour).data)
        file.flush()
        os.fsync(file.fileno())
    scan = scanner.result(max_reject_share)
    np.save(folder / "sizes.npy", np.frombuffer(sizes, np.int64).reshape(-1, 2))
    record = {"version": _VERSION, "root": str(tree.root), "scan": scan.to_dict(), "paths": kept}
    (folder / "cache.json").write_text(json.dumps(record), "utf-8")
