from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import simgan
from refiners import build_refiner, noise
from simgan.images import ValueRange, write_image
from simgan.weights import TrainedRefiner, save_refiner


def write_classes(
    root: Path, names: tuple[str, ...], *, bits: int = 8, channels: int = 1
) -> simgan.ImageTree:
    """Two images of noise in a folder for each class."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(2):
            write_image(root / name / f"{i}.png", noise(20, 30, channels, bits=bits, seed=2 * number + i))
    return simgan.ImageTree(root)


def test_a_pair_is_an_image_on_minus_1_to_1_and_the_number_of_its_class(tmp_path: Path) -> None:
    tree = write_classes(tmp_path / "tree", ("2", "10"), channels=4)
    pairs = simgan.LabelledImages(tree)
    assert len(pairs) == 4
    assert pairs.paths == ("10/0.png", "10/1.png", "2/0.png", "2/1.png")
    image, label = pairs[3]
    native = tree.read("2/1.png")[..., :3].transpose(2, 0, 1)
    assert torch.allclose(image, torch.from_numpy(native.astype(np.float32)) / 127.5 - 1, atol=1e-6)
    assert image.dtype == torch.float32
    assert (label.shape, label.dtype, pairs.labels.names[int(label)]) == ((), torch.int64, "2")
    assert [int(pairs[i][1]) for i in range(4)] == [1, 1, 0, 0]


def test_values_are_rows_of_the_table_in_the_order_of_the_images(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_image(tmp_path / f"{name}.png", noise(8, 8, 1, bits=16))
    (tmp_path / "labels.csv").write_text("path,x_px,yaw_deg\nb.png,1.5,-2\na.png,3,0.25\n")
    pairs = simgan.LabelledImages(simgan.ImageTree(tmp_path), value_range=ValueRange(0, 4095))
    image, label = pairs[0]
    assert label.dtype == torch.float32
    assert label.tolist() == [3.0, 0.25]
    assert float(image.max()) == 1.0, "16-bit noise, clipped to the range that was given"
    assert simgan.LabelledImages(simgan.ImageTree(tmp_path)).value_range == ValueRange(0, 65535)


def test_refined_when_read_is_what_the_refined_tree_holds(tmp_path: Path) -> None:
    synthetic = write_classes(tmp_path / "synthetic", ("0", "1", "2"))
    refiner = build_refiner(value_range=ValueRange(0, 255, 5, 0))
    save_refiner(tmp_path / "refiner.safetensors", refiner)
    simgan.refine(synthetic, tmp_path / "refiner.safetensors", tmp_path / "refined")
    stored = simgan.LabelledImages(simgan.ImageTree(tmp_path / "refined"), value_range=refiner.value_range)
    lazily = simgan.LabelledImages(synthetic, refiner=tmp_path / "refiner.safetensors")
    plain = simgan.LabelledImages(synthetic, value_range=refiner.value_range)
    assert lazily.value_range == refiner.value_range
    for i in range(len(plain)):
        assert torch.equal(lazily[i][0], stored[i][0])
        assert torch.equal(lazily[i][1], stored[i][1])
        assert not torch.equal(lazily[i][0], plain[i][0])


def test_classes_are_numbered_by_name_as_in_the_other_set(tmp_path: Path) -> None:
    synthetic = simgan.LabelledImages(write_classes(tmp_path / "synthetic", ("left", "right")))
    (tmp_path / "real").mkdir()
    for i, name in enumerate(("right", "left", "right")):
        write_image(tmp_path / "real" / f"{i}.png", noise(8, 8, 1))
        with (tmp_path / "real" / "labels.csv").open("a") as table:
            table.write(("path,class\n" if i == 0 else "") + f"{i}.png,{name}\n")
    real = simgan.LabelledImages(simgan.ImageTree(tmp_path / "real"), numbered_as=synthetic.labels)
    assert [int(real[i][1]) for i in range(3)] == [1, 0, 1]
    other = write_classes(tmp_path / "other", ("left", "up"))
    with pytest.raises(simgan.LabelError, match="only given: 'right'"):
        simgan.LabelledImages(other, numbered_as=synthetic.labels)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_refine_as_well(start: str, tmp_path: Path) -> None:
    tree = write_classes(tmp_path / "tree", ("0", "1"))
    pairs = simgan.LabelledImages(tree, refiner=build_refiner())
    wanted = torch.stack([pairs[i][0] for i in range(4)])  # the network was built before it is sent
    context = multiprocessing.get_context(start)
    ((images, labels),) = DataLoader(pairs, batch_size=4, num_workers=1, multiprocessing_context=context)
    assert torch.equal(images, wanted)
    assert labels.tolist() == [0, 0, 1, 1]


KINDS = [
    {},
    {"level_matching": True, "channels": 3},
    {"value_range": ValueRange(0, 255, 1, 0)},
    {"value_range": ValueRange(50, 200, 3, 80)},
    {"value_range": ValueRange(0, 240, 15, 240)},
    {"bit_depth": 16, "value_range": ValueRange(400, 4000, 1, 0)},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_batch_refined_on_the_fly_is_what_files_would_hold(kind: dict[str, object]) -> None:
    refiner = build_refiner(**kind)  # type: ignore[arg-type]
    form = refiner.pixel_format
    native = noise(3, 20, 30, form.channels, bits=form.bit_depth)
    batch = torch.from_numpy(refiner.value_range.encode(native).transpose(0, 3, 1, 2).copy())
    before = batch.clone()
    refined = refiner.transform(batch)
    wanted = refiner.value_range.encode(refiner(native, out_of_range="clip")).transpose(0, 3, 1, 2)
    level = 2 / (refiner.value_range.levels - 1)
    apart = np.abs(refined.numpy() - wanted)
    assert apart.max() < 1.01 * level
    assert (apart > level / 2).mean() < 0.001, "a rounding at most"
    assert torch.equal(batch, before)
    assert refined.dtype == torch.float32


def test_what_is_refined_on_the_fly_can_train_another_network() -> None:
    refiner = build_refiner(precision="bfloat16")
    network = torch.nn.Conv2d(1, 2, 3)
    network(refiner.transform(torch.zeros(2, 1, 8, 8))).mean().backward()
    assert network.weight.grad is not None
    assert all(weights.grad is None for weights in refiner.refiner.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_batch_is_refined_on_the_device_where_the_refiner_is(kind: dict[str, object]) -> None:
    on_cpu: TrainedRefiner = build_refiner(**kind)  # type: ignore[arg-type]
    batch = torch.rand(4, on_cpu.pixel_format.channels, 20, 30) * 2 - 1
    wanted = on_cpu.transform(batch)
    on_cpu.route = None
    on_cpu.refiner.cuda()
    on_gpu = simgan.TrainedRefiner(
        on_cpu.refiner, on_cpu.level_matching, on_cpu.value_range, on_cpu.pixel_format, on_cpu.training_scan
    )
    refined = on_gpu.transform(batch.cuda())
    assert refined.device.type == "cuda"
    assert float((refined.cpu() - wanted).abs().mean()) < 0.01
