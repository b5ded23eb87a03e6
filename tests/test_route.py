from __future__ import annotations

import pytest
import torch
from torch import nn

from simgan.errors import ConfigurationError
from simgan.nn import route as route_module
from simgan.nn.route import Route, choose_route, has_bfloat16_units

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["with bf16 units", "without"])
def units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(route_module, "has_bfloat16_units", lambda _: request.param)
    return bool(request.param)


def test_8_bit_images_take_bf16_where_the_processor_has_units_for_it(units: bool) -> None:
    chosen = choose_route(device="cpu", bit_depth=8)
    assert chosen.dtype == (torch.bfloat16 if units else torch.float32)


def test_16_bit_images_never_take_bf16_by_themselves(units: bool) -> None:
    assert choose_route(device="cpu", bit_depth=16).dtype == torch.float32


def test_a_precision_that_was_asked_for_is_taken(units: bool) -> None:
    assert choose_route(device="cpu", precision="bfloat16", bit_depth=16).dtype == torch.bfloat16
    assert choose_route(device="cpu", precision="float32", bit_depth=8).dtype == torch.float32


def test_bf16_units_need_both_the_library_and_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for mkldnn, avx, amx in (
        (True, True, False),
        (True, False, True),
        (True, False, False),
        (False, True, True),
    ):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda m=mkldnn: m, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda a=avx: a)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda a=amx: a)
        assert has_bfloat16_units(CPU) == (mkldnn and (avx or amx))


def test_auto_is_the_processor_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_route(precision="float32").device == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_route(device="cuda:1", precision="float32").device == torch.device("cuda:1")
    with pytest.raises(ConfigurationError, match="there are: cpu, cuda:0, cuda:1"):
        choose_route(device="cuda:2", precision="float32")
    assert choose_route(precision="float32").device == torch.device("cuda")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cuda:x", "gpu", "", "meta", "cpu:3"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_spent(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigurationError, match=r"run\.device.*cpu"):
        choose_route(device=device, precision="float32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolutions_run_in_the_routes_precision_on_float32_weights(dtype: torch.dtype) -> None:
    route = Route(CPU, dtype)
    convolution = route.place(nn.Conv2d(3, 4, 3))
    images = route.put(torch.rand(2, 3, 8, 8))
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert convolution.weight.dtype == torch.float32
    with route.autocast():
        assert convolution(images).dtype == dtype


def test_placing_keeps_the_object_and_putting_the_values() -> None:
    route, network, images = Route(CPU, torch.float32), nn.Conv2d(1, 1, 3), torch.rand(2, 3, 4, 5)
    assert route.place(network) is network
    assert torch.equal(route.put(images), images)


def test_a_route_says_what_it_is() -> None:
    assert str(Route(CPU, torch.float32)) == "cpu float32"
    assert str(Route(CPU, torch.bfloat16)) == "cpu bfloat16"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and there is none")
def test_networks_go_to_the_gpu() -> None:
    route = choose_route(bit_depth=8)
    network, images = route.place(nn.Conv2d(1, 2, 3)), route.put(torch.rand(1, 1, 8, 8))
    with route.autocast():
        assert network(images).device.type == "cuda"
