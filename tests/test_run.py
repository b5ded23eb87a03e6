from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simgan.training.run as run_module
from simgan.config import resolve_configuration, to_toml
from simgan.errors import ConfigurationError, OutputError, RunError, WeightsError
from simgan.settings import Configuration
from simgan.training.run import RunDirectory, configuration_differences, read_metrics


def configuration(**overrides: Any) -> Configuration:
    return resolve_configuration("default", {k.replace("__", "."): v for k, v in overrides.items()})


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    opened = RunDirectory(tmp_path / "run")
    opened.open_for_training(configuration())
    yield opened
    opened.close()


# ---- one directory, one configuration


def test_a_run_directory_belongs_to_one_configuration_and_differences_are_named(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "run")
    first.open_for_training(configuration())
    first.write_description({})
    first.close()
    again = RunDirectory(tmp_path / "run")
    again.open_for_training(configuration())
    again.close()
    other = configuration(training__steps=7, seed=3, data__crop=[8, 9])
    with pytest.raises(RunError, match="holds a run of another configuration") as caught:
        RunDirectory(tmp_path / "run").open_for_training(other)
    said = str(caught.value)
    steps = configuration().training.steps
    assert f"training.steps: the run has {steps}, asked for 7" in said
    assert "seed: the run has 0, asked for 3" in said
    assert "data.crop: the run has nothing, asked for [8, 9]" in said
    assert said.count("\n  - ") == 3
    RunDirectory(tmp_path / "run").open_for_training(configuration())  # the refusal left no lock behind


def test_a_run_that_was_refused_before_it_began_takes_the_mended_configuration(tmp_path: Path) -> None:
    refused = RunDirectory(tmp_path / "run")
    refused.open_for_training(configuration(real__images="masks/*"))
    refused.close()
    mended = RunDirectory(tmp_path / "run")
    mended.open_for_training(configuration())
    assert mended.configuration() == configuration()
    mended.close()


def test_a_configuration_that_the_user_put_into_the_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    own = tmp_path / "run" / "config.toml"
    own.write_text(to_toml(configuration(seed=5)))
    for _ in range(2):
        with pytest.raises(RunError, match="another configuration"):
            RunDirectory(tmp_path / "run").open_for_training(configuration())
    assert own.read_text() == to_toml(configuration(seed=5))


def test_no_difference_is_seen_where_there_is_none_even_with_odd_names() -> None:
    odd = configuration(real__root='a = "b"\n[c]\u2028d', synthetic__images="[x]\x85\x0b.png")
    assert configuration_differences(odd, odd) == []
    (difference,) = configuration_differences(odd, configuration(real__root='a = "b"\n[c]\u2028d'))
    assert difference.startswith("synthetic.images: ")


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"not a run directory and not empty \(it holds 'thesis.tex'\)"):
        RunDirectory(tmp_path).open_for_training(configuration())
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("side", ["synthetic", "real"])
@pytest.mark.parametrize("place", ["", "run", "a/../deep/run"])
def test_a_run_directory_inside_a_tree_is_refused_and_nothing_is_written_there(
    place: str, side: str, tmp_path: Path
) -> None:
    tree, link = tmp_path / "images", tmp_path / "link"
    tree.mkdir()
    link.symlink_to(tree)
    inside = configuration(**{f"{side}__root": str(tree)})
    for root in (tree, link):
        with pytest.raises(RunError, match=rf"lies in the folder of {side} images .*choose a folder outside"):
            RunDirectory(root / place).open_for_training(inside)
    assert list(tree.iterdir()) == []
    beside = RunDirectory(tmp_path / "images-run")
    beside.open_for_training(inside)
    beside.close()


