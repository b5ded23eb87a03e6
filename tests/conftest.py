from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Numbers are compared bit for bit: the order of summation must not depend on the machine's load.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def simgan_data() -> Path:
    """The folder of real data sets, or a skip that says how to have them."""
    root = os.environ.get("SIMGAN_DATA")
    if not root:
        pytest.skip(
            "SIMGAN_DATA is not set: it names the folder of real data sets (eyes/, signs/, digits/, …)"
        )
    return Path(root)
