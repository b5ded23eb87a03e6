"""Progress on stderr: a bar with the time left on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from simgan.training.loop import Progress as TrainingProgress

_SHARE = 0.1  # without a terminal, a line each time that this much more is done


class ProgressDisplay:
    """What verbs report to. Plain: lines on stderr."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._said_at: float | None = None

    def advance(self, done: int, total: int, note: str = "", seconds_left: float | None = None) -> None:
        """`done` of `total` units are finished."""
        share = done / max(total, 1)
        if self._said_at is not None and share < self._said_at:
            self._said_at = None  # the next piece of the same work
        if self._said_at is None or share >= self._said_at + _SHARE or (done >= total and self._said_at < 1):
            self._said_at = share
            left = "" if seconds_left is None else f"  {format_seconds(seconds_left)} left"
            self._print(
                f"{self._title}  {share:4.0%}  {done:,} of {total:,}{left}{'  ' + note if note else ''}"
            )

    def show_turn(self, at: TrainingProgress) -> None:
        """Where training stands."""
        accuracy = at.metrics.get("discriminator_accuracy")
        said = "" if accuracy is None else f"discriminator right {accuracy:.0%}"
        self.advance(at.turn, at.turns, f"{at.phase}  {said}".rstrip(), at.seconds_left)

    def say(self, message: str) -> None:
        """One sentence about what is done now."""
        self._print(f"{self._title}: {message}")

    def warn(self, message: str) -> None:
        """One warning; it stays visible."""
        self._print(f"warning: {message}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class _TerminalDisplay(ProgressDisplay):
    def __init__(self, title: str, bar: Progress) -> None:
        super().__init__(title)
        self._bar = bar
        self._task = bar.add_task(title, total=None, note="")

    def advance(self, done: int, total: int, note: str = "", seconds_left: float | None = None) -> None:
        self._bar.update(self._task, completed=done, total=total, note=note)

    def say(self, message: str) -> None:
        self._bar.update(self._task, note=message)

    def warn(self, message: str) -> None:
        self._bar.console.print(f"warning: {message}", markup=False, highlight=False)


@contextmanager
def showing_progress(title: str) -> Iterator[ProgressDisplay]:
    """The display for one piece of work called `title`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressDisplay(title)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        yield _TerminalDisplay(title, bar)


def format_seconds(seconds: float) -> str:
    """A duration for people: "8 s", "3 min", "2 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
