from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.data.cache import ImageCache, open_cache
from simgan.data.streams import BatchStream
from simgan.data.trees import ImageTree
from simgan.errors import DataError, RunError
from simgan.images import write_image


def coordinates(i: int, height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    """An RGB image whose pixels say where they are: (image, row, column)."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([np.full_like(rows, i), rows, columns]).astype(dtype)


def make_cache(folder: Path, sizes: list[tuple[int, int]], dtype: type = np.uint8) -> ImageCache:
    (folder / "tree").mkdir(parents=True)
    for i, size in enumerate(sizes):
        write_image(folder / f"tree/{i:03}.png", coordinates(i, *size, dtype))
    return open_cache(ImageTree(folder / "tree"), folder / "cache")


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> ImageCache:
    return make_cache(tmp_path_factory.mktemp("equal"), [(6, 8)] * 10)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> ImageCache:
    return make_cache(tmp_path_factory.mktemp("unequal"), [(6, 8), (7, 5), (9, 9), (6, 8), (5, 20)])


def names(batch: torch.Tensor) -> list[int]:
    return batch[:, 0, 0, 0].tolist()


def test_a_batch_holds_native_pixels_channels_first(equal: ImageCache) -> None:
    batch = BatchStream(equal, batch_size=4, seed=0).next()
    assert batch.shape == (4, 3, 6, 8)
    assert batch.dtype == torch.uint8
    for image in batch:
        expected = coordinates(int(image[0, 0, 0]), 6, 8)
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_16_bit_images_come_as_int32(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [(4, 4)], np.uint16)
    (tmp_path / "deep").mkdir()
    write_image(tmp_path / "deep/a.png", np.full((4, 4, 1), 65535, np.uint16))
    batch = BatchStream(
        open_cache(ImageTree(tmp_path / "deep"), tmp_path / "cache"), batch_size=2, seed=0
    ).next()
    assert batch.dtype == torch.int32
    assert batch.unique().tolist() == [65535]
    assert BatchStream(cache, batch_size=1, seed=0, crop=(2, 2)).next().dtype == torch.int32


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 23])
def test_every_epoch_visits_every_image_once_and_no_partial_batch_is_lost(
    batch_size: int, equal: ImageCache
) -> None:
    stream = BatchStream(equal, batch_size=batch_size, seed=3)
    drawn = [name for _ in range(60 // batch_size + 1) for name in names(stream.next())]
    for epoch in range(5):
        assert sorted(drawn[10 * epoch : 10 * epoch + 10]) == list(range(10))


def test_every_epoch_has_its_own_order(equal: ImageCache) -> None:
    stream = BatchStream(equal, batch_size=10, seed=0)
    orders = [tuple(names(stream.next())) for _ in range(6)]
    assert len(set(orders)) == 6
    assert tuple(range(10)) not in orders


def test_the_seed_alone_decides_the_order(equal: ImageCache) -> None:
    def order(seed: int) -> list[int]:
        torch.manual_seed(seed + 99)  # global generators play no part
        np.random.seed(seed + 99)
        return names(BatchStream(equal, batch_size=10, seed=seed).next())

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_only_the_chosen_images_are_drawn(equal: ImageCache) -> None:
    stream = BatchStream(equal, indices=np.array([2, 5, 7]), batch_size=6, seed=0)
    assert Counter(names(stream.next())) == {2: 2, 5: 2, 7: 2}


@settings(deadline=None, max_examples=40)
@given(before=st.integers(0, 12), after=st.integers(1, 6), batch_size=st.integers(1, 13), crop=st.booleans())
def test_a_resumed_stream_goes_on_as_if_never_stopped(
    equal: ImageCache, before: int, after: int, batch_size: int, crop: bool
) -> None:
    def stream() -> BatchStream:
        return BatchStream(equal, batch_size=batch_size, seed=5, crop=(3, 3) if crop else None)

    whole = stream()
    for _ in range(before):
        whole.next()
    state = whole.state_dict()
    assert state == {"position": before * batch_size}
    resumed = stream()
    resumed.next()  # having run before must not matter
    resumed.load_state_dict(state)
    for _ in range(after):
        assert torch.equal(whole.next(), resumed.next())


@pytest.mark.parametrize("state", [{}, {"position": -1}, {"position": "3"}])
def test_a_damaged_state_is_refused(state: dict[str, object], equal: ImageCache) -> None:
    with pytest.raises(RunError, match="is the checkpoint damaged"):
        BatchStream(equal, batch_size=1, seed=0).load_state_dict(state)


def test_crops_are_windows_at_native_scale(unequal: ImageCache) -> None:
    stream = BatchStream(unequal, batch_size=5, seed=0, crop=(5, 4))
    for _ in range(20):
        batch = stream.next()
        assert batch.shape == (5, 3, 5, 4)
        for image in batch:
            i, top, left = (int(v) for v in image[:, 0, 0])
            expected = coordinates(i, 50, 50)[top : top + 5, left : left + 4]
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_crops_reach_every_corner_evenly(equal: ImageCache) -> None:
    stream = BatchStream(equal, batch_size=100, seed=0, crop=(5, 6))  # 2 tops × 3 lefts
    corners = Counter(
        (int(image[1, 0, 0]), int(image[2, 0, 0])) for _ in range(12) for image in stream.next()
    )
    assert set(corners) == {(top, left) for top in range(2) for left in range(3)}
    # 1,200 draws over 6 corners: 200 expected, standard deviation 13; 5 of them either way
    assert min(corners.values()) > 135
    assert max(corners.values()) < 265


def test_a_crop_of_the_whole_image_is_the_image(equal: ImageCache) -> None:
    cropped = BatchStream(equal, batch_size=10, seed=0, crop=(6, 8))
    assert torch.equal(cropped.next(), BatchStream(equal, batch_size=10, seed=0).next())


def test_unequal_sizes_without_a_crop_are_refused_with_both_ways_out(unequal: ImageCache) -> None:
    with pytest.raises(
        DataError, match=r"4 different sizes.*2 of \(6, 8\).*`crop`.*at most \(5, 5\).*`simgan prepare`"
    ):
        BatchStream(unequal, batch_size=1, seed=0)


def test_equal_sizes_among_the_chosen_need_no_crop(unequal: ImageCache) -> None:
    batch = BatchStream(unequal, indices=np.array([0, 3]), batch_size=2, seed=0).next()
    assert batch.shape == (2, 3, 6, 8)
    assert sorted(names(batch)) == [0, 3]


def test_a_crop_that_does_not_fit_names_the_images(unequal: ImageCache) -> None:
    with pytest.raises(
        DataError, match=r"crop \(height, width\) of \(6, 6\) does not fit into 2 of 5 images"
    ) as caught:
        BatchStream(unequal, batch_size=1, seed=0, crop=(6, 6))
    said = str(caught.value)
    assert "001.png (7, 5), 004.png (5, 20); set `crop` to at most (5, 5)" in said
    assert "simgan prepare" in said


def test_many_images_too_small_are_named_by_the_first(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [(4, 4 + i) for i in range(7)])
    with pytest.raises(DataError, match=r"7 of 7 images: 000\.png.*004\.png \(4, 8\), …;"):
        BatchStream(cache, batch_size=1, seed=0, crop=(5, 5))
    with pytest.raises(DataError, match=r"7 different sizes.*, …; set `crop`"):
        BatchStream(cache, batch_size=1, seed=0)


@pytest.mark.parametrize("crop", [(0, 3), (3, -1)])
def test_a_crop_of_nothing_is_refused(crop: tuple[int, int], equal: ImageCache) -> None:
    with pytest.raises(DataError, match=r"at least \(1, 1\) is wanted"):
        BatchStream(equal, batch_size=1, seed=0, crop=crop)


def test_no_images_and_no_batch_are_refused(equal: ImageCache) -> None:
    with pytest.raises(DataError, match="at least one is wanted"):
        BatchStream(equal, indices=np.array([], np.int64), batch_size=1, seed=0)
    with pytest.raises(DataError, match="got batch size 0"):
        BatchStream(equal, batch_size=0, seed=0)


def test_a_batch_may_be_changed_without_changing_the_cache(equal: ImageCache) -> None:
    before = equal[0].copy()
    batch = BatchStream(equal, indices=np.array([0]), batch_size=1, seed=0).next()
    batch.zero_()
    np.testing.assert_array_equal(equal[0], before)
