"""train(): phases, samples, candidates, checkpoints, resume. No mathematics: that is `algorithm`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

import simgan
from simgan.config import resolve_configuration
from simgan.data.streams import BatchStream
from simgan.data.trees import ImageTree
from simgan.errors import RunError, TrainingError
from simgan.images import write_atomically
from simgan.nn.allocation import keep_freed_memory
from simgan.nn.refiner import Refiner
from simgan.settings import Configuration
from simgan.training.algorithm import (
    Metrics,
    Players,
    SyntheticBatch,
    adversarial_step,
    restore_optimizer,
    update_discriminator,
    update_refiner,
    update_task,
)
from simgan.training.assembly import Assembly, assemble
from simgan.training.candidates import Candidate, doubt_kept_refiner, judge_candidate, unlike_kept
from simgan.training.capture import captured_turns
from simgan.training.drift_budget import DriftBudget
from simgan.training.feeding import feed_of, first_stage_of
from simgan.training.interruption import interruptible
from simgan.training.ranks import OnlookingRun, Ranks, joined, share
from simgan.training.run import RunDirectory
from simgan.training.samples import sample_sheet
from simgan.training.schedule import (
    Phase,
    phase_of,
    phases_of,
    set_learning_rates,
    settings_without_idle_phases,
)
from simgan.training.tracking import TensorBoardTracker
from simgan.training.watch import Watch
from simgan.weights import TrainedRefiner, save_refiner


@dataclass(frozen=True)
class Progress:
    """Where training stands; `turn` counts warm-ups and steps together, up to `turns`."""

    phase: Phase
    turn: int
    turns: int
    metrics: dict[str, float]
    seconds_left: float


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, the kept refiner's file, the step it is from, and what was warned of."""

    path: Path
    refiner: Path
    kept_step: int
    held_out_real: tuple[str, ...]
    """The unlabelled real images that D never saw: realism is to be measured on these."""
    warnings: tuple[str, ...]


@dataclass
class _State:
    """What changes while training, beside the players; all of it is in every checkpoint."""

    turn: int = 0
    kept: Candidate | None = None


def train(
    recipe: str | Path | Configuration = "default",
    *,
    run_dir: str | Path,
    synthetic: ImageTree | None = None,
    real: ImageTree | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] | None = None,
    judged: Callable[[Candidate, TrainedRefiner], None] | None = None,
) -> Run:
    """Trains a refiner in `run_dir`; the same call again continues, exactly.

    `recipe` is the name of a recipe, a TOML file, or a configuration; `synthetic` and `real` set its trees, `overrides`
    any other key ({"training.steps": 500}). `judged` is given each candidate with its refiner, before the next turn.

    Raises before the first update where data or configuration are wrong; `TrainingError` when losses are no
    longer numbers (the last good checkpoint and refiner stay); `KeyboardInterrupt` after a checkpoint when
    interrupted.
    """
    changes = dict(overrides or {})
    for side, tree in (("synthetic", synthetic), ("real", real)):
        if tree is not None:
            changes |= {f"{side}.root": str(tree.root), f"{side}.images": tree.images}
    configuration = resolve_configuration(recipe, changes)
    with joined(configuration) as ranks:
        directory = RunDirectory(run_dir) if ranks.writes else OnlookingRun(run_dir)
        ranks.first_alone(lambda: directory.open_for_training(configuration))
        if not ranks.writes:
            progress = warn = judged = None
        try:
            return _train(
                configuration,
                directory,
                ranks,
                progress or (lambda _: None),
                warn or (lambda _: None),
                judged or (lambda _, __: None),
            )
        finally:
            directory.close()


