"""The same metrics for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


class TensorBoardTracker:
    """Writes numeric metrics as scalars; silently nothing where the package `tensorboard` is missing."""

    def __init__(self, folder: Path | None, *, resume_at: int) -> None:
        """`folder` None: nothing is written."""
        self._writer: Any = None
        if folder is not None and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            # Rows after the checkpoint are written again: TensorBoard drops the old ones from there on.
            self._writer = SummaryWriter(str(folder), purge_step=resume_at + 1)

    def add(self, row: dict[str, Any]) -> None:
        """One row of metrics.jsonl."""
        if self._writer is None or row["kind"] == "warning":
            return
        for name, value in row.items():
            if value is not None and name not in ("kind", "phase", "step", "turn", "kept", "time_sec"):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["turn"])

    def close(self) -> None:
        """Flushes what is buffered."""
        if self._writer is not None:
            self._writer.close()
