"""Are the test images unseen? The same pixels under another name are the same image."""

from __future__ import annotations

import hashlib

import numpy as np

from simgan.errors import DataError
from simgan.evaluation.inputs import ImageSet, Inputs

_SHOWN = 3


def check_overlap(inputs: Inputs) -> list[str]:
    """Warnings of labelled training images that the refiner saw; `DataError` where test images were seen.

    Images are compared by a hash of their pixels. Images of one level alone are left out: two blank images
    are no sign of a copy. All images of the real tree count as seen by the refiner: those that were held out
    chose it.
    """
    test, dev = inputs.test, inputs.dev
    if test is None or dev is None:
        return []
    seen = _by_pixels(_whole(inputs.real))
    training, tested = _by_pixels(dev), _by_pixels(test)
    halves = " half that trains" if dev.name == test.name else ""
    shared = _name_shared(tested, training)
    if shared:
        raise DataError(
            f"{test.root} ({test.name}) and {dev.root} ({dev.name}{halves}) share images: {shared}; models would be "
            f"tested on what they were trained on: take them out of one of the two, or give near-copies one name "
            f"in the column `group`"
        )
    shared = _name_shared(tested, seen)
    if shared:
        raise DataError(
            f"{test.root} ({test.name}) and {inputs.real.root} (real) share images: {shared}; the refiner saw the "
            f"unlabelled ones, so a test on them proves nothing: take them out of {test.name}, or train the "
            f"refiner again without them"
        )
    shared = _name_shared(training, seen)
    if not shared:
        return []
    return [
        f"images of {dev.name}{halves} are among the unlabelled ones that the refiner saw: {shared}; the test "
        f"images are not, but the bound `real` and the judge are no longer independent of the refiner"
    ]


def _whole(images: ImageSet) -> ImageSet:
    return ImageSet(images.name, images.root, images.cache, np.arange(len(images.cache)))


def _by_pixels(images: ImageSet) -> dict[bytes, list[str]]:
    """Paths of the images with more than one level, by the hash of their pixels."""
    found: dict[bytes, list[str]] = {}
    for i, path in zip(images.indices, images.paths, strict=True):
        pixels = images.cache[int(i)]
        if pixels.min() != pixels.max():
            found.setdefault(hashlib.blake2b(pixels.tobytes(), digest_size=16).digest(), []).append(path)
    return found


def _name_shared(these: dict[bytes, list[str]], others: dict[bytes, list[str]]) -> str:
    """How many images of `these` have the pixels of one of `others`, and the first by name; "" for none."""
    pairs = sorted((path, others[key][0]) for key, paths in these.items() if key in others for path in paths)
    named = ", ".join(path if path == other else f"{path} = {other}" for path, other in pairs[:_SHOWN])
    more = ", …" if len(pairs) > _SHOWN else ""
    return f"{len(pairs):,} image{'s' * (len(pairs) > 1)}, {named}{more}" if pairs else ""
