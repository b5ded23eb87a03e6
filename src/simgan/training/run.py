"""The run directory: what a training run leaves on disk, written so that it can die at any moment.

run/
  config.toml            the configuration; a run belongs to exactly one
  data.json              what was found on both sides, derived networks, λ in both forms, warnings
  metrics.jsonl          the truth: one JSON row per logged step, candidate and warning
  samples/               step_000200.png: synthetic above refined, and real ones below
  checkpoints/latest.pt  everything needed to continue exactly
  refiner.safetensors    the kept refiner: what refining uses
  cache/                 decoded images; may be deleted
  tensorboard/           the same metrics, where TensorBoard is installed
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import torch

from simgan.config import resolve_configuration, to_toml
from simgan.errors import ConfigurationError, OutputError, RunError, WeightsError
from simgan.images import write_atomically
from simgan.settings import Configuration

CHECKPOINT_FORMAT = 2


class RunDirectory:
    """Paths and atomic writes of one run. Opening it for training takes a lock; `close` releases it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        self._claimed_now = False

    @property
    def weights(self) -> Path:
        """The kept refiner."""
        return self.path / "refiner.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "latest.pt"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def _description(self) -> Path:
        return self.path / "data.json"

    @property
    def _recorded(self) -> Path:
        return self.path / "config.toml"

    def open_for_training(self, configuration: Configuration) -> None:
        """Creates the directory, or checks that it holds this configuration; `RunError` where it does not, or where
        the directory lies in one of the trees.
        """
        self._refuse_within_trees(configuration)
        try:
            for folder in (self.path, self.samples, self.cache, self.checkpoint.parent):
                folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise OutputError(
                f"the run directory {self.path} cannot be written ({error.strerror}); choose another with --run"
            ) from error
        try:
            self._remove_torn_writes()
            self._claim(configuration)
        except BaseException:
            self.close()
            raise

    def _claim(self, configuration: Configuration) -> None:
        """Records the configuration in a new run; `RunError` where another one, or another thing, is there."""
        recorded = self._recorded
        if not recorded.exists():
            foreign = [p.name for p in self.path.iterdir() if p.name not in _OWN_NAMES]
            if foreign:
                raise RunError(
                    f"{self.path} is not a run directory and not empty (it holds {foreign[0]!r}); "
                    "choose a new folder for the run"
                )
            write_atomically(recorded, to_toml(configuration).encode())
            self._claimed_now = True
            return
        differences = configuration_differences(resolve_configuration(recorded), configuration)
        if differences:
            raise RunError(
                f"{self.path} holds a run of another configuration; continue it with its own, or choose a new "
                "folder for this one. They differ in:\n  - " + "\n  - ".join(differences)
            )

    def _refuse_within_trees(self, configuration: Configuration) -> None:
        """What a run writes would become images of the tree, and be carried into its refined copy."""
        path = self.path.resolve()
        for side, tree in (("synthetic", configuration.synthetic), ("real", configuration.real)):
            if tree.root and path.is_relative_to(Path(tree.root).resolve()):
                raise RunError(
                    f"the run directory {self.path} lies in the folder of {side} images {tree.root}: the pictures "
                    f"that a run writes would be taken for {side} images; choose a folder outside of it with --run"
                )

    def _remove_torn_writes(self) -> None:
        """What a process that was killed while writing left under a temporary name; we hold the lock."""
        for folder in (self.path, self.samples, self.checkpoint.parent):
            for torn in folder.glob(".*.tmp"):
                torn.unlink(missing_ok=True)

    def _take_lock(self) -> None:
        self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise RunError(
                f"another process is training in {self.path}; wait for it, or choose another folder"
            ) from None

    def close(self) -> None:
        """Releases the lock. A run that was refused before it began leaves no configuration: it can be mended."""
        if self._lock is not None:
            if self._claimed_now and not self._description.exists():
                self._recorded.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def configuration(self) -> Configuration:
        """The configuration this run belongs to; `RunError` where this is no run directory."""
        recorded = self._recorded
        if not recorded.is_file():
            raise RunError(
                f"{self.path} is not a run directory: it has no config.toml; train one with `simgan train`"
            )
        return resolve_configuration(recorded)

    def write_description(self, description: dict[str, Any]) -> None:
        """data.json: what was found before the first update."""
        write_atomically(self._description, (json.dumps(description, indent=2) + "\n").encode())

    def read_description(self) -> dict[str, Any]:
        """data.json as it was written last; empty where there is none, `RunError` where it is damaged."""
        path = self._description
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path, error) from error
        if not isinstance(found, dict):
            raise _damaged(path, f"it holds a {type(found).__name__} and not an object")
        return found

    def held_out_real(self) -> list[str]:
        """The unlabelled real images that D never saw, relative to their tree."""
        held_out = self.read_description().get("real_held_out_paths")
        if held_out is None:
            raise RunError(
                f"{self.path} has no data.json that lists held-out images; train with `simgan train`"
            )
        return [str(path) for path in held_out]

    def append_metrics(self, row: dict[str, Any]) -> None:
        """One row at the end of metrics.jsonl."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self.metrics} cannot be written ({error.strerror}); free some space and run the same command "
                "again: it continues from the last checkpoint"
            ) from error

    def metrics_size(self) -> int:
        """Bytes of metrics.jsonl, as a checkpoint records it."""
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Drops rows that were written after the checkpoint: the continued run writes them again."""
        if self.metrics_size() > size:
            os.truncate(self.metrics, size)

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows, see `read_metrics`."""
        return read_metrics(self.metrics)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Atomically replaces the last checkpoint. Its first line holds the digest of the rest."""
        buffer = io.BytesIO()
        torch.save({"format": CHECKPOINT_FORMAT, **state}, buffer)
        body = buffer.getvalue()
        write_atomically(self.checkpoint, _first_line(body) + body)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none. Never runs code: tensors and plain values only.

        `WeightsError` where a single byte is not as it was written (torch itself would load most of those), or
        the file is not one of simgan's.
        """
        if not self.checkpoint.exists():
            return None
        try:
            first, newline, body = self.checkpoint.read_bytes().partition(b"\n")
            if first + newline != _first_line(body):
                raise ValueError("digest")
            state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        except Exception as error:  # a forged file makes the unpickler stumble over anything
            raise WeightsError(
                f"the checkpoint {self.checkpoint} is damaged or not one of simgan's ({type(error).__name__}); "
                "restore it from a backup, or delete it to train this run anew"
            ) from error
        found = state.get("format") if isinstance(state, dict) else None
        if found != CHECKPOINT_FORMAT:
            raise WeightsError(
                f"the checkpoint {self.checkpoint} has format {found}, "
                f"this version of simgan reads {CHECKPOINT_FORMAT}; delete it to train this run anew"
            )
        return dict(state)


_OWN_NAMES = {".lock", "samples", "cache", "checkpoints", "config.toml"}


def _first_line(body: bytes) -> bytes:
    return b"simgan checkpoint sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a missing file has none. A torn last line (the process was killed while writing
    it) is left out; `RunError` where any other is damaged.
    """
    rows: list[dict[str, Any]] = []
    try:
        *whole, _torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return rows
    except OSError as error:
        raise _damaged(path, error) from error
    for number, line in enumerate(whole, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise _damaged(path, f"line {number} holds no object")
        rows.append(row)
    return rows


def _damaged(path: Path, why: object) -> RunError:
    return RunError(
        f"{path} is damaged ({why}); restore it from a backup, or train anew in another folder: "
        "what the run had found or measured is not known any more"
    )


def configuration_differences(recorded: Configuration, wanted: Configuration) -> list[str]:
    """One line per key that differs."""
    before, after = to_toml(recorded).split("\n"), to_toml(wanted).split("\n")
    try:
        known, asked = _by_key(before), _by_key(after)
    except ValueError as error:  # pragma: no cover - both texts are our own
        raise ConfigurationError(str(error)) from error
    return [
        f"{key}: the run has {known.get(key, 'nothing')}, asked for {asked.get(key, 'nothing')}"
        for key in sorted(known.keys() | asked.keys())
        if known.get(key) != asked.get(key)
    ]


def _by_key(lines: list[str]) -> dict[str, str]:
    table, values = "", {}
    for line in lines:
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif line:
            key, value = line.split(" = ", 1)
            values[table + key] = value
    return values
