from __future__ import annotations

from typing import Any

from report_runs import RECORD
from simgan.reporting.drift import drift_table, drift_tile, worst_captions
from simgan.reporting.verdict import Tile

NOTHING = {"mean": None, "low": None, "high": None, "p95": None, "n": 0, "lost": 3, "unmeasured": 2}
SOME = {"mean": 0.5, "low": 0.4, "high": 0.6, "p95": 1.2, "n": 9, "lost": 1, "unmeasured": 0}


def drift_of(structure: dict[str, Any], flow: dict[str, Any]) -> dict[str, Any]:
    return {
        "n": 10,
        "structure": structure,
        "flow": flow,
        "floor": {"structure_px": 0.02, "flow_px": None},
        "worst": [{"path": "a.png", "drift_px": None}, {"path": "b.png", "drift_px": 1.24}],
        "gain": None,
    }


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def tile_of(drift: dict[str, Any] | None, reason: str | None = None) -> Tile:
    tile = drift_tile({"drift": drift, "drift_reason": reason})
    assert tile is not None
    return tile


def test_the_tile_shows_the_drift_of_structure_and_what_flow_says_beside_it() -> None:
    tile = tile_of(drift_of(SOME, {**SOME, "mean": 0.7}))
    assert (tile.label, tile.figure) == ("Drift", "0.50 px")
    assert "[0.40,\u00a00.60]" in tile.detail
    assert "optical flow 0.70 px" in tile.detail


def test_where_no_structure_could_be_followed_the_tile_says_so_and_no_image_is_called_the_worst() -> None:
    drift = drift_of(NOTHING, SOME)
    assert tile_of(drift).figure == "–"
    assert "no structure could be followed in 10 images" in tile_of(drift).detail
    assert worst_captions(drift) == {}
    assert worst_captions(None) == {}


def test_the_worst_are_captioned_by_how_far_they_moved_or_that_they_were_lost() -> None:
    assert worst_captions(drift_of(SOME, SOME)) == {
        "a.png": "structure not found again",
        "b.png": "moved by 1.24 px",
    }


def test_the_table_has_a_row_for_each_estimator_that_found_something() -> None:
    table = drift_table(drift_of(SOME, NOTHING), None)
    assert table is not None
    assert [row.name for row in table.rows] == ["Structure"]
    assert "5 moved by more than 1.20 px" in table.caption
    assert "of 1 image was not found again" in table.caption
    assert "The floor, where only levels changed, is 0.02 px." in table.caption
    assert "not known: the gain was not measured" in table.caption


def test_images_too_small_to_follow_are_said_to_be_and_an_older_record_says_nothing() -> None:
    reason = "drift was not measured: 8×8 images are too small to follow, 16 pixels a side are needed"
    assert tile_of(None, reason).detail == (
        "not measured: 8×8 images are too small to follow, 16 pixels a side are needed"
    )
    assert drift_tile({}) is None


def test_the_table_says_the_gain_of_the_same_run_beside_the_drift() -> None:
    gain = {"over_synthetic": {"mean": 0.041, "low": 0.029, "high": 0.053}}
    table = drift_table({**drift_of(SOME, SOME), "gain": gain}, RECORD["downstream"])
    assert table is not None
    assert plain(table.caption).endswith("The gain of the same run over synthetic: +4.1 points [+2.9, +5.3].")
    assert "Bars are 95 % intervals." in table.caption


def test_keypoints_masks_and_a_frozen_model_are_told_where_they_were_measured() -> None:
    more = {
        "keypoints": {**SOME, "mean": 0.3},
        "masks": {"boundary": {**SOME, "mean": 0.2}, "iou": {"mean": 0.93}},
        "model": {"mean": 0.25, "unit": "px", "error_on_synthetic": 1.5},
    }
    table = drift_table({**drift_of(SOME, SOME), **more}, None)
    assert table is not None
    assert [(row.name, row.value) for row in table.rows[2:]] == [
        ("Keypoints", "0.30 px"),
        ("Boundaries of masks, by optical flow", "0.20 px"),
    ]
    assert "by 0.930 (IoU)" in table.caption
    assert "reads 0.250 (px) otherwise after refining; its error on unrefined ones is 1.50." in table.caption


def test_a_pooled_record_shows_the_range_over_runs_and_not_an_interval() -> None:
    drift = {**drift_of(SOME, SOME), "n_runs": 3}
    assert "range over runs [0.40,\u00a00.60]" in tile_of(drift).detail
    table = drift_table(drift, None)
    assert table is not None
    assert "Range over runs." in table.caption
    assert "95 %" not in table.caption


def test_there_is_no_table_where_nothing_was_found() -> None:
    assert drift_table(drift_of(NOTHING, NOTHING), None) is None
