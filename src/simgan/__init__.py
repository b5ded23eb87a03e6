"""SimGAN: synthetic images become realistic, their labels still hold, and a measurement says by how much.

    import simgan

    synthetic = simgan.ImageTree("data/synthetic", images="images/*.png")
    real = simgan.ImageTree("data/real")
    run = simgan.train("default", synthetic=synthetic, real=real, run_dir="runs/first")
    report = simgan.refine(synthetic, run.refiner, "data/refined")

`import simgan` alone is light: each name is loaded with its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from simgan.errors import (
    ConfigurationError,
    DataError,
    ImageError,
    LabelError,
    MissingExtraError,
    OutputError,
    RunError,
    SimganError,
    TrainingError,
    WeightsError,
)

if TYPE_CHECKING:
    from simgan.config import resolve_configuration
    from simgan.data.labels import Labels, read_labels
    from simgan.data.trees import ImageTree
    from simgan.datasets import LabelledImages
    from simgan.diagnosis import Diagnosis, diagnose
    from simgan.evaluation import Evaluation, evaluate
    from simgan.exporting import ExportReport, export, load_runtime
    from simgan.preparation import CenterCrop, EyeCrop, PreparationReport, prepare
    from simgan.refinement import RefinementReport, refine
    from simgan.reporting import InfoReport, info, model_card, report
    from simgan.settings import Configuration
    from simgan.training.loop import Run, train
    from simgan.weights import TrainedRefiner, load_refiner, save_refiner

__version__ = "0.1.0"

__all__ = [
    "CenterCrop",
    "Configuration",
    "ConfigurationError",
    "DataError",
    "Diagnosis",
    "Evaluation",
    "ExportReport",
    "EyeCrop",
    "ImageError",
    "ImageTree",
    "InfoReport",
    "LabelError",
    "LabelledImages",
    "Labels",
    "MissingExtraError",
    "OutputError",
    "PreparationReport",
    "RefinementReport",
    "Run",
    "RunError",
    "SimganError",
    "TrainedRefiner",
    "TrainingError",
    "WeightsError",
    "__version__",
    "diagnose",
    "evaluate",
    "export",
    "info",
    "load_refiner",
    "load_runtime",
    "model_card",
    "prepare",
    "read_labels",
    "refine",
    "report",
    "resolve_configuration",
    "save_refiner",
    "train",
]

# Where each name lives that costs torch, or more, to load. The same list as above for type checkers.
_MODULE_OF = {
    "Configuration": "simgan.settings",
    "resolve_configuration": "simgan.config",
    "Labels": "simgan.data.labels",
    "read_labels": "simgan.data.labels",
    "ImageTree": "simgan.data.trees",
    "LabelledImages": "simgan.datasets",
    "Diagnosis": "simgan.diagnosis",
    "diagnose": "simgan.diagnosis",
    "Evaluation": "simgan.evaluation",
    "evaluate": "simgan.evaluation",
    "ExportReport": "simgan.exporting",
    "export": "simgan.exporting",
    "load_runtime": "simgan.exporting",
    "CenterCrop": "simgan.preparation",
    "EyeCrop": "simgan.preparation",
    "PreparationReport": "simgan.preparation",
    "prepare": "simgan.preparation",
    "RefinementReport": "simgan.refinement",
    "refine": "simgan.refinement",
    "InfoReport": "simgan.reporting",
    "info": "simgan.reporting",
    "model_card": "simgan.reporting",
    "report": "simgan.reporting",
    "Run": "simgan.training.loop",
    "train": "simgan.training.loop",
    "TrainedRefiner": "simgan.weights",
    "load_refiner": "simgan.weights",
    "save_refiner": "simgan.weights",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'simgan' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
