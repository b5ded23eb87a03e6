"""Pictures for people: synthetic, refined, their difference and the nearest real image, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from simgan.data.trees import ImageTree
from simgan.errors import DataError, SimganError
from simgan.images import PixelFormat, ValueRange, encode_image, split_alpha
from simgan.reporting.record import RunRecord
from simgan.weights import TrainedRefiner

_EXAMPLES = 24
_WORST = 8
_FEWEST, _MOST_REAL = 4, 2000
_PIXELS_REFINED, _PIXELS_SEARCHED = 24 * 256**2, 4 * 10**7  # work to spend: large images, fewer of them
_BYTES = 2_000_000  # of all pictures together
_PIXELATED, _LARGEST = 96, 224  # px: up to here every pixel is shown; above this images are reduced
_THUMBNAIL = 16  # px: the side that nearest images are searched at

Image = NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """One image for the page."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Example:
    """One synthetic image and what became of it; `pictures` in the order of the album's columns."""

    name: str
    pictures: tuple[Picture, ...]


@dataclass
class Album:
    """All pictures of a report; `note` says why something is missing, or ""."""

    columns: tuple[str, ...] = ()
    examples: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)
    refined_sheet: list[Picture] = field(default_factory=list)
    real_sheet: list[Picture] = field(default_factory=list)
    fallback: Picture | None = None
    note: str = ""
    pixelated: bool = True
    grey: bool = True
    refines: bool = False
    amplification: int = 1
    n_searched: int = 0


def gather_album(
    run: RunRecord,
    trained: TrainedRefiner | None,
    refined: ImageTree | None,
    worst: Mapping[str, str] | None = None,
) -> Album:
    """The pictures of a run, read anew from its trees; the last sample sheet where these cannot be used.

    Refined images come from the tree `refined`, else from the refiner `trained`; with neither, there are none.
    `worst`: paths of images to be shown apart, and what is said of each.
    """
    try:
        return _Gathering(run, trained, refined).album(worst or {})
    except SimganError as error:
        return Album(fallback=_last_samples(run), note=f"The images cannot be shown: {error}")


