"""What the benchmarks run on: the networks of the recipes, and eyes drawn on the device, as many as are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import measuring  # noqa: F401  (makes simgan importable from ../src)
import torch
from reference import Reference, ReferenceDiscriminator, ReferenceRefiner
from torch import Tensor

from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.derivation import derive_blocks, derive_layers
from simgan.nn.discriminator import (
    Discriminator,
    DiscriminatorLayer,
    DiscriminatorSpec,
    discriminator_receptive_field,
    patch_grid,
)
from simgan.nn.draws import Draws
from simgan.nn.feature_transforms import identity
from simgan.nn.history import HistoryBuffer
from simgan.nn.quantization import Quantization
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.residence import ResidentImages, encode_native
from simgan.nn.route import Route
from simgan.training.algorithm import (
    DrawReal,
    DrawSynthetic,
    Objective,
    Players,
    SyntheticBatch,
    moving_average_of,
    optimizer_of,
)

_DRAWN_AT_ONCE = 20_000


@dataclass(frozen=True)
class Task:
    """A recipe's numbers that decide what a step costs. `tests/test_benchmarks.py` compares them with the recipes."""

    name: str
    size: tuple[int, int]
    refiner: RefinerSpec
    discriminator: DiscriminatorSpec
    weight: float
    sums: bool
    optimizer: str
    learning_rate: float
    batch: int
    refiner_updates: int
    average_decay: float = 0.0
    shift_px: int = 0
    gain: float = 0.0
    history_batches: int = 50

    @property
    def patches(self) -> int:
        """Logits for an image."""
        rows, columns = patch_grid(self.discriminator, *self.size)
        return rows * columns


def _discriminator(layers: list[list[int]], maps: int) -> DiscriminatorSpec:
    return DiscriminatorSpec(1, tuple(DiscriminatorLayer(*layer) for layer in layers), maps)  # type: ignore[arg-type]


PAPER_GAZE = Task(
    "paper-gaze",
    (35, 55),
    RefinerSpec(1, 64, 4),
    _discriminator([[96, 3, 2], [64, 3, 2], [0, 3, 1], [32, 3, 1], [32, 1, 1]], 2),
    weight=0.15277777777777778,
    sums=True,
    optimizer="sgd",
    learning_rate=0.001,
    batch=512,
    refiner_updates=2,
)
PAPER_HANDS = Task(
    "paper-hands",
    (224, 224),
    RefinerSpec(1, 64, 10, 7, 7),
    _discriminator([[96, 7, 4], [64, 5, 2], [0, 3, 2], [32, 3, 2], [32, 1, 1]], 2),
    weight=10.24,
    sums=True,
    optimizer="sgd",
    learning_rate=0.0002,
    batch=64,
    refiner_updates=2,
)

_DERIVED = derive_layers(height=35, width=55, maps=64)
_DERIVED_BLOCKS = derive_blocks(
    field=discriminator_receptive_field(DiscriminatorSpec(1, _DERIVED)), kernel=3, first_kernel=3
)
DEFAULT = Task(
    "default",
    (35, 55),
    RefinerSpec(1, 32, _DERIVED_BLOCKS, output="residual"),
    DiscriminatorSpec(1, _DERIVED),
    weight=0.3,
    sums=False,
    optimizer="adam",
    learning_rate=0.001,
    batch=32,
    refiner_updates=1,
    average_decay=0.995,
)
"""Without augmentation and task consistency, which the reference has not."""


def players_of(task: Task, route: Route, *, seed: int = 0) -> Players:
    """Networks, optimizers and an empty history, as training makes them."""
    torch.manual_seed(seed)
    refiner, discriminator = (
        route.place(Refiner(task.refiner)),
        route.place(Discriminator(task.discriminator)),
    )
    quantization = Quantization(256)
    capacity, device = task.history_batches * task.batch, route.device
    kind = {"name": task.optimizer, "learning_rate": task.learning_rate, "device": device}
    return Players(
        refiner=refiner,
        discriminator=discriminator,
        refiner_optimizer=optimizer_of(refiner, **kind),  # type: ignore[arg-type]
        discriminator_optimizer=optimizer_of(discriminator, **kind),  # type: ignore[arg-type]
        objective=Objective(task.weight, identity, "sum" if task.sums else "mean"),
        quantization=quantization,
        route=route,
        history=HistoryBuffer(capacity, (1, *task.size), quantization.code_dtype, device),
        averaged_refiner=moving_average_of(refiner, decay=task.average_decay),
        averaging_decay=task.average_decay,
        augmentation=DiscriminatorAugmentation(task.shift_px, task.gain) if task.shift_px else None,
        carries_lowest=False,
        draws=Draws(torch.Generator().manual_seed(seed), device),
    )


def reference_of(task: Task, players: Players, device: torch.device, *, seed: int = 0) -> Reference:
    """The plain implementation, with the weights that `players` have now."""
    r, d = task.refiner, task.discriminator
    layers = [[layer.width, layer.kernel, layer.stride] for layer in d.layers]
    refiner = ReferenceRefiner(r.channels, r.width, r.blocks, r.kernel, r.first_kernel, r.output)
    discriminator = ReferenceDiscriminator(d.channels, layers, d.output_maps)
    copy_weights(players.refiner, refiner)
    copy_weights(players.discriminator, discriminator)
    return Reference(
        refiner,
        discriminator,
        device=device,
        optimizer=task.optimizer,
        learning_rate=task.learning_rate,
        weight=task.weight,
        sums=task.sums,
        patches=task.patches,
        capacity=task.history_batches * task.batch,
        generator=torch.Generator().manual_seed(seed),
    )


