"""Sections of gpu.py: what the device can do, what the refiner makes of it, layer by layer and as a stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import measuring
import torch
from gpu_training import Scale
from made import PAPER_GAZE, draw_eyes, players_of, reference_of
from measuring import copy_rate, matrix_rate, say, timed
from refining_routes import (
    CastRefiner,
    Refine,
    autocast_route,
    captured_route,
    conv_kernel,
    float_convolutions,
    float_route,
    in_chunks,
)
from roofline import Ceilings, Layer, as_rows, refiner_layers, refining_bound
from torch import Tensor

from simgan.nn.quantization import Quantization
from simgan.nn.residence import encode_native
from simgan.nn.route import Route

CEILINGS: dict[str, Ceilings] = {}
"""Filled by `ceilings`: "large" and "layer", by the matrix rate that they take."""

_PIXELS = PAPER_GAZE.size[0] * PAPER_GAZE.size[1]


def ceilings(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Matrix rates on large and on layer-shaped products, the layer's convolution itself, and copying."""
    bf16, result = torch.bfloat16, {}
    large = [matrix_rate(n, n, n, bf16, device) for n in scale.large_products]
    layer = [matrix_rate(n * _PIXELS, 64, 576, bf16, device, budget_sec=0.3) for n in scale.batches]
    strict = matrix_rate(*[scale.large_products[0]] * 3, torch.float32, device)
    copied = copy_rate(device, megabytes=scale.copy_megabytes)
    result |= {"large_bf16": large, "layer_shaped_bf16": layer, "large_float32": strict, "copy": copied}
    best = {"large": max(r["flops"] for r in large), "layer": max(r["flops"] for r in layer)}
    for name, rate in best.items():
        CEILINGS[name] = Ceilings(rate, copied["bytes_per_sec"])
        say(f"   {name} bf16 product {rate / 1e12:.1f} TFLOP/s")
    say(f"   large float32 product {strict['flops'] / 1e12:.1f} TFLOP/s")
    say(f"   copy {copied['bytes_per_sec'] / 1e12:.2f} TB/s (read and written bytes)")
    for n in scale.batches:
        rates = _convolution_rates(n, device)
        result[f"convolution_64_64_batch_{n}"] = rates
        said = ", ".join(
            f"{name} {rate['flops'] / 1e12:.0f}" for name, rate in rates.items() if "flops" in rate
        )
        say(f"   3×3 convolution of 64 maps, batch {n}, TFLOP/s: {said}")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    CEILINGS["layer"] = Ceilings(best["layer"], copied["bytes_per_sec"])
    result["best"] = best
    return result


