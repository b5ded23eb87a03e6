from __future__ import annotations

import tomllib

import pytest

from published import (
    GAZE_DISCRIMINATOR,
    GAZE_REFINER,
    HANDS_DISCRIMINATOR,
    HANDS_REFINER,
    HANDS_REFINER_FIRST_7X7,
)
from simgan.config import recipe_names, recipe_text, resolve_configuration
from simgan.nn.discriminator import DiscriminatorLayer, DiscriminatorSpec
from simgan.nn.losses import paper_weight
from simgan.nn.refiner import RefinerSpec


def test_the_recipes_are_the_ones_announced() -> None:
    assert {"default", "paper-gaze", "paper-hands"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_itself_and_opens_with_what_it_is_for(name: str) -> None:
    text = recipe_text(name)
    assert tomllib.loads(text)["recipe"] == name
    assert text.startswith("# ")
    resolve_configuration(name)


def test_paper_gaze_is_section_3_1_as_printed() -> None:
    c = resolve_configuration("paper-gaze")
    layers = tuple(map(DiscriminatorLayer, (96, 64, 0, 32, 32), (3, 3, 3, 3, 1), (2, 2, 1, 1, 1)))
    assert (RefinerSpec(1, 64, 4), DiscriminatorSpec(1, layers, 2)) == (GAZE_REFINER, GAZE_DISCRIMINATOR)
    t = c.training
    assert t.optimizer == "sgd"
    assert t.refiner_learning_rate == t.discriminator_learning_rate == 0.001
    assert t.learning_rate_decay == "none"
    assert t.learning_rate_milestones == ()
    assert t.batch_size == 512
    assert (t.refiner_updates_per_step, t.discriminator_updates_per_step) == (2, 1)
    assert (t.warmup_refiner_steps, t.warmup_discriminator_steps) == (1000, 200)
    assert t.history_batches == 50
    assert t.steps == 10_000
    assert (t.augmentation_shift_px, t.augmentation_gain) == (0, 0)
    assert c.objective.patches == "sum"
    assert c.objective.feature_transform == "identity"
    shown = paper_weight(c.objective.self_regularization_weight, elements=35 * 55, patch_count=126)
    assert shown == pytest.approx(0.01, rel=1e-12)
    assert not c.data.level_matching
    assert c.refiner.average_decay == 0
    assert not c.discriminator.spectral_normalization


def test_paper_hands_is_section_3_2_as_printed() -> None:
    c = resolve_configuration("paper-hands")
    layers = tuple(map(DiscriminatorLayer, (96, 64, 0, 32, 32), (7, 5, 3, 3, 1), (4, 2, 2, 2, 1)))
    assert (RefinerSpec(1, 64, 10, 7, 7), DiscriminatorSpec(1, layers, 2)) == (
        HANDS_REFINER,
        HANDS_DISCRIMINATOR,
    )
    t = c.training
    assert t.refiner_learning_rate == t.discriminator_learning_rate == 0.0002
    ((drop, factor),) = t.learning_rate_milestones
    assert drop == 600_000
    assert 0.0002 * factor == pytest.approx(0.00005)
    assert t.steps > drop
    assert (t.refiner_updates_per_step, t.discriminator_updates_per_step) == (2, 1)
    assert (t.warmup_refiner_steps, t.warmup_discriminator_steps) == (500, 200)
    assert c.objective.patches == "sum"
    shown = paper_weight(c.objective.self_regularization_weight, elements=224 * 224, patch_count=49)
    assert shown == pytest.approx(0.01, rel=1e-12)
    assert c.refiner.average_decay == 0


def test_the_other_readings_of_the_paper_are_one_override_away() -> None:
    fifty = resolve_configuration("paper-gaze", {"training.refiner_updates_per_step": 50})
    assert fifty.training.refiner_updates_per_step == 50
    first_only = HANDS_REFINER_FIRST_7X7
    assert (first_only.kernel, first_only.first_kernel, first_only.blocks) == (3, 7, 10)


def test_the_faithful_recipes_have_a_sum_not_a_mean_and_the_default_derives_its_networks() -> None:
    default = resolve_configuration("default")
    assert default.refiner.blocks == 0
    assert default.discriminator.layers == ()
    assert default.objective.patches == "mean"