def _train(
    c: Configuration,
    directory: RunDirectory,
    ranks: Ranks,
    progress: Callable[[Progress], None],
    warn: Callable[[str], None],
    judged: Callable[[Candidate, TrainedRefiner], None],
) -> Run:
    assembly = ranks.first_alone(lambda: assemble(c, cache_dir=directory.cache))
    for message in assembly.warnings:
        warn(message)
    checkpoint = directory.load_checkpoint()
    if checkpoint is not None:
        ranks.refuse_other_count(checkpoint, directory.path)
        _refuse_other_images(directory, assembly)
    ranks.wait()
    directory.write_description(assembly.describe())

    if assembly.route.device.type == "cpu":
        keep_freed_memory()
    players, state = assembly.players(), _State()
    synthetic_stream, real_stream = assembly.synthetic_stream(), assembly.real_stream()
    watch = Watch(levels=assembly.value_range.levels)
    budget = DriftBudget.of(assembly)
    if checkpoint is not None:
        _restore(checkpoint, players, state, synthetic_stream, real_stream, watch)
        if budget is not None:
            budget.load_state_dict(checkpoint["drift_budget"], players)
    share(players, ranks)
    directory.truncate_metrics(0 if checkpoint is None else int(checkpoint["metrics_size"]))
    directory.read_metrics()  # damaged ones are said now, not when training ends

    first_stage = first_stage_of(assembly)
    next_synthetic = feed_of(assembly.synthetic, synthetic_stream, players)
    next_real = feed_of(assembly.real, real_stream, players)

    def draw_synthetic() -> SyntheticBatch:
        images, indices = next_synthetic()
        labels = None if players.task is None else players.task.labels_of(indices)
        return ranks.part_of(SyntheticBatch(players.route.put(first_stage(images)), labels))

    def draw_real() -> torch.Tensor:
        return ranks.part(players.route.put(next_real()[0]))

    t = settings_without_idle_phases(c.training, players)
    turns = sum(length for _, length in phases_of(t))
    if checkpoint is not None and state.turn < turns:
        doubt = doubt_kept_refiner(state.kept, directory.weights)
        if doubt is not None:
            warn(doubt)
    started, first_turn = time.monotonic(), state.turn
    tracked = directory.path / "tensorboard" if ranks.writes else None
    tracker = TensorBoardTracker(tracked, resume_at=state.turn)

    def checkpoint_now() -> None:
        saved = _snapshot(players, state, synthetic_stream, real_stream, watch)
        saved["drift_budget"] = None if budget is None else budget.state_dict()
        directory.save_checkpoint(saved | {"metrics_size": directory.metrics_size(), "ranks": ranks.count})

    def record(row: dict[str, Any]) -> None:
        directory.append_metrics(row)
        tracker.add(row)

    turn_of = captured_turns(
        players,
        capturable=ranks.count == 1 and budget is None,
        warmup_refiner=lambda: update_refiner(players, draw_synthetic().images, adversarial=False),
        warmup_task=lambda: update_task(players, draw_synthetic()),
        warmup_self_ensembling=lambda: update_task(players, draw_synthetic(), draw_real()),
        warmup_discriminator=lambda: update_discriminator(players, draw_synthetic().images, draw_real()),
        adversarial=lambda: adversarial_step(
            players,
            draw_synthetic,
            draw_real,
            refiner_updates=t.refiner_updates_per_step,
            discriminator_updates=t.discriminator_updates_per_step,
        ),
    )
    with closing(tracker), interruptible() as interrupted:
        while state.turn < turns:
            phase, step = phase_of(state.turn, t)
            # -- one turn -------------------------------------------------------------------------------------
            if phase == "adversarial":
                set_learning_rates(players, t, step)
            metrics = turn_of[phase]()
            if phase == "adversarial" and budget is not None and budget.due(step + 1):
                _refuse_diverged(players, directory, turn=state.turn + 1)
                held = budget.update(players)
                record({"kind": "drift_budget", "step": step + 1, "turn": state.turn + 1, **held})
            state.turn += 1
            last_of_phase = phase_of(state.turn, t)[0] != phase or state.turn == turns
            due = (step + 1) % c.run.checkpoint_every == 0 or last_of_phase
            if players.task is not None and phase == "warmup_self_ensembling" and last_of_phase:
                players.task.keep_surest_start()

            # -- log it ---------------------------------------------------------------------------------------
            if (step + 1) % c.run.log_every == 0 or due:
                numbers = _finite(ranks.mean(metrics), directory, turn=state.turn)
                elapsed = time.monotonic() - started
                left = elapsed / (state.turn - first_turn) * (turns - state.turn)
                record({"kind": "step", "phase": phase, "step": step + 1, "turn": state.turn, **numbers,
                        "time_sec": round(elapsed, 3)})  # fmt: skip
                for message in watch.observe(numbers, phase=phase):
                    warn(message)
                    record({"kind": "warning", "step": step + 1, "turn": state.turn, "message": message})
                progress(Progress(phase, state.turn, turns, numbers, left))

            # -- look at it, judge it, keep it ----------------------------------------------------------------
            if due:
                _refuse_diverged(players, directory, turn=state.turn)
                if phase == "adversarial":
                    if ranks.writes:
                        sheet = sample_sheet(assembly, players.averaged_refiner)
                        write_atomically(directory.samples / f"step_{step + 1:06d}.png", sheet)
                    allowed = 0.0 if budget is None else budget.held_px
                    candidate = judge_candidate(
                        assembly, players.averaged_refiner, step=step + 1, allowed_px=allowed
                    )
                    refiner = trained_refiner(assembly, players, step=step + 1)
                    judged(candidate, refiner)
                    keep = bool(ranks.of_first(int(candidate.better_than(state.kept))))
                    if keep:
                        state.kept = candidate
                        if ranks.writes:
                            save_refiner(directory.weights, refiner)
                    record({"kind": "candidate", "turn": state.turn, **candidate.row(), "kept": keep})
                    for message in watch.observe_candidate(candidate, last=state.turn == turns):
                        warn(message)
                        record({"kind": "warning", "step": step + 1, "turn": state.turn, "message": message})
                checkpoint_now()
            if ranks.any(interrupted.is_set()) and state.turn < turns:
                _refuse_diverged(players, directory, turn=state.turn)
                checkpoint_now()
                ranks.wait()  # torchrun ends all when one is gone
                raise KeyboardInterrupt
    assert state.kept is not None, "the last step is always a candidate"
    ranks.wait()
    lost = unlike_kept(state.kept, directory.weights)
    if lost is not None:
        raise RunError(
            f"{directory.path} is trained to its end, but the refiner that it kept, of step {state.kept.step}, is "
            f"lost: {lost}. Restore the file from a backup, or delete {directory.checkpoint} to train this run anew"
        )
    rows = directory.read_metrics()
    warnings = [row["message"] for row in rows if row.get("kind") == "warning"]
    held_out = tuple(assembly.real.cache.paths[i] for i in assembly.real_held_out.tolist())
    return Run(directory.path, directory.weights, state.kept.step, held_out, (*assembly.warnings, *warnings))


