from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simgan.nn.route as route_module
import simgan.training.loop as loop_module
import simgan.weights.files as files_module
import tiny_runs
from simgan.config import resolve_configuration
from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, OutputError, RunError, TrainingError
from simgan.images import write_image
from simgan.nn.discriminator import Discriminator
from simgan.training.candidates import Candidate, doubt_kept_refiner
from simgan.training.interruption import interruptible
from simgan.training.loop import Progress, Run, train
from simgan.training.run import RunDirectory
from simgan.training.schedule import learning_rate_factor, phase_of
from simgan.weights import load_refiner, save_refiner
from tiny_runs import Overrides, final_state, metrics_without_time, write_side, write_sides


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> Overrides:
    return write_sides(tmp_path_factory.mktemp("sides"))


@pytest.fixture(scope="module")
def uninterrupted(overrides: Overrides, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train("default", run_dir=tmp_path_factory.mktemp("run"), overrides=overrides)


def after_turn(number: int, action: Callable[[], Any], patch: pytest.MonkeyPatch) -> None:
    """Does `action` when that many turns of this call are done, whatever their phase."""
    turns = 0
    for name in ("update_refiner", "update_task", "update_discriminator", "adversarial_step"):
        original = getattr(loop_module, name)

        def wrapped(*arguments: Any, original: Callable[..., Any] = original, **options: Any) -> Any:
            nonlocal turns
            result = original(*arguments, **options)
            turns += 1
            if turns == number:
                action()
            return result

        patch.setattr(loop_module, name, wrapped)


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


# ---- what a run does and leaves


def test_the_rows_follow_the_phases_of_the_run(uninterrupted: Run) -> None:
    rows = metrics_without_time(uninterrupted.path)
    steps = [(row["phase"], row["step"], row["turn"]) for row in rows if row["kind"] == "step"]
    # 3 turns of R's warm-up, 4 of D's, 9 steps; a row every 2 steps, every 3 (checkpoints) and at a phase's end
    assert steps == [
        *(("warmup_refiner", step, step) for step in (2, 3)),
        *(("warmup_discriminator", step, 3 + step) for step in (2, 3, 4)),
        *(("adversarial", step, 7 + step) for step in (2, 3, 4, 6, 8, 9)),
    ]
    assert [row["step"] for row in rows if row["kind"] == "candidate"] == [3, 6, 9]
    warmup = rows[0]
    assert "adversarial_loss" not in warmup
    assert {"self_regularization", "adversarial_loss", "refiner_loss", "discriminator_loss"} <= rows[5].keys()


def test_a_run_leaves_the_files_that_its_documentation_names(uninterrupted: Run) -> None:
    names = {path.name for path in uninterrupted.path.iterdir()}
    assert names == {
        ".lock", "config.toml", "data.json", "metrics.jsonl", "samples", "checkpoints", "refiner.safetensors",
        "cache", "tensorboard",
    }  # fmt: skip
    samples = sorted(path.name for path in (uninterrupted.path / "samples").iterdir())
    assert samples == ["step_000003.png", "step_000006.png", "step_000009.png"]
    assert list((uninterrupted.path / "tensorboard").iterdir())


def test_the_kept_refiner_is_the_candidate_with_the_smallest_distance(uninterrupted: Run) -> None:
    rows = [row for row in metrics_without_time(uninterrupted.path) if row["kind"] == "candidate"]
    best = min(reversed(rows), key=lambda row: row["sliced_wasserstein"])
    assert uninterrupted.kept_step == best["step"]
    assert best["kept"]
    trained = load_refiner(uninterrupted.refiner)
    assert trained.provenance["step"] == best["step"]
    assert trained.provenance["seed"] == 0
    assert uninterrupted.refiner == uninterrupted.path / "refiner.safetensors"


def test_the_kept_refiner_is_the_moving_average(overrides: Overrides, tmp_path: Path) -> None:
    run = train("default", run_dir=tmp_path, overrides=overrides | {"run.checkpoint_every": 100})
    checkpoint = RunDirectory(tmp_path).load_checkpoint()
    assert checkpoint is not None
    weights = load_refiner(run.refiner, precision="float32").refiner.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(tensor, checkpoint["averaged_refiner"][name])
    assert any(not torch.equal(weights[name], checkpoint["refiner"][name]) for name in weights)


def test_a_run_and_its_directory_name_the_held_out_real_images(uninterrupted: Run, tmp_path: Path) -> None:
    """6 of 40: one at the head of each of six blocks."""
    wanted = ["000.png", "007.png", "013.png", "020.png", "027.png", "033.png"]
    assert list(uninterrupted.held_out_real) == wanted
    assert RunDirectory(uninterrupted.path).held_out_real() == wanted
    with pytest.raises(RunError, match=r"has no data\.json that lists held-out images; train with"):
        RunDirectory(tmp_path).held_out_real()


def test_a_finished_run_is_not_trained_again(uninterrupted: Run, overrides: Overrides) -> None:
    before = final_state(uninterrupted.path)
    again = train("default", run_dir=uninterrupted.path, overrides=overrides)
    assert again == uninterrupted
    assert final_state(uninterrupted.path) == before


def test_progress_is_told_with_every_row(overrides: Overrides, tmp_path: Path) -> None:
    told: list[Progress] = []
    train("default", run_dir=tmp_path, overrides=overrides, progress=told.append)
    rows = [row for row in metrics_without_time(tmp_path) if row["kind"] == "step"]
    assert [(p.phase, p.turn) for p in told] == [(row["phase"], row["turn"]) for row in rows]
    assert all(p.turns == 16 and p.seconds_left >= 0 for p in told)
    assert told[-1].seconds_left == 0
    assert told[-1].metrics["refiner_loss"] == rows[-1]["refiner_loss"]


def test_trees_may_be_given_as_trees(overrides: Overrides, tmp_path: Path) -> None:
    rest = {key: value for key, value in overrides.items() if not key.endswith(".root")}
    run = train(
        "default",
        run_dir=tmp_path / "run",
        synthetic=ImageTree(overrides["synthetic.root"], "*.png"),
        real=ImageTree(overrides["real.root"]),
        overrides=rest | {"training.steps": 1},
    )
    assert RunDirectory(run.path).configuration().synthetic.images == "*.png"


def test_warnings_are_told_recorded_and_returned(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path) | {"refiner.output": "residual", "training.refiner_learning_rate": 1e-9}
    told: list[str] = []
    run = train("default", run_dir=tmp_path / "run", overrides=overrides, warn=told.append)
    assert len(told) == 1
    assert "the refiner changes almost nothing" in told[0]
    assert run.warnings == tuple(told)
    (row,) = (row for row in metrics_without_time(run.path) if row["kind"] == "warning")
    assert row == {"kind": "warning", "step": 9, "turn": 16, "message": told[0]}


def test_a_perfect_discriminator_is_told_while_training(tmp_path: Path) -> None:
    overrides = write_sides(tmp_path) | {
        "real.root": str(write_side(tmp_path / "bright", 40, seed=3, low=225, high=255)),
        "training.steps": 60,
        "training.refiner_learning_rate": 1e-9,
        "training.discriminator_learning_rate": 0.05,
        "refiner.output": "residual",
        "run.log_every": 1,
        "run.checkpoint_every": 60,
    }
    told: list[str] = []
    run = train("default", run_dir=tmp_path / "run", overrides=overrides, warn=told.append)
    perfect = [message for message in told if "without error" in message]
    assert len(perfect) == 1
    assert perfect[0] in run.warnings


def test_held_out_real_images_never_reach_the_discriminator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every real image has a level of its own, so that D's batches show which ones it got."""
    overrides = write_sides(tmp_path) | {"training.steps": 40, "run.checkpoint_every": 20}
    real = tmp_path / "levels"
    real.mkdir()
    for i in range(40):
        write_image(real / f"{i:03}.png", np.full((8, 8, 1), 100 + i, np.uint8))
    overrides |= {
        "real.root": str(real),
        "training.augmentation_shift_px": 0,
        "training.augmentation_gain": 0.0,
    }
    seen: set[int] = set()
    forward = Discriminator.forward

    def spying(self: Discriminator, batch: torch.Tensor) -> torch.Tensor:
        if self.training:  # an update of D: refined images, then as many real ones
            levels = (batch[len(batch) // 2 :] + 1) * 127.5
            assert (levels - levels.round()).abs().max() < 1e-3
            seen.update(levels[:, 0, 0, 0].round().int().tolist())
        return forward(self, batch)

    monkeypatch.setattr(Discriminator, "forward", spying)
    run = train("default", run_dir=tmp_path / "run", overrides=overrides)
    description = RunDirectory(run.path).read_description()
    assert description["real_held_out"] == 6
    assert len(seen) == 34 == description["real_training"]


@pytest.mark.parametrize(
    "ablation",
    [
        {"training.history_batches": 0},
        {"discriminator.scope": "global"},
        {
            "training.history_batches": 0,
            "discriminator.scope": "global",
            "objective.self_regularization_weight": 0,
        },
        {"objective.patches": "sum", "training.optimizer": "sgd", "discriminator.output_maps": 2},
        {"discriminator.layers": [], "refiner.blocks": 0, "discriminator.width": 4},
        {"training.refiner_updates_per_step": 3, "training.discriminator_updates_per_step": 2},
        {"training.warmup_refiner_steps": 0, "training.warmup_discriminator_steps": 0},
    ],
    ids=["no history", "global", "plain GAN", "published", "derived", "K", "no warm-ups"],
)
def test_ablations_are_configurations_and_run(
    ablation: Overrides, overrides: Overrides, tmp_path: Path
) -> None:
    run = train("default", run_dir=tmp_path, overrides=overrides | {"training.steps": 2} | ablation)
    assert run.kept_step == 2


def test_a_run_works_without_tensorboard(
    overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simgan.training.tracking.importlib.util.find_spec", lambda _: None)
    train("default", run_dir=tmp_path, overrides=overrides | {"training.steps": 2})
    assert not (tmp_path / "tensorboard").exists()


# ---- interrupted and continued equals uninterrupted, exactly


def test_a_run_interrupted_after_every_single_turn_ends_like_an_uninterrupted_one(
    uninterrupted: Run, overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = 0
    while True:
        torch.manual_seed(interrupts)  # global generators play no part
        with monkeypatch.context() as patch:
            after_turn(1, interrupt, patch)
            try:
                run = train("default", run_dir=tmp_path, overrides=overrides)
            except KeyboardInterrupt:
                interrupts += 1
            else:
                break
    assert interrupts == 15  # the sixteenth turn is the last: nothing to interrupt any more
    assert final_state(tmp_path) == final_state(uninterrupted.path)
    assert (run.kept_step, run.warnings) == (uninterrupted.kept_step, uninterrupted.warnings)


VARIANTS: dict[str, Overrides] = {
    "sgd, no average": {"training.optimizer": "sgd", "refiner.average_decay": 0.0},
    "no history": {"training.history_batches": 0},
    "spectral": {"discriminator.spectral_normalization": True},
    "decaying": {"training.learning_rate_decay": "linear", "training.learning_rate_milestones": [[4, 0.5]]},
    "bf16": {"run.precision": "bfloat16"},
    "crops": {"data.crop": [6, 7]},
    "level matching": {"data.level_matching": True},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_run_continues_exactly(
    variant: Overrides, overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = overrides | variant | {"training.steps": 6}
    train("default", run_dir=tmp_path / "whole", overrides=changed)
    for turns in (2, 4, 5):  # in R's warm-up, in D's, in step 4
        with monkeypatch.context() as patch:
            after_turn(turns, interrupt, patch)
            with pytest.raises(KeyboardInterrupt):
                train("default", run_dir=tmp_path / "parts", overrides=changed)
    train("default", run_dir=tmp_path / "parts", overrides=changed)
    assert final_state(tmp_path / "parts") == final_state(tmp_path / "whole")


def test_a_run_with_task_consistency_continues_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = write_sides(tmp_path)
    names = [f"{i:03}.png,{i % 3}" for i in range(24)]
    (tmp_path / "synthetic/labels.csv").write_text("\n".join(["path,class", *names]) + "\n")
    changed = overrides | {
        "objective.task_consistency_weight": 1.0,
        "objective.self_ensembling_weight": 1.0,
        "training.warmup_task_steps": 2,
        "training.warmup_self_ensembling_steps": 2,
        "training.task_starts": 2,
        "training.steps": 4,
    }
    train("default", run_dir=tmp_path / "whole", overrides=changed)
    for _ in range(14):
        with monkeypatch.context() as patch:
            after_turn(1, interrupt, patch)
            with pytest.raises(KeyboardInterrupt):
                train("default", run_dir=tmp_path / "parts", overrides=changed)
    train("default", run_dir=tmp_path / "parts", overrides=changed)
    assert final_state(tmp_path / "parts") == final_state(tmp_path / "whole")


@pytest.mark.parametrize(
    "kind",
    [{"dtype": np.uint16, "high": 60_000}, {"shape": (8, 8, 3)}, {"step": 15, "low": 0, "high": 240}],
    ids=["16 bit", "RGB", "17 levels"],
)
def test_every_kind_of_image_continues_exactly(
    kind: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = write_sides(tmp_path, **kind) | {"training.steps": 4, "run.precision": "auto"}
    train("default", run_dir=tmp_path / "whole", overrides=changed)
    with monkeypatch.context() as patch:
        after_turn(9, interrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            train("default", run_dir=tmp_path / "parts", overrides=changed)
    train("default", run_dir=tmp_path / "parts", overrides=changed)
    assert final_state(tmp_path / "parts") == final_state(tmp_path / "whole")
    route = RunDirectory(tmp_path / "whole").read_description()["route"]
    assert route == "cpu float32" if "dtype" in kind else route.startswith("cpu ")


def test_the_rows_of_a_run_that_died_before_its_first_checkpoint_are_written_once(
    uninterrupted: Run, overrides: Overrides, tmp_path: Path
) -> None:
    def die(_: Progress) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train("default", run_dir=tmp_path, overrides=overrides, progress=die)
    assert metrics_without_time(tmp_path)
    assert RunDirectory(tmp_path).load_checkpoint() is None
    train("default", run_dir=tmp_path, overrides=overrides)
    assert final_state(tmp_path) == final_state(uninterrupted.path)


def test_a_run_that_died_after_keeping_a_refiner_but_before_its_checkpoint_ends_the_same(
    uninterrupted: Run, overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = RunDirectory.save_checkpoint, 0

    def die_at_the_fourth(self: RunDirectory, state: dict[str, Any]) -> None:
        nonlocal saved
        saved += 1
        if saved == 4:
            with self.metrics.open("a") as file:
                file.write('{"kind": "st')  # torn
            raise RuntimeError("killed")
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save_checkpoint", die_at_the_fourth)
        with pytest.raises(RuntimeError, match="killed"):
            train("default", run_dir=tmp_path, overrides=overrides)
    assert (tmp_path / "refiner.safetensors").exists()
    told: list[str] = []
    train("default", run_dir=tmp_path, overrides=overrides, warn=told.append)
    assert any("by its checkpoint the run has kept" in message for message in told)
    assert final_state(tmp_path) == final_state(uninterrupted.path)


def test_a_continued_run_says_where_its_refiner_is_not_the_one_that_its_checkpoint_knows(
    uninterrupted: Run, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted.path, run)
    checkpoint = RunDirectory(run).load_checkpoint()
    assert checkpoint is not None

    def said() -> str:
        return doubt_kept_refiner(Candidate.from_row(checkpoint["kept"]), run / "refiner.safetensors") or ""

    assert said() == ""
    kept = load_refiner(run)
    other = replace(kept, provenance=kept.provenance | {"step": 77})
    save_refiner(run / "refiner.safetensors", other)
    knows = f"by its checkpoint the run has kept the refiner of step {uninterrupted.kept_step}"
    assert f"{knows}, but {run / 'refiner.safetensors'} holds that of step 77. If" in said()
    (run / "refiner.safetensors").write_bytes(b"torn")
    assert f"{knows}, but {run / 'refiner.safetensors'}: damaged" in said()
    (run / "refiner.safetensors").unlink()
    assert f"{knows}, but {run / 'refiner.safetensors'} is gone" in said()
    assert doubt_kept_refiner(None, run / "refiner.safetensors") is None
    save_refiner(run / "refiner.safetensors", other)
    assert "has kept no refiner yet" in str(doubt_kept_refiner(None, run / "refiner.safetensors"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_refiner_is_loaded_in_the_precision_that_it_was_trained_in_where_the_processor_has_units_for_it(
    precision: str, overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("default", run_dir=tmp_path, overrides=overrides | {"run.precision": precision})
    for units in (True, False):
        for module in (route_module, files_module):
            monkeypatch.setattr(module, "has_bfloat16_units", lambda _, units=units: units)
        loaded = load_refiner(run.refiner, device="cpu")
        wanted = precision if units else "float32"
        assert (loaded.provenance["precision"], str(loaded.route)) == (precision, f"cpu {wanted}")
        asked = load_refiner(run.refiner, device="cpu", precision="bfloat16")
        assert str(asked.route) == "cpu bfloat16"


def test_killed_runs_continue_exactly(tmp_path: Path) -> None:
    """Two kills with SIGKILL at random moments; `make soak` does twenty."""
    program = Path(tiny_runs.__file__).with_name("kill_and_continue.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), "2", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 kills, 2 identical"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_checkpoint_of_that_turn_and_the_handlers_as_they_were(
    number: int, overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    after_turn(8, lambda: interrupt(number), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train("default", run_dir=tmp_path, overrides=overrides)
    checkpoint = RunDirectory(tmp_path).load_checkpoint()
    assert checkpoint is not None
    assert checkpoint["turn"] == 8
    assert signal.getsignal(number) == before


def test_a_second_interrupt_is_obeyed_at_once() -> None:
    with interruptible() as interrupted:
        interrupt()
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_outside_the_main_thread_training_leaves_signals_alone() -> None:
    results: list[bool] = []

    def run() -> None:
        before = signal.getsignal(signal.SIGINT)
        with interruptible() as interrupted:
            results.append(signal.getsignal(signal.SIGINT) == before and not interrupted.is_set())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [True]


# ---- what is refused


def test_another_configuration_is_refused_and_the_difference_named(
    uninterrupted: Run, overrides: Overrides
) -> None:
    before = final_state(uninterrupted.path)
    with pytest.raises(RunError, match=r"training\.batch_size: the run has 4, asked for 6"):
        train("default", run_dir=uninterrupted.path, overrides=overrides | {"training.batch_size": 6})
    assert final_state(uninterrupted.path) == before


def test_a_run_is_not_continued_on_other_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = write_sides(tmp_path)
    with monkeypatch.context() as patch:
        after_turn(2, interrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            train("default", run_dir=tmp_path / "run", overrides=overrides)
    write_side(tmp_path / "real" / "more", 1, seed=9)
    with pytest.raises(RunError, match=r"the real images are not those that the run in .* began with"):
        train("default", run_dir=tmp_path / "run", overrides=overrides)


def test_a_read_only_place_is_refused(overrides: Overrides, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another with --run"):
        train("default", run_dir=tmp_path / "file" / "run", overrides=overrides)


def test_a_failed_start_leaves_no_lock(overrides: Overrides, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="is not set"):
            train("default", run_dir=tmp_path)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_divergence_stops_the_run_and_keeps_its_last_good_state(
    every: int, overrides: Overrides, tmp_path: Path
) -> None:
    """Healthy up to step 5; from then on the learning rates are absurd."""
    changed = overrides | {
        "training.learning_rate_milestones": [[5, 1e25]],
        "training.optimizer": "sgd",
        "run.checkpoint_every": every,
        "run.log_every": 1,
    }
    for _ in range(2):  # continued, it stops again: nothing is overwritten
        with pytest.raises(
            TrainingError, match=r"diverged at turn 1[345]: .*last good checkpoint and refiner"
        ) as e:
            train("default", run_dir=tmp_path, overrides=changed)
        assert "discriminator_learning_rate" in str(e.value)
        checkpoint = RunDirectory(tmp_path).load_checkpoint()
        assert checkpoint is not None
        assert 7 < checkpoint["turn"] <= 13
        for part in ("refiner", "averaged_refiner", "discriminator"):
            assert all(torch.isfinite(tensor).all() for tensor in checkpoint[part].values())
        load_refiner(tmp_path)


def test_divergence_in_a_warm_up_is_seen_before_anything_is_kept(
    overrides: Overrides, tmp_path: Path
) -> None:
    changed = overrides | {"training.optimizer": "sgd", "objective.self_regularization_weight": 1e21}
    with pytest.raises(
        TrainingError, match=r"diverged at turn 2: .*refiner_loss.* became infinite or not a num"
    ):
        train("default", run_dir=tmp_path, overrides=changed)
    assert RunDirectory(tmp_path).load_checkpoint() is None


@pytest.mark.parametrize("player", ["refiner", "discriminator"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_weights_that_diverged_in_the_very_last_update_are_not_kept(
    player: str, interrupted: bool, overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics of that update are from before it, and finite."""
    step, steps = loop_module.adversarial_step, 0

    def diverging(players: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal steps
        metrics = step(players, *arguments, **options)
        steps += 1
        if steps == (5 if interrupted else 6):
            next(getattr(players, player).parameters()).data[0, 0, 0, 0] = torch.inf
            if interrupted:
                interrupt()
        return metrics

    monkeypatch.setattr(loop_module, "adversarial_step", diverging)
    said = rf"diverged at turn 1[23]: the {player}'s weights became infinite or not a number; the last good checkpoint"
    with pytest.raises(TrainingError, match=said):
        train("default", run_dir=tmp_path, overrides=overrides)
    checkpoint = RunDirectory(tmp_path).load_checkpoint()
    assert checkpoint is not None
    assert checkpoint["turn"] == 10
    assert load_refiner(tmp_path).provenance["step"] == 3


# ---- the schedule


def test_the_phases_by_hand() -> None:
    warm_ups = {"refiner": 2, "task": 1, "self_ensembling": 2, "discriminator": 1}
    overrides = {f"training.warmup_{name}_steps": steps for name, steps in warm_ups.items()}
    t = resolve_configuration("default", overrides).training
    assert [phase_of(turn, t) for turn in range(8)] == [
        ("warmup_refiner", 0),
        ("warmup_refiner", 1),
        ("warmup_task", 0),
        ("warmup_self_ensembling", 0),
        ("warmup_self_ensembling", 1),
        ("warmup_discriminator", 0),
        ("adversarial", 0),
        ("adversarial", 1),
    ]


def factors(at: list[int], **training: Any) -> list[float]:
    overrides = {f"training.{key}": value for key, value in training.items()}
    overrides = {"training.learning_rate_decay": "none"} | overrides
    t = resolve_configuration("default", overrides).training
    return [learning_rate_factor(t, step) for step in at]


def test_the_learning_rate_is_constant_or_falls_linearly_after_half_of_the_steps_to_two_percent() -> None:
    assert factors([0, 500, 999], steps=1000) == [1, 1, 1]
    falling = factors([0, 499, 500, 750, 900, 995, 999], steps=1000, learning_rate_decay="linear")
    assert falling == pytest.approx([1, 1, 1, 0.5, 0.2, 0.02, 0.02])


def test_milestones_multiply_from_their_step_on() -> None:
    milestones = [[600_000, 0.25], [700_000, 0.5]]
    at = [0, 599_999, 600_000, 700_000]
    assert factors(at, learning_rate_milestones=milestones) == [1, 1, 0.25, 0.125]


def test_both_optimizers_follow_the_schedule_and_warm_ups_do_not(
    overrides: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[float, float]] = []
    for name in ("update_refiner", "update_task", "update_discriminator", "adversarial_step"):
        original = getattr(loop_module, name)

        def wrapped(players: Any, *a: Any, original: Callable[..., Any] = original, **options: Any) -> Any:
            rates.append(
                tuple(
                    o.param_groups[0]["lr"]
                    for o in (players.refiner_optimizer, players.discriminator_optimizer)
                )
            )
            return original(players, *a, **options)

        monkeypatch.setattr(loop_module, name, wrapped)
    schedule = {
        "training.learning_rate_milestones": [[2, 0.1]],
        "training.refiner_learning_rate": 0.01,
        "training.discriminator_learning_rate": 0.03,
        "training.learning_rate_decay": "linear",
        "training.steps": 4,
    }
    train("default", run_dir=tmp_path, overrides=overrides | schedule)
    # 7 turns of warm-ups; steps 0 … 3: linear 1, 1, 1, 0.5; from step 2 on a tenth
    wanted = [1.0] * 7 + [1, 1, 0.1, 0.05]
    assert rates == [pytest.approx((0.01 * factor, 0.03 * factor)) for factor in wanted]


# ---- what a run kept, and lost


@pytest.fixture
def finished(uninterrupted: Run, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    shutil.copytree(uninterrupted.path, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("kept", [None, 0, 100])
def test_a_finished_run_whose_refiner_is_gone_or_truncated_is_no_success(
    finished: Path, overrides: Overrides, kept: int | None
) -> None:
    weights = finished / "refiner.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if kept is not None:
        weights.write_bytes(content[:kept])
    said: list[str] = []
    with pytest.raises(RunError, match=r"trained to its end, but .*refiner\.safetensors") as caught:
        train("default", run_dir=finished, overrides=overrides, warn=said.append)
    assert ("is gone" if kept is None else "damaged") in str(caught.value)
    assert "Restore the file from a backup, or delete" in str(caught.value)
    assert said == []
    (finished / "checkpoints" / "latest.pt").unlink()
    assert load_refiner(train("default", run_dir=finished, overrides=overrides).refiner)


def test_a_refiner_of_another_step_is_not_the_one_that_a_finished_run_kept(
    finished: Path, overrides: Overrides
) -> None:
    trained = load_refiner(finished, device="cpu", precision="float32")
    trained.provenance["step"] = 1
    save_refiner(finished / "refiner.safetensors", trained)
    with pytest.raises(RunError, match=r"is lost: .*holds that of step 1"):
        train("default", run_dir=finished, overrides=overrides)


def test_a_run_without_its_description_does_not_say_that_its_images_are_others(
    finished: Path, overrides: Overrides
) -> None:
    (finished / "data.json").unlink()
    with pytest.raises(RunError, match=r"has a checkpoint but no data\.json.*restore it.*or delete"):
        train("default", run_dir=finished, overrides=overrides)


def test_damaged_rows_are_said_before_training_goes_on(finished: Path, overrides: Overrides) -> None:
    rows = (finished / "metrics.jsonl").read_bytes()
    (finished / "metrics.jsonl").write_bytes(b"\xff" + rows[1:])
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged \(line 1"):
        train("default", run_dir=finished, overrides=overrides)
