"""From a configuration and two trees to networks, streams and checks: all that happens before the first update."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan.data.cache import ImageCache, open_cache
from simgan.data.labels import Labels, detect_label_format, read_labels
from simgan.data.streams import BatchStream
from simgan.data.trees import ImageTree, Progress
from simgan.errors import ConfigurationError, DataError, list_faults
from simgan.images import ValueRange
from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.derivation import derive_blocks, derive_layers
from simgan.nn.discriminator import (
    Discriminator,
    DiscriminatorLayer,
    DiscriminatorSpec,
    discriminator_receptive_field,
)
from simgan.nn.draws import Draws
from simgan.nn.feature_transforms import FEATURE_TRANSFORMS
from simgan.nn.history import HistoryBuffer
from simgan.nn.level_matching import LevelMatching
from simgan.nn.losses import paper_weight
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Route, choose_route
from simgan.settings import Configuration
from simgan.tasks.network import SMALLEST_SIDE
from simgan.training.algorithm import Objective, Players, moving_average_of, optimizer_of
from simgan.training.inspection import (
    check_sides,
    choose_crop,
    choose_value_range,
    split_held_out,
    spread,
    warn_of_cues,
)
from simgan.training.memory import refuse_beyond_memory
from simgan.training.task_consistency import TaskConsistency

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
    label_format: str | None
    """How they are written: "csv", "folders"."""
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
            history = HistoryBuffer(
                t.history_batches * t.batch_size, shape, self.quantization.code_dtype, self.route.device
            )
        augmentation = None
        if t.augmentation_shift_px or t.augmentation_gain:
            augmentation = DiscriminatorAugmentation(t.augmentation_shift_px, t.augmentation_gain)
        return Players(
            refiner=refiner,
            discriminator=discriminator,
            refiner_optimizer=optimizer_of(
                refiner, name=t.optimizer, learning_rate=t.refiner_learning_rate, device=self.route.device
            ),
            discriminator_optimizer=optimizer_of(
                discriminator,
                name=t.optimizer,
                learning_rate=t.discriminator_learning_rate,
                device=self.route.device,
            ),
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
            draws=Draws(torch.Generator().manual_seed(c.seed), self.route.device),
        )

    def _task(self) -> TaskConsistency | None:
        if self.labels is None:
            return None
        c, is_class = self.configuration, self.labels.kind == "class"
        return TaskConsistency(
            torch.from_numpy(self.labels.values),
            classes=len(self.labels.names) if is_class else None,
            names=() if is_class else self.labels.names,
            weight=c.objective.task_consistency_weight,
            self_ensembling_weight=c.objective.self_ensembling_weight,
            starts=c.training.task_starts,
            image_shape=(self.refiner_spec.channels, *self.crop),
            device=self.route.device,
            seed=_derived_seed(c.seed, _TASK_NETWORK),
        )

    def describe(self) -> dict[str, Any]:
        """What a person wants to know before the first update; data.json."""
        refiner, discriminator = Refiner(self.refiner_spec), Discriminator(self.discriminator_spec)
        grid = discriminator.patch_grid(*self.crop)
        weight = self.configuration.objective.self_regularization_weight
        features = FEATURE_TRANSFORMS[self.configuration.objective.feature_transform]
        elements = features(torch.zeros(1, self.refiner_spec.channels, *self.crop))[0].numel()
        return {
            "synthetic": self.synthetic.cache.scan.to_dict(),
            "real": self.real.cache.scan.to_dict(),
            "real_training": len(self.real_training),
            "real_held_out": len(self.real_held_out),
            "real_held_out_paths": [self.real.cache.paths[i] for i in self.real_held_out.tolist()],
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
                "paper_form": paper_weight(weight, elements=elements, patch_count=math.prod(grid)),
            },
            "labels": None if self.labels is None else _describe_labels(self.labels, self.label_format),
            "route": str(self.route),
            "warnings": list(self.warnings),
        }


def assemble(configuration: Configuration, *, cache_dir: Path, progress: Progress | None = None) -> Assembly:
    """Reads both trees and derives the rest; `ConfigurationError`, or `DataError` with the faults of both trees at
    once, before anything is spent."""
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
    synthetic_cache, real_cache = _open_sides(c, cache_dir, progress)
    check_sides(c, synthetic_cache, real_cache)
    value_range = choose_value_range(c, synthetic_cache, real_cache)
    crop = choose_crop(c, synthetic_cache, real_cache)
    training, held_out = split_held_out(len(real_cache), c.data.held_out_share)
    synthetic, real = DataSide(synthetic_cache, value_range), DataSide(real_cache, value_range)
    if c.training.augmentation_shift_px >= min(crop):
        raise ConfigurationError(
            f"`training.augmentation_shift_px` must be below the shorter side of the crops, {crop[0]}×{crop[1]}, "
            f"not {c.training.augmentation_shift_px}"
        )
    discriminator = discriminator_spec(c, synthetic_cache.scan.pixel_format.channels, crop)
    refiner = refiner_spec(c, discriminator)
    bit_depth = synthetic_cache.scan.pixel_format.bit_depth
    route = choose_route(device=c.run.device, precision=c.run.precision, bit_depth=bit_depth)
    code_bytes = Quantization(value_range.levels).code_dtype.itemsize
    refuse_beyond_memory(c, refiner, discriminator, crop, code_bytes=code_bytes, route=route)
    matching = None
    if c.data.level_matching:
        matching = LevelMatching.fit(
            synthetic=synthetic.sample(spread(len(synthetic_cache), _MATCHING_SAMPLE), crop),
            real=real.sample(training[spread(len(training), _MATCHING_SAMPLE)], crop),
        )
    labels, label_format, left_out = _labels(c, synthetic_cache, crop)
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
        label_format=label_format,
        route=route,
        warnings=(*warn_of_cues(synthetic_cache, real_cache, value_range), *left_out),
    )


def _open_sides(
    c: Configuration, cache_dir: Path, progress: Progress | None
) -> tuple[ImageCache, ImageCache]:
    """The caches of both trees; the fault of one does not hide that of the other."""
    caches, faults = [], []
    for side in (c.synthetic, c.real):
        try:
            caches.append(open_cache(ImageTree(side.root, side.images), cache_dir, progress=progress))
        except DataError as error:
            faults.append(error)
    if len(faults) == 2:
        raise DataError(f"both trees have faults:{list_faults([str(fault) for fault in faults])}")
    if faults:
        raise faults[0]
    synthetic, real = caches
    return synthetic, real


def discriminator_spec(c: Configuration, channels: int, crop: tuple[int, int]) -> DiscriminatorSpec:
    """D's shape as configured; its layers, where none are, derived from the size of the training crops."""
    d = c.discriminator
    layers = tuple(DiscriminatorLayer(*layer) for layer in d.layers)
    if not layers:
        layers = derive_layers(height=crop[0], width=crop[1], maps=d.width)
    return DiscriminatorSpec(channels, layers, d.output_maps, d.scope, d.spectral_normalization)


