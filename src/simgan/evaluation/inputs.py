"""What an evaluation compares: the trees, opened, checked against each other, and brought to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan.data.cache import ImageCache, open_cache
from simgan.data.labels import Labels, align_classes, read_labels
from simgan.data.trees import ImageTree
from simgan.errors import DataError
from simgan.evaluation.groups import number_groups, split_by_group
from simgan.images import ValueRange, measure_value_range
from simgan.tasks import SMALLEST_SIDE

MOST_IMAGES = 20_000
"""Larger sets are thinned to this many images, drawn by seed: enough for every number here."""

FloatImages = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some images of one tree: `indices` into its cache, and their labels where the tree has any."""

    name: str
    root: str
    cache: ImageCache
    indices: NDArray[np.int64]
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the images, relative to the root."""
        return tuple(self.cache.paths[i] for i in self.indices)

    def take(self, chosen: NDArray[np.int64]) -> ImageSet:
        """The set holding the images number `chosen` of this one."""
        labels = None if self.labels is None else self.labels.take(chosen)
        return replace(self, indices=self.indices[chosen], labels=labels)

    def encode(self, value_range: ValueRange) -> FloatImages:
        """(n, H, W, C) float32 in [-1, 1]."""
        return value_range.encode(self.cache.gather(self.indices))

    def holes(self, value_range: ValueRange) -> NDArray[np.bool_]:
        """(n, H, W, C), True where a pixel has the range's `invalid` value."""
        return value_range.is_invalid(self.cache.gather(self.indices))

    def describe(self) -> dict[str, Any]:
        """Where it lies, how many images it gives, and the digest of all images of the tree."""
        return {"root": self.root, "n": len(self), "sha256": self.cache.scan.fingerprint}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The sets of one evaluation. `matching` is the real images that the matched arm may use."""

    synthetic: ImageSet
    refined: ImageSet
    real: ImageSet
    matching: ImageSet
    test: ImageSet | None
    dev: ImageSet | None
    value_range: ValueRange
    warnings: tuple[str, ...]

    @property
    def same_paths(self) -> bool:
        """Whether refined images stand under the paths of their synthetic originals."""
        return set(self.refined.paths) <= set(self.synthetic.cache.paths)


def open_inputs(
    *,
    synthetic: ImageTree,
    refined: ImageTree,
    real: ImageTree,
    real_labelled: ImageTree | None,
    real_dev: ImageTree | None,
    real_paths: Sequence[str] | None,
    value_range: ValueRange | None,
    cache_dir: str | Path,
    seed: int,
) -> Inputs:
    """All trees opened and checked. `DataError` where their images cannot be compared, `LabelError` where
    labels are missing or differ in classes or columns."""
    if real_dev is not None and real_labelled is None:
        raise DataError("real_dev was given without real_labelled; give the labelled test images as well")
    labelled = real_labelled is not None
    synthetic_set = _open(synthetic, "synthetic", cache_dir, seed, labelled=labelled)
    refined_set = _open(refined, "refined", cache_dir, seed, labelled=labelled, pairs=synthetic_set)
    real_set, matching = _split_seen(_open(real, "real", cache_dir, seed, labelled=False), real_paths)
    sets = [synthetic_set, refined_set, real_set]
    test = dev = None
    warnings: list[str] = []
    if real_labelled is not None:
        test = _open(real_labelled, "real_labelled", cache_dir, seed, labelled=True)
        dev = None if real_dev is None else _open(real_dev, "real_dev", cache_dir, seed, labelled=True)
        sets += [one for one in (test, dev) if one is not None]
    _check_comparable(sets)
    if test is not None:
        refined_set, test = _align(synthetic_set, refined_set), _align(synthetic_set, test)
        if dev is not None:
            dev = _align(synthetic_set, dev)
        else:
            dev, test = _split_labelled(test)
            warnings.append(
                f"no real_dev was given, so real_labelled was split by group: {len(dev)} images train the "
                f"bound `real` and the judge, {len(test)} images test every arm"
            )
    return Inputs(
        synthetic=synthetic_set,
        refined=refined_set,
        real=real_set,
        matching=matching,
        test=test,
        dev=dev,
        value_range=value_range or _measure(sets),
        warnings=tuple(warnings),
    )


def _open(
    tree: ImageTree,
    name: str,
    cache_dir: str | Path,
    seed: int,
    *,
    labelled: bool,
    pairs: ImageSet | None = None,
) -> ImageSet:
    """The images of one tree, thinned; where `pairs` holds images of the same paths, to those that it drew."""
    cache = open_cache(tree, cache_dir)
    indices = np.arange(len(cache))
    if pairs is not None and set(cache.paths) <= set(pairs.cache.paths):
        drawn = set(pairs.paths)
        indices = np.array([i for i, path in enumerate(cache.paths) if path in drawn], dtype=np.int64)
    elif len(cache) > MOST_IMAGES:
        indices = np.sort(np.random.default_rng(seed).choice(len(cache), MOST_IMAGES, replace=False))
    labels = read_labels(tree, [cache.paths[i] for i in indices]) if labelled else None
    return ImageSet(name, str(tree.root), cache, indices, labels)


def _split_seen(real: ImageSet, real_paths: Sequence[str] | None) -> tuple[ImageSet, ImageSet]:
    """The real images to measure realism against, and those to match levels to (the rest, if any)."""
    if real_paths is None:
        return real, real
    place = {path: i for i, path in enumerate(real.cache.paths)}
    missing = [path for path in real_paths if path not in place]
    if missing or not real_paths:
        raise DataError(
            f"real_paths: {len(missing)} of {len(real_paths)} are not in {real.root}"
            + (f", for instance {missing[0]}" if missing else "")
            + "; wanted paths relative to that tree, of images that the refiner did not see"
        )
    unseen = np.array(sorted({place[path] for path in real_paths})[:MOST_IMAGES], dtype=np.int64)
    seen = np.setdiff1d(real.indices, unseen)
    return replace(real, indices=unseen), replace(real, indices=seen if len(seen) else unseen)


def _check_comparable(sets: Sequence[ImageSet]) -> None:
    """One size and one pixel format for all, at least as large as the task network needs."""
    next_step = "bring all trees to one size and format with `simgan prepare`"
    for one in sets:
        if one.cache.equal_size is None:
            found = ", ".join(f"{h}×{w}" for h, w in list(one.cache.scan.sizes)[:4])
            raise DataError(
                f"{one.root} ({one.name}): evaluation needs images of one size, found "
                f"{len(one.cache.scan.sizes)} sizes (height×width {found}); {next_step}"
            )
    first = sets[0]
    for other in sets[1:]:
        here, there = first.cache.equal_size, other.cache.equal_size
        if here != there:
            raise DataError(
                f"{other.root} ({other.name}) holds images of height, width {there}, but {first.root} "
                f"({first.name}) of {here}; {next_step}"
            )
        if first.cache.scan.pixel_format != other.cache.scan.pixel_format:
            raise DataError(
                f"{other.root} ({other.name}) holds {other.cache.scan.pixel_format} images, but {first.root} "
                f"({first.name}) {first.cache.scan.pixel_format}; {next_step}"
            )
    size = first.cache.equal_size
    if size is not None and min(size) < SMALLEST_SIDE:
        raise DataError(
            f"{first.root}: images of height, width {size} are too small; at least {SMALLEST_SIDE} pixels a "
            f"side are wanted; {next_step}"
        )


def _align(synthetic: ImageSet, other: ImageSet) -> ImageSet:
    assert synthetic.labels is not None
    assert other.labels is not None
    labels = align_classes(
        synthetic.labels, other.labels, reference_name=synthetic.name, other_name=other.name
    )
    return replace(other, labels=labels)


def _split_labelled(labelled: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Two halves by group; `DataError` where the half that trains lacks a class of the half that tests."""
    labels = labelled.labels
    assert labels is not None
    classes = labels.values if labels.kind == "class" else None
    numbers = number_groups(labelled.paths, labels.groups, classes=classes)
    dev, test = split_by_group(numbers, named=labels.groups is not None)
    if classes is not None:
        lacking = [labels.names[k] for k in np.setdiff1d(classes[test], classes[dev])]
        if lacking:
            raise DataError(
                f"{labelled.root} (real_labelled) was split in two halves by its groups, and the half that trains "
                f"the bound `real` and the judge has no image of {len(lacking)} of {len(labels.names)} classes "
                f"that the other half tests: {', '.join(lacking[:8])}{', …' if len(lacking) > 8 else ''}; give a "
                f"second labelled tree with --real-dev (real_dev), or a column `group` whose groups hold several "
                f"classes each"
            )
    return labelled.take(dev), labelled.take(test)


def _measure(sets: Sequence[ImageSet]) -> ValueRange:
    """One range for all sets: what is equal in the files must be equal for the task network."""
    scans = [one.cache.scan for one in sets]
    step = int(np.gcd.reduce([scan.step for scan in scans]))
    low, high = min(scan.low for scan in scans), max(scan.high for scan in scans)
    return measure_value_range(low, max(high, 1), step, scans[0].pixel_format.bit_depth)
