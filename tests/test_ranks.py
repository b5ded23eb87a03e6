from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simgan.errors import ConfigurationError, RunError
from simgan.settings import Configuration
from simgan.training import ranks as ranks_
from simgan.training.loop import train
from simgan.training.ranks import Ranks
from simgan.training.run import RunDirectory
from tiny_runs import TINY, differences, final_state, metrics_without_time, write_side

WORKER = Path(__file__).with_name("ranks_worker.py")
SIDES = {"synthetic": 24, "real": 40}
# 4 + 4 + 4 updates before, and 20 steps of one update of R and one of D: more than 50 in all.
WANTED = {
    "training.steps": 20,
    "training.batch_size": 8,
    "training.warmup_refiner_steps": 4,
    "training.warmup_task_steps": 4,
    "training.warmup_self_ensembling_steps": 4,
    "training.task_starts": 2,
    "objective.self_ensembling_weight": 1.0,
    "training.warmup_discriminator_steps": 4,
    "objective.task_consistency_weight": 0.5,
    "discriminator.spectral_normalization": True,
    "run.checkpoint_every": 10,
    "run.log_every": 1,
}


def torchrun(count: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count),
         *map(str, arguments)],
        capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both sides, a run of one process, and one of two."""
    folder = tmp_path_factory.mktemp("ranks")
    for number, (side, count) in enumerate(SIDES.items()):
        write_side(folder / side, count, seed=number)
    table = "".join(f"{i:03}.png,{'ab'[i % 2]}\n" for i in range(SIDES["synthetic"]))
    (folder / "synthetic" / "labels.csv").write_text("path,class\n" + table)
    roots = {f"{side}.root": str(folder / side) for side in SIDES}
    overrides = TINY | roots | WANTED
    (folder / "overrides.json").write_text(json.dumps(overrides))
    train("default", run_dir=folder / "one", overrides=overrides)
    done = torchrun(2, WORKER, folder, folder / "two", 0)
    assert done.returncode == 0, done.stderr
    return folder


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, float)}


@pytest.mark.timeout(600)
def test_two_ranks_train_as_one_process_does_on_the_same_global_batches(work: Path) -> None:
    one, two = (metrics_without_time(work / name) for name in ("one", "two"))
    assert len(one) == len(two)
    assert {"task_consistency", "task_loss"} <= {key for row in one for key in row}
    compared = 0
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key, value in numbers(a).items():
            assert b[key] == pytest.approx(value, rel=1e-4, abs=1e-6), (a["turn"], key)
            compared += 1
    assert compared > 100
    weights = [RunDirectory(work / name).load_checkpoint() or {} for name in ("one", "two")]
    for network in ("refiner", "discriminator"):
        for name, tensor in weights[0][network].items():
            assert torch.allclose(tensor, weights[1][network][name], rtol=1e-3, atol=1e-5), name
    assert weights[0]["history"]["size"] == weights[1]["history"]["size"] == 16


@pytest.mark.timeout(600)
def test_an_interrupted_run_of_two_ranks_ends_as_if_it_had_never_stopped(work: Path) -> None:
    stopped = torchrun(2, WORKER, work, work / "stopped", 17)
    assert stopped.stdout.count("interrupted") == 2, stopped.stderr
    assert RunDirectory(work / "stopped").load_checkpoint()["turn"] < 32  # type: ignore[index]
    assert torchrun(2, WORKER, work, work / "stopped", 0).returncode == 0
    assert differences(final_state(work / "two"), final_state(work / "stopped")) == []


@pytest.mark.timeout(600)
def test_where_the_first_process_is_refused_the_other_says_so_and_no_fault_is_reported(
    work: Path, tmp_path: Path
) -> None:
    overrides = json.loads((work / "overrides.json").read_text())
    (tmp_path / "overrides.json").write_text(json.dumps(overrides | {"real.images": "*.jpg"}))
    refused = torchrun(2, WORKER, tmp_path, tmp_path / "run", 0)
    assert refused.returncode != 0
    assert refused.stderr.count("RunError: the first process has stopped") == 1
    assert "Connection closed" not in refused.stderr


def test_a_lost_connection_is_the_end_of_another_process_not_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_.dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in (("init_process_group", None), ("get_rank", 1), ("destroy_process_group", None)):
        monkeypatch.setattr(ranks_.dist, name, lambda *_, value=value: value)
    with pytest.raises(RunError, match="one of the 2 processes has ended"), ranks_.joined(Configuration()):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    with pytest.raises(RuntimeError, match="another fault"), ranks_.joined(Configuration()):
        raise RuntimeError("another fault")


def test_the_command_in_the_guide_reaches_simgan_with_all_its_options() -> None:
    from torch.distributed.run import parse_args

    guide = (Path(__file__).parents[1] / "docs" / "guide.md").read_text("utf-8")
    (line,) = re.findall(r"^torchrun (.*)$", guide, re.MULTILINE)
    found = parse_args(line.split())
    assert (found.module, found.training_script) == (True, "simgan")
    assert found.training_script_args == ["train", "my.toml", "--run", "runs/first"]


def test_a_run_is_continued_by_as_many_processes_as_began_it(work: Path) -> None:
    overrides = json.loads((work / "overrides.json").read_text())
    with pytest.raises(
        RunError, match=r"begun by 2 processes and is continued by 1; .*torchrun --nproc-per-node 2"
    ):
        train("default", run_dir=work / "two", overrides=overrides)
    with pytest.raises(RunError, match=r"begun by 1 process and is continued by 2; .*without torchrun"):
        Ranks(0, 2).refuse_other_count({}, "runs/x")


def test_shares_are_blocks_of_both_halves_and_every_image_is_in_one() -> None:
    batch = torch.arange(12)
    parts = [Ranks(rank, 3, 2).part(batch).tolist() for rank in range(3)]
    assert parts == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert Ranks().part(batch) is batch


@pytest.mark.parametrize(
    ("batch", "device", "said"),
    [(6, "cpu", "must be a multiple of 4, twice the number of processes"), (8, "cuda:0", "a device each")],
)
def test_what_cannot_be_shared_is_refused(
    batch: int, device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = Configuration()
    c = replace(c, training=replace(c.training, batch_size=batch), run=replace(c.run, device=device))
    monkeypatch.setattr(ranks_.dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match=said), ranks_.joined(c):
        pass
