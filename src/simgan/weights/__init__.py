"""One refiner file, and the trained refiner in it."""

from simgan.weights.files import FILE_NAME, load_refiner, save_refiner
from simgan.weights.trained import TILE, OutOfRange, TrainedRefiner

__all__ = ["FILE_NAME", "TILE", "OutOfRange", "TrainedRefiner", "load_refiner", "save_refiner"]
