"""What a configuration needs of memory at the very least: said before training, not by a process that is killed."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import torch

from simgan.errors import ConfigurationError
from simgan.nn.discriminator import Discriminator, DiscriminatorSpec
from simgan.nn.refiner import Refiner, RefinerSpec
from simgan.nn.route import Route
from simgan.settings import Configuration


def refuse_beyond_memory(
    c: Configuration,
    refiner: RefinerSpec,
    discriminator: DiscriminatorSpec,
    crop: tuple[int, int],
    *,
    code_bytes: int,
    route: Route,
) -> None:
    """`ConfigurationError` where training surely does not fit into this machine's memory.

    Counted, in bytes: the history (B images of `code_bytes` a value) and its copy in a checkpoint; weights and
    gradients of both networks, and Adam's two moments; one batch's feature maps in R's blocks, which the backward pass
    needs. On a GPU the networks are its affair, and only the history counts.
    """
    t, images = c.training, c.training.history_batches * c.training.batch_size
    pixels = math.prod(crop)
    needs = {"training.history_batches": 2 * images * refiner.channels * pixels * code_bytes}
    if route.device.type == "cpu":
        each = 4 * (4 if t.optimizer == "adam" else 2)
        maps = t.batch_size * refiner.width * pixels * 2 * refiner.blocks
        needs |= {
            "[refiner] and [discriminator]": each * _parameters(refiner, discriminator),
            "training.batch_size, refiner.width and refiner.blocks": maps * route.dtype.itemsize,
        }
    there = machine_memory()
    if there is not None and sum(needs.values()) > there:
        said = ", ".join(f"{size / 2**30:,.1f} GiB for {key}" for key, size in needs.items() if size)
        raise ConfigurationError(
            f"training on crops of {crop[0]}×{crop[1]} needs at least {sum(needs.values()) / 2**30:,.1f} GiB of memory "
            f"({said}), this machine has {there / 2**30:,.1f} GiB: lower these, or set a smaller data.crop"
        )


def machine_memory() -> int | None:
    """Bytes of memory that the machine has; None where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _parameters(refiner: RefinerSpec, discriminator: DiscriminatorSpec) -> int:
    """Of both networks, built without memory."""
    with torch.device("meta"):
        networks = Refiner(refiner), Discriminator(replace(discriminator, spectral_normalization=False))
    return sum(weights.numel() for network in networks for weights in network.parameters())
