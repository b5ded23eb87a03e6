"""From a configuration and two trees to networks, streams and checks: all that happens before the first update."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan.config import Configuration
from simgan.data.cache import ImageCache, open_cache
from simgan.data.labels import Labels, detect_label_format, read_labels
from simgan.data.streams import BatchStream
from simgan.data.trees import ImageTree, Progress
from simgan.errors import ConfigurationError, DataError
from simgan.images import ValueRange, measure_value_range
from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.derivation import derive_discriminator, derive_refiner
from simgan.nn.discriminator import (
    Discriminator,
    DiscriminatorLayer,
    DiscriminatorSpec,
    discriminator_receptive_field,
)
from simgan.nn.feature_transforms import FEATURE_TRANSFORMS
from simgan.nn.history import HistoryBuffer
from simgan.nn.level_matching import LevelMatching
from simgan.nn.losses import paper_weight
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Route, choose_route
from simgan.tasks.network import SMALLEST_SIDE
from simgan.training.algorithm import Objective, Players, moving_average_of
from simgan.training.task_consistency import TaskConsistency

FEWEST_JUDGED = 5  # images of a side that the two-sample test needs: one a fold
_HELD_OUT_BLOCKS = 10
_MATCHING_SAMPLE = 2048  # images of each side that level matching is fitted on

# Every random draw has its own seed, derived from the run's: streams never run in step.
_SYNTHETIC_STREAM, _REAL_STREAM, _TASK_NETWORK = 1, 2, 3


@dataclass
class DataSide:
    """One side's images in training: its cache, and how native batches become (N, C, h, w) in [-1, 1]."""

    cache: ImageCache
    value_range: ValueRange

    def encode(self, native: Tensor) -> Tensor:
        """Native integers (N, C, h, w) → float32 in [-1, 1]."""
        return torch.from_numpy(self.value_range.encode(native.numpy()))

    def sample(self, indices: NDArray[np.int64], crop: tuple[int, int]) -> Tensor:
        """Images `indices`, centre-cropped to `crop`, (N, C, h, w) in [-1, 1]."""
        height, width = crop
        images = []
        for i in indices.tolist():
            image = self.cache[i]
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            images.append(image[top : top + height, left : left + width])
        return torch.from_numpy(self.value_range.encode(np.stack(images).transpose(0, 3, 1, 2)))