def trained_refiner(assembly: Assembly, players: Players, *, step: int) -> TrainedRefiner:
    """What is kept of a run: the (averaged) refiner with all that refining needs, and where it came from."""
    c = assembly.configuration
    return TrainedRefiner(
        refiner=cast(Refiner, players.averaged_refiner),
        level_matching=assembly.level_matching,
        value_range=assembly.value_range,
        pixel_format=assembly.synthetic.cache.scan.pixel_format,
        training_scan=assembly.synthetic.cache.scan,
        provenance={
            "simgan": simgan.__version__,
            "torch": str(torch.__version__),
            "recipe": c.recipe,
            "seed": c.seed,
            "step": step,
            "route": str(assembly.route),
            "precision": str(assembly.route.dtype).removeprefix("torch."),
            "synthetic_fingerprint": assembly.synthetic.cache.scan.fingerprint,
            "real_fingerprint": assembly.real.cache.scan.fingerprint,
        },
        route=assembly.route,
    )


def _finite(metrics: Metrics, directory: RunDirectory, *, turn: int) -> dict[str, float]:
    """The metrics as numbers; `TrainingError` where one is not finite."""
    numbers = {name: float(value) for name, value in metrics.items()}
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise _diverged(", ".join(bad), directory, turn=turn)
    return numbers


