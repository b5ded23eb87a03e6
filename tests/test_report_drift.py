from __future__ import annotations

from typing import Any

from simgan.reporting.drift import drift_table, drift_tile, worst_captions

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


def test_the_tile_shows_the_drift_of_structure_and_what_flow_says_beside_it() -> None:
    tile = drift_tile(drift_of(SOME, {**SOME, "mean": 0.7}))
    assert (tile.label, tile.figure) == ("Drift", "0.50 px")
    assert "[0.40,\u00a00.60]" in tile.detail
    assert "optical flow 0.70 px" in tile.detail


def test_where_no_structure_could_be_followed_the_tile_says_so_and_no_image_is_called_the_worst() -> None:
    drift = drift_of(NOTHING, SOME)
    assert drift_tile(drift).figure == "–"
    assert "no structure could be followed in 10 images" in drift_tile(drift).detail
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


def test_there_is_no_table_where_nothing_was_found() -> None:
    assert drift_table(drift_of(NOTHING, NOTHING), None) is None
