from __future__ import annotations

import csv
import hashlib
import importlib.util
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

from simgan.errors import ConfigurationError, DataError, MissingExtraError
from simgan.images import read_image
from simgan.simulators import digits, fonts
from simgan.simulators.digits import LEVEL_STEP, draw_digit, draw_digits, simulate_digits

# What the pictures are drawn with: other versions may rasterize an edge differently.
DRAWN_WITH = {"pillow": "13.0.0", "matplotlib": "3.11.2", "opencv-python-headless": "5.0.0.93"}
FIRST_2000_OF_SEED_0 = "c8678e0c9a85488608f8573a9df6a7e3e16a22ffa43da69542e23b8c0c1c7e5e"


def test_the_first_2000_digits_of_seed_0_are_frozen() -> None:
    """Results that were published for these images stay comparable. If this must change, raise VERSION."""
    assert digits.VERSION == 1
    found = {name: version(name) for name in DRAWN_WITH}
    if found != DRAWN_WITH:
        pytest.skip(f"the digest holds for {DRAWN_WITH}, installed are {found}")
    digest = hashlib.sha256()
    for drawn in draw_digits(2000, 0):
        digest.update(bytes([drawn.digit]) + drawn.image.tobytes())
    assert digest.hexdigest() == FIRST_2000_OF_SEED_0


def test_a_digit_depends_on_seed_and_index_alone() -> None:
    in_a_row = list(draw_digits(12, 5))
    digits._glyph.cache_clear()
    for index in (11, 3, 7):  # in another order, and without those before
        alone = draw_digit(5, index)
        np.testing.assert_array_equal(alone.image, in_a_row[index].image)
        assert alone.rotation_deg == in_a_row[index].rotation_deg
        assert alone.face == in_a_row[index].face
    assert (draw_digit(6, 3).image != in_a_row[3].image).any()


def test_digits_are_8_by_8_with_0_to_16_like_those_of_scikit_learn() -> None:
    drawn = list(draw_digits(200, 1))
    images = np.stack([one.image for one in drawn])
    assert images.shape == (200, 8, 8)
    assert images.dtype == np.uint8
    assert images.min() == 0
    assert images.max() == 16
    assert len(np.unique(images)) == 17
    # size-normalized: the ink reaches both ends of the longer side
    ink = images > 0
    tall = ink.any(2)[:, [0, -1]].all(1)
    wide = ink.any(1)[:, [0, -1]].all(1)
    assert (tall | wide).mean() > 0.97


def test_classes_take_turns_and_every_face_is_used() -> None:
    drawn = list(draw_digits(300, 2))
    assert [one.digit for one in drawn] == [index % 10 for index in range(300)]
    assert {one.face for one in drawn} == set(digits._FACES)
    assert len(digits._FACES) == 13


def test_the_labels_say_what_was_drawn() -> None:
    """More stroke is more ink; slant leans the digit to the right, rotation (counter-clockwise) to the left."""
    drawn = list(draw_digits(1200, 3))
    ink = np.array([float(one.image.sum()) for one in drawn])
    for face in {one.face for one in drawn}:
        among = np.array([one.face == face for one in drawn])
        ink[among] -= ink[among].mean()
    assert np.corrcoef(ink, [one.stroke_px for one in drawn])[0, 1] > 0.5
    ones = [one for one in drawn if one.digit == 1 and one.face.startswith("DejaVuSans")]
    columns = np.arange(8)
    lean = []
    for one in ones:
        top, bottom = one.image[1:3].sum(0), one.image[5:7].sum(0)
        lean.append(top @ columns / top.sum() - bottom @ columns / bottom.sum())
    angles = np.array([(one.slant_deg, one.rotation_deg, 1) for one in ones])
    per_degree = np.linalg.lstsq(angles, np.array(lean))[0]
    # rows 1.5 and 5.5 are 4 apart: tan 1° · 4 = 0.07 pixels
    assert per_degree[0] == pytest.approx(0.07, abs=0.02)
    assert per_degree[1] == pytest.approx(-0.1, abs=0.05)  # the foot of the 1 tilts as well
    assert all(0.8 <= one.width_factor <= 1.15 for one in drawn)
    assert all(0 <= one.stroke_px <= 1.6 for one in drawn)
    assert all(0.3 <= one.blur_px <= 0.9 for one in drawn)


def test_the_written_tree_holds_the_drawn_levels_and_exact_labels(tmp_path: Path) -> None:
    simulate_digits(tmp_path, count=25, seed=4)
    with (tmp_path / "parameters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25
    for row, drawn in zip(rows, draw_digits(25, 4), strict=True):
        image = read_image(tmp_path / row["path"])
        np.testing.assert_array_equal(image[:, :, 0], drawn.image * LEVEL_STEP)
        assert image.shape == (8, 8, 1)
        assert row["path"].split("/")[0] == row["digit"] == str(drawn.digit)
        assert row["face"] == drawn.face
        for name in ("rotation_deg", "slant_deg", "width_factor", "stroke_px", "blur_px"):
            assert float(row[name]) == pytest.approx(getattr(drawn, name), rel=1e-5)
    assert len(list(tmp_path.rglob("*.png"))) == 25


def test_simulating_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    def tree(folder: Path) -> dict[str, bytes]:
        simulate_digits(folder, count=12, seed=4)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "a")


def test_without_matplotlib_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts.load_font.cache_clear()
    monkeypatch.setattr(fonts, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"fonts of matplotlib.*simgan\[report\]"):
        fonts.load_font("DejaVuSans", 12)


def test_a_missing_font_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fonts.load_font.cache_clear()
    spec = importlib.util.spec_from_file_location("matplotlib", tmp_path / "__init__.py")
    monkeypatch.setattr(fonts, "find_spec", lambda _: spec)
    with pytest.raises(DataError, match=r"the font .*DejaVuSans\.ttf is missing; reinstall matplotlib"):
        fonts.load_font("DejaVuSans", 12)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-3, 0), (5, -1)])
def test_a_count_or_seed_that_is_none_is_refused(tmp_path: Path, count: int, seed: int) -> None:
    with pytest.raises(ConfigurationError, match=f"at least 0 are wanted, got {count} and {seed}"):
        simulate_digits(tmp_path / "digits", count=count, seed=seed)
    assert not (tmp_path / "digits").exists()
