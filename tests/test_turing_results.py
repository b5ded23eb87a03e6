from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from scipy.stats import binomtest

from simgan.evaluation.turing import Answer, Confusion, Telling, summarize_answers
from simgan.turing.results import gather_results, p_in_words, sentence


def answers(
    *counts: tuple[str, str, int], comparison: str = "refined", subject: str = "anna", **changes: Any
) -> list[Answer]:
    """(side, said, how many) each."""
    fields = {"image": "a.png", "response_sec": 1.0, "time": "2026-01-01T00:00:00+00:00"} | changes
    return [
        Answer(comparison, subject, k, side, said, **fields)
        for side, said, count in counts
        for k in range(count)
    ]


# Table 1 of the paper: 10 people, 50 real and 50 refined images each.
TABLE_1 = answers(
    ("real", "real", 224), ("real", "refined", 276), ("refined", "real", 207), ("refined", "refined", 293)
)


def test_table_1_of_the_paper_gives_the_numbers_of_the_paper() -> None:
    result = summarize_answers(TABLE_1, "refined")
    assert result is not None
    assert result.confusion == Confusion(224, 276, 207, 293)
    assert (result.telling.right, result.telling.n) == (517, 1000)
    assert result.telling.accuracy == pytest.approx(0.517)
    assert round(result.telling.p_one_sided, 3) == 0.148
    assert result.telling.p_two_sided == pytest.approx(binomtest(517, 1000).pvalue)
    assert result.telling.low < 0.5 < result.telling.high


def test_unrefined_images_of_the_paper_are_told_apart() -> None:
    telling = Telling.of(162, 200)
    assert telling.accuracy == pytest.approx(0.81)
    assert telling.p_one_sided <= 1e-8
    oracle = binomtest(162, 200).proportion_ci(method="wilson")
    assert (telling.low, telling.high) == pytest.approx((oracle.low, oracle.high))


def test_answers_of_another_comparison_do_not_count() -> None:
    both = answers(("real", "real", 3)) + answers(("synthetic", "real", 2), comparison="synthetic")
    result = summarize_answers(both, "synthetic")
    assert result is not None
    assert result.confusion == Confusion(0, 0, 2, 0)
    assert summarize_answers(both, "nothing") is None


def test_each_subject_has_figures_of_their_own_and_times_are_quartiles() -> None:
    given = [
        Answer("refined", who, k, "real", said, "a.png", sec, "")
        for who, said, times in (("bo", "refined", [4.0, None]), ("anna", "real", [1.0, 2.0, 3.0]))
        for k, sec in enumerate(times)
    ]
    result = summarize_answers(given, "refined")
    assert result is not None
    assert [(s.name, s.telling.right, s.telling.n) for s in result.subjects] == [("anna", 3, 3), ("bo", 0, 2)]
    assert result.times is not None
    # 1, 2, 3, 4: the quartiles lie at 1.75, 2.5, 3.25
    times = result.times
    assert (times.n, times.lower_quartile_sec, times.median_sec, times.upper_quartile_sec) == (
        4,
        1.75,
        2.5,
        3.25,
    )
    assert result.times_right is not None
    assert result.times_wrong is not None
    assert (result.times_right.median_sec, result.times_wrong.median_sec) == (2.0, 4.0)


def results(given: list[Answer]) -> Any:
    automatic = {"n": 90, "auc": 0.78, "low": 0.68, "high": 0.85}
    return gather_results({"automatic": {"refined": automatic, "synthetic": None}}, given)


def test_the_sentence_claims_no_more_than_the_interval_shows() -> None:
    cases = {
        "it is not shown that people tell them apart (517 of 1,000 right, 51.7 % [48.6, 54.8], "
        "one-sided p = 0.148, 1 subject)": TABLE_1,
        "people tell them apart (162 of 200": answers(("real", "real", 162), ("real", "refined", 38)),
        "people take refined images for real ones": answers(("real", "real", 38), ("real", "refined", 162)),
        "no answer yet": [],
    }
    for expected, given in cases.items():
        assert sentence(results(given).outcomes[0]).startswith(expected)


def test_words_for_a_terminal_hold_people_and_the_automatic_test_side_by_side() -> None:
    text = "\n".join(results(TABLE_1).lines())
    assert "real called real 224, called refined 276; refined called real 207, called refined 293" in text
    assert "AUC 0.780 [0.680, 0.850], 90 images a side" in text
    assert "real against synthetic: no answer yet" in text
    assert "the images are too few" in text
    assert "not timed" in "\n".join(results(answers(("real", "real", 1), response_sec=None)).lines())


def test_tiny_p_values_are_written_as_powers_of_ten() -> None:
    assert (p_in_words(0.1481), p_in_words(1e-9)) == ("0.148", "1.0e-09")


def test_the_csv_has_one_line_for_each_answer_and_survives_odd_names() -> None:
    found = results(answers(("real", "refined", 2), subject='O\'Brien, "anna"', response_sec=None))
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["trial"] for row in rows] == ["1", "2"]
    assert rows[0]["subject"] == 'O\'Brien, "anna"'
    assert (rows[0]["right"], rows[0]["response_sec"]) == ("0", "")


def test_results_are_plain_for_json() -> None:
    found = results(TABLE_1).to_dict()
    assert found["refined"]["people"]["confusion"]["real_called_real"] == 224
    assert found["synthetic"] == {"comparison": "synthetic", "people": None, "automatic": None}
