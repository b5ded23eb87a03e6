"""Eye parts by pixel: one small encoder and decoder with skips, the same for every arm of a comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from simgan.measures.segments import confusions, mean_iou
from simgan.nn.route import has_bfloat16_units
from simgan.tasks.augmentation import StandardAugmentation
from simgan.tasks.training import as_tensor, endless_batches

PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
_WIDTHS = (16, 32, 64)

FloatArray = NDArray[np.floating]
Masks = NDArray[np.int64]


class SegmentationNetwork(nn.Module):
    """Images (N, C, H, W) in [-1, 1] → (N, classes, H, W) logits; a U-Net of three scales, 16, 32 and 64 features."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        inputs = (channels, *_WIDTHS[:-1])
        self.down = nn.ModuleList(_pair(i, o) for i, o in zip(inputs, _WIDTHS, strict=True))
        wide, narrow = _WIDTHS[:0:-1], _WIDTHS[-2::-1]
        self.up = nn.ModuleList(_pair(w + n, n) for w, n in zip(wide, narrow, strict=True))
        self.head = nn.Conv2d(_WIDTHS[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = images
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool2d(x, 2, ceil_mode=True))
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            wider = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([wider, skip], dim=1))
        out: Tensor = self.head(x)
        return out


@dataclass(frozen=True)
class SegmentationModel:
    """A trained segmentation network of so many classes."""

    network: SegmentationNetwork
    classes: int

    def predict(self, images: FloatArray, *, batch_size: int = 256) -> Masks:
        """(n, H, W, C) images in [-1, 1] → (n, H, W) class numbers."""
        self.network.eval()
        with torch.inference_mode():
            parts = [
                self.network(as_tensor(images[i : i + batch_size])).argmax(1)
                for i in range(0, len(images), batch_size)
            ]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.int64)

    def errors(self, images: FloatArray, masks: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n,) 1 − mean intersection over union of each image."""
        return 1 - mean_iou(confusions(self.predict(images), masks, self.classes))


def train_segmentation(
    images: FloatArray,
    masks: NDArray[np.integer],
    *,
    classes: int,
    seed: int,
    updates: int,
    batch_size: int = 64,
    augmentation: StandardAugmentation | None = None,
) -> SegmentationModel:
    """A segmentation model after exactly `updates` updates of `batch_size` images; its last weights.

    images: (n, H, W, C) float in [-1, 1]; masks: (n, H, W) class numbers below `classes`. Mean cross-entropy over
    pixels; AdamW, one warm-up and cosine cycle. On the CPU the result depends on the arguments alone.
    """
    pixels, targets = as_tensor(images), torch.from_numpy(np.asarray(masks, dtype=np.uint8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SegmentationNetwork(pixels.shape[1], classes)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reduced = has_bfloat16_units(torch.device("cpu"))  # half of the time; weights and loss stay float32
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=max(updates, 2), pct_start=0.15
    )
    generator = torch.Generator().manual_seed(seed + 1)
    batches = endless_batches(len(pixels), batch_size, generator)
    network.train()
    for _ in range(updates):
        chosen = next(batches)
        x, y = pixels[chosen], targets[chosen]
        if augmentation is not None:
            x, y = augmentation.with_masks(x, y, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            logits = network(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), y.long())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    return SegmentationModel(network, classes)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two conv3×3-BN-ReLU."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [
            nn.Conv2d(before, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
