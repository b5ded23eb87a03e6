from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simgan.data.cache import ImageCache, open_cache
from simgan.data.streams import BatchStream
from simgan.data.trees import ImageTree
from simgan.images import ValueRange, write_image
from simgan.nn.draws import Draws
from simgan.nn.residence import encode_native
from simgan.training.assembly import DataSide
from simgan.training.feeding import _encoded_on_device, _encoded_on_host, _resident

CPU = torch.device("cpu")


def cache_of(
    folder: Path, sizes: list[tuple[int, int]], *, channels: int = 1, dtype: type = np.uint8
) -> ImageCache:
    random = np.random.default_rng(0)
    (folder / "tree").mkdir()
    for i, (height, width) in enumerate(sizes):
        image = random.integers(0, np.iinfo(dtype).max, (height, width, channels), endpoint=True)
        write_image(folder / f"tree/{i}.png", image.astype(dtype))
    return open_cache(ImageTree(folder / "tree"), folder / "cache")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("sizes", "crop"), [([(5, 7)] * 4, None), ([(5, 7), (9, 6), (6, 11)], (4, 5))])
def test_batches_from_the_device_are_those_from_the_host(
    tmp_path: Path, sizes: list[tuple[int, int]], crop: tuple[int, int] | None, channels: int, dtype: type
) -> None:
    """To the bit: whole images and crops, grey and colour, 8 and 16 bit."""
    cache = cache_of(tmp_path, sizes, channels=channels, dtype=dtype)
    side = DataSide(cache, ValueRange(0, int(np.iinfo(dtype).max)))
    host, device, chosen = (BatchStream(cache, batch_size=3, seed=4, crop=crop) for _ in range(3))
    resident, draws = _resident(side, device, CPU), Draws(torch.Generator())
    assert resident is not None
    for _ in range(5):
        wanted, indices = _encoded_on_host(side, host)
        found, same_indices = _encoded_on_device(side.value_range, device, resident, draws)
        assert found.dtype == torch.float32
        assert torch.equal(found, wanted)
        assert torch.equal(same_indices, indices)
        sent, _ = _encoded_on_device(side.value_range, chosen, None, draws)  # too large to lie on the device
        assert torch.equal(sent, wanted)
        assert host.state_dict() == device.state_dict() == chosen.state_dict()


@pytest.mark.parametrize(
    "value_range",
    [ValueRange(0, 255), ValueRange(16, 235), ValueRange(0, 4080, 16), ValueRange(0, 9000, 1, 0)],
)
def test_encoding_on_the_device_is_that_of_files_to_the_bit(value_range: ValueRange) -> None:
    values = np.arange(0, 10_000, dtype=np.int32)
    r = value_range
    found = encode_native(torch.from_numpy(values), low=r.low, high=r.high, invalid=r.invalid)
    np.testing.assert_array_equal(found.numpy(), r.encode(values))