def _refuse_diverged(players: Players, directory: RunDirectory, *, turn: int) -> None:
    """`TrainingError` where weights are not finite: metrics are from before the last update, and so do not show it."""
    for name, network in (("refiner", players.refiner), ("discriminator", players.discriminator)):
        if not all(bool(torch.isfinite(weights).all()) for weights in network.parameters()):
            raise _diverged(f"the {name}'s weights", directory, turn=turn)


def _diverged(what: str, directory: RunDirectory, *, turn: int) -> TrainingError:
    there = [
        name
        for name, path in (("checkpoint", directory.checkpoint), ("refiner", directory.weights))
        if path.exists()
    ]
    kept = f"; the last good {' and '.join(there)} stayed in {directory.path}" if there else ""
    return TrainingError(
        f"training diverged at turn {turn}: {what} became infinite or not a number{kept}. Lower "
        "training.discriminator_learning_rate and training.refiner_learning_rate (halve both), or set "
        "discriminator.spectral_normalization = true, in a new run directory"
    )


def _refuse_other_images(directory: RunDirectory, assembly: Assembly) -> None:
    """`RunError` where images or labels are not those that the run began with: it would not be the same run."""
    began_with, now = directory.read_description(), assembly.describe()
    if not began_with:
        raise RunError(
            f"{directory.path} has a checkpoint but no data.json, so whether these are the images that it began "
            f"with is not known; restore it from a backup, or delete {directory.checkpoint} to train this run anew"
        )
    fingerprints = {
        f"{side} images": [found.get(side, {}).get("fingerprint") for found in (began_with, now)]
        for side in ("synthetic", "real")
    }
    fingerprints["labels"] = [_labels_digest(found) for found in (began_with, now)]
    for what, (then, found) in fingerprints.items():
        if then != found:
            raise RunError(
                f"the {what} are not those that the run in {directory.path} began with; restore them, or choose "
                "a new folder for a run on these"
            )


def _labels_digest(description: dict[str, Any]) -> str | None:
    labels = description.get("labels")
    return labels["sha256"] if isinstance(labels, dict) else labels  # the first runs wrote the digest alone


def _snapshot(
    players: Players, state: _State, synthetic: BatchStream, real: BatchStream, watch: Watch
) -> dict[str, Any]:
    return {
        "turn": state.turn,
        "kept": None if state.kept is None else state.kept.row(),
        "refiner": players.refiner.state_dict(),
        "averaged_refiner": players.averaged_refiner.state_dict(),
        "discriminator": players.discriminator.state_dict(),
        "refiner_optimizer": players.refiner_optimizer.state_dict(),
        "discriminator_optimizer": players.discriminator_optimizer.state_dict(),
        "task": None if players.task is None else players.task.state_dict(),
        "history": None if players.history is None else players.history.state_dict(),
        "generator": players.draws.generator.get_state(),
        "synthetic_stream": synthetic.state_dict(),
        "real_stream": real.state_dict(),
        "watch": watch.state_dict(),
    }


def _restore(
    checkpoint: dict[str, Any],
    players: Players,
    state: _State,
    synthetic: BatchStream,
    real: BatchStream,
    watch: Watch,
) -> None:
    state.turn = int(checkpoint["turn"])
    state.kept = None if checkpoint["kept"] is None else Candidate.from_row(checkpoint["kept"])
    players.refiner.load_state_dict(checkpoint["refiner"])
    players.averaged_refiner.load_state_dict(checkpoint["averaged_refiner"])
    players.discriminator.load_state_dict(checkpoint["discriminator"])
    restore_optimizer(players.refiner_optimizer, checkpoint["refiner_optimizer"])
    restore_optimizer(players.discriminator_optimizer, checkpoint["discriminator_optimizer"])
    if players.history is not None:
        players.history.load_state_dict(checkpoint["history"])
    if players.task is not None:
        players.task.load_state_dict(checkpoint["task"])
    players.draws.generator.set_state(checkpoint["generator"])
    synthetic.load_state_dict(checkpoint["synthetic_stream"])
    real.load_state_dict(checkpoint["real_stream"])
    watch.load_state_dict(checkpoint["watch"])
