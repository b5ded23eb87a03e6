"""export(): one ONNX file that refines native images anywhere, kept only if it computes what the refiner does.

Input `images` (N, H, W, C), N, H and W free, uint8 or uint16 as in training, without alpha. Outputs: `refined`, the
same shape and type, and `values`, x̃ as float32 in [-1, 1] before rounding. The metadata key `simgan` holds one
JSON text: value range, pixel format, architecture, provenance, parity, licence.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import simgan
from simgan.data.trees import ImageTree
from simgan.errors import OutputError, require_extra
from simgan.exporting.graph import OPSET, native_graph
from simgan.exporting.parity import (
    Computed,
    Parity,
    Refining,
    computed_by,
    images_to_check,
    in_float32,
    measure_parity,
    refuse_difference,
)
from simgan.images import write_atomically
from simgan.weights import TrainedRefiner, load_refiner

FORMAT_VERSION = 1
SUFFIX = ".onnx"
_CHECKED = 100  # images that the graph is compared with the refiner on
_LICENCE = (
    "none: simgan claims nothing on these weights and grants nothing; whoever trained them says how they may be used, "
    "and the licences of the images that they were trained on may say more"
)


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote, and how near it is to the refiner."""

    path: Path
    weights_sha256: str
    parity: Parity
    n_bytes: int
    opset: int = OPSET


def export(
    refiner: TrainedRefiner | str | Path, out: str | Path, *, images: ImageTree | None = None
) -> ExportReport:
    """Write the trained `refiner` (it, its file, or a run) to the ONNX file `out`, for any runtime of ONNX.

    The graph takes native images as they lie in files, (N, H, W, C) uint8 or uint16 without alpha, and gives them
    refined; normalization, level matching, rounding and invalid pixels are inside. Values outside the trained range
    are clipped. It computes in float32. Before it is kept it is compared with the refiner on up to 100 of
    `images` (by default the synthetic ones that the run was trained on), alone, as a batch and cut to an odd size:
    at most 1e-5 apart on [-1, 1] and one grey level, else `WeightsError`.

    `OutputError` where `out` is not called .onnx, exists and is not an earlier export, or cannot be written;
    `DataError` where there are no images to compare on; `MissingExtraError` without onnx.
    """
    onnx = require_extra("onnx", extra="onnx")
    require_extra("onnxruntime", extra="onnx")
    target = Path(out)
    _refuse_target(target, onnx)
    trained = in_float32(
        refiner
        if isinstance(refiner, TrainedRefiner)
        else load_refiner(refiner, device="cpu", precision="float32")
    )
    checked = images_to_check(refiner, images, trained.pixel_format, most=_CHECKED)
    model = native_graph(trained)
    parity = measure_parity(
        computed_by(trained),
        computed_by_onnx(model.SerializeToString()),
        _as_batches(checked),
        step=trained.value_range.step,
    )
    parity = replace(parity, n_images=len(checked))
    refuse_difference(parity, "the exported graph")
    _describe(model, trained, parity)
    onnx.checker.check_model(model)
    data = model.SerializeToString(deterministic=True)
    write_atomically(target, data)
    return ExportReport(target, trained.sha256, parity, len(data))


def computed_by_onnx(model: bytes) -> Refining:
    """What onnxruntime computes for an exported model."""
    onnxruntime = require_extra("onnxruntime", extra="onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def refine(images: NDArray[Any]) -> Computed:
        refined, values = session.run(["refined", "values"], {"images": images})
        return refined, values

    return refine


def _as_batches(images: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Each image alone; those of the first one's size together; the first one cut to an odd size."""
    first = images[0]
    together = np.stack([image for image in images if image.shape == first.shape])
    odd = first[None, 1:, 2:] if min(first.shape[:2]) > 2 else together
    return [*(image[None] for image in images), together, odd]


def _describe(model: Any, trained: TrainedRefiner, parity: Parity) -> None:
    """Where the graph comes from and what it takes, inside the file. No names of files on this disk."""
    model.producer_name, model.producer_version = "simgan", simgan.__version__
    model.doc_string = (
        f"A SimGAN refiner: images (N, H, W, {trained.pixel_format.channels}) {trained.pixel_format.dtype} in, refined "
        "ones out; see the metadata"
    )
    about = {
        "format": "simgan exported refiner",
        "format_version": FORMAT_VERSION,
        "value_range": trained.value_range.to_dict(),
        "pixel_format": asdict(trained.pixel_format),
        "refiner": asdict(trained.spec),
        "level_matching": trained.level_matching is not None,
        "weights_sha256": trained.sha256,
        "provenance": trained.provenance,
        "parity": asdict(parity),
        "licence": _LICENCE,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = "simgan", json.dumps(about, sort_keys=True)


def _refuse_target(target: Path, onnx: Any) -> None:
    """`OutputError` unless `target` is called .onnx, lies in a folder, and is new or an earlier export."""
    if target.suffix.lower() != SUFFIX:
        raise OutputError(f"{target}: the name of an export must end in {SUFFIX}, such as {target}{SUFFIX}")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {target.parent}; make it, or choose another place")
    if not target.exists():
        return
    try:
        model = onnx.load_model(str(target), load_external_data=False)
        ours = any(entry.key == "simgan" for entry in model.metadata_props)
    except Exception:  # whatever the parser stumbles over: it is none
        ours = False
    if not ours:
        raise OutputError(
            f"{target}: exists already, is not an export of simgan and was left alone; choose another name"
        )
