"""Algorithm 1 written plainly, as implementations of it usually are: eager, float32, one thing after the other.

What it does the usual way: batches are decoded float arrays that are copied to the device, the history is an array on
the host, refined images go there and back, D's gradient is computed in R's update too and thrown away, and losses are
read after each update. `tests/test_benchmarks.py` checks that it computes the losses of `simgan.training.algorithm`.
"""

from __future__ import annotations

import measuring  # noqa: F401  (makes simgan importable from ../src)
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + x)


class ReferenceRefiner(nn.Module):
    """R_θ with an image output, or with a residual one."""

    def __init__(
        self, channels: int, width: int, blocks: int, kernel: int, first_kernel: int, output: str
    ) -> None:
        super().__init__()
        self.output = output
        self.head = nn.Conv2d(channels, width, first_kernel, padding=first_kernel // 2)
        self.blocks = nn.Sequential(*[ResidualBlock(width, kernel) for _ in range(blocks)])
        self.tail = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tail(self.blocks(F.relu(self.head(x))))
        return x + y if self.output == "residual" else y


class ReferenceDiscriminator(nn.Module):
    """The layers of `[kernel, stride, width]`, width 0 a pooling one, with the same order of weights as simgan's."""

    def __init__(self, channels: int, layers: list[list[int]], output_maps: int) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for width, kernel, stride in layers:
            if width == 0:
                modules.append(nn.MaxPool2d(kernel, stride, padding=kernel // 2))
            else:
                modules += [nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2), nn.ReLU()]
                channels = width
        modules.append(nn.Conv2d(channels, output_maps, 1))
        self.layers = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layers(x)
        return z[:, 1:2] - z[:, 0:1] if z.shape[1] == 2 else z


class Reference:
    """Both networks, plain optimizers, and the history as an array of float32 on the host."""

    def __init__(
        self,
        refiner: ReferenceRefiner,
        discriminator: ReferenceDiscriminator,
        *,
        device: torch.device,
        optimizer: str,
        learning_rate: float,
        weight: float,
        sums: bool,
        patches: int,
        capacity: int,
        generator: torch.Generator,
    ) -> None:
        self.refiner, self.discriminator = refiner.to(device), discriminator.to(device)
        self.device, self.weight, self.sums = device, weight, sums
        self.patches = patches if sums else 1  # of an image: the regularization is a mean over pixels
        make = torch.optim.SGD if optimizer == "sgd" else _adam
        self.refiner_optimizer = make(self.refiner.parameters(), lr=learning_rate)
        self.discriminator_optimizer = make(self.discriminator.parameters(), lr=learning_rate)
        self.capacity, self.generator = capacity, generator
        self.history = np.zeros((0, 0), np.float32)

    def update_refiner(self, synthetic: np.ndarray, *, adversarial: bool = True) -> dict[str, float]:
        x = torch.from_numpy(synthetic).to(self.device)
        refined = self.refiner(x)
        regularization = (refined - x).abs().mean()
        loss = self.weight * self.patches * regularization
        if adversarial:
            loss = loss + self._reduced(F.softplus(self.discriminator(_on_grid(refined))))
        self.refiner_optimizer.zero_grad()
        loss.backward()
        self.refiner_optimizer.step()
        return {"self_regularization": regularization.item(), "refiner_loss": loss.item()}

    def update_discriminator(self, synthetic: np.ndarray, real: np.ndarray) -> dict[str, float]:
        half = len(synthetic) // 2
        use_history = len(self.history) >= half
        x = torch.from_numpy(synthetic[half:] if use_history else synthetic).to(self.device)
        current = _on_grid(self.refiner(x)).detach()
        refined = current
        if use_history:
            chosen = torch.randperm(len(self.history), generator=self.generator)[:half].numpy()
            refined = torch.cat([current, torch.from_numpy(self.history[chosen]).to(self.device)])
        y = torch.from_numpy(real).to(self.device)
        refined_logits, real_logits = self.discriminator(refined), self.discriminator(_on_grid(y))
        loss = self._reduced(F.softplus(-refined_logits)) + self._reduced(F.softplus(real_logits))
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        self._remember(current[:half].cpu().numpy())
        correct = (refined_logits > 0).float().mean() + (real_logits <= 0).float().mean()
        return {"discriminator_loss": loss.item(), "discriminator_accuracy": correct.item() / 2}

    def _remember(self, images: np.ndarray) -> None:
        if not len(self.history):
            self.history = images.copy()
        elif len(self.history) < self.capacity:
            self.history = np.concatenate([self.history, images])[: self.capacity]
        else:
            places = torch.randperm(len(self.history), generator=self.generator)[: len(images)].numpy()
            self.history[places] = images

    def _reduced(self, per_patch: Tensor) -> Tensor:
        return per_patch.sum(dim=(1, 2, 3)).mean() if self.sums else per_patch.mean()


def _on_grid(images: Tensor) -> Tensor:
    """On the levels of 8-bit files, gradient passed through; other implementations leave this out."""
    inside = images.clamp(-1, 1)
    return inside + (((inside + 1) * 127.5).round() * (2 / 255) - 1 - inside).detach()


def _adam(parameters, lr: float) -> torch.optim.Adam:  # type: ignore[no-untyped-def]
    return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999))
