from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simgan.cli.printing import describe_plan
from simgan.config import resolve_configuration
from simgan.errors import RunError
from simgan.images import read_image, write_image
from simgan.training.algorithm import (
    SyntheticBatch,
    adversarial_step,
    update_discriminator,
    update_refiner,
    update_task,
)
from simgan.training.assembly import assemble
from simgan.training.loop import train
from simgan.training.run import RunDirectory
from simgan.training.task_consistency import TaskConsistency
from tiny_runs import Overrides, images, metrics_without_time, tiny_players, write_side, write_sides

CLASSES = torch.arange(12) % 3
VALUES = torch.linspace(10, 50, 24, dtype=torch.float64).reshape(12, 2)
CPU = torch.device("cpu")


def task_of(
    labels: Tensor = CLASSES, *, weight: float = 1.0, ensembling: float = 0.0, starts: int = 1, seed: int = 0
) -> TaskConsistency:
    is_class = labels.ndim == 1
    return TaskConsistency(
        labels,
        classes=3 if is_class else None,
        names=() if is_class else ("eye_x_px", "angle_deg"),
        weight=weight,
        self_ensembling_weight=ensembling,
        starts=starts,
        image_shape=(1, 8, 8),
        device=CPU,
        seed=seed,
    )


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(network.named_parameters()))


def moved(network: nn.Module, before: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in network.named_parameters() if not torch.equal(tensor, before[name])]


def test_the_label_of_an_image_is_found_by_its_number() -> None:
    task = task_of()
    assert task.labels_of(torch.tensor([0, 4, 11, 5])).tolist() == [0, 1, 2, 2]
    assert task_of(VALUES).labels_of(torch.tensor([11]))[0, 1] == 50


def test_the_task_network_learns_the_labels() -> None:
    """Three levels, three classes."""
    task, levels = task_of(), torch.tensor([-0.8, 0.0, 0.8]).repeat(4)
    pictures = levels.view(12, 1, 1, 1).expand(12, 1, 8, 8)
    labels = task.labels_of(torch.arange(12))
    losses = [float(task.update(pictures, labels)) for _ in range(60)]
    assert losses[0] > 0.8
    assert sum(losses[-5:]) / 5 < 0.4


def test_values_are_standardized_before_their_loss() -> None:
    """A loss of standardized values is of the order of one, whatever their unit."""
    for unit in (1.0, 1000.0):
        task = task_of(VALUES * unit)
        loss = float(task.loss(images(12), task.labels_of(torch.arange(12))).detach())
        assert 0.1 < loss < 2