def test_an_empty_folder_becomes_a_run_directory(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.open_for_training(configuration(seed=4))
    assert directory.configuration() == configuration(seed=4)
    directory.close()
    directory.close()  # twice is once


def test_a_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run directory: it has no config\.toml; train one"):
        RunDirectory(tmp_path).configuration()


def test_a_damaged_configuration_is_refused_without_keeping_the_lock(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[training")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"config\.toml is not valid TOML"):
            RunDirectory(tmp_path).open_for_training(configuration())


def test_what_a_killed_process_left_half_written_is_removed_and_refuses_nothing(tmp_path: Path) -> None:
    torn = [tmp_path / ".ab12.tmp", tmp_path / "checkpoints/.cd34.tmp", tmp_path / "samples/.ef56.tmp"]
    for path in torn:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    directory = RunDirectory(tmp_path)
    directory.open_for_training(configuration())
    directory.close()
    assert not any(path.exists() for path in torn)


# ---- one process at a time


def test_two_processes_on_one_run_directory_are_refused(tmp_path: Path) -> None:
    program = (
        "import sys; from simgan.config import resolve_configuration; from simgan.training.run import RunDirectory\n"
        "RunDirectory(sys.argv[1]).open_for_training(resolve_configuration('default'))\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(RunError, match="another process is training in"):
            RunDirectory(tmp_path).open_for_training(configuration())
        other.kill()  # the lock of a killed process is free
    finally:
        other.communicate()
    directory = RunDirectory(tmp_path)
    directory.open_for_training(configuration())
    directory.close()


def test_two_runs_in_one_process_are_refused_too(directory: RunDirectory) -> None:
    with pytest.raises(RunError, match="another process is training in"):
        RunDirectory(directory.path).open_for_training(configuration())
    directory.close()
    directory.open_for_training(configuration())


# ---- places that cannot be written


def test_a_run_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/run cannot be written \(Not a directory\); choose another"):
        RunDirectory(tmp_path / "file" / "run").open_for_training(configuration())


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that this process may not write to; root, who may write anywhere, becomes nobody for a while."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_read_only_run_directory_is_refused(read_only: Path) -> None:
    with pytest.raises(
        OutputError, match=r"cannot be written \(Permission denied\); choose another with --run"
    ):
        RunDirectory(read_only).open_for_training(configuration())
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
        RunDirectory(read_only / "run").open_for_training(configuration())


def test_metrics_that_cannot_be_written_say_how_to_go_on(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(
        OutputError, match=r"metrics\.jsonl cannot be written \(No space left.*same command again"
    ):
        directory.append_metrics({"step": 1})


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.save_checkpoint({"turn": 1})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        directory.save_checkpoint({"turn": 2})
    loaded = directory.load_checkpoint()
    assert loaded is not None
    assert loaded["turn"] == 1
    assert [p.name for p in directory.checkpoint.parent.iterdir()] == ["latest.pt"]


# ---- metrics


def test_rows_come_back_and_a_torn_last_one_is_left_out(directory: RunDirectory) -> None:
    assert directory.read_metrics() == []
    assert directory.metrics_size() == 0
    rows = [{"kind": "step", "step": i, "loss": 0.1 * i, "message": "ä\u2028b"} for i in range(3)]
    for row in rows:
        directory.append_metrics(row)
    assert directory.read_metrics() == rows
    size = directory.metrics_size()
    with directory.metrics.open("a") as file:
        file.write('{"kind": "st')
    assert directory.read_metrics() == rows
    directory.truncate_metrics(size)
    assert directory.metrics_size() == size
    directory.truncate_metrics(size + 100)  # never grows
    assert directory.metrics_size() == size
    directory.truncate_metrics(0)
    assert read_metrics(directory.metrics) == []


def test_the_description_is_what_was_written_last(directory: RunDirectory) -> None:
    assert directory.read_description() == {}
    directory.write_description({"real": {"n": 3}})
    assert directory.read_description() == {"real": {"n": 3}}
    assert json.loads((directory.path / "data.json").read_text()) == {"real": {"n": 3}}


# ---- checkpoints


def test_a_checkpoint_comes_back_with_all_its_types(directory: RunDirectory) -> None:
    assert directory.load_checkpoint() is None
    state = {"a": torch.arange(3, dtype=torch.uint8), "b": {"c": [1, 2.5, None, "x", True]}, "n": 7}
    directory.save_checkpoint(state)
    loaded = directory.load_checkpoint()
    assert loaded is not None
    assert torch.equal(loaded["a"], state["a"])  # type: ignore[arg-type]
    assert loaded["b"] == state["b"]


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def with_digest(body: bytes) -> bytes:
    return b"simgan checkpoint sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def test_a_pickled_checkpoint_is_refused_without_running_its_code(
    directory: RunDirectory, tmp_path: Path
) -> None:
    """Also where it is dressed as one of ours, with the right digest."""
    trace = tmp_path / "code-was-run"
    torch_file, old_torch_file = io.BytesIO(), io.BytesIO()
    torch.save({"format": 1, "x": Malicious(trace)}, torch_file)
    torch.save(Malicious(trace), old_torch_file, _use_new_zipfile_serialization=False)
    bodies = [torch_file.getvalue(), old_torch_file.getvalue(), pickle.dumps(Malicious(trace), protocol=2)]
    for content in (*bodies, *map(with_digest, bodies)):
        directory.checkpoint.write_bytes(content)
        with pytest.raises(
            WeightsError, match=r"damaged or not one of simgan's.*restore it from a backup, or delete"
        ):
            directory.load_checkpoint()
        assert not trace.exists()
    torch.load(io.BytesIO(bodies[0]), weights_only=False)  # the proof that it would have
    assert trace.exists()


def test_a_truncated_checkpoint_is_refused_wherever_it_ends(directory: RunDirectory) -> None:
    directory.save_checkpoint({"a": torch.arange(500.0), "b": {"c": [1, 2]}})
    whole = directory.checkpoint.read_bytes()
    for length in (*range(0, len(whole), 97), len(whole) - 1):
        directory.checkpoint.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"latest\.pt is damaged"):
            directory.load_checkpoint()


def test_a_damaged_byte_anywhere_in_a_checkpoint_is_seen(directory: RunDirectory) -> None:
    directory.save_checkpoint({"a": torch.arange(300.0), "b": {"c": [1, 2]}, "turn": 5})
    whole = directory.checkpoint.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 150).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        directory.checkpoint.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"latest\.pt is damaged"):
            directory.load_checkpoint()


@pytest.mark.parametrize("content", [{"format": 99}, {"turn": 3}, [1, 2], torch.zeros(3)])
def test_a_checkpoint_of_another_format_is_refused(content: Any, directory: RunDirectory) -> None:
    body = io.BytesIO()
    torch.save(content, body)
    directory.checkpoint.write_bytes(with_digest(body.getvalue()))
    with pytest.raises(WeightsError, match=rf"reads {run_module.CHECKPOINT_FORMAT}; delete it"):
        directory.load_checkpoint()


# ---- damaged records


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[1]", b"[" * 100_000, b"null"])
def test_a_damaged_description_is_named_with_what_to_do(directory: RunDirectory, content: bytes) -> None:
    (directory.path / "data.json").write_bytes(content)
    with pytest.raises(RunError, match=r"data\.json is damaged .*; restore it from a backup, or train anew"):
        directory.read_description()


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[1]", b"[" * 100_000, b""])
def test_a_damaged_row_that_is_not_the_last_is_named_by_its_line(
    directory: RunDirectory, content: bytes
) -> None:
    directory.metrics.write_bytes(b'{"kind": "step"}\n' + content + b'\n{"kind": "step"}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged \(line 2.*restore it from a backup"):
        directory.read_metrics()


def test_records_that_cannot_be_read_are_named(directory: RunDirectory) -> None:
    directory.metrics.mkdir()
    (directory.path / "data.json").mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged .*Is a directory"):
        directory.read_metrics()
    with pytest.raises(RunError, match=r"data\.json is damaged .*Is a directory"):
        directory.read_description()
