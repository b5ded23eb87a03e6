"""A refiner for elsewhere: the verb `export`, the other runtimes of `refine`, the model card of `report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import simgan
from simgan.cli.arguments import ALL_IMAGES, NO_SWITCHES, Switches
from simgan.cli.printing import align, show
from simgan.cli.progress import ProgressDisplay, showing_progress
from simgan.errors import OutputError

if TYPE_CHECKING:
    from simgan.data.trees import ImageTree
    from simgan.exporting import Runtime
    from simgan.weights import TrainedRefiner


def export(
    refiner: Path,
    /,
    *,
    out: Path,
    images_of: Path | None = None,
    images: str = ALL_IMAGES,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Write a refiner as an ONNX file: native images in, refined ones out; kept only if it computes the same.

    :param refiner: A run, or the file of a refiner.
    :param out: The file to write, called .onnx.
    :param images_of: Folder of images to compare both on; unset: the synthetic images of the run.
    :param images: Which files of that folder are the images, as a pattern.
    """
    with showing_progress("exporting") as display:
        display.say("writing the graph, and comparing it with the refiner")
        report = simgan.export(
            refiner, out, images=None if images_of is None else simgan.ImageTree(images_of, images)
        )
    lines = [
        ("file", report.path),
        ("size", f"{report.n_bytes / 1e6:,.1f} MB, opset {report.opset}"),
        ("parity", report.parity),
        ("weights", f"sha256 {report.weights_sha256}"),
    ]
    show(report, align(lines), as_json=switches.json)


def through(runtime: Runtime, refiner: Path, tree: ImageTree, display: ProgressDisplay) -> TrainedRefiner:
    """The refiner computed by another runtime; how near that is to torch is said."""
    computed, parity = simgan.load_runtime(refiner, runtime, images=tree)
    tell = display.say if parity.holds else display.warn
    tell(f"{computed.route} beside torch float32: {parity}")
    return computed


def write_card(run: Path, evaluation: Path | None) -> Path | None:
    """The model card, where there are weights to write one on; one that was edited by hand is left alone, and said."""
    from simgan.weights import FILE_NAME

    if not (run / FILE_NAME).exists():
        return None
    try:
        return simgan.model_card(run, evaluation)
    except OutputError as error:
        print(f"warning: {error}", file=sys.stderr)
        return None
