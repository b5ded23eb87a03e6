from __future__ import annotations

import random

from simgan.training.candidates import Candidate
from simgan.training.watch import Watch

HEALTHY = {"discriminator_accuracy": 0.75}
PERFECT = {"discriminator_accuracy": 1.0}


def candidate(distance: float = 0.1, diversity: float = 0.9) -> Candidate:
    return Candidate(
        step=1, sliced_wasserstein=0.1, realism_auc=0.7, distance_from_identity=distance, diversity=diversity
    )


def rows(watch: Watch, numbers: dict[str, float], count: int, phase: str = "adversarial") -> list[str]:
    return [message for _ in range(count) for message in watch.observe(numbers, phase=phase)]


def test_a_discriminator_that_stays_perfect_is_warned_of_once() -> None:
    watch = Watch(levels=256)
    said = rows(watch, PERFECT, 100)
    assert len(said) == 1
    assert "the discriminator tells refined from real without error" in said[0]
    assert "training.discriminator_learning_rate" in said[0]


def test_a_healthy_discriminator_is_not_warned_of() -> None:
    watch, chance = Watch(levels=256), random.Random(0)
    for _ in range(500):
        assert rows(watch, {"discriminator_accuracy": chance.uniform(0.4, 0.97)}, 1) == []


def test_luck_is_no_perfection() -> None:
    watch = Watch(levels=256)
    for _ in range(20):  # 19 perfect rows, then one that is not
        assert rows(watch, PERFECT, 19) == []
        assert rows(watch, HEALTHY, 1) == []


def test_a_perfect_discriminator_in_its_warm_up_is_as_it_should_be() -> None:
    watch = Watch(levels=256)
    assert rows(watch, PERFECT, 100, phase="warmup_discriminator") == []
    assert rows(watch, {"self_regularization": 0.1}, 100, phase="warmup_refiner") == []
    assert rows(watch, PERFECT, 19) == []


def test_a_refiner_that_changed_nothing_is_warned_of_at_the_end() -> None:
    watch = Watch(levels=256)
    half_a_level = 1 / 255
    assert list(watch.observe_candidate(candidate(half_a_level * 0.9), last=False)) == []
    (said,) = watch.observe_candidate(candidate(half_a_level * 0.9), last=True)
    assert "the refiner changes almost nothing (mean change 0.0035, half a grey level is 0.0039)" in said
    assert "objective.self_regularization_weight" in said
    assert list(Watch(levels=256).observe_candidate(candidate(half_a_level * 1.1), last=True)) == []


def test_what_is_nothing_depends_on_the_levels_of_the_files() -> None:
    assert list(Watch(levels=17).observe_candidate(candidate(0.05), last=True))  # half a level is 0.0625
    assert not list(Watch(levels=65536).observe_candidate(candidate(0.001), last=True))


def test_lost_diversity_is_warned_of_once() -> None:
    watch = Watch(levels=256)
    (said,) = watch.observe_candidate(candidate(diversity=0.49), last=False)
    assert "refined images have become alike: their spread is 49% of the synthetic ones'" in said
    assert list(watch.observe_candidate(candidate(diversity=0.2), last=True)) == []


def test_a_healthy_candidate_is_not_warned_of() -> None:
    for diversity in (0.51, 1.0, 1.6):
        for last in (False, True):
            assert list(Watch(levels=256).observe_candidate(candidate(0.2, diversity), last=last)) == []


def test_a_restored_watch_goes_on_counting_and_does_not_repeat_itself() -> None:
    first, second = Watch(levels=256), Watch(levels=256)
    assert rows(first, PERFECT, 15) == []
    second.load_state_dict(first.state_dict())
    assert rows(second, PERFECT, 4) == []
    assert len(rows(second, PERFECT, 1)) == 1
    third = Watch(levels=256)
    third.load_state_dict(second.state_dict())
    assert rows(third, HEALTHY, 1) == rows(third, PERFECT, 50) == []