@dataclass
class Assembly:
    """Everything a run needs that does not change while it trains."""

    configuration: Configuration
    synthetic: DataSide
    real: DataSide
    value_range: ValueRange
    crop: tuple[int, int]
    real_training: NDArray[np.int64]
    real_held_out: NDArray[np.int64]
    refiner_spec: RefinerSpec
    discriminator_spec: DiscriminatorSpec
    level_matching: LevelMatching | None
    labels: Labels | None
    """Of the synthetic images, where task consistency uses them."""
    route: Route
    warnings: tuple[str, ...]

    @property
    def quantization(self) -> Quantization:
        """The grid that both sides' files hold."""
        return Quantization(self.value_range.levels)

    def first_stage(self, synthetic: Tensor) -> Tensor:
        """What the refiner gets: level-matched where the configuration says so, on the files' grid."""
        if self.level_matching is None:
            return synthetic
        return self.quantization.quantize(self.level_matching(synthetic))

    def synthetic_stream(self) -> BatchStream:
        """Endless batches of synthetic images."""
        c = self.configuration
        return BatchStream(
            self.synthetic.cache,
            batch_size=c.training.batch_size,
            seed=_derived_seed(c.seed, _SYNTHETIC_STREAM),
            crop=self.crop,
        )

    def real_stream(self) -> BatchStream:
        """Endless batches of the real images that D may see."""
        c = self.configuration
        return BatchStream(
            self.real.cache,
            indices=self.real_training,
            batch_size=c.training.batch_size,
            seed=_derived_seed(c.seed, _REAL_STREAM),
            crop=self.crop,
        )

    def players(self) -> Players:
        """Freshly initialized networks and optimizers, a function of the seed."""
        c, t = self.configuration, self.configuration.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(c.seed)
            refiner = self.route.place(Refiner(self.refiner_spec))
            discriminator = self.route.place(Discriminator(self.discriminator_spec))
        history = None
        if t.history_batches:
            shape = (self.refiner_spec.channels, *self.crop)
            history = HistoryBuffer(t.history_batches * t.batch_size, shape, self.quantization.code_dtype)
        augmentation = None
        if t.augmentation_shift_px or t.augmentation_gain:
            augmentation = DiscriminatorAugmentation(t.augmentation_shift_px, t.augmentation_gain)
        return Players(
            refiner=refiner,
            discriminator=discriminator,
            refiner_optimizer=_optimizer(t.optimizer, refiner, t.refiner_learning_rate),
            discriminator_optimizer=_optimizer(t.optimizer, discriminator, t.discriminator_learning_rate),
            objective=Objective(
                self_regularization_weight=c.objective.self_regularization_weight,
                feature_transform=FEATURE_TRANSFORMS[c.objective.feature_transform],
                patches=c.objective.patches,
            ),
            quantization=self.quantization,
            route=self.route,
            history=history,
            averaged_refiner=moving_average_of(refiner, decay=c.refiner.average_decay),
            averaging_decay=c.refiner.average_decay,
            augmentation=augmentation,
            task=self._task(),
            carries_lowest=self.value_range.invalid is not None,
            generator=torch.Generator().manual_seed(c.seed),
        )

    def _task(self) -> TaskConsistency | None:
        if self.labels is None:
            return None
        c = self.configuration
        return TaskConsistency(
            self.labels,
            weight=c.objective.task_consistency_weight,
            image_shape=(self.refiner_spec.channels, *self.crop),
            device=self.route.device,
            seed=_derived_seed(c.seed, _TASK_NETWORK),
        )

    def describe(self) -> dict[str, Any]:
        """What a person wants to know before the first update; data.json."""
        refiner, discriminator = Refiner(self.refiner_spec), Discriminator(self.discriminator_spec)
        grid = discriminator.patch_grid(*self.crop)
        weight = self.configuration.objective.self_regularization_weight
        shape = (self.refiner_spec.channels, *self.crop)
        return {
            "synthetic": self.synthetic.cache.scan.to_dict(),
            "real": self.real.cache.scan.to_dict(),
            "real_training": len(self.real_training),
            "real_held_out": len(self.real_held_out),
            "value_range": self.value_range.to_dict(),
            "crop": list(self.crop),
            "refiner": {
                **asdict(self.refiner_spec),
                "parameters": sum(p.numel() for p in refiner.parameters()),
                "receptive_field_px": refiner.receptive_field,
            },
            "discriminator": {
                **asdict(self.discriminator_spec),
                "parameters": sum(p.numel() for p in discriminator.parameters()),
                "receptive_field_px": discriminator.receptive_field,
                "patch_grid": list(grid),
            },
            "self_regularization_weight": {
                "mean_form": weight,
                "paper_form": paper_weight(weight, image_shape=shape, patch_count=math.prod(grid)),
            },
            "labels": None if self.labels is None else _label_digest(self.labels),
            "route": str(self.route),
            "warnings": list(self.warnings),
        }