def test_an_update_of_the_refiner_takes_the_gradient_through_the_task_network_and_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refiner moves by it; the task network moves in its own update alone."""
    moves = {}
    for weight in (0.0, 1.0):
        players = tiny_players(weight=0.0)
        players.task = task_of(weight=weight)
        update_task(players, SyntheticBatch(images(4), torch.tensor([0, 1, 2, 0])))
        task, discriminator = weights_of(players.task.network), weights_of(players.discriminator)
        monkeypatch.setattr(players.task, "update", lambda *_, real: torch.zeros(()))
        metrics = update_refiner(players, images(4), torch.tensor([0, 1, 2, 0]))
        assert not moved(players.task.network, task)
        assert not moved(players.discriminator, discriminator)
        assert float(metrics["task_consistency"]) > 0
        moves[weight] = weights_of(players.refiner)
    assert any(not torch.equal(moves[0.0][name], moves[1.0][name]) for name in moves[0.0])


@pytest.mark.parametrize("patches", ["mean", "sum"])
def test_the_share_of_the_task_in_the_loss_does_not_depend_on_the_reduction_of_patches(patches: str) -> None:
    players = tiny_players(weight=0.0, patches=patches)  # type: ignore[arg-type]
    players.task = task_of(weight=0.7)
    metrics = update_refiner(players, images(4), torch.tensor([0, 1, 2, 0]))
    scale = 16 if patches == "sum" else 1
    by_hand = metrics["adversarial_loss"] + 0.7 * scale * metrics["task_consistency"]
    assert float(metrics["refiner_loss"]) == pytest.approx(float(by_hand), rel=1e-6)


def test_after_the_refiner_the_task_network_learns_from_synthetic_and_refined_images_alike() -> None:
    players = tiny_players()
    players.task = task_of()
    refiner_before = copy.deepcopy(players.refiner)
    seen: list[tuple[Tensor, Tensor]] = []
    update = players.task.update

    def update_and_note(x: Tensor, y: Tensor, *, real: Tensor | None = None) -> Tensor:
        seen.append((x, y))
        return update(x, y, real=real)

    players.task.update = update_and_note  # type: ignore[method-assign]
    before = weights_of(players.task.network)
    synthetic, labels = images(4), torch.tensor([0, 1, 2, 0])
    update_refiner(players, synthetic, labels)
    ((pictures, given),) = seen
    assert torch.equal(pictures[:4], synthetic)
    with torch.no_grad():
        refined = players.quantization.quantize(refiner_before(synthetic))
    assert torch.equal(pictures[4:], refined)
    assert not pictures.requires_grad
    assert given.tolist() == [0, 1, 2, 0] * 2
    assert set(moved(players.task.network, before)) == set(before)


def test_neither_warm_up_nor_discriminator_update_touches_the_task_network() -> None:
    players = tiny_players()
    players.task = task_of()
    before = weights_of(players.task.network)
    update_refiner(players, images(4), torch.tensor([0, 1, 2, 0]), adversarial=False)
    update_discriminator(players, images(4), images(4, 1))
    assert not moved(players.task.network, before)


def test_without_labels_the_refiner_loss_is_that_of_equation_4() -> None:
    with_task, without = tiny_players(), tiny_players()
    with_task.task = task_of()
    a, b = update_refiner(with_task, images(4)), update_refiner(without, images(4))
    assert float(a["refiner_loss"]) == float(b["refiner_loss"])
    assert "task_consistency" not in a


def test_the_same_seed_gives_the_same_task_network_and_no_global_generator_plays_a_part() -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        task = task_of(seed=seed)
        for turn in range(3):
            torch.manual_seed(turn * 100 + seed)
            before = torch.get_rng_state()
            task.update(images(4, turn), torch.tensor([0, 1, 2, 0]))
            assert torch.equal(torch.get_rng_state(), before)
        return weights_of(task.network)

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("labels", [CLASSES, VALUES], ids=["class", "value"])
def test_a_restored_task_network_goes_on_exactly(labels: Tensor) -> None:
    chosen = torch.tensor([0, 3, 7, 8])
    task, restored = task_of(labels), task_of(labels, seed=9)
    task.update(images(4), task.labels_of(chosen))
    restored.load_state_dict(copy.deepcopy(task.state_dict()))
    for one in (task, restored):
        for turn in range(3):
            one.update(images(4, turn), one.labels_of(chosen))
    for name, tensor in task.network.state_dict().items():
        assert torch.equal(tensor, restored.network.state_dict()[name])


# ---- in a run


def labelled_sides(folder: Path) -> Overrides:
    """Class folders on the synthetic side."""
    overrides = write_sides(folder)
    root = folder / "labelled"
    for i in range(24):
        target = root / "abc"[i % 3] / f"{i:03}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, read_image(Path(overrides["synthetic.root"]) / f"{i:03}.png"))
    return overrides | {
        "synthetic.root": str(root),
        "objective.task_consistency_weight": 1.0,
        "training.warmup_task_steps": 2,
        "training.steps": 3,
    }


def test_labels_go_with_their_images(tmp_path: Path) -> None:
    a = assemble(resolve_configuration("default", labelled_sides(tmp_path)), cache_dir=tmp_path / "cache")
    task = a.players().task
    assert task is not None
    assert a.labels is not None
    images, indices = a.synthetic_stream().next_with_indices()
    for image, index, label in zip(images, indices.tolist(), task.labels_of(indices).tolist(), strict=True):
        path = a.synthetic.cache.paths[index]
        assert a.labels.names[label] == path.split("/")[0]
        np.testing.assert_array_equal(
            image[0].numpy(), read_image(Path(a.configuration.synthetic.root) / path)[:, :, 0]
        )


def test_a_labelled_run_warms_the_task_network_up_and_reports_its_losses(tmp_path: Path) -> None:
    run = train("default", run_dir=tmp_path / "run", overrides=labelled_sides(tmp_path))
    rows = [row for row in metrics_without_time(run.path) if row["kind"] == "step"]
    warm = [row for row in rows if row["phase"] == "warmup_task"]
    assert [row["step"] for row in warm] == [2]
    assert set(warm[0]) == {"kind", "phase", "step", "turn", "task_loss"}
    assert {"task_consistency", "task_loss"} <= rows[-1].keys()
    assert not any("task consistency" in message for message in run.warnings)


def test_an_unlabelled_run_leaves_task_consistency_and_its_warm_up_out_with_a_warning(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path) | {
        "objective.task_consistency_weight": 1.0,
        "training.warmup_task_steps": 5,
        "training.steps": 3,
    }
    told: list[str] = []
    run = train("default", run_dir=tmp_path / "run", overrides=overrides, warn=told.append)
    assert "task consistency is left out: no labels found in" in told[0]
    assert "objective.task_consistency_weight = 0" in told[0]
    assert run.warnings == tuple(told)
    phases = {row["phase"] for row in metrics_without_time(run.path) if row["kind"] == "step"}
    assert phases == {"warmup_refiner", "warmup_discriminator", "adversarial"}


def test_images_too_small_for_the_task_network_leave_it_out(tmp_path: Path) -> None:
    overrides = labelled_sides(tmp_path) | {"data.crop": [8, 7]}
    a = assemble(resolve_configuration("default", overrides), cache_dir=tmp_path / "cache")
    assert a.labels is None
    assert any("needs images of at least 8 pixels a side" in message for message in a.warnings)


def test_random_crops_would_move_value_labels_and_leave_the_task_out(tmp_path: Path) -> None:
    overrides = labelled_sides(tmp_path)
    large = write_side(tmp_path / "large", 12, seed=3, shape=(10, 10, 1))
    rows = "".join(f"{i:03}.png,{i}\n" for i in range(12))
    (large / "labels.csv").write_text("path,eye_x_px\n" + rows)
    changed = overrides | {"synthetic.root": str(large), "data.crop": [8, 8]}
    a = assemble(resolve_configuration("default", changed), cache_dir=tmp_path / "cache")
    assert a.labels is None
    assert any("random crops would move the labels" in message for message in a.warnings)
    whole = changed | {
        "data.crop": [10, 10],
        "real.root": str(write_side(tmp_path / "r", 40, seed=4, shape=(10, 10, 1))),
    }
    a = assemble(resolve_configuration("default", whole), cache_dir=tmp_path / "cache")
    assert a.labels is not None
    assert a.labels.names == ("eye_x_px",)


def test_random_crops_would_cut_what_class_labels_name_and_leave_the_task_out(tmp_path: Path) -> None:
    overrides = labelled_sides(tmp_path)
    for side in ("abc"[i] for i in range(3)):
        write_side(tmp_path / "large" / side, 8, seed=3, shape=(10, 10, 1))
    changed = overrides | {"synthetic.root": str(tmp_path / "large"), "data.crop": [8, 8]}
    a = assemble(resolve_configuration("default", changed), cache_dir=tmp_path / "cache")
    assert a.labels is None
    assert a.describe()["labels"] is None
    assert any("random crops would cut away what the labels name" in message for message in a.warnings)


@pytest.mark.parametrize("label_format", ["folders", "csv"])
def test_what_was_found_of_the_labels_is_described_and_said_by_the_check(
    label_format: str, tmp_path: Path
) -> None:
    overrides, root = labelled_sides(tmp_path), tmp_path / "labelled"
    if label_format == "csv":
        rows = (f"{p.relative_to(root).as_posix()},1.5,2" for p in sorted(root.rglob("*.png")))
        (root / "labels.csv").write_text("path,eye_x_px,eye_y_px\n" + "\n".join(rows) + "\n")
    c = resolve_configuration("default", overrides)
    found = assemble(c, cache_dir=tmp_path / "cache").describe()
    names = ["a", "b", "c"] if label_format == "folders" else ["eye_x_px", "eye_y_px"]
    labels = found["labels"]
    assert (labels["format"], labels["names"], labels["count"]) == (label_format, names, 24)
    said = f"24 labels of the format {label_format}, "
    said += "3 classes (a, b, c)" if label_format == "folders" else "2 columns (eye_x_px, eye_y_px)"
    plan = describe_plan(found, c)
    assert said in plan
    assert "2 of the task network alone" in plan


def test_the_check_says_that_task_consistency_is_left_out(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path) | {
        "objective.task_consistency_weight": 1.0,
        "training.warmup_task_steps": 5,
    }
    c = resolve_configuration("default", overrides)
    plan = describe_plan(assemble(c, cache_dir=tmp_path / "cache").describe(), c)
    assert "consistency of the labels is left out, see the warnings" in plan
    assert "of the task alone" not in plan
    without = resolve_configuration("default", overrides | {"objective.task_consistency_weight": 0})
    found = assemble(without, cache_dir=tmp_path / "cache").describe()
    assert found["labels"] is None
    assert "left out" not in describe_plan(found, without)


def test_a_run_is_not_continued_with_other_labels(tmp_path: Path) -> None:
    overrides = labelled_sides(tmp_path)
    root = Path(overrides["synthetic.root"])
    values = "".join(
        f"{p.relative_to(root).as_posix()},{i}\n" for i, p in enumerate(sorted(root.rglob("*.png")))
    )
    (root / "labels.csv").write_text("path,angle_deg\n" + values)
    train("default", run_dir=tmp_path / "run", overrides=overrides)
    assert len(RunDirectory(tmp_path / "run").read_description()["labels"]["sha256"]) == 64
    (root / "labels.csv").write_text("path,angle_deg\n" + values.replace(",3\n", ",33\n"))
    with pytest.raises(RunError, match="the labels are not those that the run in"):
        train("default", run_dir=tmp_path / "run", overrides=overrides)


# ---- unlabelled real images


def test_the_task_network_learns_from_real_images_only_where_there_is_self_ensembling() -> None:
    synthetic, labels, real = images(4), torch.tensor([0, 1, 2, 0]), images(4, seed=9)

    def weights_after(ensembling: float, real: Tensor | None) -> dict[str, Tensor]:
        task = task_of(ensembling=ensembling)
        task.update(synthetic, labels, real=real)
        return weights_of(task.network)

    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return all(torch.equal(a[name], b[name]) for name in a)

    without = weights_after(0.0, None)
    assert same(without, weights_after(0.0, real))
    assert same(without, weights_after(10.0, None))
    assert not same(without, weights_after(10.0, real))


def test_a_label_of_values_has_no_self_ensembling() -> None:
    assert task_of(VALUES, ensembling=10.0).ensembling is None


def test_the_teacher_follows_every_update_of_the_task_network() -> None:
    task = task_of(ensembling=10.0)
    assert task.ensembling is not None
    for real in (None, images(4, seed=9)):
        before = weights_of(task.ensembling.teacher)
        task.update(images(4), torch.tensor([0, 1, 2, 0]), real=real)
        assert set(moved(task.ensembling.teacher, before)) == set(before)


def test_how_often_classes_occur_is_counted_among_the_synthetic_labels() -> None:
    task = task_of(torch.tensor([0, 0, 1, 2] * 3), ensembling=1.0)
    assert task.ensembling is not None
    assert task.ensembling.prior.tolist() == [0.5, 0.25, 0.25]


def test_a_step_gives_real_images_to_the_task_network_only_where_it_learns_from_them() -> None:
    for ensembling, drawn in ((0.0, 1), (10.0, 2)):
        players = tiny_players()
        players.task = task_of(ensembling=ensembling)
        draws: list[Tensor] = []
        adversarial_step(
            players,
            lambda: SyntheticBatch(images(4), torch.tensor([0, 1, 2, 0])),
            lambda draws=draws: (draws.append(images(4, seed=9)), draws[-1])[1],  # type: ignore[misc]
            refiner_updates=1,
            discriminator_updates=1,
        )
        assert len(draws) == drawn


def test_real_images_reach_the_task_network_alone_in_an_update_of_the_refiner() -> None:
    """R's own step is the same with and without them."""
    after = []
    for real in (None, images(4, seed=9)):
        players = tiny_players()
        players.task = task_of(ensembling=10.0)
        update_refiner(players, images(4), torch.tensor([0, 1, 2, 0]), real=real)
        after.append(weights_of(players.refiner))
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_the_confused_half_of_real_images_is_read_rightly_after_self_ensembling() -> None:
    """Drawn: class by level, −0.6 or 0.6. Real: darker by 0.7, so that most of class 1 looks like class 0 at first."""
    generator = torch.Generator().manual_seed(0)

    def pictures(labels: Tensor, shift: float) -> Tensor:
        levels = 1.2 * labels - 0.6 + shift + 0.1 * torch.randn(len(labels), generator=generator)
        return levels.view(-1, 1, 1, 1) + 0.05 * torch.randn(len(labels), 1, 8, 8, generator=generator)

    labels = torch.arange(64) % 2
    shares = {}
    for ensembling in (0.0, 10.0):
        task = TaskConsistency(
            labels,
            classes=2,
            names=(),
            weight=1.0,
            self_ensembling_weight=ensembling,
            starts=1,
            image_shape=(1, 8, 8),
            device=CPU,
            seed=0,
        )
        for turn in range(120):
            task.update(pictures(labels, 0.0), labels, real=None if turn < 40 else pictures(labels, -0.7))
        real = pictures(labels, -0.7)
        with torch.no_grad():
            read = task.network.eval()(real).argmax(1)
        shares[ensembling] = float((read == labels).float().mean())
    assert shares[0.0] < 0.8, shares
    assert shares[10.0] > 0.95, shares
