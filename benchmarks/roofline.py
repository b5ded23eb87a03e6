"""What each layer must compute and move, and how long that takes at the least on a machine of given ceilings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from made import Task

from simgan.nn.discriminator import DiscriminatorSpec
from simgan.nn.receptive_field import Stage, output_size
from simgan.nn.refiner import RefinerSpec

VALUE_BYTES = 2  # bf16


@dataclass(frozen=True)
class Layer:
    """A convolution with bias and ReLU: what one image costs."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    adds: bool = False

    @property
    def operations(self) -> int:
        """Of one pass, a multiplication and an addition counted as two."""
        return 2 * self.inputs * self.outputs * self.kernel**2 * self.out_size[0] * self.out_size[1]

    @property
    def in_bytes(self) -> int:
        return VALUE_BYTES * self.inputs * self.in_size[0] * self.in_size[1]

    @property
    def out_bytes(self) -> int:
        return VALUE_BYTES * self.outputs * self.out_size[0] * self.out_size[1]

    @property
    def forward_bytes(self) -> int:
        """Input read, output written, residual read, each once."""
        return self.in_bytes + self.out_bytes * (2 if self.adds else 1)

    @property
    def data_gradient_bytes(self) -> int:
        """The output and its gradient read, the input's gradient written (and added to the residual's)."""
        return 2 * self.out_bytes + self.in_bytes + (self.out_bytes if self.adds else 0)

    @property
    def weight_gradient_bytes(self) -> int:
        """The output's gradient and the input read; what the ReLU lets pass is known from the data gradient."""
        return self.out_bytes + self.in_bytes


def refiner_layers(spec: RefinerSpec, size: tuple[int, int]) -> list[Layer]:
    def layer(name: str, inputs: int, outputs: int, kernel: int, adds: bool = False) -> Layer:
        return Layer(name, inputs, outputs, kernel, 1, size, size, adds)

    layers = [layer("head", spec.channels, spec.width, spec.first_kernel)]
    for i in range(spec.blocks):
        layers.append(layer(f"block {i + 1} first", spec.width, spec.width, spec.kernel))
        layers.append(layer(f"block {i + 1} second", spec.width, spec.width, spec.kernel, adds=True))
    return [*layers, layer("tail", spec.width, spec.channels, 1)]


def discriminator_layers(spec: DiscriminatorSpec, size: tuple[int, int]) -> list[Layer]:
    """The convolutions; pooling costs little beside them and is left out of the bound."""
    layers: list[Layer] = []
    channels = spec.channels
    for i, layer in enumerate(spec.layers):
        stage = Stage(layer.kernel, layer.stride)
        after = (output_size(size[0], [stage]), output_size(size[1], [stage]))
        if layer.width:
            layers.append(Layer(f"D {i + 1}", channels, layer.width, layer.kernel, layer.stride, size, after))
            channels = layer.width
        size = after
    return [*layers, Layer("D logits", channels, spec.output_maps, 1, 1, size, size)]


@dataclass(frozen=True)
class Ceilings:
    """Operations and bytes a second."""

    flops: float
    bytes_per_sec: float

    def least_sec(self, operations: float, moved: float) -> float:
        """Computing and moving overlap at best: the longer of the two."""
        return max(operations / self.flops, moved / self.bytes_per_sec)


def refining_bound(task: Task, ceilings: Ceilings) -> float:
    """Seconds for one image, layer by layer."""
    return sum(
        ceilings.least_sec(layer.operations, layer.forward_bytes)
        for layer in refiner_layers(task.refiner, task.size)
    )


def step_bound(task: Task, ceilings: Ceilings) -> dict[str, float]:
    """Seconds for R's update, D's, and a whole turn of Algorithm 1 with a filled history, batch as in the recipe."""
    r, d = refiner_layers(task.refiner, task.size), discriminator_layers(task.discriminator, task.size)

    def forward(layers: list[Layer], count: float) -> float:
        return sum(
            ceilings.least_sec(count * layer.operations, count * layer.forward_bytes) for layer in layers
        )

    def data_gradients(layers: list[Layer], count: int) -> float:
        return sum(
            ceilings.least_sec(count * layer.operations, count * layer.data_gradient_bytes)
            for layer in layers
        )

    def weight_gradients(layers: list[Layer], count: int) -> float:
        return sum(
            ceilings.least_sec(count * layer.operations, count * layer.weight_gradient_bytes)
            for layer in layers
        )

    b = task.batch
    update_r = forward(r, b) + forward(d, b) + data_gradients(d, b)
    update_r += data_gradients(r[1:], b) + weight_gradients(r, b)
    update_d = (
        forward(r, b / 2) + forward(d, 2 * b) + data_gradients(d[1:], 2 * b) + weight_gradients(d, 2 * b)
    )
    return {"update_refiner": update_r, "update_discriminator": update_d,
            "step": task.refiner_updates * update_r + update_d}  # fmt: skip


def step_operations(task: Task) -> dict[str, float]:
    """The same in operations."""
    r = refiner_layers(task.refiner, task.size)
    d = discriminator_layers(task.discriminator, task.size)
    passes_r, passes_d = sum(layer.operations for layer in r), sum(layer.operations for layer in d)
    b = task.batch
    update_r = b * (3 * passes_r - r[0].operations + 2 * passes_d)
    update_d = b * (passes_r / 2 + 2 * (3 * passes_d - d[0].operations))
    return {"update_refiner": update_r, "update_discriminator": update_d,
            "step": task.refiner_updates * update_r + update_d}  # fmt: skip


def as_rows(layers: list[Layer]) -> list[dict[str, Any]]:
    """For the report: what one image costs in each layer."""
    return [
        {
            "layer": layer.name,
            "operations": layer.operations,
            "forward_bytes": layer.forward_bytes,
            "operations_per_byte": layer.operations / layer.forward_bytes,
        }
        for layer in layers
    ]
