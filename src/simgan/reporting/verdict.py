"""The verdict: one sentence with its figures, that says no more than the numbers show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from simgan.evaluation import describe_seeds
from simgan.reporting.numbers import Metric, figure, fixed, interval, percent, signed
from simgan.reporting.record import RunRecord

Tone = Literal["good", "bad", "unclear", "open"]


@dataclass(frozen=True)
class Verdict:
    """`label`: two or three words; `sentence`: what was found, with figures; `next_step`: what to do, or "";
    `foot`: how many refiners and task models it rests on, or ""."""

    tone: Tone
    label: str
    sentence: str
    next_step: str = ""
    foot: str = ""


@dataclass(frozen=True)
class Tile:
    """One figure of the verdict: what it is, the number, its interval or reason."""

    label: str
    figure: str
    detail: str
    tone: Tone = "open"


def judge(run: RunRecord, evaluation: dict[str, Any] | None) -> Verdict:
    """The verdict on a run and its evaluation record, if there is one."""
    if evaluation is None:
        return _without_evaluation(run)
    if evaluation.get("downstream") is None:
        return _with_drift(_realism_alone(evaluation), evaluation)
    return replace(_with_drift(_downstream(evaluation), evaluation), foot=describe_seeds(evaluation))


def _with_drift(verdict: Verdict, evaluation: dict[str, Any]) -> Verdict:
    """Drift stands in the sentence of the gain: neither says anything without the other."""
    drift, reason = evaluation.get("drift"), evaluation.get("drift_reason")
    if drift is None:
        said = "" if reason is None else f"; {reason}"
    elif drift["structure"]["mean"] is None:
        said = "; drift is not known, no structure could be followed"
    else:
        part = drift["structure"]
        said = f"; structure drifts by {fixed(part['mean'], 2)} px {interval(part['low'], part['high'], 2)}"
        if part["lost"]:
            said += f" and was lost in {part['lost']} of {drift['n']:,} images"
    return replace(verdict, sentence=f"{verdict.sentence.removesuffix('.')}{said}.")


def _without_evaluation(run: RunRecord) -> Verdict:
    if run.kept is None:
        return Verdict(
            "open",
            "Nothing to judge yet",
            f"Training has not reached its first checkpoint ({run.status}): there is no refiner to judge yet.",
            "Run the same `simgan train` command again: it continues.",
        )
    kept, first = run.kept, run.candidates[0]
    found = f"the kept refiner is that of step {kept['step']:,}"
    if first["step"] != kept["step"]:
        found += (
            f"; its distance to held-out real images is {figure(kept['sliced_wasserstein'])}, "
            f"after {figure(first['sliced_wasserstein'])} at step {first['step']:,} (sliced Wasserstein)"
        )
    return Verdict(
        "open",
        "Not evaluated",
        f"Whether it helps is not known: this run was not evaluated; {found}.",
        "Run `simgan evaluate` with labelled real images, then `simgan report` again.",
    )


def _realism_alone(evaluation: dict[str, Any]) -> Verdict:
    realism = evaluation.get("realism")
    missing = "no real labelled images were given, so nothing shows that a model trained on them does better"
    next_step = "Label some real images (a few hundred do) and evaluate again with them."
    if realism is None:
        return Verdict("open", "Not known", f"Nothing was measured: {missing}.", next_step)
    before, after, floor = (
        float(realism[side]["sliced_wasserstein"]) for side in ("synthetic", "refined", "floor")
    )
    figures = f"sliced Wasserstein {figure(after)} after {figure(before)}, real against real {figure(floor)}"
    share = share_of_way(realism)
    if share is None:
        found = f"synthetic images already lay as near to real ones as other real ones do ({figures})"
    elif share > 0:
        found = f"refined images came {percent(min(share, 1.0), 0)} of the way towards real ones ({figures})"
    else:
        found = f"refined images are no nearer to real ones than synthetic ones ({figures})"
    return Verdict("open", "Only realism is known", f"Only realism is known: {found}; {missing}.", next_step)


def share_of_way(realism: dict[str, Any]) -> float | None:
    """(d_synthetic − d_refined)/(d_synthetic − d_floor), sliced Wasserstein; None where there was no way to go."""
    before, after, floor = (
        float(realism[side]["sliced_wasserstein"]) for side in ("synthetic", "refined", "floor")
    )
    return (before - after) / (before - floor) if before > floor else None


def metric_of(downstream: dict[str, Any]) -> Metric:
    """How this record's metric is written."""
    return Metric.of(downstream, [part["mean"] for part in downstream.values() if _is_arm(part)])


