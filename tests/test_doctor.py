"""The doctor: each finding has a made case that triggers it, and a healthy one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import report_runs
from simgan.config import resolve_configuration, to_toml
from simgan.diagnosis import Finding, diagnose
from simgan.diagnosis.cues import find_cues, find_layout
from simgan.diagnosis.doctor import find_labels
from simgan.diagnosis.dynamics import RULES
from simgan.diagnosis.finding import Chart
from simgan.errors import DataError, RunError
from simgan.evaluation import Evaluation
from simgan.images import write_image
from textures import texture

Images = list[NDArray[np.uint8]]
HEALTHY_DATA = {"crop": [35, 55], "discriminator": {"receptive_field_px": 17, "patch_grid": [9, 14]}}


def _chart(
    *,
    accuracy: float = 0.75,
    adversarial: float = 0.7,
    regularization: float = 0.1,
    data: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    **kept: Any,
) -> Chart:
    steps = [
        {"kind": "step", "phase": "adversarial", "step": 20 * k, "discriminator_accuracy": accuracy,
         "adversarial_loss": adversarial, "self_regularization": regularization}
        for k in range(1, 31)
    ]  # fmt: skip
    candidate = {
        "kind": "candidate", "step": 600, "sliced_wasserstein": 0.1, "realism_auc": 0.8, "diversity": 0.95,
        "distance_from_identity": 0.12, "drift_px": 0.2, "kept": True, **kept,
    }  # fmt: skip
    return Chart(
        resolve_configuration("default", overrides), data or HEALTHY_DATA, (*steps, candidate), evaluation
    )


def _names(chart: Chart) -> list[str]:
    return [finding.name for rule in RULES for finding in rule(chart)] + [f.name for f in find_labels(chart)]


def _field(px: int, crop: list[int]) -> dict[str, Any]:
    return {"crop": crop, "discriminator": {"receptive_field_px": px, "patch_grid": [9, 14]}}


NOT_HOLDING = {"holds": False, "tolerance_points": 1.0, "judge_on_synthetic": 0.9, "judge_on_refined": 0.8,
               "judge_on_real": 0.97}  # fmt: skip


def test_a_healthy_run_has_no_finding() -> None:
    assert _names(_chart()) == []


@pytest.mark.parametrize(
    ("name", "chart"),
    [
        ("identity", _chart(distance_from_identity=0.003)),
        ("discriminator too strong", _chart(accuracy=0.99)),
        ("discriminator too weak", _chart(accuracy=0.5, realism_auc=0.99)),
        ("field too large", _chart(data=_field(31, [35, 55]))),
        ("field too small", _chart(data=_field(3, [35, 55]))),
        ("field too small", _chart(data=_field(13, [480, 640]))),
        (
            "self-regularization too heavy",
            _chart(overrides={"objective.self_regularization_weight": 30.0}, realism_auc=0.97),
        ),
        ("self-regularization too light", _chart(diversity=0.3)),
        ("self-regularization too light", _chart(drift_px=1.8)),
        (
            "self-regularization too light",
            _chart(regularization=0.01, evaluation={"labels": {**NOT_HOLDING, "cost_points": 10.0}}),
        ),
        ("label mismatch", _chart(evaluation={"labels": {**NOT_HOLDING, "cost_points": 0.2}})),
        (
            "label mismatch",
            _chart(evaluation={"warnings": ["the classes are not equally frequent: 30% of the labels; see"]}),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_illness_of_the_game_is_found_and_no_other(name: str, chart: Chart) -> None:
    assert _names(chart) == [name]
    findings = [f for rule in RULES for f in rule(chart)] + list(find_labels(chart))
    assert all(finding.what and finding.change for finding in findings)


def test_a_record_that_does_not_say_what_refining_cost_blames_nobody() -> None:
    assert _names(_chart(evaluation={"labels": NOT_HOLDING})) == []


def test_a_discriminator_that_guesses_because_refined_is_real_is_no_illness() -> None:
    assert _names(_chart(accuracy=0.5, realism_auc=0.55)) == []


def test_the_networks_of_all_recipes_and_derived_ones_have_fitting_fields() -> None:
    for px, crop in ((7, [8, 8]), (7, [16, 16]), (17, [35, 55]), (49, [480, 640])):
        assert _names(_chart(data=_field(px, crop))) == [], crop
    assert _names(_chart(data=_field(200, [35, 55]), overrides={"discriminator.scope": "global"})) == []
    assert _names(_chart(data=_field(3, [6, 6]))) == [], "nothing is derived for images this small"


def test_where_structure_passes_its_budget_a_smaller_one_is_advised() -> None:
    chart = _chart(drift_px=1.8, overrides={"objective.drift_budget_px": 1.0})
    (finding,) = [finding for rule in RULES for finding in rule(chart)]
    assert finding.change == "Lower objective.drift_budget_px (now 1)."


def test_where_there_is_a_budget_none_is_advised_against_a_heavy_weight() -> None:
    overrides = {"objective.self_regularization_weight": 30.0, "objective.drift_budget_px": 1.0}
    (finding,) = [
        finding for rule in RULES for finding in rule(_chart(overrides=overrides, realism_auc=0.97))
    ]
    assert finding.change == "Lower objective.self_regularization_weight (now 30) to a third."


def test_summed_patches_are_weighed_like_their_mean() -> None:
    overrides = {"objective.patches": "sum", "objective.self_regularization_weight": 30.0}
    chart = _chart(overrides=overrides, realism_auc=0.97, adversarial=0.7 * 9 * 14)
    assert _names(chart) == ["self-regularization too heavy"]


def test_a_run_that_has_not_trained_has_nothing_to_be_found() -> None:
    assert _names(Chart(resolve_configuration("default"), {}, ())) == []


# -- cues ----------------------------------------------------------------------------------------------------------


def _images(seed: int, n: int = 30, size: tuple[int, int] = (48, 56)) -> Images:
    noise = np.random.default_rng(seed).normal(0, 6, (n, *size, 1))
    return list(np.clip(120 + 100 * texture(n, *size, seed=seed) + noise, 0, 255).round().astype(np.uint8))


def _padded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = image.copy()
    image[:3] = image[-3:] = 0
    return image


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 25])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)[:, :, None]


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, None, fx=2, fy=2), np.uint8)[:, :, None]


CHANGES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "size": _enlarged,
    "padding": _padded,
    "JPEG grid": _jpeg,
    "level count": lambda image: (image // 32 * 32 + 16).astype(np.uint8),
    "mean level": lambda image: np.clip(image.astype(int) + 60, 0, 255).astype(np.uint8),
}


def test_two_sides_of_one_kind_show_no_cue_and_one_layout() -> None:
    assert list(find_cues(_images(1), _images(2))) == []
    assert list(find_layout(_images(1), _images(2))) == []


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("side", ["synthetic", "real"])
def test_each_trivial_cue_is_found_on_either_side(name: str, side: str) -> None:
    sides = {"synthetic": _images(1), "real": _images(2)}
    sides[side] = [CHANGES[name](image) for image in sides[side]]
    found = {finding.name for finding in find_cues(**sides)}
    assert f"cue: {name}" in found
    assert found <= {f"cue: {name}", "cue: level count"}, (
        "clipping and coding change the number of levels as well"
    )


def test_images_too_small_for_a_jpeg_grid_are_not_said_to_have_one() -> None:
    assert list(find_cues(_images(1, size=(16, 16)), _images(2, size=(16, 16)))) == []


def test_objects_at_other_places_or_scales_are_a_layout_mismatch() -> None:
    def objects(seed: int, top: int, left: int, side: int) -> Images:
        images = [np.full((64, 64, 1), 90, np.uint8) for _ in range(20)]
        for image, shown in zip(images, _images(seed, 20, (side, side)), strict=True):
            image[top : top + side, left : left + side] = shown
        return images

    assert list(find_layout(objects(1, 20, 20, 24), objects(2, 21, 19, 24))) == []
    assert [f.name for f in find_layout(objects(1, 4, 20, 24), objects(2, 36, 20, 24))] == ["layout mismatch"]
    assert [f.name for f in find_layout(objects(1, 24, 24, 16), objects(2, 4, 4, 56))] == ["layout mismatch"]


# -- the whole -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with records of a healthy run on two sides of one kind."""
    folder = tmp_path / "run"
    folder.mkdir()
    for side, seed in (("synthetic", 1), ("real", 2)):
        (tmp_path / side).mkdir()
        for i, image in enumerate(_images(seed, 20)):
            write_image(tmp_path / side / f"{i:02}.png", image)
    overrides = {"synthetic.root": str(tmp_path / "synthetic"), "real.root": str(tmp_path / "real")}
    chart = _chart(overrides=overrides)
    (folder / "config.toml").write_text(to_toml(chart.configuration))
    (folder / "data.json").write_text(json.dumps(chart.data))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chart.rows))
    return folder


