"""The instrument that finds pupils."""

from __future__ import annotations

import numpy as np
import pytest

from simgan.measures import fit_pupils
from simgan.measures.pupil import _in_polygon

TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)


def drawn(centre: tuple[float, float], *, pupil: float = 4.0, contrast: float = 0.3) -> np.ndarray:
    """A 35×55 image: an iris of radius 11 px at (27.3, 17.2) with a pupil, each pixel the mean of 64 points."""
    fine = (np.arange(35 * 8) + 0.5) / 8 - 0.5, (np.arange(55 * 8) + 0.5) / 8 - 0.5
    y, x = np.meshgrid(*fine, indexing="ij")
    level = np.where(np.hypot(x - 27.3, y - 17.2) < 11, -0.4, 0.3)
    level[np.hypot(x - centre[0], y - centre[1]) < pupil] = -0.4 - contrast
    return level.reshape(35, 8, 55, 8).mean((1, 3))[None, :, :, None]


def iris_and_opening() -> tuple[np.ndarray, np.ndarray]:
    iris = np.stack([27.3 + 11 * np.cos(TURN), 17.2 + 11 * np.sin(TURN)], axis=1)
    return iris[None], np.array([[[2.0, 17], [27, 6], [52, 17], [27, 32]]])


@pytest.mark.parametrize("centre", [(27.3, 17.2), (28.55, 16.4), (26.1, 18.9)])
def test_the_centre_of_a_drawn_pupil_is_found_to_a_tenth_of_a_pixel(centre: tuple[float, float]) -> None:
    found = fit_pupils(drawn(centre), *iris_and_opening())
    assert found.found.tolist() == [True]
    np.testing.assert_allclose(found.centres_px[0], centre, atol=0.1)


def test_a_glint_and_noise_do_not_move_it_far() -> None:
    image = drawn((28.0, 17.0))
    image[0, 14:16, 30:32] = 1.0
    image += np.random.default_rng(0).normal(0, 0.03, image.shape)
    found = fit_pupils(image, *iris_and_opening())
    np.testing.assert_allclose(found.centres_px[0], (28.0, 17.0), atol=0.25)


@pytest.mark.parametrize("case", ["no pupil", "bright pupil", "closed"])
def test_where_there_is_no_dark_pupil_the_fit_fails(case: str) -> None:
    iris, opening = iris_and_opening()
    image = drawn((27.0, 17.0), contrast=-0.3 if case == "bright pupil" else 0.0)
    if case == "closed":
        image, opening = drawn((27.0, 17.0)), np.array([[[2.0, 17], [27, 16.4], [52, 17], [27, 17.6]]])
    found = fit_pupils(image + np.random.default_rng(1).normal(0, 0.02, image.shape), iris, opening)
    assert found.found.tolist() == [False]
    assert np.isnan(found.centres_px).all()


def test_a_flip_of_image_and_labels_flips_the_centre() -> None:
    iris, opening = iris_and_opening()
    flip = np.array([-1.0, 1.0])
    one = fit_pupils(drawn((28.2, 16.5)), iris, opening).centres_px[0]
    other = fit_pupils(
        drawn((28.2, 16.5))[:, :, ::-1], iris * flip + (54, 0), opening * flip + (54, 0)
    ).centres_px[0]
    np.testing.assert_allclose(other, one * flip + (54, 0), atol=1e-3)


def test_points_inside_a_polygon_are_those_on_one_side_of_all_its_edges() -> None:
    square = np.array([[[0.0, 0], [4, 0], [4, 4], [0, 4]]])
    points = np.array([[1.0, 1], [3.5, 3.5], [-1, 1], [5, 2], [2, 4.5]])
    assert _in_polygon(points, square).tolist() == [[True, True, False, False, False]]