def _is_arm(part: object) -> bool:
    return isinstance(part, dict) and "mean" in part and "n_test" in part


def _downstream(evaluation: dict[str, Any]) -> Verdict:
    downstream, labels = evaluation["downstream"], evaluation.get("labels")
    gain = downstream.get("gain", {}).get("over_synthetic")
    if gain is None:
        return Verdict(
            "open",
            "Not compared",
            "No gain can be told: the arms synthetic and refined were not both trained.",
            "Evaluate again with both arms.",
        )
    metric = metric_of(downstream)
    tone, label, found = _gain_clause(gain, metric, n_test=downstream["refined"]["n_test"])
    matched = downstream["gain"].get("over_synthetic_matched")
    if tone == "good" and matched is not None:
        tone, label, more = _matched_clause(matched, metric)
        found += more
    if tone == "good" or (tone == "unclear" and gain["low"] > 0):
        found += _gap_clause(downstream)
    if labels is None:
        return Verdict(tone, label, f"{found}; whether labels hold was not checked.")
    if labels["holds"]:
        return Verdict(tone, label, f"{found}; labels hold ({judge_figures(labels)}).", _NEXT[label])
    drop = fixed(abs(labels["difference_points"]), 1)
    cost = cost_of_refining(labels)
    blame, next_step = "", _CHANGE_LESS
    if cost is not None:
        blame = f", and refining cost {signed(cost, 1)} points beside the unrefined originals"
        if cost <= labels.get("tolerance_points", 1.0):
            blame += ", so it is not the refiner"
            next_step = _NOT_THE_REFINER
    return Verdict(
        "bad",
        "Labels do not hold",
        f"Labels do not hold: the judge reads refined images {drop} points worse than real ones "
        f"({judge_figures(labels)}){blame}; {found[0].lower()}{found[1:]}.",
        next_step,
    )


_CHANGE_LESS = "Raise objective.self_regularization_weight in a new run, so that images change less."
_NOT_THE_REFINER = (
    "The originals are read as badly: compare some synthetic labels with their images, and whether they mean what "
    "the real labels mean; a simulator that draws harder images than real ones also reads worse."
)


_NEXT = {
    "It helps": "",
    "No more than level matching": "Level matching is cheaper and safer: use it, or train longer and compare again.",
    "No gain shown": "Train longer or with other seeds; more real test images make the interval narrower.",
    "It hurts": "Do not train on the refined images; look at what changed below.",
}


def _gain_clause(gain: dict[str, float], metric: Metric, *, n_test: int) -> tuple[Tone, str, str]:
    where = f"on {n_test:,} real test images"
    figures = f"{metric.gain(gain['mean'])} {metric.gain_range(gain['low'], gain['high'])}"
    if gain["low"] > 0:
        return "good", "It helps", f"Refined beats synthetic by {_by(gain, metric)} {where}"
    if gain["high"] < 0:
        return (
            "bad",
            "It hurts",
            f"Refining did not help: training on refined is worse than on synthetic by "
            f"{metric.amount(gain['mean'])} {where} (gain {figures})",
        )
    return (
        "unclear",
        "No gain shown",
        f"No gain is shown: that of refined over synthetic is {figures} {where}, and the interval includes 0",
    )


