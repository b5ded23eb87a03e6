"""The paper's gaze estimator, trained on images with gaze vectors.

Section 3.1: conv3×3-32, conv3×3-32, conv3×3-64, maxpool3×3 stride 2, conv3×3-80, conv3×3-192, maxpool2×2 stride 2,
FC-9600, FC-1000, FC-3, squared error. 9600 = 192·5·10 is the size of the flattened map of a 35×55 image under
convolutions without padding, so FC-9600 is read as that map: 9,816,659 parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simgan.nn.gaze import GAZE_COLUMNS, unit_vectors
from simgan.nn.route import Route
from simgan.tasks.augmentation import StandardAugmentation
from simgan.tasks.training import as_tensor, endless_batches

PEAK_LEARNING_RATE = 1e-3  # the paper gives none for its estimator
SMALLEST_GAZE_SIDE = 20

FloatArray = NDArray[np.floating]


class GazeNetwork(nn.Module):
    """Images (N, C, H, W) in [-1, 1] → (N, 3) gaze vectors, not yet of length 1. ReLU after all layers but the last."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        if min(height, width) < SMALLEST_GAZE_SIDE:
            raise ValueError(f"the gaze network needs sides of at least 20 pixels, got {height}×{width}")
        layers: list[nn.Module] = []
        inputs = channels
        for outputs, pool in ((32, None), (32, None), (64, (3, 2)), (80, None), (192, (2, 2))):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(*pool)] if pool is not None else []
            inputs = outputs
        rows, columns = (((side - 6 - 3) // 2 + 1 - 4) // 2 for side in (height, width))
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(192 * rows * columns, 1000), nn.ReLU(inplace=True), nn.Linear(1000, 3)
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.trunk(images))
        return out


@dataclass(frozen=True)
class GazeModel:
    """A trained gaze network."""

    network: GazeNetwork

    def predict(self, images: FloatArray, *, batch_size: int = 256) -> NDArray[np.float64]:
        """(n, H, W, C) images in [-1, 1] → (n, 3) unit gaze vectors."""
        self.network.eval()
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [
                self.network(as_tensor(images[i : i + batch_size]).to(device)).cpu()
                for i in range(0, len(images), batch_size)
            ]
        return unit_vectors(torch.cat(parts).double().numpy())


def train_gaze(
    images: FloatArray,
    gaze: FloatArray,
    *,
    seed: int,
    updates: int,
    batch_size: int = 64,
    augmentation: StandardAugmentation | None = None,
    route: Route | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GazeModel:
    """A gaze model after exactly `updates` updates of `batch_size` images; its last weights.

    images: (n, H, W, C) float in [-1, 1]; gaze: (n, 3) unit vectors. Loss: the mean over the batch of ‖ĝ − g‖². Adam,
    one warm-up and cosine cycle. `route`: device and precision, float32 on the CPU unless said; on the CPU the result
    depends on the arguments alone. `progress(done, updates)` is called after each update.
    """
    way = route or Route(torch.device("cpu"), torch.float32)
    pixels, targets = as_tensor(images), torch.from_numpy(np.asarray(gaze, dtype=np.float32))
    _, channels, height, width = pixels.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = way.place(GazeNetwork(channels, height, width))
    optimizer = torch.optim.Adam(network.parameters(), lr=PEAK_LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=max(updates, 2), pct_start=0.15
    )
    generator = torch.Generator().manual_seed(seed + 1)
    batches = endless_batches(len(pixels), batch_size, generator)
    network.train()
    for done in range(1, updates + 1):
        chosen = next(batches)
        x, g = pixels[chosen], targets[chosen]
        if augmentation is not None:
            x, g = augmentation(x, g, generator=generator, names=GAZE_COLUMNS)
        with way.autocast():
            found = network(way.put(x))
        loss = (found.float() - g.to(way.device)).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(done, updates)
    network.eval()
    return GazeModel(network)
