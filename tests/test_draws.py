from __future__ import annotations

import torch

from simgan.nn.draws import Draws


def seeded(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def number(draws: Draws) -> torch.Tensor:
    return draws(lambda: torch.randint(1000, (3,), generator=draws.generator))


def test_a_choice_is_what_the_generator_makes() -> None:
    wanted = torch.randint(1000, (3,), generator=torch.Generator().manual_seed(5))
    assert torch.equal(number(seeded(5)), wanted)


def test_recorded_choices_are_made_anew_in_the_same_places_and_order() -> None:
    """Replayed from its recording, an update sees the very choices that it would have made itself."""
    plain, draws = seeded(1), seeded(1)
    wanted = [[number(plain).tolist(), number(plain).tolist()] for _ in range(4)]
    with draws.recorded() as recording:
        places = [number(draws), number(draws)]
    for choices in wanted:
        recording.refill()
        assert [place.tolist() for place in places] == choices
    assert torch.equal(number(draws), number(plain))  # and nothing is recorded any more


def test_a_choice_may_change_the_state_that_the_next_is_made_from() -> None:
    drawn = iter(range(10))
    draws = seeded()
    with draws.recorded() as recording:
        place = draws(lambda: torch.tensor([next(drawn)]))
    seen = []
    for _ in range(3):
        recording.refill()
        seen.append(int(place))
    assert seen == [0, 1, 2]
