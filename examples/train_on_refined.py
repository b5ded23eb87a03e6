"""Refined images in a training loop of one's own: from a refined tree, or refined on the fly on the device.

    python examples/train_on_refined.py data/synthetic data/refined data/real-labelled runs/first

`LabelledImages` is a data set of PyTorch; `refiner.transform` refines a batch where it is trained on. A refined tree is
read as fast as any other; on the fly no tree is needed, and random crops or a simulator that never ends can be refined.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import simgan

Data = DataLoader[tuple[Tensor, Tensor]]


def train(
    data: Data, classes: int, epochs: int, refine: Callable[[Tensor], Tensor] = lambda x: x
) -> nn.Module:
    """A small classifier, trained on refine(images)."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.LazyConv2d(16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, classes),
    )
    network(next(iter(data))[0])  # tells the first layer how many channels there are
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for images, labels in data:
            loss = nn.functional.cross_entropy(network(refine(images)), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    right = [(network(images).argmax(1) == labels).float() for images, labels in data]
    return float(torch.cat(right).mean())


def main(synthetic_dir: str, refined_dir: str, real_dir: str, run: str, epochs: str = "5") -> None:
    refiner = simgan.load_refiner(run)  # on a GPU where there is one; batches move there by themselves
    scale = refiner.value_range
    synthetic = simgan.LabelledImages(simgan.ImageTree(synthetic_dir), value_range=scale)
    refined = simgan.LabelledImages(simgan.ImageTree(refined_dir), value_range=scale)
    real = simgan.LabelledImages(simgan.ImageTree(real_dir), value_range=scale, numbered_as=synthetic.labels)
    test, classes = DataLoader(real, batch_size=64), len(synthetic.labels.names)
    for name, pairs, refine in (
        ("synthetic", synthetic, None),
        ("refined tree", refined, None),
        ("refined on the fly", synthetic, lambda images: refiner.transform(images).cpu()),
    ):
        data = DataLoader(pairs, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))
        network = train(data, classes, int(epochs), *([refine] if refine else []))
        print(f"{name:20} accuracy on real images {accuracy(network, test):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