def _convolution_rates(count: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Operations a second of the refiner's inner convolution: forward, fused, and both gradients."""
    layer = refiner_layers(PAPER_GAZE.refiner, PAPER_GAZE.size)[1]
    return {
        name: {"flops": count * layer.operations / taken["median_sec"], **taken}
        for name, taken in _layer_times(layer, count, device, budget_sec=0.2).items()
    }


def _layer_times(
    layer: Layer, count: int, device: torch.device, *, budget_sec: float
) -> dict[str, dict[str, float]]:
    """Of one convolution as the library has it, and of its variants."""
    last, bf16 = torch.channels_last, torch.bfloat16
    x = torch.randn((count, layer.inputs, *layer.in_size), device=device, dtype=bf16).to(memory_format=last)
    weight = torch.randn((layer.outputs, layer.inputs, layer.kernel, layer.kernel), device=device, dtype=bf16)
    weight = weight.mul_(0.05).to(memory_format=last)
    bias = torch.randn(layer.outputs, device=device, dtype=bf16)
    padding, ones = [layer.kernel // 2] * 2, [1, 1]
    out = torch.conv2d(x, weight, None, ones, padding)
    other = torch.randn_like(out)

    def gradients(mask: list[bool]) -> Callable[[], Any]:
        return lambda: torch.ops.aten.convolution_backward(
            other, x, weight, [layer.outputs], ones, padding, ones, False, [0, 0], 1, mask
        )

    variants: dict[str, Callable[[], Any]] = {
        "forward": lambda: torch.conv2d(x, weight, None, ones, padding),
        "bias then ReLU": lambda: torch.relu(torch.conv2d(x, weight, bias, ones, padding)),
    }
    if device.type == "cuda" and layer.inputs % 8 == layer.outputs % 8 == 0:
        variants["fused ReLU"] = lambda: torch.cudnn_convolution_relu(x, weight, bias, ones, padding, ones, 1)
        variants["fused add, ReLU"] = lambda: torch.cudnn_convolution_add_relu(
            x, weight, other, 1.0, bias, ones, padding, ones, 1
        )
    if conv_kernel is not None and device.type == "cuda" and layer.inputs == layer.outputs == 64:
        taps = weight.permute(2, 3, 1, 0).reshape(9, 64, 64).contiguous()
        variants["triton ReLU"] = lambda: conv_kernel.convolve(x, taps, bias, None)
        variants["triton add, ReLU"] = lambda: conv_kernel.convolve(x, taps, bias, other)
    if layer.inputs > 1:
        variants["data gradient"] = gradients([True, False, False])
    variants["weight gradient"] = gradients([False, True, False])
    variants["bias gradient"] = gradients([False, False, True])
    variants["ReLU gradient"] = lambda: torch.ops.aten.threshold_backward(other, out, 0)
    times = {}
    for name, variant in variants.items():
        try:
            times[name] = timed(variant, device, budget_sec=budget_sec)
        except Exception as error:
            say(f"   {layer.name}, {name}: {type(error).__name__}: {str(error)[:200]}")
    return times


def layer_table(scale: Scale, device: torch.device, limits: dict[str, Ceilings]) -> dict[str, Any]:
    """Layer by layer at the training batch: operations, bytes, least time, measured time, share of the bound."""
    layers = refiner_layers(PAPER_GAZE.refiner, PAPER_GAZE.size)
    count = scale.task.batch
    rows = []
    for layer, costs in zip(layers, as_rows(layers), strict=True):
        if layer.name.startswith("block") and not layer.name.startswith("block 1"):
            continue  # the same shapes again
        times = _layer_times(layer, count, device, budget_sec=0.2)
        least = {
            f"least_{kind}_sec": limit.least_sec(count * layer.operations, count * layer.forward_bytes)
            for kind, limit in limits.items()
        }
        rows.append({**costs, **least, "times": times})
        said = ", ".join(f"{name} {t['median_sec'] * 1e6:.0f}" for name, t in times.items())
        say(f"   {layer.name}: at least {least['least_large_sec'] * 1e6:.0f} µs; {said}")
    return {"batch": count, "layers": rows}


def refine_rates(
    scale: Scale, device: torch.device, limits: dict[str, Ceilings], *, compiling: bool = False
) -> dict[str, Any]:
    """Images a second by each route, their error against float32, and the share of the bound."""
    torch.manual_seed(0)
    players = players_of(PAPER_GAZE, Route(device, torch.bfloat16))
    refiner = players.refiner.eval().requires_grad_(False)
    network = reference_of(PAPER_GAZE, players, device).refiner.eval().requires_grad_(False)
    x = encode_native(draw_eyes(scale.refined, real=False, device=device), low=0, high=255)
    sample = x[: min(256, len(x))]
    with torch.inference_mode():
        exact = network.double()(sample.double())
        network.float()
    bound = {name: len(x) * refining_bound(PAPER_GAZE, limit) for name, limit in limits.items()}
    rows: dict[str, Any] = {}

    def measure(name: str, refine: Refine, *, chunk: int, capture: bool) -> None:
        if name in rows:
            return
        try:
            with torch.inference_mode():
                error = (refine(sample).double() - exact).abs()
                whole = in_chunks(refine, chunk)
                function = captured_route(whole, x)[0] if capture else partial(whole, x)
                taken = timed(function, device, budget_sec=0.4)
        except Exception as problem:
            say(f"   {name}: {type(problem).__name__}: {str(problem)[:200]}")
            rows[name] = {"failed": str(problem)}
            return
        rate = len(x) / taken["median_sec"]
        shares = {f"share_of_{kind}_bound": least / taken["median_sec"] for kind, least in bound.items()}
        rows[name] = {
            "images_per_sec": rate, "chunk": chunk, "error_max": float(error.max()),
            "error_mean": float(error.mean()), **shares, **taken,
        }  # fmt: skip
        said = ", ".join(f"{share:.0%} of {kind[9:-6]}" for kind, share in shares.items())
        say(f"   {name}: {rate / 1e3:.1f} k images/s ({said}); error mean {float(error.mean()):.1e}")

    on_gpu = device.type == "cuda"
    for chunk in scale.chunks if not compiling else ():
        for fusing in (False, True) if on_gpu else (False,):
            route = autocast_route(refiner, fusing=fusing)  # type: ignore[arg-type]
            said = "autocast fused" if fusing else "autocast"
            measure(f"{said}, chunks of {chunk}", route, chunk=chunk, capture=False)
            if on_gpu:
                measure(f"{said}, captured, chunks of {chunk}", route, chunk=chunk, capture=True)
        kinds = ["plain"] + (["cudnn"] if on_gpu else []) + (["triton"] if on_gpu and conv_kernel else [])
        for kind in kinds:
            cast = CastRefiner(refiner, kind)  # type: ignore[arg-type]
            measure(f"cast {kind}, captured, chunks of {chunk}", cast, chunk=chunk, capture=on_gpu)
    if on_gpu and not compiling:
        cast = CastRefiner(refiner, "cudnn", pads=False)  # type: ignore[arg-type]
        measure("cast cudnn, one input channel, captured", cast, chunk=512, capture=True)
    if compiling:
        for mode, chunk in (("default", 512), ("default", 2048), ("max-autotune-no-cudagraphs", 2048)):
            torch._dynamo.reset()
            compiled = torch.compile(CastRefiner(refiner, "plain"), mode=mode)  # type: ignore[arg-type]
            measure(f"compiled {mode}, chunks of {chunk}", compiled, chunk=chunk, capture=on_gpu)
    else:
        for strict in (False, True):
            said = "strict float32" if strict else "float32 as torch defaults"
            with float_convolutions(strict=strict):
                measure(f"reference, {said}", float_route(network, strict=strict), chunk=512, capture=False)
    return {"images": len(x), "bound_sec": bound, "routes": rows}


def stream_through(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Images as uint8 in pinned host memory → refined ones as uint8 in pinned host memory, transfers overlapped."""
    count, chunk = scale.streamed, scale.stream_chunk
    on_gpu = device.type == "cuda"
    players = players_of(PAPER_GAZE, Route(device, torch.bfloat16))
    refiner = players.refiner.eval().requires_grad_(False)
    refine = in_chunks(autocast_route(refiner, fusing=True), scale.chunks[-1])  # type: ignore[arg-type]
    quantization = Quantization(256)
    source = torch.empty((count, 1, *PAPER_GAZE.size), dtype=torch.uint8, pin_memory=on_gpu)
    eyes = draw_eyes(min(count, 50_000), real=False, device=device).cpu()
    for start in range(0, count, len(eyes)):
        source[start : start + len(eyes)] = eyes[: count - start]
    target = torch.zeros_like(source, pin_memory=on_gpu)

    def computed(native: Tensor) -> Tensor:
        return quantization.codes(refine(encode_native(native, low=0, high=255)))

    def stages(first: int) -> dict[str, float]:
        """Each stage alone, per image."""
        part = source[:first]
        native = part.to(device)
        out = computed(native)
        return {
            "to the device": timed(lambda: part.to(device, non_blocking=True), device)["median_sec"] / first,
            "computing": timed(lambda: computed(native), device)["median_sec"] / first,
            "from the device": timed(lambda: target[:first].copy_(out), device)["median_sec"] / first,
        }  # fmt: skip

    with torch.inference_mode():
        alone = stages(min(chunk, count))
        measuring.synchronize(device)
        started = time.perf_counter()
        if on_gpu:
            _pipelined(source, target, computed, chunk, device)
        else:
            for start in range(0, count, chunk):
                target[start : start + chunk] = computed(source[start : start + chunk])
        total = time.perf_counter() - started
        right = computed(source[-64:].to(device)).cpu()
    differing = int((right != target[-64:]).sum())
    say(f"   {count:,} images in {total:.2f} s: {count / total / 1e3:.0f} k images/s")
    for name, each in alone.items():
        say(f"   {name}: {each * count:.2f} s if it were alone ({each * count / total:.0%} of the whole)")
    return {"images": count, "total_sec": total, "alone_sec": {k: v * count for k, v in alone.items()},
            "values_unlike_those_refined_alone": differing}  # fmt: skip


def _pipelined(
    source: Tensor, target: Tensor, computed: Callable[[Tensor], Tensor], chunk: int, device: torch.device
) -> None:
    """Three streams: while one chunk is computed, the next comes in and the last goes out."""
    inward, outward, compute = torch.cuda.Stream(), torch.cuda.Stream(), torch.cuda.current_stream()
    done: list[torch.cuda.Event] = []
    for i, start in enumerate(range(0, len(source), chunk)):
        if i >= 3:
            done[i - 3].synchronize()  # the host runs at most three chunks ahead, or memory grows
        with torch.cuda.stream(inward):
            native = source[start : start + chunk].to(device, non_blocking=True)
        compute.wait_stream(inward)
        native.record_stream(compute)
        out = computed(native)
        outward.wait_stream(compute)
        with torch.cuda.stream(outward):
            target[start : start + chunk].copy_(out, non_blocking=True)
            out.record_stream(outward)
            event = torch.cuda.Event()
            event.record()
            done.append(event)
    torch.cuda.synchronize(device)
