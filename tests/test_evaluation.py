from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, LabelError, OutputError
from simgan.evaluation import ARMS, Evaluation, evaluate, pool
from simgan.evaluation.downstream import (
    Budget,
    build_arm,
    choose_matching,
    derive_seeds,
    halves,
    match_levels,
    unit_of,
)
from simgan.evaluation.inputs import Inputs, open_inputs
from simgan.images import ValueRange, write_image


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _write(root: Path, n: int, *, seed: int, bright: int, classes: int = 2, size: int = 8) -> ImageTree:
    """Class k: a bright bar in row 2 + 3k; `bright` tells the domains apart."""
    generator = np.random.default_rng(seed)
    for i in range(n):
        image = generator.integers(0, 40, (size, size, 1)).astype(np.uint8)
        image[2 + 3 * (i % classes)] += np.uint8(bright)
        path = root / str(i % classes) / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image)
    return ImageTree(root)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageTree]:
    root = tmp_path_factory.mktemp("trees")
    return {
        "synthetic": _write(root / "synthetic", 24, seed=0, bright=30),
        "refined": _write(root / "refined", 24, seed=1, bright=150),
        "real": _write(root / "real", 40, seed=2, bright=160),
        "real_labelled": _write(root / "test", 40, seed=3, bright=160),
        "real_dev": _write(root / "dev", 30, seed=4, bright=160),
    }


