"""The verb that refines: a tree or shards, computed by this machine, by another runtime, or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import simgan
from simgan.cli.arguments import ALL_IMAGES, NO_SWITCHES, Switches
from simgan.cli.export import through
from simgan.cli.printing import align, bullets, show, summarize
from simgan.cli.progress import showing_progress


def refine(
    refiner: Path,
    tree: str,
    /,
    *,
    out: Path,
    images: str = ALL_IMAGES,
    out_of_range: Literal["refuse", "clip"] = "refuse",
    jpeg_quality: int = 95,
    max_reject_share: float = 0.05,
    runtime: Literal["torch", "onnx", "openvino", "openvino-fast"] = "torch",
    max_drift: float | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    switches: Switches = NO_SWITCHES,
) -> None:
    """Refine every image of a tree into a new tree, all other files carried; again continues.

    :param refiner: A run, or the file of a refiner.
    :param tree: Folder of the synthetic images; or of shards, a pattern of them ('data/*.tar'), or a tar file.
    :param out: Folder for the refined tree, or the refined shards.
    :param images: Which files are the images, as a pattern relative to the tree.
    :param out_of_range: Images with values outside the trained range are left out (refuse), or clipped to it.
    :param jpeg_quality: Of refined JPEG files, 1 to 100; all other formats are written without loss.
    :param max_reject_share: The share of images, 0 to 1, that may be left out before it ends with an error.
    :param runtime: What computes the network; openvino-fast in the fastest precision there is, its error is said.
    :param max_drift: Images whose structure moved by more pixels than this are left out and listed.
    :param workers: Processes that share the shards (unset: 1, or on a cluster one for each core or GPU); the result is
        the same.
    :param cluster: Refine shards with Ray: ray (this machine), ray://auto, or ray://HOST:PORT.
    """
    synthetic, engine = simgan.ImageTree(tree, images), None
    if cluster is not None:
        from simgan.cluster import ray_engine

        engine, workers = ray_engine(cluster, workers=workers or 0), None
    with showing_progress("refining") as display:
        report = simgan.refine(
            synthetic,
            refiner if runtime == "torch" else through(runtime, refiner, synthetic, display),
            out,
            jpeg_quality=jpeg_quality,
            out_of_range=out_of_range,
            max_reject_share=max_reject_share,
            max_drift_px=max_drift,
            workers=1 if workers is None else workers,
            engine=engine,
            progress=display.advance,
            warn=display.warn,
        )
    text = align(summarize(report)) + bullets("warnings", report.warnings)
    show(report, text, as_json=switches.json)