def test_a_healthy_run_is_told_so_with_what_was_not_looked_at(run: Path) -> None:
    diagnosis = diagnose(run)
    assert diagnosis.healthy
    assert diagnosis.unknown == ("the labels: there is no evaluation.json; `simgan evaluate` writes one",)


def test_an_evaluation_is_read_from_the_run_a_file_or_an_object(run: Path, tmp_path: Path) -> None:
    record = report_runs.changed(
        labels__holds=False, labels__cost_points=0.1, labels__difference_points=-5.0, downstream=None
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "evaluation.json").write_text(json.dumps(record))
    for given in (tmp_path / "other", tmp_path / "other" / "evaluation.json", Evaluation(record)):
        assert "label mismatch" in [f.name for f in diagnose(run, given).findings]
    (run / "evaluation.json").write_text(json.dumps(record))
    assert "label mismatch" in [f.name for f in diagnose(run).findings]
    with pytest.raises(DataError):
        diagnose(run, tmp_path / "nowhere.json")


def test_images_that_are_gone_or_damaged_are_said_not_to_be_looked_at(run: Path, tmp_path: Path) -> None:
    (tmp_path / "real" / "00.png").write_bytes(b"torn")
    assert diagnose(run).healthy
    for path in (tmp_path / "real").iterdir():
        path.write_bytes(b"torn")
    assert "no image can be read" in diagnose(run).unknown[-1]
    for path in (tmp_path / "real").iterdir():
        path.unlink()
    assert diagnose(run).unknown[-1].startswith("the images: ")
    (run / "metrics.jsonl").unlink()
    assert diagnose(run).unknown[0].startswith("the game between the networks")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        diagnose(tmp_path)


def test_findings_are_printed_with_what_to_change(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import simgan.cli.doctor as verb

    verb.doctor(run)
    assert "nothing is wrong" in capsys.readouterr().out
    text = (
        (run / "metrics.jsonl")
        .read_text()
        .replace('"distance_from_identity": 0.12', '"distance_from_identity": 0.001')
    )
    (run / "metrics.jsonl").write_text(text)
    verb.doctor(run)
    out = capsys.readouterr().out
    assert out.startswith(f"1 finding on {run}\n\nidentity\n  The refiner does almost nothing")
    assert "What to change: Lower objective.self_regularization_weight" in out
    assert "not looked at:\n  - the labels" in out
    found = diagnose(run).findings[0]
    assert isinstance(found, Finding)
