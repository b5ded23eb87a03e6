"""The visual Turing test: do people tell real images from others? From answers to numbers.

The paper's Table 1 is one of these: 10 people, 50 real and 50 refined images each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simgan.measures import binomial_test, wilson_interval

REAL = "real"


@dataclass(frozen=True)
class Answer:
    """One answer of one subject. `side`: what the image is; `said`: what the subject called it; each "real" or the
    name of the comparison. `response_sec`: from seeing to answering, None where the subject was interrupted."""

    comparison: str  # what real images are compared with: "refined" | "synthetic"
    subject: str
    trial: int  # from 0
    side: str
    said: str
    image: str
    response_sec: float | None
    time: str

    @property
    def right(self) -> bool:
        return self.side == self.said


@dataclass(frozen=True)
class Confusion:
    """Counts, one row for each side as in Table 1; "other" is what real images are compared with."""

    real_called_real: int
    real_called_other: int
    other_called_real: int
    other_called_other: int

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Confusion:
        """The counts over answers of one comparison."""
        cells = [(answer.side == REAL, answer.said == REAL) for answer in answers]
        return cls(*(cells.count((side, said)) for side in (True, False) for said in (True, False)))

    @property
    def n(self) -> int:
        return sum(asdict(self).values())

    @property
    def right(self) -> int:
        return self.real_called_real + self.other_called_other


@dataclass(frozen=True)
class Telling:
    """How well sides were told apart: `accuracy` in [0, 1] with Wilson's 95 % interval; guessing gives 0.5.

    p_one_sided: that guessing does as well or better; p_two_sided: that it lies as far off one half. Both are exact
    and take answers as independent, as the paper does; those of one person are not quite.
    """

    right: int
    n: int
    accuracy: float
    low: float
    high: float
    p_one_sided: float
    p_two_sided: float

    @classmethod
    def of(cls, right: int, n: int) -> Telling:
        """The figures of `right` answers of n, n at least 1."""
        test, (low, high) = binomial_test(right, n), wilson_interval(right / n, n)
        return cls(right, n, right / n, low, high, test.one_sided, test.two_sided)


@dataclass(frozen=True)
class ResponseTimes:
    """Quartiles in seconds over the n answers that were timed."""

    n: int
    lower_quartile_sec: float
    median_sec: float
    upper_quartile_sec: float

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> ResponseTimes | None:
        """None where no answer was timed."""
        times = [answer.response_sec for answer in answers if answer.response_sec is not None]
        if not times:
            return None
        return cls(len(times), *(float(q) for q in np.percentile(times, [25, 50, 75])))


@dataclass(frozen=True)
class Subject:
    """One person's answers."""

    name: str
    telling: Telling
    times: ResponseTimes | None


@dataclass(frozen=True)
class TuringResult:
    """All answers of one comparison. `times_right`, `times_wrong`: hesitation tells where people were unsure."""

    comparison: str
    confusion: Confusion
    telling: Telling
    times: ResponseTimes | None
    times_right: ResponseTimes | None
    times_wrong: ResponseTimes | None
    subjects: tuple[Subject, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


def summarize_answers(answers: Sequence[Answer], comparison: str) -> TuringResult | None:
    """The result of one comparison, subjects by name; None where there is no answer yet."""
    own = [answer for answer in answers if answer.comparison == comparison]
    if not own:
        return None
    confusion = Confusion.of(own)
    subjects = []
    for name in sorted({answer.subject for answer in own}):
        given = [answer for answer in own if answer.subject == name]
        telling = Telling.of(sum(answer.right for answer in given), len(given))
        subjects.append(Subject(name, telling, ResponseTimes.of(given)))
    return TuringResult(
        comparison=comparison,
        confusion=confusion,
        telling=Telling.of(confusion.right, confusion.n),
        times=ResponseTimes.of(own),
        times_right=ResponseTimes.of(answer for answer in own if answer.right),
        times_wrong=ResponseTimes.of(answer for answer in own if not answer.right),
        subjects=tuple(subjects),
    )