def _matched_clause(gain: dict[str, float], metric: Metric) -> tuple[Tone, str, str]:
    if gain["low"] > 0:
        return "good", "It helps", f", and level matching alone by {_by(gain, metric)}"
    label = "No more than level matching"
    figures = f"{metric.gain(gain['mean'])} {metric.gain_range(gain['low'], gain['high'])}"
    if gain["high"] < 0:
        return "unclear", label, f", but level matching alone does better (gain over it {figures})"
    return "unclear", label, f", but no gain over level matching alone is shown ({figures})"


def _by(gain: dict[str, float], metric: Metric) -> str:
    """By how much refined is ahead: more accuracy, or less error, which a plus sign would belie."""
    between = metric.gain_range(gain["low"], gain["high"])
    if metric.higher_is_better:
        return f"{metric.gain(gain['mean'])} {between}"
    return f"{metric.amount(gain['mean'])} of {metric.name} {between.replace('+', '')}"


def _gap_clause(downstream: dict[str, Any]) -> str:
    gap = downstream.get("gap_closed")
    if gap is None:
        return ""
    return f", and closes {fixed(gap['median'], 2)} {interval(gap['low'], gap['high'], 2)} of the gap to real"


def cost_of_refining(labels: dict[str, Any]) -> float | None:
    """How many points worse the judge reads refined images than their originals; None in a record without."""
    if "cost_points" in labels:
        return float(labels["cost_points"])
    if "judge_on_synthetic" in labels:
        return 100 * float(labels["judge_on_synthetic"] - labels["judge_on_refined"])
    return None


def judge_figures(labels: dict[str, Any]) -> str:
    """What the judge of the label check reads on both sides."""
    refined, real = labels["judge_on_refined"], labels["judge_on_real"]
    if labels.get("metric", "accuracy") == "accuracy":
        return f"judge {percent(refined)} on refined, {percent(real)} on real"
    return f"judge's skill {fixed(refined, 2)} on refined, {fixed(real, 2)} on real"


def tiles(evaluation: dict[str, Any] | None) -> list[Tile]:
    """The figures below the sentence; none without an evaluation."""
    if evaluation is None:
        return []
    found: list[Tile] = []
    downstream, labels, realism = (evaluation.get(part) for part in ("downstream", "labels", "realism"))
    if downstream is not None:
        metric = metric_of(downstream)
        for other, words in (("synthetic", "synthetic"), ("synthetic_matched", "level matching")):
            gain = downstream.get("gain", {}).get(f"over_{other}")
            if gain is not None:
                between = metric.gain_range(gain["low"], gain["high"])
                found.append(
                    Tile(
                        f"Gain over {words}",
                        metric.gain(gain["mean"]),
                        f"95 % interval {between}",
                        _sign_of(gain),
                    )
                )
        gap = downstream.get("gap_closed")
        if gap is not None:
            between = interval(gap["low"], gap["high"], 2)
            found.append(Tile("Gap to real closed", fixed(gap["median"], 2), f"95 % interval {between}"))
        else:
            found.append(Tile("Gap to real closed", "–", "no gap that can be told; see Results"))
    if realism is not None:
        share = share_of_way(realism)
        auc, floor = realism["refined"]["auc"], realism["floor"]["auc"]
        found.append(
            Tile(
                "Way towards real",
                "–" if share is None else percent(share, 0),
                f"told from real with AUC {fixed(auc, 2)}; real from real {fixed(floor, 2)}",
            )
        )
    if labels is not None:
        holds = bool(labels["holds"])
        between = interval(labels["low"], labels["high"], 1, sign=True)
        found.append(
            Tile(
                "Labels",
                "hold" if holds else "do not hold",
                f"refined {signed(labels['difference_points'], 1)} points {between} against real",
                "good" if holds else "bad",
            )
        )
    return found


def _sign_of(gain: dict[str, float]) -> Tone:
    if gain["low"] > 0:
        return "good"
    return "bad" if gain["high"] < 0 else "unclear"