class _Gathering:
    def __init__(self, run: RunRecord, trained: TrainedRefiner | None, refined: ImageTree | None) -> None:
        c = run.configuration
        self.trained, self.refined = trained, refined
        self.synthetic = ImageTree(c.synthetic.root, c.synthetic.images)
        self.real = ImageTree(c.real.root, c.real.images)
        found = run.data.get("synthetic", {}).get("pixel_format")
        if found is None or "value_range" not in run.data:
            raise DataError("the run has not recorded its data yet (no data.json)")
        self.pixel_format = PixelFormat(**found)
        self.range = ValueRange.from_dict(run.data["value_range"])

    def album(self, worst: Mapping[str, str]) -> Album:
        paths, real_paths = self.synthetic.paths(), self.real.paths()
        if self.refined is not None:  # images that could not be refined are not in the refined tree
            there = set(self.refined.paths())
            paths = tuple(path for path in paths if path in there)
            if not paths:
                raise DataError(f"{self.refined.root} holds none of the images of {self.synthetic.root}")
        first = self._read(self.synthetic, paths[0])
        area = first.shape[0] * first.shape[1]
        n_examples = min(_EXAMPLES, max(_FEWEST, _PIXELS_REFINED // area))
        n_sheet = 2 * n_examples
        n_real = min(_MOST_REAL, max(n_sheet, _PIXELS_SEARCHED // area))
        real = [(path, self._read(self.real, path)) for path in _spread(real_paths, n_real)]
        album = Album(
            pixelated=max(first.shape[:2]) <= _PIXELATED,
            grey=first.shape[2] == 1,
            refines=self.refines,
            n_searched=len(real),
        )
        album.real_sheet = _fitting(
            (self._picture(real[i][1], f"real image {real[i][0]}") for i in _drawn(len(real), n_sheet)),
            _BYTES // 5,
        )
        if self.refines:
            drawn = (paths[i] for i in _drawn(len(paths), len(album.real_sheet)))
            refined = ((path, self._refine(path, self._read(self.synthetic, path))) for path in drawn)
            album.refined_sheet = _fitting(
                (self._picture(image, f"refined image {path}") for path, image in refined), _BYTES // 5
            )
        else:
            album.note = "There is no refiner yet: only synthetic and real images can be shown."
        names = {path: path for path in _spread(paths, n_examples)}
        album.examples = self._examples(album, names, real, _BYTES * 3 // 5)
        if self.refines:
            there = set(paths)
            names = {path: f"{path}: {said}" for path, said in worst.items() if path in there}
            few = dict(list(names.items())[: min(_WORST, n_examples)])
            album.worst = self._examples(album, few, real, _BYTES // 5) if few else []
        return album

    def _examples(
        self, album: Album, names: Mapping[str, str], real: Sequence[tuple[str, Image]], bytes_left: int
    ) -> list[Example]:
        """What became of the images `names`; the amplification is that of the first call."""
        paths = list(names)
        synthetic = [self._read(self.synthetic, path) for path in paths]
        refined = [self._refine(path, image) for path, image in zip(paths, synthetic, strict=True)]
        changes = (
            [self._change(b, a) for a, b in zip(synthetic, refined, strict=True)] if self.refines else []
        )
        if not album.columns:
            album.amplification = _amplification(changes)
            album.columns = tuple(self._columns(album.amplification))
        nearest = self._nearest(refined, real)
        examples: list[Example] = []
        for k, path in enumerate(paths):
            pictures = [self._picture(synthetic[k], f"synthetic image {path}")]
            if self.matches_levels:
                matched = self._match_levels(synthetic[k])
                pictures.append(self._picture(matched, f"{path} with its levels matched to real images"))
            if self.refines:
                pictures.append(self._picture(refined[k], f"{path} refined"))
                shown = _colour_change(changes[k] * album.amplification)
                pictures.append(picture_of(shown, f"change of {path}, amplified {album.amplification} times"))
            near_path, near = real[nearest[k]]
            pictures.append(self._picture(near, f"nearest real image, {near_path}"))
            bytes_left -= sum(len(picture.uri) for picture in pictures)
            if bytes_left < 0 and k >= _FEWEST:
                break
            examples.append(Example(names[path], tuple(pictures)))
        return examples

    @property
    def refines(self) -> bool:
        """Whether there are refined images at all."""
        return self.trained is not None or self.refined is not None

    @property
    def matches_levels(self) -> bool:
        """Whether a first stage matches levels before the refiner."""
        return self.trained is not None and self.trained.level_matching is not None

    def _columns(self, amplification: int) -> Iterator[str]:
        yield "synthetic"
        if self.matches_levels:
            yield "levels matched"
        if self.refines:
            yield "refined"
            yield f"change ×{amplification}" if amplification > 1 else "change"
        yield "nearest real"

    def _read(self, tree: ImageTree, path: str) -> Image:
        colour, _ = split_alpha(tree.read(path))
        if PixelFormat.of(colour) != self.pixel_format:
            raise DataError(
                f"{tree.root}/{path} is {PixelFormat.of(colour)}, but the run was trained on {self.pixel_format}: "
                "the folder has changed since"
            )
        return colour

    def _refine(self, path: str, image: Image) -> Image:
        """The refined image; the image itself where there is no refiner yet."""
        if self.refined is not None:
            found = self._read(self.refined, path)
            if found.shape != image.shape:
                raise DataError(f"{self.refined.root}/{path} has another size than its synthetic image")
            return found
        return image if self.trained is None else self.trained(image, out_of_range="clip")

    def _change(self, refined: Image, synthetic: Image) -> NDArray[np.float32]:
        """refined − synthetic as a share of the value range, (H, W, C) in [-1, 1]."""
        return (self.range.encode(refined) - self.range.encode(synthetic)) / np.float32(2)

    def _match_levels(self, image: Image) -> Image:
        """What the first stage alone makes of an image."""
        assert self.trained is not None
        scale = self.trained.value_range
        encoded = torch.from_numpy(np.ascontiguousarray(scale.encode(image).transpose(2, 0, 1)[None]))
        staged = self.trained.first_stage(encoded)[0].numpy().transpose(1, 2, 0)
        return scale.decode(staged, image.dtype)

    def _nearest(self, images: Sequence[Image], real: Sequence[tuple[str, Image]]) -> list[int]:
        """For each image the number of the real one with the least squared difference, at thumbnail size."""
        everything = [*images, *(image for _, image in real)]
        size = tuple(min(image.shape[axis] for image in everything) for axis in (0, 1))
        points = np.stack([self._thumbnail(image, size) for image in everything])
        ours, theirs = points[: len(images)], points[len(images) :]
        return [int(np.argmin(((theirs - one) ** 2).sum(axis=1))) for one in ours]

    def _thumbnail(self, image: Image, size: tuple[int, ...]) -> NDArray[np.float32]:
        top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
        x = self.range.encode(image[top : top + size[0], left : left + size[1]])
        shrunk = cv2.resize(
            x, (min(size[1], _THUMBNAIL), min(size[0], _THUMBNAIL)), interpolation=cv2.INTER_AREA
        )
        return np.asarray(shrunk, np.float32).ravel()

    def _picture(self, image: Image, alt: str) -> Picture:
        return picture_of(ValueRange(0, 255).decode(self.range.encode(image), np.uint8), alt)


def picture_of(visible: NDArray[np.uint8], alt: str) -> Picture:
    """PNG where every pixel counts; larger images (H, W, C) are reduced, and JPEG."""
    height, width, channels = visible.shape
    longest = max(height, width)
    if longest > _LARGEST:
        size = (max(1, round(width * _LARGEST / longest)), max(1, round(height * _LARGEST / longest)))
        shrunk = np.asarray(cv2.resize(visible, size, interpolation=cv2.INTER_AREA), np.uint8)
        visible = shrunk.reshape(size[1], size[0], channels)
    suffix, kind = (".png", "png") if longest <= _PIXELATED else (".jpg", "jpeg")
    data = base64.b64encode(encode_image(visible, suffix, 85)).decode()
    return Picture(f"data:image/{kind};base64,{data}", alt, visible.shape[1], visible.shape[0])


def _fitting(pictures: Iterable[Picture], budget: int) -> list[Picture]:
    """The first of the pictures, as many as fit `budget` bytes; no more are made than that."""
    taken: list[Picture] = []
    for picture in pictures:
        budget -= len(picture.uri)
        if budget < 0:
            break
        taken.append(picture)
    return taken


def _drawn(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 … count − 1, drawn at random, always the same ones, in order."""
    return sorted(np.random.default_rng(0).permutation(count)[:most].tolist())


def _spread(paths: Sequence[str], most: int) -> list[str]:
    """At most `most` of the paths, evenly spread."""
    places = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), most)).round().astype(int))
    return [paths[i] for i in places]


def _amplification(changes: Sequence[NDArray[np.float32]]) -> int:
    """The factor of 1, 2, 5, 10, … at which the largest changes (99th percentile) just fill the scale."""
    if not changes:
        return 1
    largest = float(np.percentile(np.abs(np.concatenate([c.ravel() for c in changes])), 99))
    fitting = [k for k in (1, 2, 5, 10, 20, 50, 100) if k * largest <= 1]
    return fitting[-1] if fitting and largest > 0 else 1


_BRIGHTER, _DARKER = (255, 176, 59), (52, 120, 246)  # told apart by colour-blind people as well


def _colour_change(change: NDArray[np.float32]) -> NDArray[np.uint8]:
    """No change is grey; grey images: brighter is orange, darker is blue; colours: each channel around grey."""
    change = np.clip(change, -1, 1)
    if change.shape[2] == 3:
        return np.asarray(np.rint(127.5 * (1 + change)), np.uint8)
    towards = np.where(change > 0, np.array(_BRIGHTER, np.float32), np.array(_DARKER, np.float32))
    return np.asarray(np.rint(128 + np.abs(change) * (towards - 128)), np.uint8)


def _last_samples(run: RunRecord) -> Picture | None:
    """The newest sheet of samples that training left, if it is not too large."""
    sheets = sorted((run.path / "samples").glob("step_*.png"))
    if not sheets or sheets[-1].stat().st_size > _BYTES:
        return None
    data = sheets[-1].read_bytes()
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return Picture(
        uri, f"sample sheet {sheets[-1].name}: synthetic above refined, and real below", width, height
    )
