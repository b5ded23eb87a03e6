from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, OutputError
from simgan.evaluation.turing import REAL
from simgan.images import ValueRange, decode_image, write_image
from simgan.turing import Study, begin_study, continue_study, read_results
from simgan.turing.trials import draw_examples, draw_trials
from tiny_runs import write_side
from turing_studies import open_study, write_trees

Trees = dict[str, ImageTree]


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return write_trees(tmp_path, count=9)


@pytest.fixture
def study(tmp_path: Path, trees: Trees) -> Iterator[Study]:
    opened = open_study(tmp_path, trees)
    yield opened
    opened.close()


SIZES = {"real": 200, "refined": 150}


def drawn(**changes: Any) -> list[Any]:
    counts = {"trials": 100, "examples": 10, "seed": 0, "subject": "anna", "comparison": "refined"} | changes
    return draw_trials(SIZES, **counts)


def test_half_of_the_trials_are_real_and_none_is_shown_twice_or_as_an_example() -> None:
    shown = drawn()
    assert [one.side for one in shown].count("real") == 50
    assert len(set(shown)) == 100
    assert not set(shown) & set(draw_examples("refined", examples=10))
    assert all(one.number < SIZES[one.side] for one in shown)


def test_the_order_is_random_and_belongs_to_subject_and_seed() -> None:
    assert drawn() == drawn()
    assert drawn() != drawn(subject="bo") != drawn(seed=1)
    # Runs of one side: 51 are expected of 100 in random order, with a standard deviation of 5.
    sides = [one.side for one in drawn()]
    assert 30 < sum(a != b for a, b in pairwise(sides)) < 70


def test_what_the_page_shows_are_the_pixels_of_the_right_side(study: Study) -> None:
    session = study.sessions.start("refined", "anna")
    for name, shown in (*session.trials, *study.sessions.examples["refined"]):
        image = decode_image(study.picture(name), suffix=".png")
        assert image.shape == (8, 8, 1)
        assert (image.max() <= 100) == (shown.side == REAL)


def test_pictures_are_scaled_by_the_given_range(tmp_path: Path, trees: Trees) -> None:
    study = open_study(tmp_path, trees, value_range=ValueRange(0, 510, 2))
    name, shown = study.sessions.examples["refined"][0]
    native = trees["real"].read(study.record["pools"]["real"]["names"][shown.number])
    visible = decode_image(study.picture(name), suffix=".png")
    assert np.abs(visible - native / 2).max() <= 0.5
    study.close()


def test_the_same_call_continues_where_the_subject_stood(tmp_path: Path, trees: Trees, study: Study) -> None:
    session = study.sessions.start("refined", "anna")
    for _ in range(3):
        due = session.state()["trial"]
        study.sessions.answer(session, picture=due, said="real", response_sec=1)
    before = session.state()
    study.close()
    for ask in (lambda: open_study(tmp_path, trees), lambda: continue_study(tmp_path / "study")):
        again = ask()
        assert again.find(session.id).state() == before
        assert again.sessions.start("refined", "anna").id == session.id
        again.close()


def test_a_study_is_served_by_one_process_at_a_time(tmp_path: Path, trees: Trees, study: Study) -> None:
    with pytest.raises(OutputError, match="serves this study already"):
        open_study(tmp_path, trees)


def test_results_can_be_read_while_the_study_is_open_and_without_its_images(
    tmp_path: Path, trees: Trees, study: Study
) -> None:
    session = study.sessions.start("synthetic", "anna")
    study.sessions.answer(session, picture=session.state()["trial"], said="synthetic", response_sec=None)
    (tmp_path / "real").rename(tmp_path / "elsewhere")
    record, answers = read_results(tmp_path / "study")
    assert [answer.said for answer in answers] == ["synthetic"]
    assert set(record["automatic"]) == {"refined", "synthetic"}


def test_the_automatic_test_stands_beside_and_tells_plain_differences(tmp_path: Path) -> None:
    study = open_study(tmp_path, write_trees(tmp_path / "more", count=12))
    found = study.record["automatic"]["refined"]
    study.close()
    assert found["n"] == 12
    assert found["auc"] == 1.0
    assert found["low"] < 1.0


def test_too_few_images_for_the_automatic_test_leave_it_out(study: Study) -> None:
    assert study.record["automatic"] == {"refined": None, "synthetic": None}


def test_other_arguments_are_another_study(tmp_path: Path, trees: Trees, study: Study) -> None:
    study.close()
    with pytest.raises(OutputError, match="seed was 0, now 1"):
        open_study(tmp_path, trees, seed=1)
    with pytest.raises(OutputError, match="real_paths was null"):
        open_study(tmp_path, trees, real_paths=trees["real"].paths()[:6])


def test_only_the_named_real_images_are_shown(tmp_path: Path, trees: Trees) -> None:
    held_out = trees["real"].paths()[2:8]
    study = open_study(tmp_path, trees, real_paths=held_out)
    assert sorted(study.record["pools"]["real"]["names"]) == sorted(held_out)
    study.close()
    with pytest.raises(DataError, match=r"1 of the 2 images that were held out are not there, .* x\.png"):
        begin_study(
            tmp_path / "other", real=trees["real"], refined=trees["refined"], real_paths=["000.png", "x.png"]
        )


