"""The page of results and its plot, from records worked by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    import stability

    return stability


def run(task: str, seed: int, closed: float | None, **changed: Any) -> dict[str, Any]:
    arms = dict.fromkeys(
        ("synthetic", "synthetic_matched", "refined", "synthetic_plus_refined", "real"), 0.75
    )
    return {
        "task": task, "seed": seed, **arms, "gain": 0.1, "standard_error": 0.02, "gap_closed": closed, "helps": True,
        "collapse": None, "diversity": 0.9, "drift_px": None, "kept_step": 1500,
    } | changed  # fmt: skip


def pooled() -> dict[str, Any]:
    arm = {"mean": 0.75, "low": 0.7, "high": 0.8}
    downstream = {
        "higher_is_better": True,
        "synthetic": arm,
        "gain": {
            "over_synthetic": {"mean": 0.1, "low": 0.05, "high": 0.15},
            "over_synthetic_matched": {"mean": -0.01, "low": -0.03, "high": 0.02},
        },
        "gap_closed": {"median": 0.5, "low": 0.4, "high": 0.6},
    }
    errors = {
        "higher_is_better": False,
        "refined": {"mean": 0.05, "low": 0.04, "high": 0.06},
        "gain": {
            "over_synthetic": {"mean": 0.004, "low": -0.001, "high": 0.009},
            "over_synthetic_matched": {"mean": 0.002, "low": -0.001, "high": 0.006},
        },
        "gap_closed": None,
    }
    verdict = {"n_runs": 2, "n_collapsed": 0, "n_helping": 2, "median_gap_closed": 0.5, "reaches_goal": True}
    lost = {"n_runs": 1, "n_collapsed": 1, "n_helping": 0, "median_gap_closed": None, "reaches_goal": None}
    choice = {"n": 3, "median": 0.95, "low": 0.9, "high": 1.0, "n_within": 2}
    return {
        "totals": {"n_runs": 3, "n_collapsed": 1, "n_helping": 2},
        "tasks": {
            "signs": {"downstream": downstream, "verdict": verdict},
            "eyes": {"downstream": errors, "verdict": lost},
        },
        "runs": [
            run("signs", 0, 0.4),
            run("signs", 1, -0.25, collapse="worse", helps=False),
            run("eyes", 0, None, gain=-0.004, standard_error=0.001, refined=0.0512),
        ],
        "stopping": {
            "n_runs": 3,
            "n_without_gain": 1,
            "choices": {"in training": choice, "last": choice | {"n": 0}},
            "fitted": {"signs": {"measure": "realism_auc", "slack": None}},
        },
    }


def test_the_section_says_the_counts_each_task_each_run_and_the_reads_of_test(page: Any) -> None:
    text = page.section(pooled(), 6)
    assert "**2 of 3 runs did not collapse; 2 of 3 do better than augmented synthetic images.**" in text
    assert "read 6 times" in text
    assert "| signs | 2 of 2 | 2 of 2 | 75.0% [70.0%, 80.0%] | – |" in text
    assert "| +10.0 [+5.0, +15.0] points | -1.0 [-3.0, +2.0] points | 0.50 [0.40, 0.60] | reached |" in text
    assert "| eyes (iris centre) | 0 of 1 | 0 of 1 | – | – | 0.0500 [0.0400, 0.0600] |" in text
    assert "| +0.0040 [-0.0010, +0.0090] | +0.0020 [-0.0010, +0.0060] | – | no gap to close |" in text
    assert "17 of the 20 planned runs are still to be made." in text
    assert "| +10.0 ± 2.0 points | -0.25 | 90% | – | 1500 | worse |" in text
    assert "| 0.0512 |" in text
    assert "| -0.0040 ± 0.0010 | – |" in text
    assert "| the label-free rule, as training has it | 0.95 [0.90, 1.00] | 2 of 3 |" in text
    assert "the last checkpoint" not in text
    assert "without signs: realism auc, slack without bound" in text


def test_the_plot_has_a_dot_for_each_run_at_its_share_of_the_gap(page: Any) -> None:
    drawing = ET.fromstring(page.plot(pooled()))
    space = {"s": "http://www.w3.org/2000/svg"}
    dots = drawing.findall("s:circle", space)
    assert [dot.find("s:title", space).text for dot in dots] == ["seed 0: 0.40", "seed 1: -0.25"]  # type: ignore[union-attr]
    # the axis goes from −0.5 to 1 on 130 … 700: 0.4 is 60 % of the way, −0.25 a sixth
    assert [float(dot.get("cx", "")) for dot in dots] == [472.0, 225.0]
    assert dots[0].get("fill") == dots[0].get("stroke")
    assert (dots[1].get("fill"), dots[1].get("stroke")) == ("none", page._RED)


def eyes_record(closed: dict[str, float] | None) -> dict[str, Any]:
    arm = {"mean": 0.05, "low": 0.04, "high": 0.06, "n_test": 170}
    return {
        "kind": "refined", "synthetic": "renders", "variant": "default", "part": "test", "task": "iris",
        "folds": [0, 1],
        "seeds": [0, 1], "downstream": {
            "synthetic": arm, "refined": arm | {"mean": 0.045}, "gap_closed": closed, "reason": "the gap is too small",
            "gain": {"over_synthetic": {"mean": 0.005, "low": -0.001, "high": 0.011}},
        },
    }  # fmt: skip


def test_real_eyes_show_each_arm_the_gain_and_why_a_gap_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    import eyes
    from results import ARMS

    text = eyes.section([eyes_record(None), eyes_record({"median": 0.61, "low": 0.2, "high": 0.9})], 20, ARMS)
    assert "| **refined** | 0.0450 [0.0400, 0.0600] | 0.0450 [0.0400, 0.0600] |" in text
    assert "890 UnityEyes renders; test, folds 0, 1, refiners 0, 1, n = 170" in text
    assert "over synthetic +0.0050 [-0.0010, +0.0110]; gap closed: not said, the gap is too small" in text
    assert "gap closed, median over refiners: 0.61 [0.20, 0.90] (the goal is 0.6)" in text
    assert "| labelled real (bound) | – | – |" in text
    assert "read 20 times" in text
    assert (
        "--folds 0 1 --seeds 0 1 --tasks iris --part test --task-seeds 2` (2 of 5 planned refiners)" in text
    )