def assemble(configuration: Configuration, *, cache_dir: Path, progress: Progress | None = None) -> Assembly:
    """Reads both trees and derives the rest; `DataError` or `ConfigurationError` before anything is spent."""
    c = configuration
    faults = [
        f"`{side}.root` is not set: name the folder of {side} images"
        for side, tree in (("synthetic", c.synthetic), ("real", c.real))
        if not tree.root
    ]
    if c.data.level_matching and c.data.invalid_value is not None:
        faults.append(
            "`data.level_matching` and `data.invalid_value` exclude each other: holes have no level"
        )
    if faults:
        raise ConfigurationError(faults)
    synthetic_cache = open_cache(
        ImageTree(c.synthetic.root, c.synthetic.images), cache_dir, progress=progress
    )
    real_cache = open_cache(ImageTree(c.real.root, c.real.images), cache_dir, progress=progress)
    _check_sides(c, synthetic_cache, real_cache)
    value_range = _value_range(c, synthetic_cache, real_cache)
    crop = _crop(c, synthetic_cache, real_cache)
    training, held_out = split_held_out(len(real_cache), c.data.held_out_share)
    synthetic, real = DataSide(synthetic_cache, value_range), DataSide(real_cache, value_range)
    discriminator = _discriminator_spec(c, synthetic_cache.scan.pixel_format.channels, crop)
    refiner = _refiner_spec(c, discriminator)
    matching = None
    if c.data.level_matching:
        matching = LevelMatching.fit(
            synthetic=synthetic.sample(spread(len(synthetic_cache), _MATCHING_SAMPLE), crop),
            real=real.sample(training[spread(len(training), _MATCHING_SAMPLE)], crop),
        )
    labels, left_out = _labels(c, synthetic_cache, crop)
    bit_depth = synthetic_cache.scan.pixel_format.bit_depth
    return Assembly(
        configuration=c,
        synthetic=synthetic,
        real=real,
        value_range=value_range,
        crop=crop,
        real_training=training,
        real_held_out=held_out,
        refiner_spec=refiner,
        discriminator_spec=discriminator,
        level_matching=matching,
        labels=labels,
        route=choose_route(device=c.run.device, precision=c.run.precision, bit_depth=bit_depth),
        warnings=(*_warnings(synthetic_cache, real_cache, value_range), *left_out),
    )


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the indices 0 … count − 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def split_held_out(count: int, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, held-out) indices: held out are contiguous blocks spread evenly over the sorted names.

    Neighbours in a recording are near-copies: single images held out at random would have been seen already.
    """
    blocks = min(_HELD_OUT_BLOCKS, max(1, round(count * share)))
    ends = np.linspace(0, count, blocks + 1).round().astype(int)
    held = np.zeros(count, dtype=bool)
    for start, stop in itertools.pairwise(ends):
        held[start : start + max(1, round((stop - start) * share))] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _check_sides(c: Configuration, synthetic: ImageCache, real: ImageCache) -> None:
    if synthetic.scan.pixel_format != real.scan.pixel_format:
        raise DataError(
            f"both sides must have the same channels and bit depth: {c.synthetic.root} holds "
            f"{synthetic.scan.pixel_format}, {c.real.root} holds {real.scan.pixel_format}; convert one of them"
        )
    training, held_out = split_held_out(len(real), c.data.held_out_share)
    needed = max(c.training.batch_size, FEWEST_JUDGED)
    for root, there in ((c.synthetic.root, len(synthetic)), (c.real.root, len(training))):
        if there < needed:
            raise DataError(
                f"{root} has {there} images for training, at least {needed} are wanted (a batch, and "
                f"{FEWEST_JUDGED} to judge refiners on); add images, or lower training.batch_size"
            )
    if len(held_out) < FEWEST_JUDGED:
        raise DataError(
            f"{c.real.root} has {len(real)} images, of which {len(held_out)} would be held out; refiners are judged "
            f"on at least {FEWEST_JUDGED}: add images, or raise data.held_out_share"
        )


def _value_range(c: Configuration, synthetic: ImageCache, real: ImageCache) -> ValueRange:
    d = c.data
    if d.value_low is not None and d.value_high is not None:
        declared = ValueRange(d.value_low, d.value_high, d.value_step, d.invalid_value)
        for root, cache in ((c.synthetic.root, synthetic), (c.real.root, real)):
            low, high = cache.scan.low, cache.scan.high
            if (low < declared.low and low != declared.invalid) or high > declared.high:
                raise DataError(
                    f"{root} holds values from {low} to {high}, outside the declared range {declared.low} to "
                    f"{declared.high}; correct data.value_low and data.value_high, or the images"
                )
        return declared
    a, b = synthetic.scan, real.scan
    measured = measure_value_range(
        min(a.low, b.low), max(a.high, b.high), math.gcd(a.step, b.step), a.pixel_format.bit_depth
    )
    return replace(measured, invalid=d.invalid_value)


def _crop(c: Configuration, synthetic: ImageCache, real: ImageCache) -> tuple[int, int]:
    """The size that networks train on: the declared one, else the smallest height and width of both sides."""
    if c.data.crop is not None:
        return cast("tuple[int, int]", c.data.crop)
    sizes = [*synthetic.scan.sizes, *real.scan.sizes]
    return min(height for height, _ in sizes), min(width for _, width in sizes)


def _discriminator_spec(c: Configuration, channels: int, crop: tuple[int, int]) -> DiscriminatorSpec:
    d = c.discriminator
    if d.layers:
        layers = tuple(DiscriminatorLayer(*layer) for layer in d.layers)
    else:
        layers = derive_discriminator(
            channels=channels, height=crop[0], width=crop[1], width_maps=d.width
        ).layers
    return DiscriminatorSpec(channels, layers, d.output_maps, d.scope, d.spectral_normalization)


def _refiner_spec(c: Configuration, discriminator: DiscriminatorSpec) -> RefinerSpec:
    r = c.refiner
    if r.blocks:
        return RefinerSpec(discriminator.channels, r.width, r.blocks, r.kernel, r.first_kernel, r.output)
    field = discriminator_receptive_field(discriminator)
    blocks = derive_refiner(channels=discriminator.channels, field=field, width=r.width).blocks
    return RefinerSpec(discriminator.channels, r.width, blocks, r.kernel, r.first_kernel, r.output)


def _label_digest(labels: Labels) -> str:
    return hashlib.sha256(repr((labels.kind, labels.names, labels.values.tolist())).encode()).hexdigest()


def _labels(
    c: Configuration, synthetic: ImageCache, crop: tuple[int, int]
) -> tuple[Labels | None, tuple[str, ...]]:
    """The synthetic labels for task consistency, or None and a warning why it is left out."""
    if not c.objective.task_consistency_weight:
        return None, ()
    tree = ImageTree(c.synthetic.root, c.synthetic.images)
    if detect_label_format(tree) is None:
        return None, (
            f"task consistency is left out: no labels found in {c.synthetic.root} (class folders or a labels.csv); "
            "set objective.task_consistency_weight = 0 to say that this is meant",
        )
    if min(crop) < SMALLEST_SIDE:
        return None, (
            f"task consistency is left out: it needs images of at least {SMALLEST_SIDE} pixels a side",
        )
    labels = read_labels(tree, synthetic.paths)
    if labels.kind == "value" and synthetic.equal_size != crop:
        return None, (
            "task consistency is left out: random crops would move the labels; use images of one size",
        )
    return labels, ()


def _warnings(synthetic: ImageCache, real: ImageCache, value_range: ValueRange) -> list[str]:
    """What a discriminator could use without looking at content: said before training, not found out after."""
    a, b = synthetic.scan, real.scan
    warnings = []
    if a.step != b.step:
        warnings.append(
            f"levels: synthetic values are multiples of {a.step}, real ones of {b.step}; the level grid alone tells "
            "them apart: quantize the simulator's images like the camera's"
        )
    span = value_range.high - value_range.low
    if abs(a.level_mean - b.level_mean) > 0.25 * span:
        warnings.append(
            f"levels: the mean is {a.level_mean:.4g} on the synthetic and {b.level_mean:.4g} on the real side; "
            "set data.level_matching = true, or match the exposure"
        )
    if set(a.sizes) != set(b.sizes) and len(a.sizes) == len(b.sizes) == 1:
        (first,), (second,) = a.sizes, b.sizes
        warnings.append(
            f"sizes: synthetic images are {first[0]}×{first[1]}, real ones {second[0]}×{second[1]}; both are cut to "
            "their common size at native scale: if objects differ in scale, use `simgan prepare --size`"
        )
    return warnings


def _optimizer(name: str, network: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr=learning_rate)
    return torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.5, 0.999))


def _derived_seed(seed: int, purpose: int) -> int:
    return int(np.random.SeedSequence((seed, purpose)).generate_state(1)[0])
