"""Training a task model: fixed schedule, last weights, everything drawn from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from simgan.tasks.augmentation import StandardAugmentation
from simgan.tasks.network import TaskNetwork, build_network

PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05

FloatArray = NDArray[np.floating]
LabelArray = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True)
class TaskModel:
    """A trained task network. Classes when `value_mean` is None, else values in the units of the labels."""

    network: TaskNetwork
    value_mean: Tensor | None = None
    value_std: Tensor | None = None

    def predict(self, images: FloatArray, *, batch_size: int = 500) -> LabelArray:
        """(n, H, W, C) images in [-1, 1] → class numbers (n,) int64, or values (n, d) float64."""
        self.network.eval()
        with torch.inference_mode():
            parts = [
                self.network(as_tensor(images[i : i + batch_size])) for i in range(0, len(images), batch_size)
            ]
            out = torch.cat(parts)
            if self.value_mean is None or self.value_std is None:
                return np.asarray(out.argmax(1).numpy(), dtype=np.int64)
            return np.asarray((out * self.value_std + self.value_mean).double().numpy())

    def errors(self, images: FloatArray, labels: LabelArray) -> NDArray[np.float64]:
        """Per-image errors (n,): 0 right / 1 wrong for classes; ‖prediction − label‖₂ for values."""
        predicted = self.predict(images)
        if self.value_mean is None:
            return np.asarray(predicted != labels, dtype=np.float64)
        return np.asarray(np.linalg.norm(predicted - labels, axis=1))


def train_task(
    images: FloatArray,
    labels: LabelArray,
    *,
    seed: int,
    updates: int,
    batch_size: int = 64,
    augmentation: StandardAugmentation | None = None,
    classes: int | None = None,
    names: tuple[str, ...] = (),
) -> TaskModel:
    """A task model after exactly `updates` updates of `batch_size` images; its last weights.

    images: (n, H, W, C) float in [-1, 1]. labels: (n,) int64 classes, or (n, d) float64 values (standardized
    inside, so that columns of different units weigh alike). augmentation=None is the plain arm. classes: how
    many there are, when `labels` may not hold them all. names: the columns of value labels, see
    `StandardAugmentation`. On the CPU the result depends on the arguments alone.

    AdamW, one warm-up and cosine cycle; cross-entropy with label smoothing, or the smooth L1 loss.
    """
    is_class = np.issubdtype(labels.dtype, np.integer)
    mean = std = None
    if is_class:
        targets = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        outputs = classes if classes is not None else int(labels.max()) + 1
    else:
        targets = torch.from_numpy(np.asarray(labels, dtype=np.float32))
        mean, std = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-6)
        outputs = targets.shape[1]
    pixels = as_tensor(images)
    _, channels, height, width = pixels.shape
    network = build_network(channels, height, width, outputs, seed=seed)
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=max(updates, 2), pct_start=0.15
    )
    generator = torch.Generator().manual_seed(seed + 1)
    batches = endless_batches(len(pixels), batch_size, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 2)  # dropout knows only the global generator
        for _ in range(updates):
            chosen = next(batches)
            x, y = pixels[chosen], targets[chosen]
            if augmentation is not None:
                x, y = augmentation(x, y, generator=generator, names=names)
            out = network(x)
            if mean is None or std is None:
                loss = F.cross_entropy(out, y, label_smoothing=LABEL_SMOOTHING)
            else:
                loss = F.smooth_l1_loss(out, (y - mean) / std)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()
    return TaskModel(network, mean, std)


def endless_batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of exactly `batch_size` indices: one shuffled pass over all images after another."""
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(n, generator=generator)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def as_tensor(images: FloatArray) -> Tensor:
    """(n, H, W, C) array → (n, C, H, W) float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32))
