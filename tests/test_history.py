from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.nn.draws import Draws
from simgan.nn.history import HistoryBuffer


def seeded(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def numbered(start: int, count: int) -> torch.Tensor:
    """Images (count, 1, 2, 2) whose pixels all hold the image's own number."""
    return torch.arange(start, start + count, dtype=torch.int32).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def buffer_of(capacity: int, filled: int = 0) -> HistoryBuffer:
    buffer = HistoryBuffer(capacity, (1, 2, 2), torch.int32)
    if filled:
        buffer.add(numbered(0, filled), seeded())
    return buffer


def held(buffer: HistoryBuffer) -> list[int]:
    images = buffer.state_dict()["images"]
    assert (images == images[:, :, :1, :1]).all()
    return sorted(images[:, 0, 0, 0].tolist())


def test_the_buffer_fills_to_its_capacity_and_no_further() -> None:
    buffer, draws = buffer_of(10), seeded()
    sizes = []
    for start in range(0, 24, 4):
        buffer.add(numbered(start, 4), draws)
        sizes.append(buffer.size)
        assert len(set(held(buffer))) == buffer.size
    assert sizes == [4, 8, 10, 10, 10, 10]


def test_nothing_is_lost_before_the_buffer_is_full() -> None:
    assert held(buffer_of(10, filled=10)) == list(range(10))


def test_a_full_buffer_gives_up_exactly_as_many_entries_as_come_in() -> None:
    buffer = buffer_of(10, filled=10)
    buffer.add(numbered(100, 3), seeded())
    now = held(buffer)
    assert [n for n in now if n >= 100] == [100, 101, 102]
    assert len([n for n in now if n < 100]) == 7


def test_an_addition_that_reaches_over_the_end_fills_and_then_replaces() -> None:
    buffer = buffer_of(10, filled=8)
    buffer.add(numbered(100, 5), seeded())
    now = held(buffer)
    assert len(now) == 10
    # two filled the end; three replaced among all ten, perhaps also one of those two
    assert {102, 103, 104} <= set(now)
    assert len([n for n in now if n < 100]) in (5, 6, 7)


def test_entries_are_drawn_uniformly_and_without_repeats() -> None:
    buffer, draws = buffer_of(10, filled=10), seeded()
    counts = torch.zeros(10)
    for _ in range(2000):
        drawn = buffer.sample(3, draws)[:, 0, 0, 0]
        assert len(drawn.unique()) == 3
        counts[drawn.long()] += 1
    # 6,000 draws, 600 expected each; standard deviation √(2000 · 0.3 · 0.7) = 20.5
    assert (counts - 600).abs().max() < 5 * 20.5


def test_entries_are_replaced_uniformly() -> None:
    draws, survived = seeded(), torch.zeros(10)
    for _ in range(2000):
        buffer = buffer_of(10, filled=10)
        buffer.add(numbered(100, 3), draws)
        survived[[n for n in held(buffer) if n < 100]] += 1
    # each survives with probability 0.7: 1,400 ± 20.5
    assert (survived - 1400).abs().max() < 5 * 20.5


def test_old_entries_age_out() -> None:
    buffer, draws = buffer_of(50, filled=50), seeded()
    left = []
    for step in range(1, 101):
        buffer.add(numbered(100 * step, 5), draws)
        left.append(sum(n < 50 for n in held(buffer)))
    # each survives n rounds with probability 0.9ⁿ: 50 · 0.9⁷ = 23.9, 50 · 0.9¹⁰⁰ = 0.001
    assert 15 < left[6] < 33
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)


def test_fewer_entries_than_asked_for_are_all_there_are() -> None:
    buffer = buffer_of(10, filled=3)
    assert sorted(buffer.sample(5, seeded())[:, 0, 0, 0].tolist()) == [0, 1, 2]
    assert len(buffer_of(10).sample(5, seeded())) == 0


def test_more_images_than_the_capacity_leave_a_full_buffer_of_them() -> None:
    buffer = buffer_of(4)
    buffer.add(numbered(0, 23), seeded())
    assert buffer.size == 4
    assert len(set(held(buffer))) == 4


def test_a_drawn_batch_may_be_changed_without_changing_the_buffer() -> None:
    buffer = buffer_of(4, filled=4)
    buffer.sample(4, seeded()).zero_()
    assert held(buffer) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_codes_come_out_as_they_went_in(dtype: torch.dtype) -> None:
    codes = torch.randint(0, 256, (4, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(dtype)
    buffer = HistoryBuffer(4, (3, 5, 7), dtype)
    buffer.add(codes, seeded())
    assert buffer.state_dict()["images"].dtype == dtype
    assert torch.equal(buffer.state_dict()["images"], codes)


@settings(deadline=None, max_examples=40)
@given(
    capacity=st.integers(1, 9), additions=st.lists(st.integers(0, 12), max_size=8), seed=st.integers(0, 99)
)
def test_a_restored_buffer_goes_on_as_if_never_stopped(
    capacity: int, additions: list[int], seed: int
) -> None:
    buffer, draws = buffer_of(capacity), seeded(seed)
    added = 0
    for count in additions:
        buffer.add(numbered(added, count), draws)
        added += count
    assert buffer.size == min(capacity, added)
    assert len(set(held(buffer))) == buffer.size
    state = buffer.state_dict()
    assert len(state["images"]) == buffer.size
    restored = buffer_of(capacity)
    restored.load_state_dict(state)
    for one in (buffer, restored):
        same = seeded(seed)
        one.add(numbered(1000, 2), same)
        one.last = one.sample(3, same)  # type: ignore[attr-defined]
    assert torch.equal(buffer.last, restored.last)  # type: ignore[attr-defined]
    assert torch.equal(buffer.state_dict()["images"], restored.state_dict()["images"])


def test_a_saved_state_does_not_change_with_the_buffer() -> None:
    buffer = buffer_of(4, filled=4)
    state = buffer.state_dict()
    buffer.add(numbered(100, 4), seeded())
    assert state["images"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
