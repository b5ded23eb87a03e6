from __future__ import annotations

from report_runs import changed
from simgan.reporting.results import arms_table, gains_table, labels_table, realism_tables


def test_arms_are_compared_with_synthetic_on_one_scale() -> None:
    table = arms_table(changed()["downstream"])
    assert table.rows[0].name == "Synthetic, not augmented"
    refined = next(row for row in table.rows if row.name == "Refined")
    synthetic = next(row for row in table.rows if row.name == "Synthetic")
    assert {row.strip.zero for row in table.rows} == {synthetic.strip.mid}
    assert refined.strip.mid > synthetic.strip.mid
    # From 58 % to 85.2 % fits 50 % to 90 %: 74.1 % stands at 24.1/40 of the way.
    assert (table.low, table.high) == ("50.0\u202f%", "90.0\u202f%")
    assert refined.strip.mid == 60.25


def test_gains_are_compared_with_nothing() -> None:
    table = gains_table(changed()["downstream"])
    assert table is not None
    assert {row.strip.zero for row in table.rows} == {0.0}
    assert table.low == "0.0"


def test_without_opponents_there_are_no_gains() -> None:
    assert gains_table(changed(downstream__gain={})["downstream"]) is None


def test_realism_is_compared_with_the_floor() -> None:
    auc, distance = realism_tables(changed()["realism"])
    for table in (auc, distance):
        floor = table.rows[-1]
        assert floor.name == "Other real images (the floor)"
        assert {row.strip.zero for row in table.rows} == {floor.strip.mid}
    assert {row.strip.low for row in distance.rows} == {0.0}


def test_sides_that_were_not_measured_are_left_out() -> None:
    realism = changed()["realism"]
    del realism["synthetic_matched"]
    assert len(realism_tables(realism)[0].rows) == 3


def test_the_judge_on_refined_is_compared_with_the_judge_on_real() -> None:
    table = labels_table(changed()["labels"])
    refined, synthetic, real = table.rows
    assert (synthetic.name, synthetic.look) == ("On unrefined images", "synthetic")
    assert "Beside the originals, refining cost +0.7 points." in table.caption
    assert refined.strip.zero == real.strip.zero == real.strip.mid
    assert refined.strip.mid < real.strip.mid
    assert "labels hold (they hold down to −1.0 points)" in table.caption
    assert "do not hold" in labels_table(changed(labels__holds=False)["labels"]).caption


def test_a_judge_that_did_not_read_the_originals_has_no_row_for_them() -> None:
    labels = {k: v for k, v in changed()["labels"].items() if "synthetic" not in k and k != "cost_points"}
    table = labels_table(labels)
    assert [row.name for row in table.rows] == ["On refined images", "On unseen real images"]
    assert "originals" not in table.caption