@pytest.fixture(scope="module")
def evaluation(trees: dict[str, ImageTree], tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    out = tmp_path_factory.mktemp("out")
    said: list[str] = []
    result = evaluate(
        **trees,
        updates=8,
        batch_size=8,
        task_seeds=2,
        out=out,
        generator={"generator": "bars", "version": 1},
        command="test",
        progress=said.append,
    )
    assert any("arm real, task seed 2 of 2 (14/14)" in text for text in said)
    loaded = Evaluation.load(out / "evaluation.json")
    assert loaded.record == json.loads(json.dumps(result.record))
    return loaded


def _inputs(trees: dict[str, ImageTree], cache: Path, **changed: object) -> Inputs:
    options: dict[str, object] = {"real_paths": None, "value_range": None, "seed": 0, **trees, **changed}
    return open_inputs(cache_dir=cache, **options)  # type: ignore[arg-type]


def test_the_record_holds_the_agreed_keys(evaluation: Evaluation) -> None:
    record = evaluation.record
    assert {"schema", "seed", "created", "versions", "command", "warnings"} < set(record)
    assert record["synthetic"]["generator"] == "bars"
    assert len(record["synthetic"]["sha256"]) == 64
    for side in ("synthetic", "synthetic_matched", "refined", "floor"):
        assert set(record["realism"][side]) == {"auc", "auc_low", "auc_high", "sliced_wasserstein"}
    for arm in ARMS:
        numbers = record["downstream"][arm]
        assert set(numbers) == {"mean", "low", "high", "n_seeds", "n_test", "n_train"}
        assert 0 <= numbers["low"] <= numbers["high"] <= 1
        assert numbers["n_test"] == 40
    assert set(record["downstream"]["gain"]) == {"over_synthetic", "over_synthetic_matched"}
    assert record["labels"]["n_refined"] == 24


def test_refined_images_that_look_real_come_closer_to_the_floor(evaluation: Evaluation) -> None:
    realism = evaluation.record["realism"]
    assert realism["refined"]["sliced_wasserstein"] < realism["synthetic"]["sliced_wasserstein"] / 2
    assert realism["floor"]["auc_low"] <= 0.5 <= realism["floor"]["auc_high"]
    assert realism["synthetic"]["auc"] > 0.9


def test_means_are_those_of_the_kept_outcomes(evaluation: Evaluation) -> None:
    assert evaluation.outcomes is not None
    for arm, errors in evaluation.outcomes.errors.items():
        assert errors.shape == (2, 40)
        assert evaluation.record["downstream"][arm]["mean"] == pytest.approx(1 - errors.mean())


def test_the_same_call_gives_the_same_numbers(evaluation: Evaluation, trees: dict[str, ImageTree]) -> None:
    again = evaluate(**trees, updates=8, batch_size=8, task_seeds=2, arms=("synthetic", "real"))
    assert again.outcomes is not None
    assert evaluation.outcomes is not None
    for arm in ("synthetic", "real"):
        np.testing.assert_array_equal(again.outcomes.errors[arm], evaluation.outcomes.errors[arm])
    assert "refined" in again.record["downstream"]["reason"]


def test_arms_hold_what_they_say(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    inputs = _inputs(trees, tmp_path)
    assert build_arm("synthetic", inputs, seed=0).n_train == 24
    assert build_arm("synthetic", inputs, seed=0).augmented
    assert not build_arm("synthetic_plain", inputs, seed=0).augmented
    both = build_arm("synthetic_plus_refined", inputs, seed=0)
    assert both.n_train == len(both.images) == 24
    some = build_arm("refined_plus_some_real", inputs, seed=0)
    assert some.n_train == 24 + 10
    assert len(some.images) == 24 + 10
    assert build_arm("real", inputs, seed=0).n_train == 30
    with pytest.raises(ConfigurationError, match="unknown arm 'fake'"):
        build_arm("fake", inputs, seed=0)


def test_no_scene_comes_twice_in_synthetic_plus_refined(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    inputs = _inputs(trees, tmp_path)
    first, second = halves(inputs, seed=5)
    paths = [inputs.synthetic.paths[i] for i in first] + [inputs.refined.paths[i] for i in second]
    assert sorted(paths) == sorted(inputs.synthetic.paths)
    assert len(first) == 12


def test_refined_images_under_other_paths_are_halved_too_and_warned_of(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    renamed = _write(tmp_path / "renamed" / "x", 20, seed=1, bright=150)
    renamed = ImageTree(tmp_path / "renamed")
    first, second = halves(_inputs({**trees, "refined": renamed}, tmp_path / "cache"), seed=0)
    assert (len(first), len(second)) == (12, 10)
    result = evaluate(
        **{**trees, "refined": renamed}, updates=1, batch_size=4, task_seeds=1, arms=("refined",)
    )
    assert any("originals are not known" in text for text in result.record["warnings"])


def test_matched_images_stay_on_the_grid_of_values(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    inputs = _inputs(trees, tmp_path, value_range=ValueRange(0, 240, 15))
    for matching in ("ranked", "histogram", "moments"):
        matched = match_levels(inputs, matching, seed=0)
        places = (matched + 1) / 2 * 16
        np.testing.assert_allclose(places, places.round(), atol=1e-5)
    assert inputs.synthetic.encode(inputs.value_range).mean() < matched.mean()


def test_the_matching_with_the_smaller_error_on_real_dev_is_chosen(
    trees: dict[str, ImageTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _inputs(trees, tmp_path)
    moments = match_levels(inputs, "moments", seed=0)

    class Model:
        def __init__(self, error: float) -> None:
            self.error = error

        def errors(self, images: np.ndarray, values: np.ndarray) -> np.ndarray:
            assert len(images) == len(values) == 30
            return np.full(30, self.error)

    for error_of_moments, chosen in ((0.1, "moments"), (0.3, "ranked")):
        monkeypatch.setattr(
            "simgan.evaluation.downstream.train_arm",
            lambda arm, labels, budget, seed, error=error_of_moments: Model(
                error if np.array_equal(arm.images, moments) else 0.2
            ),
        )
        choice = choose_matching(inputs, Budget(1), seed=0)
        assert choice["chosen"] == chosen
        assert choice["error_on_real_dev"] == {
            "ranked": pytest.approx(0.2),
            "histogram": pytest.approx(0.2),
            "moments": pytest.approx(error_of_moments),
        }


def test_realism_is_measured_on_unseen_real_images_and_levels_matched_to_the_others(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    paths = trees["real"].paths()
    inputs = _inputs(trees, tmp_path, real_paths=paths[:25])
    assert inputs.real.paths == paths[:25]
    assert inputs.matching.paths == paths[25:]
    with pytest.raises(DataError, match=r"1 of 1 are not in .*for instance nowhere.png"):
        _inputs(trees, tmp_path, real_paths=["nowhere.png"])
    with pytest.raises(DataError, match="0 of 0"):
        _inputs(trees, tmp_path, real_paths=[])


def test_without_labelled_images_only_realism_is_measured(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    three = {name: trees[name] for name in ("synthetic", "refined", "real")}
    result = evaluate(**three, out=tmp_path / "new" / "folder")
    assert result.record["downstream"] is None
    assert result.record["labels"] is None
    assert any("only realism was measured" in text for text in result.record["warnings"])
    assert not (tmp_path / "new" / "folder" / "evaluation.npz").exists()
    assert Evaluation.load(tmp_path / "new" / "folder" / "evaluation.json").outcomes is None
    assert pool([result])["downstream"] is None
    with pytest.raises(DataError, match="real_dev was given without real_labelled"):
        evaluate(**three, real_dev=trees["real_dev"])


def test_without_real_dev_the_labelled_images_are_split_by_group_and_it_is_said(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    four = {**trees, "real_dev": None}
    inputs = _inputs(four, tmp_path)  # type: ignore[arg-type]
    assert inputs.dev is not None
    assert inputs.test is not None
    assert len(inputs.dev) == len(inputs.test) == 20
    assert not set(inputs.dev.paths) & set(inputs.test.paths)
    assert "split by group: 20 images train" in inputs.warnings[0]


def test_large_sets_are_thinned_alike_on_both_sides(
    trees: dict[str, ImageTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simgan.evaluation.inputs.MOST_IMAGES", 10)
    inputs = _inputs(trees, tmp_path)
    assert len(inputs.synthetic) == 10
    assert inputs.synthetic.paths == inputs.refined.paths


def test_thinned_sets_stay_paired_where_images_were_left_out_when_refining(
    trees: dict[str, ImageTree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trees["refined"].root, tmp_path / "refined")
    gone = set(trees["refined"].paths()[::4])
    for path in gone:
        (tmp_path / "refined" / path).unlink()
    monkeypatch.setattr("simgan.evaluation.inputs.MOST_IMAGES", 16)
    inputs = _inputs({**trees, "refined": ImageTree(tmp_path / "refined")}, tmp_path / "cache")
    assert len(inputs.synthetic) == 16
    assert inputs.refined.paths == tuple(path for path in inputs.synthetic.paths if path not in gone)


def test_a_refined_tree_with_images_left_out_is_evaluated_against_its_whole_original(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    sides = {}
    for side in ("synthetic", "refined", "real_labelled", "real_dev"):
        sides[side] = ImageTree(tmp_path / side, labels="csv")
        shutil.copytree(trees[side].root, sides[side].root)
        rows = "".join(f"{path},{path[0]}\n" for path in sides[side].paths())
        (tmp_path / side / "labels.csv").write_text(f"path,class\n{rows}")
    gone = sides["refined"].paths()[:2]
    for path in gone:
        (tmp_path / "refined" / path).unlink()
    call = {**trees, **sides, "updates": 4, "batch_size": 8, "task_seeds": 1}
    with pytest.raises(LabelError, match=r"2 faults.*(?s:.)*is not in the tree"):
        evaluate(**call)  # type: ignore[arg-type]
    rejects = [{"path": path, "reason": "out of range"} for path in gone]
    (tmp_path / "refined" / "simgan-manifest.json").write_text(json.dumps({"rejects": rejects}))
    record = evaluate(**call).record  # type: ignore[arg-type]
    assert (record["synthetic"]["n"], record["refined"]["n"]) == (24, 22)
    assert record["labels"]["n_refined"] == 22
    assert record["downstream"]["refined"]["n_train"] == 22
    assert 20 <= record["downstream"]["synthetic_plus_refined"]["n_train"] <= 24


def test_images_of_another_size_or_format_name_prepare(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    large = _write(tmp_path / "large", 4, seed=0, bright=30, size=10)
    with pytest.raises(DataError, match=r"(?s)\(10, 10\).*\(8, 8\).*simgan prepare"):
        _inputs({**trees, "refined": large}, tmp_path / "c1")
    write_image(tmp_path / "large" / "0" / "odd.png", np.zeros((9, 10, 1), np.uint8))
    with pytest.raises(DataError, match=r"one size, found 2 sizes.*simgan prepare"):
        _inputs({**trees, "refined": large}, tmp_path / "c2")
    (tmp_path / "rgb").mkdir()
    write_image(tmp_path / "rgb" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"8-bit RGB images.*8-bit grey.*simgan prepare"):
        _inputs({**trees, "real": ImageTree(tmp_path / "rgb")}, tmp_path / "c3")


def test_images_under_8_pixels_are_refused(tmp_path: Path) -> None:
    tiny = _write(tmp_path / "tiny", 4, seed=0, bright=30, size=7)
    names = ("synthetic", "refined", "real")
    with pytest.raises(DataError, match=r"too small; at least 8 pixels"):
        _inputs(
            {**dict.fromkeys(names, tiny), "real_labelled": None, "real_dev": None},  # type: ignore[dict-item]
            tmp_path / "cache",
        )


def test_classes_that_only_one_side_has_are_named(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    (tmp_path / "three").mkdir()
    three = _write(tmp_path / "three", 12, seed=0, bright=160, classes=2)
    (tmp_path / "three" / "1").rename(tmp_path / "three" / "stop")
    with pytest.raises(LabelError, match="stop"):
        _inputs({**trees, "real_labelled": three}, tmp_path / "cache")


def test_too_few_images_leave_realism_out_with_the_reason(
    trees: dict[str, ImageTree], tmp_path: Path
) -> None:
    few = _write(tmp_path / "few", 12, seed=0, bright=160)
    result = evaluate(synthetic=trees["synthetic"], refined=trees["refined"], real=few)
    assert result.record["realism"] is None
    assert any("realism was not measured" in text for text in result.record["warnings"])


def test_values_are_evaluated_by_their_mean_error_in_their_unit(tmp_path: Path) -> None:
    def tree(name: str, n: int, seed: int) -> ImageTree:
        root = tmp_path / name
        root.mkdir()
        generator = np.random.default_rng(seed)
        rows = ["path,spot_x_px,spot_y_px,group"]
        for i in range(n):
            x, y = generator.integers(2, 8, 2)
            image = generator.integers(0, 40, (10, 10, 1)).astype(np.uint8)
            image[y - 1 : y + 2, x - 1 : x + 2] = 200
            write_image(root / f"{i}.png", image)
            rows.append(f"{i}.png,{x},{y},g{i % 4}")
        (root / "labels.csv").write_text("\n".join(rows) + "\n")
        return ImageTree(root)

    synthetic = tree("synthetic", 40, 0)
    result = evaluate(
        synthetic=synthetic,
        refined=synthetic,
        real=tree("real", 24, 1),
        real_labelled=tree("test", 24, 2),
        updates=30,
        batch_size=16,
        task_seeds=1,
        arms=("synthetic", "refined", "real"),
    )
    downstream = result.record["downstream"]
    assert (downstream["metric"], downstream["higher_is_better"], downstream["unit"]) == (
        "mean_error",
        False,
        "px",
    )
    assert downstream["synthetic"]["mean"] == downstream["refined"]["mean"] > 0
    assert downstream["gain"]["over_synthetic"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert result.record["labels"]["metric"] == "skill"
    assert any("2 groups only" in text for text in result.record["warnings"])


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        (("a_px", "b_px"), "px"),
        (("yaw_deg",), "deg"),
        (("a_px", "b"), "label units"),
        (("a",), "label units"),
    ],
)
def test_the_unit_is_the_suffix_that_all_columns_share(names: tuple[str, ...], unit: str) -> None:
    assert unit_of(names) == unit


def test_faulty_arguments_are_refused_before_anything_is_read(trees: dict[str, ImageTree]) -> None:
    with pytest.raises(ConfigurationError, match="unknown arms"):
        evaluate(**trees, arms=("synthetic", "critic"))
    with pytest.raises(ConfigurationError, match="unknown arms none; there are: synthetic_plain"):
        evaluate(**trees, arms=())
    for seed in (-1, 2**63):
        with pytest.raises(ConfigurationError, match=f"seed must be at least 0 and below 2.63, got {seed}"):
            evaluate(**trees, seed=seed)
    with pytest.raises(ConfigurationError, match="task_seeds must be at least 1, got 0"):
        evaluate(**trees, task_seeds=0)
    with pytest.raises(ConfigurationError, match="updates must be at least 1"):
        evaluate(**trees, updates=0)


def test_a_place_that_cannot_be_written_is_refused_first(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another place"):
        evaluate(**trees, out=tmp_path / "file" / "below")


def test_the_budget_grows_with_the_images_between_500_and_1500_updates() -> None:
    def updates(n: int, given: int | None = None) -> int:
        return Budget.for_images(n, updates=given, batch_size=64, mirror=False).updates

    assert [updates(100), updates(6400), updates(10**6), updates(100, 7)] == [500, 600, 1500, 7]


def test_evaluation_seeds_share_no_task_seeds() -> None:
    seeds = [derive_seeds(seed, 3) for seed in range(50)]
    assert len({one for three in seeds for one in three}) == 150
    assert derive_seeds(4, 3)[:2] == derive_seeds(4, 2)


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    with pytest.raises(DataError, match="cannot be read"):
        Evaluation.load(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="cannot be read"):
        Evaluation.load(path)
    for text, found in (("[]", "'list'"), ('{"schema": 9}', "9")):
        path.write_text(text)
        with pytest.raises(DataError, match=f"found {found}"):
            Evaluation.load(path)
    path.write_text('{"schema": 1, "downstream": {}}')
    with pytest.raises(DataError, match=r"evaluation\.npz.*run the evaluation again"):
        Evaluation.load(path)
