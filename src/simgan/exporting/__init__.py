"""A trained refiner outside of simgan, as an ONNX file, and other runtimes for its network inside of it."""

from simgan.exporting.onnx_file import ExportReport, export
from simgan.exporting.parity import Parity
from simgan.exporting.runtimes import RUNTIMES, Runtime, load_runtime

__all__ = ["RUNTIMES", "ExportReport", "Parity", "Runtime", "export", "load_runtime"]
