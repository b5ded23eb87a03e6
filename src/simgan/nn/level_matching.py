"""Per-image level matching: the recorded first stage that takes over the real images' levels before the refiner.

Histogram specification is the simple opponent that every refiner has to beat; so it goes first, and the refiner
learns only what is left. Label-free: it uses the histograms of the unlabelled real images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_QUANTILES = 64  # points of each target histogram; finer ones changed nothing that can be seen
_TARGETS = 512  # real images kept as targets; enough for every mean level to have neighbours


class LevelMatching(nn.Module):
    """(N, C, H, W) in [-1, 1] → the same, each channel of each image with the histogram of one real image.

    An image whose mean level has rank p among the synthetic images takes the histogram of the real image whose
    mean level has rank p among the real ones: the monotone transport of the mean, which moves levels least.
    A value v goes to Q(F(v)), F the image's mid-distribution function, Q the target's quantile function: equal
    values stay equal and the order of values stays.
    """

    def __init__(self, *, source_means: Tensor, targets: Tensor) -> None:
        """`source_means` (S,) ascending; `targets` (K, C, Q), quantiles of real images ascending in their mean."""
        super().__init__()
        self.source_means: Tensor
        self.targets: Tensor
        self.register_buffer("source_means", source_means)
        self.register_buffer("targets", targets)

    @staticmethod
    def fit(*, synthetic: Tensor, real: Tensor) -> LevelMatching:
        """From samples of both sides, (N, C, H, W) each; all that is kept is means and quantiles."""
        quantiles = torch.linspace(0, 1, _QUANTILES)
        means = _mean_levels(real)
        order = means.argsort(stable=True)
        picked = order[torch.linspace(0, len(order) - 1, min(_TARGETS, len(order))).round().long()]
        pixels = real[picked].flatten(2).sort(dim=2).values
        points = (quantiles * (pixels.shape[2] - 1)).round().long()
        ranks = torch.linspace(0, len(synthetic) - 1, min(_TARGETS, len(synthetic))).round().long()
        source_means = _mean_levels(synthetic).sort().values[ranks]
        return LevelMatching(source_means=source_means, targets=pixels[:, :, points].contiguous())

    def forward(self, images: Tensor) -> Tensor:
        means, count, total = _mean_levels(images), len(self.targets), len(self.source_means)
        # Mid-ranks: the i-th of `total` sampled images stands at (i + 1/2)/total, so that every target serves alike.
        rank_twice = torch.searchsorted(self.source_means, means)
        rank_twice += torch.searchsorted(self.source_means, means, right=True)
        chosen = (rank_twice * count // (2 * total)).clamp(max=count - 1)
        target = self.targets[chosen]
        pixels = images.flatten(2).contiguous()
        ordered = pixels.sort(dim=2).values
        below = torch.searchsorted(ordered, pixels)
        up_to = torch.searchsorted(ordered, pixels, right=True)
        middle = (below + up_to).float() / (2 * pixels.shape[2])
        position = middle * (target.shape[2] - 1)
        lower = position.floor().long()
        upper = (lower + 1).clamp(max=target.shape[2] - 1)
        low, high = target.gather(2, lower), target.gather(2, upper)
        return torch.lerp(low, high, position - lower).reshape(images.shape)


def _mean_levels(images: Tensor) -> Tensor:
    """The mean of each image, (N,). Summed in float64: in float32 the last bit depends on batch size and
    threads, and training images, whose means are the very ranks, would at times take a neighbour's target.
    """
    return images.mean(dim=(1, 2, 3), dtype=torch.float64).float()
