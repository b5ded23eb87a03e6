from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from published import (
    GAZE_DISCRIMINATOR,
    GAZE_REFINER,
    HANDS_DISCRIMINATOR,
    HANDS_REFINER,
    HANDS_REFINER_FIRST_7X7,
)
from simgan.nn.discriminator import (
    Discriminator,
    DiscriminatorLayer,
    DiscriminatorSpec,
    discriminator_receptive_field,
)
from simgan.nn.receptive_field import Stage, output_size, receptive_field
from simgan.nn.refiner import Refiner, RefinerSpec, refiner_receptive_field


def test_fields_by_hand() -> None:
    assert receptive_field([]) == 1
    assert receptive_field([Stage(3)]) == 3
    assert receptive_field([Stage(1, 2), Stage(1, 3)]) == 1
    # 3×3 s2, then 3×3 on every second pixel: 3 + 2·2 = 7; then 5×5 on every fourth: 7 + 4·4 = 23
    assert receptive_field([Stage(3, 2), Stage(3, 2), Stage(5)]) == 23


def test_output_sizes_by_hand() -> None:
    assert output_size(35, [Stage(3, 2), Stage(3, 2)]) == 9  # 35 → 18 → 9
    assert output_size(55, [Stage(3, 2), Stage(3, 2)]) == 14  # 55 → 28 → 14
    assert output_size(224, [Stage(7, 4), Stage(5, 2), Stage(3, 2), Stage(3, 2)]) == 7
    assert output_size(1, [Stage(3, 2)] * 5) == 1


def test_the_published_networks_have_the_published_fields() -> None:
    assert refiner_receptive_field(GAZE_REFINER) == 19
    assert refiner_receptive_field(HANDS_REFINER) == 127
    assert refiner_receptive_field(HANDS_REFINER_FIRST_7X7) == 47
    assert discriminator_receptive_field(GAZE_DISCRIMINATOR) == 23
    assert discriminator_receptive_field(HANDS_DISCRIMINATOR) == 71


def narrow(spec: DiscriminatorSpec) -> DiscriminatorSpec:
    """The same geometry with few maps: the field does not depend on them."""
    layers = tuple(DiscriminatorLayer(min(x.width, 3), x.kernel, x.stride) for x in spec.layers)
    return DiscriminatorSpec(spec.channels, layers, spec.output_maps)


def open_up(network: torch.nn.Module) -> torch.nn.Module:
    """Positive weights only, in float64: nothing cancels, no ReLU closes, no tiny gradient is lost."""
    for parameter in network.double().parameters():
        parameter.data = parameter.data.abs() + 0.1
    return network


def extent(support: torch.Tensor) -> tuple[int, int]:
    """Height and width of the box of True; all of the box must be True."""
    rows, columns = support.any(1).nonzero(), support.any(0).nonzero()
    box = support[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert box.all()
    return box.shape[0], box.shape[1]


@pytest.mark.parametrize(
    "spec",
    [
        RefinerSpec(channels=1, width=2, blocks=4),
        RefinerSpec(channels=1, width=2, blocks=1, kernel=5, first_kernel=7, output="residual"),
        RefinerSpec(channels=1, width=2, blocks=10, first_kernel=7),
    ],
)
def test_the_gradient_of_a_refined_pixel_covers_exactly_the_field(spec: RefinerSpec) -> None:
    refiner = open_up(Refiner(spec))
    side = refiner.receptive_field + 4
    image = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    refiner(image)[0, 0, side // 2, side // 2].backward()
    assert extent(image.grad[0, 0] != 0) == (refiner.receptive_field, refiner.receptive_field)


def test_the_gradient_of_a_logit_covers_exactly_the_field() -> None:
    layer = DiscriminatorLayer
    spec = DiscriminatorSpec(1, (layer(3, 5, 2), layer(3, 3, 2), layer(3, 3)))
    discriminator = open_up(Discriminator(spec))
    image = torch.ones(1, 1, 61, 61, dtype=torch.float64, requires_grad=True)
    logits = discriminator(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert extent(image.grad[0, 0] != 0) == (discriminator.receptive_field,) * 2


@pytest.mark.parametrize(
    ("spec", "side", "stride"), [(GAZE_DISCRIMINATOR, 49, 4), (HANDS_DISCRIMINATOR, 225, 32)]
)
def test_pixels_outside_its_field_cannot_reach_a_logit_through_max_pooling(
    spec: DiscriminatorSpec, side: int, stride: int
) -> None:
    """NaN spreads to everything that it can reach, also where max-pooling hides a gradient."""
    discriminator = Discriminator(narrow(spec)).double()
    field = discriminator.receptive_field
    images = torch.zeros(side, 1, side, side, dtype=torch.float64)
    for row in range(side):
        images[row, 0, row] = torch.nan  # the whole row: rows alone tell heights apart
    reached = discriminator(images).isnan().all(dim=3)[:, 0]  # (pixel row, logit row)
    middle = reached.shape[1] // 2
    rows = reached[:, middle].nonzero().flatten()
    assert rows.tolist() == list(range(int(rows.min()), int(rows.min()) + field))
    following = reached[:, middle + 1].nonzero().flatten()
    assert following.min() - rows.min() == stride


layers = st.one_of(
    st.builds(DiscriminatorLayer, st.just(2), st.sampled_from([1, 3, 5, 7]), st.integers(1, 4)),
    st.builds(DiscriminatorLayer, st.just(0), st.integers(1, 4), st.integers(1, 3)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(layers, min_size=1, max_size=4).map(tuple), st.integers(1, 41), st.integers(1, 41))
def test_maps_have_the_announced_size_for_every_image_size(
    chosen: tuple[DiscriminatorLayer, ...], height: int, width: int
) -> None:
    discriminator = Discriminator(DiscriminatorSpec(1, chosen))
    with torch.no_grad():
        logits = discriminator(torch.zeros(1, 1, height, width))
    assert tuple(logits.shape) == (1, 1, *discriminator.patch_grid(height, width))
