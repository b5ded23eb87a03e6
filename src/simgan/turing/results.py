"""What the answers of a study say: for the page of results, for the terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simgan.evaluation.turing import Answer, ResponseTimes, Telling, TuringResult, summarize_answers

CSV_FIELDS = (
    "comparison", "subject", "trial", "image", "side", "said", "right", "response_sec", "time",
)  # fmt: skip


@dataclass(frozen=True)
class AutomaticTest:
    """What the two-sample test by a classifier makes of the same images: AUC 0.5 cannot be told apart."""

    n: int
    auc: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """One comparison: what people said (None: nothing yet), and what the classifier says (None: too few images)."""

    comparison: str
    people: TuringResult | None
    automatic: AutomaticTest | None


@dataclass(frozen=True)
class TuringResults:
    """All comparisons of a study, and every answer behind them."""

    outcomes: tuple[Outcome, ...]
    answers: tuple[Answer, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures without the single answers, ready for JSON."""
        return {outcome.comparison: asdict(outcome) for outcome in self.outcomes}

    def csv(self) -> str:
        """One line for each answer that stands; `trial` counts from 1."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(CSV_FIELDS)
        for answer in self.answers:
            fields = asdict(answer) | {"trial": answer.trial + 1, "right": int(answer.right)}
            writer.writerow(["" if fields[name] is None else fields[name] for name in CSV_FIELDS])
        return out.getvalue()

    def lines(self) -> list[str]:
        """The same in words, for a terminal."""
        found: list[str] = []
        for outcome in self.outcomes:
            found.append(f"real against {outcome.comparison}: {sentence(outcome)}")
            if outcome.people is not None:
                found += _details(outcome.people)
            found.append(f"  {automatic_in_words(outcome.automatic)}")
        return found


def gather_results(record: Mapping[str, Any], answers: Sequence[Answer]) -> TuringResults:
    """The results of a study from its record and its answers, see `read_results`."""
    outcomes = tuple(
        Outcome(
            comparison,
            summarize_answers(answers, comparison),
            None if automatic is None else AutomaticTest(**automatic),
        )
        for comparison, automatic in record["automatic"].items()
    )
    return TuringResults(outcomes, tuple(answers))


def sentence(outcome: Outcome) -> str:
    """What people's answers show, with the figures that it rests on, and no more than they show."""
    if outcome.people is None:
        return "no answer yet"
    telling, subjects = outcome.people.telling, len(outcome.people.subjects)
    figures = (
        f"{telling.right:,} of {telling.n:,} right, {accuracy_in_words(telling)}, one-sided "
        f"p = {p_in_words(telling.p_one_sided)}, {subjects} {'subject' if subjects == 1 else 'subjects'}"
    )
    if telling.low > 0.5:
        return f"people tell them apart ({figures})"
    if telling.high < 0.5:
        other = outcome.comparison
        return f"people take {other} images for real ones, and real ones for {other} ({figures})"
    return f"it is not shown that people tell them apart ({figures})"


def accuracy_in_words(telling: Telling) -> str:
    """51.7 % [48.6, 54.8]."""
    return f"{100 * telling.accuracy:.1f} % [{100 * telling.low:.1f}, {100 * telling.high:.1f}]"


def p_in_words(p: float) -> str:
    """0.148, or a power of ten where three digits would say nothing."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def times_in_words(times: ResponseTimes | None) -> str:
    """Median and quartiles of the response times."""
    if times is None:
        return "not timed"
    return f"median {times.median_sec:.2f} s [{times.lower_quartile_sec:.2f}, {times.upper_quartile_sec:.2f}]"


def automatic_in_words(test: AutomaticTest | None) -> str:
    """The automatic two-sample test as a sentence."""
    if test is None:
        return "automatic two-sample test: not made, the images are too few"
    return (
        f"automatic two-sample test: AUC {test.auc:.3f} [{test.low:.3f}, {test.high:.3f}], {test.n:,} images a side "
        "(0.5: cannot be told apart)"
    )


def _details(people: TuringResult) -> list[str]:
    c, other = people.confusion, people.comparison
    return [
        f"  real called real {c.real_called_real:,}, called {other} {c.real_called_other:,}; {other} called real "
        f"{c.other_called_real:,}, called {other} {c.other_called_other:,}",
        f"  two-sided p = {p_in_words(people.telling.p_two_sided)}; response time {times_in_words(people.times)}",
    ]
