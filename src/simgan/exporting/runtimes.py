"""Other runtimes for R_θ: onnxruntime and OpenVINO. All around the network stays what `TrainedRefiner` does.

A `RuntimeRefiner` is used like the refiner that it is made from. Each call computes with one thread, so that
results do not depend on how many there are; several threads may call at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, require_extra
from simgan.exporting.graph import network_graph
from simgan.exporting.parity import (
    Parity,
    computed_by,
    images_to_check,
    in_float32,
    measure_parity,
    refuse_difference,
)
from simgan.nn.route import Route
from simgan.weights import TrainedRefiner, load_refiner

Runtime = Literal["onnx", "openvino", "openvino-fast"]
RUNTIMES: tuple[str, ...] = get_args(Runtime)
_CHECKED = 32  # images that a runtime is compared with torch on
_PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

Session = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class RuntimeRoute(Route):
    """The route of tensors on the CPU to and from a runtime, which has its own precision."""

    name: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass
class RuntimeRefiner(TrainedRefiner):
    """A trained refiner whose network another runtime computes."""

    session: Session | None = None

    @cached_property
    def network(self) -> Callable[[Tensor], Tensor]:
        """R_θ as the runtime computes it: (N, C, H, W) float32 → the same."""
        session = self.session
        assert session is not None
        return lambda images: torch.from_numpy(session(np.ascontiguousarray(images.numpy())))


def load_runtime(
    refiner: TrainedRefiner | str | Path, runtime: Runtime, *, images: ImageTree | None = None
) -> tuple[RuntimeRefiner, Parity]:
    """The refiner with its network computed by `runtime`, and how far it is from torch in float32.

    "onnx": onnxruntime; "openvino": OpenVINO in float32; "openvino-fast": OpenVINO in the precision that is
    fastest here, bfloat16 on processors with units for it. Compared on up to 32 of `images`, by default the
    synthetic ones of the run. `WeightsError` where a runtime other than a fast one is off by more than 1e-5 on
    [-1, 1] or one grey level; `MissingExtraError` where the package is missing.
    """
    if runtime not in RUNTIMES:
        raise ConfigurationError(f"`runtime` must be one of {', '.join(RUNTIMES)}, not {runtime!r}")
    trained = in_float32(
        refiner
        if isinstance(refiner, TrainedRefiner)
        else load_refiner(refiner, device="cpu", precision="float32")
    )
    session, name = OPEN_SESSION[runtime](network_graph(trained.refiner).SerializeToString())
    parts = {part.name: getattr(trained, part.name) for part in fields(TrainedRefiner)}
    route = RuntimeRoute(torch.device("cpu"), torch.float32, name)
    computed = RuntimeRefiner(**(parts | {"route": route}), session=session)
    checked = images_to_check(refiner, images, trained.pixel_format, most=_CHECKED)
    parity = measure_parity(
        computed_by(trained),
        computed_by(computed),
        (image[None] for image in checked),
        step=trained.value_range.step,
    )
    if runtime != "openvino-fast":
        refuse_difference(parity, name)
    return computed, parity


def _onnxruntime(graph: bytes) -> tuple[Session, str]:
    onnxruntime = require_extra("onnxruntime", extra="onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        refined: NDArray[np.float32] = session.run(None, {"synthetic": images})[0]
        return refined

    return run, f"onnxruntime {onnxruntime.__version__} float32"


def _openvino(graph: bytes, *, fast: bool = False) -> tuple[Session, str]:
    openvino = require_extra("openvino", extra="openvino")
    core, threads = openvino.Core(), torch.get_num_threads()
    # Without ACCURACY it computes in bfloat16 wherever the processor can, and says nothing.
    mode = "PERFORMANCE" if fast else "ACCURACY"
    compiled = core.compile_model(
        core.read_model(graph, b""),
        "CPU",
        {"EXECUTION_MODE_HINT": mode, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads},
    )
    own = threading.local()  # a request serves one call at a time

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        refined: NDArray[np.float32] = own.request.infer([images], share_inputs=True)[0].copy()
        return refined

    precision: str = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() if fast else "f32"
    return run, f"openvino {openvino.__version__.split('-')[0]} {_PRECISIONS.get(precision, precision)}"


OPEN_SESSION: dict[str, Callable[[bytes], tuple[Session, str]]] = {
    "onnx": _onnxruntime,
    "openvino": _openvino,
    "openvino-fast": partial(_openvino, fast=True),
}
"""Runtime → a function of the graph of R_θ that gives a session and its name with version and precision."""
