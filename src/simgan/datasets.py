"""A tree as a data set of PyTorch: (image, label) for a training loop of one's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from simgan.data.labels import Labels, align_classes, read_labels
from simgan.data.trees import ImageTree
from simgan.images import PixelFormat, ValueRange, split_alpha
from simgan.weights import TrainedRefiner, load_refiner


class LabelledImages(Dataset[tuple[Tensor, Tensor]]):
    """(image, label) of every image of a tree with labels: synthetic, refined or real, or refined when it is read.

    image: (C, H, W) float32 in [-1, 1], alpha left out. label: the number of the class, int64 (), or the values,
    float32 (d,), whose meaning `labels.names` tells. `paths` are the images in order.

        refined = LabelledImages(ImageTree("data/refined"), value_range=refiner.value_range)
        refined = LabelledImages(ImageTree("data/synthetic"), refiner="runs/first")   # on the CPU, image by image

    Images that refining left out are not there, nor are their labels. It can be sent to the workers of a DataLoader.
    """

    def __init__(
        self,
        tree: ImageTree,
        *,
        refiner: TrainedRefiner | str | Path | None = None,
        value_range: ValueRange | None = None,
        numbered_as: Labels | None = None,
    ) -> None:
        """`refiner`: each image is refined when it is asked for. `value_range`: what stands at −1 and 1; by default
        that of the refiner, else the full scale of the first image's bit depth. `numbered_as`: the labels of another
        set, by whose classes (or columns) these are numbered, by name: of the training set, for a test set.

        `LabelError` where the tree has no labels, or other classes than `numbered_as`; `DataError` where it has no
        images; reading an image raises `ImageError`, or `DataError` where the refiner does not take it.
        """
        self.tree, self.paths = tree, tree.paths()
        labels = read_labels(tree, self.paths)
        self.labels = labels if numbered_as is None else align_classes(
            numbered_as, labels, reference_name="given", other_name=str(tree.root)
        )  # fmt: skip
        self.refiner: TrainedRefiner | None = (
            refiner
            if refiner is None or isinstance(refiner, TrainedRefiner)
            else load_refiner(refiner, device="cpu")
        )
        if value_range is None and self.refiner is not None:
            value_range = self.refiner.value_range
        if value_range is None:
            bits = PixelFormat.of(tree.read(self.paths[0])).bit_depth
            value_range = ValueRange(0, 2**bits - 1)
        self.value_range: ValueRange = value_range
        kind = torch.int64 if labels.kind == "class" else torch.float32
        self._labels = torch.from_numpy(self.labels.values).to(kind)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, _ = split_alpha(self.tree.read(self.paths[index]))
        if self.refiner is not None:
            image = self.refiner(image)
        encoded = self.value_range.encode(image).transpose(2, 0, 1)
        return torch.from_numpy(encoded.copy()), self._labels[index]
