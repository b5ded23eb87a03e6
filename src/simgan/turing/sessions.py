"""Who is at which trial: the only part that takes answers, and it takes each of them once."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from simgan.errors import DataError
from simgan.evaluation.turing import REAL, Answer
from simgan.turing.answers import AnswerFile
from simgan.turing.trials import Shown, draw_examples, draw_trials

_LONGEST_NAME = 40
_LONGEST_RESPONSE_SEC = 24 * 3600.0
_NAME = re.compile(r"\w[\w .'-]*")


class RefusedError(Exception):
    """A request that is not carried out: `status` of HTTP, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Session:
    """One subject in one comparison. `trials`: (picture id, what it shows) in order; `answers`: those that stand."""

    id: str
    comparison: str
    subject: str
    trials: tuple[tuple[str, Shown], ...]
    answers: list[Answer]

    def state(self) -> dict[str, Any]:
        """Where the subject stands: nothing in it tells what an image is."""
        done, total = len(self.answers), len(self.trials)
        return {
            "done": done,
            "total": total,
            "trial": self.trials[done][0] if done < total else None,
            "next": self.trials[done + 1][0] if done + 1 < total else None,
            "last": self.trials[done - 1][0] if done else None,
        }


class Sessions:
    """All sessions of a study. Ids are keyed digests: they cannot be guessed, and tell nothing of an image."""

    def __init__(self, record: Mapping[str, Any], file: AnswerFile) -> None:
        self._record, self._file = record, file
        self._command = record["command"]
        self.by_id: dict[str, Session] = {}
        self.pictures: dict[str, Shown] = {}
        self.examples: dict[str, tuple[tuple[str, Shown], ...]] = {}
        for comparison in (side for side in self._command["sides"] if side != REAL):
            shown = draw_examples(comparison, examples=self._command["examples"])
            self.examples[comparison] = tuple(
                (self._digest("example", comparison, k), one) for k, one in enumerate(shown)
            )
            self.pictures.update(self.examples[comparison])
        for (comparison, subject), given in file.answers.given.items():
            if comparison not in self.examples or not self._belong(self._open(comparison, subject), given):
                raise DataError(
                    f"{file.path}: the answers of {subject!r} are not to the images of this study; restore the file "
                    "from a backup, or begin a new study in another folder"
                )

    def start(self, comparison: object, subject: object) -> Session:
        """The session of a subject: a new one, or the one that the name began."""
        name = unicodedata.normalize("NFC", subject).strip() if isinstance(subject, str) else ""
        if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            raise RefusedError(
                422, f"a name of 1 to {_LONGEST_NAME} letters, digits, spaces and . ' - is wanted"
            )
        if not isinstance(comparison, str) or comparison not in self.examples:
            raise RefusedError(422, f"this study compares real images with {', '.join(self.examples)}")
        if (comparison, name) not in self._file.answers.given:
            self._add("start", comparison, name)
        return self._open(comparison, name)

    def answer(self, session: Session, *, picture: object, said: object, response_sec: object) -> None:
        """Writes down one answer, to the picture that is due; `RefusedError` for every other."""
        done = len(session.answers)
        if said not in (REAL, session.comparison):
            raise RefusedError(422, f"an answer is {REAL!r} or {session.comparison!r}")
        timed = isinstance(response_sec, float | int) and not isinstance(response_sec, bool)
        if response_sec is not None and not (timed and 0 <= response_sec <= _LONGEST_RESPONSE_SEC):  # type: ignore[operator]
            raise RefusedError(422, "response_sec is a number of seconds, or null")
        if not isinstance(picture, str) or picture not in {name for name, _ in session.trials}:
            raise RefusedError(404, "there is no such picture in this session")
        if done == len(session.trials) or picture != session.trials[done][0]:
            raise RefusedError(
                409, "this picture is not the one that is due: it was answered already, or is not yet"
            )
        shown = session.trials[done][1]
        names = self._record["pools"][shown.side]["names"]
        self._add(
            "answer",
            session.comparison,
            session.subject,
            trial=done,
            side=shown.side,
            said=said,
            image=names[shown.number],
            response_sec=None if response_sec is None else round(float(response_sec), 3),  # type: ignore[arg-type]
        )

    def undo(self, session: Session, *, picture: object) -> None:
        """Takes back the last answer, which is that to `picture`; `RefusedError` for every other."""
        if not session.answers or picture != session.trials[len(session.answers) - 1][0]:
            raise RefusedError(409, "only the last answer can be taken back, once")
        self._add("undo", session.comparison, session.subject, trial=len(session.answers) - 1)

    def _belong(self, session: Session, given: Sequence[Answer]) -> bool:
        """Whether answers that were read are to what this session shows."""
        pools = self._record["pools"]
        shown = [(one.side, pools[one.side]["names"][one.number]) for _, one in session.trials]
        return [(answer.side, answer.image) for answer in given] == shown[: len(given)]

    def _add(self, kind: str, comparison: str, subject: str, **rest: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.add({"kind": kind, "time": time, "comparison": comparison, "subject": subject, **rest})

    def _open(self, comparison: str, subject: str) -> Session:
        key = self._digest("session", comparison, subject)
        if key not in self.by_id:
            sizes = {side: len(pool["names"]) for side, pool in self._record["pools"].items()}
            counts = {name: self._command[name] for name in ("trials", "examples", "seed")}
            drawn = draw_trials(sizes, comparison, subject, **counts)
            trials = tuple((self._digest("trial", key, k), shown) for k, shown in enumerate(drawn))
            self.pictures.update(trials)
            given = self._file.answers.given[comparison, subject]
            self.by_id[key] = Session(key, comparison, subject, trials, given)
        return self.by_id[key]

    def _digest(self, *parts: object) -> str:
        message = "\0".join(map(str, parts)).encode()
        return hmac.new(self._record["secret"].encode(), message, hashlib.sha256).hexdigest()[:32]