def test_changed_images_are_refused_because_answers_were_to_the_old_ones(
    tmp_path: Path, trees: Trees
) -> None:
    open_study(tmp_path, trees).close()
    write_image(tmp_path / "refined" / "003.png", np.zeros((8, 8, 1), np.uint8))
    for again in (lambda: open_study(tmp_path, trees), lambda: continue_study(tmp_path / "study")):
        with pytest.raises(DataError, match="the refined images have changed since"):
            again()


def test_images_of_several_sizes_are_cut_to_one_that_tells_nothing(tmp_path: Path, trees: Trees) -> None:
    large = ImageTree(write_side(tmp_path / "large", 9, seed=7, shape=(12, 10, 1)))
    study = begin_study(tmp_path / "study", real=large, refined=trees["refined"], trials=4, examples=1)
    assert study.size == (8, 8)
    name, shown = study.sessions.examples["refined"][0]
    native = large.read(study.record["pools"]["real"]["names"][shown.number])
    measured = ValueRange.from_dict(study.record["value_range"])
    expected = ValueRange(0, 255).decode(measured.encode(native[2:10, 1:9]), np.uint8)
    assert np.array_equal(decode_image(study.picture(name), suffix=".png"), expected)
    study.close()


def test_another_pixel_format_is_refused(tmp_path: Path, trees: Trees) -> None:
    colour = ImageTree(write_side(tmp_path / "colour", 9, seed=7, shape=(8, 8, 3)))
    with pytest.raises(DataError, match=r"colour/.* is 8-bit RGB, but .*8-bit grey"):
        begin_study(tmp_path / "study", real=trees["real"], refined=colour, trials=4, examples=1)
    # The failed attempt leaves a folder that the right command can use.
    open_study(tmp_path, trees).close()


def test_too_few_images_are_refused_with_the_number_wanted(tmp_path: Path, trees: Trees) -> None:
    with pytest.raises(DataError, match=r"9 images are too few, 60 are wanted.*--trials or --examples"):
        begin_study(tmp_path / "study", real=trees["real"], refined=trees["refined"])


def test_impossible_numbers_are_all_named(tmp_path: Path, trees: Trees) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_study(tmp_path, trees, trials=7, examples=0, seed=-1)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["trials", "examples", "seed"]
    with pytest.raises(ConfigurationError, match="refined ones, synthetic ones or both"):
        begin_study(tmp_path / "study", real=trees["real"])


def test_a_study_among_the_images_or_in_a_foreign_folder_is_refused(tmp_path: Path, trees: Trees) -> None:
    with pytest.raises(OutputError, match="lies among the images"):
        begin_study(tmp_path / "real" / "study", **trees)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("work")
    with pytest.raises(OutputError, match=r"it holds 'thesis\.tex'"):
        begin_study(tmp_path / "foreign", **trees)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        begin_study(tmp_path / "file", **trees)


def test_a_folder_without_a_study_says_how_to_begin_one(tmp_path: Path) -> None:
    for ask in (continue_study, read_results):
        with pytest.raises(DataError, match="there is no study"):
            ask(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"format": "x", "format_version": 1}', "format None"),
     ('{"format": "simgan turing study", "format_version": 9}', "format 9")],
)  # fmt: skip
def test_a_damaged_or_foreign_record_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(DataError, match=said):
        continue_study(tmp_path)


@pytest.mark.parametrize("change", [{"image": "other.png"}, {"comparison": "cartoon", "side": "cartoon"}])
def test_answers_to_other_images_than_the_study_shows_are_refused(
    tmp_path: Path, trees: Trees, change: dict[str, str]
) -> None:
    study = open_study(tmp_path, trees)
    session = study.sessions.start("refined", "anna")
    study.sessions.answer(session, picture=session.state()["trial"], said="real", response_sec=1)
    study.close()
    path = tmp_path / "study" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1] |= change
    rows[0]["comparison"] = rows[1]["comparison"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="the answers of 'anna' are not to the images of this study"):
        continue_study(tmp_path / "study")


def test_large_images_are_halved_for_the_automatic_test_by_their_means(tmp_path: Path) -> None:
    sides = {
        side: ImageTree(write_side(tmp_path / side, 10, seed=seed, shape=(40, 130, 1)))
        for seed, side in enumerate(("real", "refined"))
    }
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "simgan.turing.study.describe_images", lambda x: seen.append(x) or x.reshape(len(x), -1)
        )
        study = begin_study(tmp_path / "study", **sides, trials=4, examples=1)
    study.close()
    assert [one.shape for one in seen] == [(10, 20, 65, 1)] * 2
    name = study.record["pools"]["real"]["names"][0]
    native = ValueRange.from_dict(study.record["value_range"]).encode(sides["real"].read(name))
    assert seen[0][0, 3, 5, 0] == pytest.approx(native[6:8, 10:12, 0].mean(), abs=1e-6)
