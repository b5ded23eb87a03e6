"""Ways to compute the refiner on a processor: simgan's own, plain ones, and the runtimes that are installed.

Each is a function without arguments that refines the same images once, with as many threads as torch has. Runtimes and
compilers that are not here are left out, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from measuring import say
from numpy.typing import NDArray
from reference import ReferenceRefiner
from torch import Tensor

from simgan.data.trees import TreeScan
from simgan.exporting.graph import network_graph
from simgan.exporting.parity import Computed, Parity, computed_by, in_float32, measure_parity
from simgan.exporting.runtimes import OPEN_SESSION, RuntimeRefiner, RuntimeRoute
from simgan.images import PixelFormat, ValueRange
from simgan.nn.refiner import Refiner
from simgan.refinement.pipeline import in_parallel
from simgan.weights import TrainedRefiner

CPU = torch.device("cpu")


@dataclass(frozen=True)
class RefiningRoute:
    """`run` refines all images; `error`: how far it is from torch in float32, None where it is that."""

    run: Callable[[], Any]
    error: Parity | None


def trained_of(refiner: Refiner, size: tuple[int, int]) -> TrainedRefiner:
    """As `simgan refine` has it, in the precision that it takes here by default."""
    grey = PixelFormat(1, 8)
    scan = TreeScan(1, grey, {size: 1}, 0, 255, 1, 127.0, 60.0, 10.0, (), "0" * 64)
    return TrainedRefiner(refiner, None, ValueRange(0, 255), grey, scan, {"recipe": "benchmark"})


def refining_routes(
    refiner: Refiner, plain: ReferenceRefiner, images: NDArray[np.uint8], *, compiled: bool
) -> dict[str, RefiningRoute]:
    """By name; `images` (N, H, W, 1), `plain` has the weights of `refiner`."""
    trained = trained_of(refiner, (images.shape[1], images.shape[2]))
    assert trained.route is not None
    exact = in_float32(trained)
    routes = {"simgan float32": RefiningRoute(in_batches(exact, images), None)}
    if trained.route.dtype == torch.bfloat16:
        routes["simgan bfloat16"] = RefiningRoute(in_batches(trained, images), _error(exact, trained, images))
    x = torch.from_numpy(trained.value_range.encode(images)).permute(0, 3, 1, 2).contiguous()
    channels_last = ReferenceRefiner(1, *_shape_of(refiner)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    channels_last.load_state_dict(plain.state_dict())
    routes["reference"] = RefiningRoute(_whole(plain, x), None)
    routes["reference channels_last"] = RefiningRoute(_whole(channels_last, x), None)
    for name, make in _optional(trained, compiled=compiled).items():
        try:
            other = make()
            routes[name] = RefiningRoute(in_batches(other, images), _error(exact, other, images))
        except Exception as error:  # a benchmark goes on without what is not here
            say(f"   {name} is left out: {type(error).__name__}: {str(error).splitlines()[0]}")
    return routes


def in_batches(trained: TrainedRefiner, images: NDArray[np.uint8]) -> Callable[[], None]:
    """The network alone, in the batches and by the threads of `simgan refine`, on images that are encoded already."""
    size, route = trained.compute_batch(images.shape[1], images.shape[2]), trained.route
    assert route is not None
    encoded = torch.from_numpy(trained.value_range.encode(images)).permute(0, 3, 1, 2)
    batches = [route.put(batch) for batch in encoded.split(size) if len(batch) == size]

    @torch.inference_mode()
    def forward(batch: torch.Tensor) -> None:
        with route.autocast():
            trained.network(batch)

    def run() -> None:
        with closing(in_parallel(forward, batches)) as done:
            deque(done, maxlen=0)

    return run


def _whole(network: ReferenceRefiner, x: torch.Tensor) -> Callable[[], Any]:
    """A forward pass of all at once, without a graph: the kindest reading of the plain implementation."""

    @torch.no_grad()
    def run() -> None:
        network(x)

    return run


def _shape_of(refiner: Refiner) -> tuple[int, int, int, int, str]:
    spec = refiner.spec
    return spec.width, spec.blocks, spec.kernel, spec.first_kernel, spec.output


def _error(exact: TrainedRefiner, other: TrainedRefiner, images: NDArray[np.uint8]) -> Parity:
    def computed(few: NDArray[Any]) -> Computed:
        encoded = torch.from_numpy(other.value_range.encode(few)).permute(0, 3, 1, 2)
        assert other.route is not None
        with torch.inference_mode(), other.route.autocast():
            x = other.network(other.route.put(encoded)).float().clamp(-1, 1).permute(0, 2, 3, 1).numpy()
        return other.value_range.decode(x, few.dtype), x

    size = exact.compute_batch(images.shape[1], images.shape[2])
    few = images[: 32 // size * size]
    return measure_parity(computed_by(exact), computed, np.split(few, len(few) // size), step=1)


@dataclass
class CompiledRefiner(TrainedRefiner):
    """A trained refiner whose network `torch.compile` has compiled, weights frozen into it."""

    @cached_property
    def network(self) -> Callable[[Tensor], Tensor]:
        compiled = torch.compile(self.refiner, options={"freezing": True})
        return compiled  # type: ignore[no-any-return]


def _optional(trained: TrainedRefiner, *, compiled: bool) -> dict[str, Callable[[], TrainedRefiner]]:
    parts = {part.name: getattr(trained, part.name) for part in fields(TrainedRefiner)}

    def runtime(kind: str) -> TrainedRefiner:
        session, name = OPEN_SESSION[kind](network_graph(in_float32(trained).refiner).SerializeToString())
        return RuntimeRefiner(**(parts | {"route": RuntimeRoute(CPU, torch.float32, name)}), session=session)

    made: dict[str, Callable[[], TrainedRefiner]] = {
        "onnxruntime float32": lambda: runtime("onnx"),
        "openvino float32": lambda: runtime("openvino"),
        "openvino fast": lambda: runtime("openvino-fast"),
    }
    return made | ({"compiled": lambda: CompiledRefiner(**parts)} if compiled else {})
