"""An exported refiner without simgan and without torch: onnxruntime and numpy alone.

simgan export runs/first --out refiner.onnx
python examples/standalone_onnx.py refiner.onnx images.npy refined.npy
"""

import json
import sys

import numpy as np
import onnxruntime

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["simgan"])
print("trained on values", about["value_range"], "parity", about["parity"]["value_difference"])
images = np.load(source)  # (N, H, W, C) uint8 or uint16, as in training; any N, H and W
refined, values = session.run(["refined", "values"], {"images": images})
np.save(target, refined)  # the same shape and type; `values` is float32 in [-1, 1]
print(
    f"refined {len(images)} images of {images.shape[1:]}, mean change {np.abs(1.0 * refined - images).mean():.2f}"
)
