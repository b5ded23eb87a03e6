"""The page of performance says what its files say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("performance", ROOT / "docs" / "performance.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_performance_is_made_from_the_results_as_they_are(page: ModuleType) -> None:
    assert (ROOT / "docs" / "performance.md").read_text("utf-8") == page.performance_page(), "run: make docs"


def test_the_newest_file_of_a_benchmark_is_shown(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert page.newest("steps") is None
    (tmp_path / "steps.json").write_text('{"of": "one file"}')
    assert page.newest("steps") == {"of": "one file"}
    (tmp_path / "steps").mkdir()
    for date in ("2026-02-01", "2026-10-01", "2026-09-30"):
        (tmp_path / "steps" / f"{date}.json").write_text(json.dumps({"of": date}))
    assert page.newest("steps") == {"of": "2026-10-01"}


def test_aims_that_are_not_reached_are_said(page: ModuleType) -> None:
    def taken(ratio: float, share: float = 0.5) -> dict[str, float]:
        quartiles = {"quartile_low_sec": 0.97 / ratio, "quartile_high_sec": 1.03 / ratio}
        return {
            "times_as_fast_as_reference": ratio,
            "share_of_peak": share,
            "median_sec": 1 / ratio,
        } | quartiles

    routes = {
        "simgan bfloat16": taken(4.9),
        "simgan float32": taken(1.2),
        "reference channels_last": taken(1.1),
    }
    results = {part: dict(routes) for part in page.PARTS}
    results["refine"] |= {"simgan bfloat16": taken(7.0, 0.8)}
    reached, missed = page._said_of(results).split("**Not reached:**")
    assert "refine 7.0×" in reached
    assert "fastest route, simgan bfloat16: 7.0× the reference, 80%" in reached
    assert "update of D in float32 takes 0.92" in reached
    assert "step of Algorithm 1 4.9×" in missed
    results["step"]["simgan float32"] = taken(1.0)
    assert "step of Algorithm 1 in float32 takes 1.10" in page._said_of(results).split("**Not reached:**")[1]
    results["step"]["simgan float32"] = taken(1.08)  # slower, but within the quartiles
    assert "step of Algorithm 1 in float32 takes 1.02" in page._said_of(results).split("**Not reached:**")[0]