@torch.no_grad()
def copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Weight by weight, in the order in which both networks list them."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        mine.copy_(theirs)


def fill_history(players: Players, images: Tensor) -> None:
    """With images of the data set, as after D's warm-up."""
    history = players.history
    assert history is not None, "benchmarks train with a history"
    while not history.is_full:
        history.add(images[: history.capacity - history.size], players.draws)


class Batches:
    """Batches out of images that lie on the device, (n, 1, H, W) uint8; the same seed gives the same."""

    def __init__(self, images: Tensor, *, batch: int, seed: int) -> None:
        self.images = images
        self._batch, self._generator = batch, torch.Generator().manual_seed(seed)
        self._values = images[0].numel()
        height, width = images.shape[2:]
        self._resident = ResidentImages(images.reshape(-1), channels=1, size=(height, width))

    def next_indices(self) -> Tensor:
        return torch.randint(len(self.images), (self._batch,), generator=self._generator)

    def next_windows(self) -> Tensor:
        starts = self.next_indices() * self._values
        return torch.stack([starts, torch.full_like(starts, self._resident.size[1])])

    def next_array(self):  # type: ignore[no-untyped-def]
        """As other implementations hold them: float32 on the host."""
        return (self._on_host()[self.next_indices()].float() * (2 / 255) - 1).numpy()

    def _on_host(self) -> Tensor:
        if not hasattr(self, "_host"):
            self._host = self.images.cpu()
        return self._host

    def next_on_device(self, draws: Draws) -> Tensor:
        """Cut out and encoded on the device."""
        images = encode_native(self._resident.cut(draws(self.next_windows)), low=0, high=255)
        return images.contiguous(memory_format=torch.channels_last)


def draws_of(players: Players, synthetic: Batches, real: Batches) -> tuple[DrawSynthetic, DrawReal]:
    """What Algorithm 1 draws its batches with."""
    return (
        lambda: SyntheticBatch(synthetic.next_on_device(players.draws)),
        lambda: real.next_on_device(players.draws),
    )


def draw_eyes(
    count: int, *, real: bool, device: torch.device, seed: int = 0, size: tuple[int, int] = (35, 55)
) -> Tensor:
    """(count, 1, *size) uint8: skin, an eye white between two lids, iris, pupil, glint.

    The real ones have what a camera adds: another range of levels, shading across the face, blur, noise.
    """
    generator = torch.Generator(device).manual_seed(seed)
    out = torch.empty((count, 1, *size), dtype=torch.uint8, device=device)
    for start in range(0, count, _DRAWN_AT_ONCE):
        part = _draw(min(_DRAWN_AT_ONCE, count - start), size, generator, device)
        out[start : start + len(part)] = _codes(_photographed(part, generator) if real else part)
    return out


def _draw(count: int, size: tuple[int, int], generator: torch.Generator, device: torch.device) -> Tensor:
    y = torch.linspace(-1, 1, size[0], device=device).view(1, -1, 1)
    x = torch.linspace(-1.57, 1.57, size[1], device=device).view(1, 1, -1)

    def between(low: float, high: float) -> Tensor:
        return torch.rand((count, 1, 1), generator=generator, device=device) * (high - low) + low

    def inside(distance: Tensor) -> Tensor:  # 1 within, 0 outside, an edge one pixel wide
        return (0.5 - distance * 17).clamp(0, 1)

    lift, corner = between(0.35, 0.75), between(1.05, 1.35)
    arch = (1 - (x / corner) ** 2).clamp_min(0)
    open_eye = inside(torch.maximum(y - 0.45 * arch, -y - lift * arch))
    iris_x, iris_y, iris_size = between(-0.5, 0.5), between(-0.2, 0.2), between(0.42, 0.55)
    from_iris = ((x - iris_x) ** 2 + (y - iris_y) ** 2).sqrt()
    iris, pupil = inside(from_iris - iris_size), inside(from_iris - iris_size * between(0.3, 0.55))
    skin, white = between(0.45, 0.75), between(0.75, 0.95)
    image = torch.lerp(white.expand_as(from_iris), between(0.2, 0.45).expand_as(from_iris), iris)
    image = torch.lerp(image, torch.full_like(image, 0.05), pupil)
    glint = inside(((x - iris_x - 0.12) ** 2 + (y - iris_y + 0.12) ** 2).sqrt() - 0.07)
    image = torch.lerp(image, torch.ones_like(image), glint)
    lid = skin - 0.25 * torch.exp(-(((y + lift * arch) * 6) ** 2))
    return torch.lerp(lid.expand_as(image), image, open_eye)[:, None]


def _photographed(images: Tensor, generator: torch.Generator) -> Tensor:
    count, device = len(images), images.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    y = torch.linspace(-1, 1, images.shape[2], device=device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, images.shape[3], device=device).view(1, 1, 1, -1)
    blur = torch.tensor([1.0, 2.0, 1.0], device=device)
    kernel = (blur[:, None] * blur / 16).view(1, 1, 3, 3)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    soft = torch.nn.functional.conv2d(padded, kernel)
    lit = soft * (0.6 + 0.1 * normal(count, 1, 1, 1)) + 0.12 * normal(count, 1, 1, 1) * x
    return lit + 0.08 * normal(count, 1, 1, 1) * y + 0.02 * normal(*images.shape)


def _codes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
