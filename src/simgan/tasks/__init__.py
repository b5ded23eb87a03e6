"""Task models: what the images are for. The same model and the same augmentation serve every arm."""

from __future__ import annotations

from simgan.tasks.augmentation import StandardAugmentation
from simgan.tasks.baselines import BASELINES, Baseline
from simgan.tasks.gaze import GazeModel, GazeNetwork, train_gaze
from simgan.tasks.matching import match_by_rank, match_to_real
from simgan.tasks.network import SMALLEST_SIDE, TaskNetwork
from simgan.tasks.segmentation import SegmentationModel, SegmentationNetwork, train_segmentation
from simgan.tasks.self_ensembling import SelfEnsembling, self_ensembling_loss
from simgan.tasks.shape_augmentation import ShapeAugmentation
from simgan.tasks.training import TaskModel, train_task

__all__ = [
    "BASELINES",
    "SMALLEST_SIDE",
    "Baseline",
    "GazeModel",
    "GazeNetwork",
    "SegmentationModel",
    "SegmentationNetwork",
    "SelfEnsembling",
    "ShapeAugmentation",
    "StandardAugmentation",
    "TaskModel",
    "TaskNetwork",
    "match_by_rank",
    "match_to_real",
    "self_ensembling_loss",
    "train_gaze",
    "train_segmentation",
    "train_task",
]
