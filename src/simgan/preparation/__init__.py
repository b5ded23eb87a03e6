"""prepare(): crop and resize a tree of images, every label moving with its pixels."""

from simgan.preparation.label_files import LabelFile, LabelMover, MovedLabels
from simgan.preparation.movement import CenterCrop, Crop, EyeCrop, Movement, Movements
from simgan.preparation.movers import LABEL_MOVERS
from simgan.preparation.tree_copy import PreparationReport, prepare

__all__ = [
    "LABEL_MOVERS",
    "CenterCrop",
    "Crop",
    "EyeCrop",
    "LabelFile",
    "LabelMover",
    "MovedLabels",
    "Movement",
    "Movements",
    "PreparationReport",
    "prepare",
]