def refiner_spec(c: Configuration, discriminator: DiscriminatorSpec) -> RefinerSpec:
    """R's shape as configured; its number of blocks, where it is 0, derived from D's field."""
    r, field = c.refiner, discriminator_receptive_field(discriminator)
    blocks = r.blocks or derive_blocks(field=field, kernel=r.kernel, first_kernel=r.first_kernel)
    return RefinerSpec(discriminator.channels, r.width, blocks, r.kernel, r.first_kernel, r.output)


def _describe_labels(labels: Labels, label_format: str | None) -> dict[str, Any]:
    """What was found; the digest tells a continued run whether its labels are still the same."""
    everything = repr((labels.kind, labels.names, labels.values.tolist()))
    return {
        "format": label_format,
        "kind": labels.kind,
        "names": list(labels.names),
        "count": len(labels),
        "sha256": hashlib.sha256(everything.encode()).hexdigest(),
    }


def _labels(
    c: Configuration, synthetic: ImageCache, crop: tuple[int, int]
) -> tuple[Labels | None, str | None, tuple[str, ...]]:
    """The synthetic labels for task consistency and their format, or None and a warning why it is left out."""
    if not c.objective.task_consistency_weight:
        return None, None, ()
    tree = ImageTree(c.synthetic.root, c.synthetic.images)
    label_format, why = detect_label_format(tree), ""
    if label_format is None:
        why = (
            f"no labels found in {c.synthetic.root} (class folders or a labels.csv); set "
            "objective.task_consistency_weight = 0 to say that this is meant"
        )
    elif min(crop) < SMALLEST_SIDE:
        why = f"it needs images of at least {SMALLEST_SIDE} pixels a side"
    else:
        labels = read_labels(tree, synthetic.paths, label_format)
        if synthetic.equal_size == crop:
            return labels, label_format, ()
        harm = "move the labels" if labels.kind == "value" else "cut away what the labels name"
        why = f"random crops would {harm}; use images of one size, and train on all of them"
    return None, None, (f"task consistency is left out: {why}",)


def _derived_seed(seed: int, purpose: int) -> int:
    return int(np.random.SeedSequence((seed, purpose)).generate_state(1)[0])
