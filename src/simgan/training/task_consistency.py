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
than the simulator's. Real labels play no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from simgan.tasks import SelfEnsembling, ShapeAugmentation, StandardAugmentation
from simgan.tasks.network import build_network

_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.05
_LABEL_SMOOTHING = (
    0.05  # in T's own updates: what is too sure of drawn images is sure of wrong readings of real ones
)


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
        image_shape: tuple[int, int, int],
        device: torch.device,
        seed: int,
    ) -> None:
        """`labels` of all synthetic images: (n,) int64 below `classes`, or, with `classes` None, (n, d) values in the
        columns `names`, which say how augmentation moves them. Self-ensembling is for classes: for values its weight
        is of no effect.
        """
        self.weight = weight
        self._names = names
        self._is_class = classes is not None
        self._labels = labels if self._is_class else labels.float()
        outputs = classes if classes is not None else labels.shape[1]
        if not self._is_class:
            self._mean, self._deviation = self._labels.mean(0), self._labels.std(0).clamp_min(1e-6)
        self.network = build_network(*image_shape, outputs, seed=seed).to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        self._standard, self._shapes = StandardAugmentation(), ShapeAugmentation()
        self.ensembling: SelfEnsembling | None = None
        if classes is not None and self_ensembling_weight:
            prior = torch.bincount(labels, minlength=classes).float().to(device) / len(labels)
            self.ensembling = SelfEnsembling(self.network, prior, weight=self_ensembling_weight)
        self._generator = torch.Generator().manual_seed(seed)
        self._dropout_seed = torch.Generator().manual_seed(seed + 1)

    def labels_of(self, indices: Tensor) -> Tensor:
        """The labels of synthetic images number `indices`."""
        return self._labels[indices]

    def loss(self, images: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """ℓ(T(augmented images), labels), mean over the batch; images (N, C, H, W) in [-1, 1] → scalar."""
        augmented, moved = self._augment(images, labels)
        with self._seeded_dropout():
            out = self.network.train()(augmented)
        if self._is_class:
            return cross_entropy(out, moved.to(out.device), label_smoothing=label_smoothing)
        return smooth_l1_loss(out, ((moved - self._mean) / self._deviation).to(out.device))

    def update(self, images: Tensor, labels: Tensor, *, real: Tensor | None = None) -> Tensor:
        """One optimizer step of T on ℓ(T(images), labels), and on unlabelled `real` images where they are given and
        there is self-ensembling; the loss.
        """
        self.network.requires_grad_(True)
        loss = self.loss(images, labels, label_smoothing=_LABEL_SMOOTHING)
        if self.ensembling is not None and real is not None:
            disturbed, for_teacher = self._augment_shapes(real), self._augment_standard(real)
            with self._seeded_dropout():
                read = self.network.train()(disturbed)
                loss = loss + self.ensembling.loss(read, for_teacher)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.network.requires_grad_(False)  # the refiner's update passes through T and leaves it alone
        if self.ensembling is not None:
            self.ensembling.follow(self.network)
        return loss.detach()

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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=self._dropout_seed)))
            yield

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "dropout_seed": self._dropout_seed.get_state(),
            "ensembling": None if self.ensembling is None else self.ensembling.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self._dropout_seed.set_state(state["dropout_seed"])
        if self.ensembling is not None:
            self.ensembling.load_state_dict(state["ensembling"])
