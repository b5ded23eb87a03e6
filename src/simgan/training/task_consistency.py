"""Task consistency: a task network must still read an image's label from its refinement.

Pixel self-regularization keeps a refined image near its synthetic one; it does not know which pixels carry the label.
The synthetic labels do. A small task network T learns from synthetic and refined images alike, both with the synthetic
label y, while the refiner is trained so that T reads y from x̃ (Bousmalis et al., PixelDA, CVPR 2017, section 3):

    L_T = ℓ(T([x, x̃]), [y, y])          L_R gains the term  μ·ℓ(T(x̃), y)

T learns from one joint batch of both, so that its batch normalization sees both at once; in its warm-up it learns from
synthetic images alone. In R's term it sees a batch of refined images. ℓ, a mean over the batch, is the cross-entropy
for classes and the smooth L1 of standardized values otherwise.

A T that knows synthetic images alone reads real ones wrongly, and then teaches R to give a label the shapes of another.
So for classes T also learns from unlabelled real images, by `simgan.tasks.self_ensembling`, and from shapes more varied
than the simulator's. Several T start side by side; the one that reads real images with the least doubt goes on. Real
labels play no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from simgan.tasks import SelfEnsembling, ShapeAugmentation, StandardAugmentation
from simgan.tasks.network import TaskNetwork, build_network
from simgan.training.algorithm import restore_optimizer

_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.05
_LABEL_SMOOTHING = (
    0.05  # in T's own updates: what is too sure of drawn images is sure of wrong readings of real ones
)


@dataclass
class _Start:
    """One T with what it learns by."""

    network: TaskNetwork
    optimizer: torch.optim.Optimizer
    ensembling: SelfEnsembling | None

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ensembling": None if self.ensembling is None else self.ensembling.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.ensembling is not None:
            self.ensembling.load_state_dict(state["ensembling"])


class TaskConsistency:
    """T, its optimizer and its augmentation; `weight` is μ."""

    def __init__(
        self,
        labels: Tensor,
        *,
        classes: int | None,
        names: tuple[str, ...],
        weight: float,
        self_ensembling_weight: float,
        starts: int,
        image_shape: tuple[int, int, int],
        device: torch.device,
        seed: int,
    ) -> None:
        """`labels` of all synthetic images: (n,) int64 below `classes`, or, with `classes` None, (n, d) values in the
        columns `names`, which say how augmentation moves them. Self-ensembling is for classes: for values its weight
        is of no effect. Without it there is one start, since nothing would tell which is the best.
        """
        self.weight = weight
        self._names = names
        self._is_class = classes is not None
        self._labels = labels if self._is_class else labels.float()
        outputs = classes if classes is not None else labels.shape[1]
        if not self._is_class:
            self._mean, self._deviation = self._labels.mean(0), self._labels.std(0).clamp_min(1e-6)
        prior = None
        if classes is not None and self_ensembling_weight:
            prior = torch.bincount(labels, minlength=classes).float().to(device) / len(labels)
        self._starts: list[_Start] = []
        for number in range(1 if prior is None else starts):
            network = build_network(*image_shape, outputs, seed=seed + number).to(device)
            optimizer = torch.optim.AdamW(
                network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True
            )
            ensembling = None
            if prior is not None:
                ensembling = SelfEnsembling(network, prior, weight=self_ensembling_weight)
            self._starts.append(_Start(network, optimizer, ensembling))
        self._standard, self._shapes = StandardAugmentation(), ShapeAugmentation()
        self._generator = torch.Generator().manual_seed(seed)
        self._dropout_seed = torch.Generator().manual_seed(seed + 1)

    @property
    def network(self) -> TaskNetwork:
        """T: the start that was kept, or the first while there are several."""
        return self._starts[0].network

    @property
    def ensembling(self) -> SelfEnsembling | None:
        """What T learns from real images by; None where it does not."""
        return self._starts[0].ensembling

    def keep_surest_start(self) -> None:
        """Drops all starts but the one whose teacher reads real images with the least doubt."""
        self._starts = [self._starts[self._surest()]]

    def _surest(self) -> int:
        """The number of that start."""
        doubts = [0.0 if one.ensembling is None else float(one.ensembling.doubt) for one in self._starts]
        return min(range(len(doubts)), key=lambda i: math.inf if math.isnan(doubts[i]) else doubts[i])

    def labels_of(self, indices: Tensor) -> Tensor:
        """The labels of synthetic images number `indices`."""
        return self._labels[indices]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """ℓ(T(augmented images), labels), mean over the batch; images (N, C, H, W) in [-1, 1] → scalar."""
        return self._loss(self.network, images, labels)

    def update(self, images: Tensor, labels: Tensor, *, real: Tensor | None = None) -> Tensor:
        """One optimizer step of T (of each start) on ℓ(T(images), labels), and on unlabelled `real` images where they
        are given and there is self-ensembling; the mean of the losses.
        """
        return torch.stack([self._update(start, images, labels, real) for start in self._starts]).mean()

    def _update(self, start: _Start, images: Tensor, labels: Tensor, real: Tensor | None) -> Tensor:
        network, ensembling = start.network, start.ensembling
        network.requires_grad_(True)
        loss = self._loss(network, images, labels, label_smoothing=_LABEL_SMOOTHING)
        if ensembling is not None and real is not None:
            disturbed, for_teacher = self._augment_shapes(real), self._augment_standard(real)
            with self._seeded_dropout():
                loss = loss + ensembling.loss(network.train()(disturbed), for_teacher)
        start.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        start.optimizer.step()
        network.requires_grad_(False)  # the refiner's update passes through T and leaves it alone
        if ensembling is not None:
            ensembling.follow(network)
        return loss.detach()

    def _loss(
        self, network: TaskNetwork, images: Tensor, labels: Tensor, *, label_smoothing: float = 0.0
    ) -> Tensor:
        augmented, moved = self._augment(images, labels)
        with self._seeded_dropout():
            out = network.train()(augmented)
        if self._is_class:
            return cross_entropy(out, moved.to(out.device), label_smoothing=label_smoothing)
        return smooth_l1_loss(out, ((moved - self._mean) / self._deviation).to(out.device))

    def _augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels disturbed: by shape too where labels are classes, which any shape may have."""
        if self._is_class:
            return self._augment_shapes(images), labels
        moved_images, moved = self._standard(
            images.cpu(), labels, generator=self._generator, names=self._names
        )
        return moved_images.to(images.device), moved

    def _augment_shapes(self, images: Tensor) -> Tensor:
        return self._shapes(images.cpu(), generator=self._generator).to(images.device)

    def _augment_standard(self, images: Tensor) -> Tensor:
        no_labels = torch.zeros(len(images))
        return self._standard(images.cpu(), no_labels, generator=self._generator)[0].to(images.device)

    @contextmanager
    def _seeded_dropout(self) -> Iterator[None]:
        """Dropout knows only the global generator: inside, that is seeded from T's own, and afterwards as before."""
        device = next(self.network.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**31, (), generator=self._dropout_seed)))
            yield

    def state_dict(self) -> dict[str, Any]:
        return {
            "starts": [start.state_dict() for start in self._starts],
            "generator": self._generator.get_state(),
            "dropout_seed": self._dropout_seed.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del self._starts[len(state["starts"]) :]  # one of them may have been kept already
        for start, saved in zip(self._starts, state["starts"], strict=True):
            start.load_state_dict(saved)
        self._generator.set_state(state["generator"])
        self._dropout_seed.set_state(state["dropout_seed"])
