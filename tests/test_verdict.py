from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from report_runs import changed, gain, regression
from simgan.reporting.record import RunRecord
from simgan.reporting.verdict import judge, share_of_way, tiles
from simgan.settings import Configuration, TrainingSettings


def run_with(*rows: dict[str, Any]) -> RunRecord:
    configuration = Configuration(training=TrainingSettings(steps=800))
    return RunRecord(Path("runs/a"), configuration, {}, rows, Path("runs/a/refiner.safetensors"))


def candidate(step: int, distance: float, *, kept: bool) -> dict[str, Any]:
    return {"kind": "candidate", "step": step, "sliced_wasserstein": distance, "kept": kept}


def step_row(step: int, phase: str = "adversarial") -> dict[str, Any]:
    return {"kind": "step", "phase": phase, "step": step}


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ").replace("\u2212", "-")


def sentence(record: dict[str, Any]) -> str:
    return plain(judge(run_with(), record).sentence)


def test_a_gain_that_beats_both_opponents_is_said_with_all_its_figures() -> None:
    verdict = judge(run_with(), changed())
    assert plain(verdict.sentence) == (
        "Refined beats synthetic by +4.1 points [+2.9, +5.3] on 599 real test images, and level matching alone by "
        "+2.2 points [+1.0, +3.4], and closes 0.31 [0.22, 0.40] of the gap to real; labels hold (judge 96.8 % on "
        "refined, 97.1 % on real)."
    )
    assert (verdict.tone, verdict.label, verdict.next_step) == ("good", "It helps", "")


def test_an_interval_that_includes_0_is_no_gain_however_large_its_mean() -> None:
    record = changed(downstream__gain__over_synthetic=gain(0.041, -0.001, 0.083))
    verdict = judge(run_with(), record)
    assert (verdict.tone, verdict.label) == ("unclear", "No gain shown")
    assert sentence(record).startswith(
        "No gain is shown: that of refined over synthetic is +4.1 points [-0.1, +8.3] on 599 real test images, and "
        "the interval includes 0; labels hold"
    )
    assert "closes" not in verdict.sentence


def test_a_loss_is_said_to_be_one() -> None:
    record = changed(downstream__gain__over_synthetic=gain(-0.03, -0.05, -0.01))
    assert judge(run_with(), record).tone == "bad"
    assert sentence(record).startswith(
        "Refining did not help: training on refined is worse than on synthetic by 3.0 points on 599 real test images "
        "(gain -3.0 points [-5.0, -1.0])"
    )


def test_a_gain_that_level_matching_alone_also_gives_is_not_praised() -> None:
    record = changed(downstream__gain__over_synthetic_matched=gain(0.003, -0.01, 0.016))
    verdict = judge(run_with(), record)
    assert (verdict.tone, verdict.label) == ("unclear", "No more than level matching")
    assert "but no gain over level matching alone is shown (+0.3 points [-1.0, +1.6])" in sentence(record)
    assert "cheaper" in verdict.next_step


def test_level_matching_that_does_better_is_said_to() -> None:
    record = changed(downstream__gain__over_synthetic_matched=gain(-0.02, -0.03, -0.01))
    assert "but level matching alone does better (gain over it -2.0 points [-3.0, -1.0])" in sentence(record)
    assert judge(run_with(), record).tone == "unclear"


def test_without_the_matched_arm_nothing_is_said_of_it() -> None:
    record = changed(downstream__gain={"over_synthetic": gain(0.041, 0.029, 0.053)})
    assert judge(run_with(), record).tone == "good"
    assert "level matching" not in sentence(record)


def test_labels_that_do_not_hold_come_first_whatever_the_gain() -> None:
    record = _not_holding(cost_points=9.5)
    verdict = judge(run_with(), record)
    assert (verdict.tone, verdict.label) == ("bad", "Labels do not hold")
    assert sentence(record).startswith(
        "Labels do not hold: the judge reads refined images 9.1 points worse than real ones (judge 88.0 % on refined, "
        "97.1 % on real), and refining cost +9.5 points beside the unrefined originals; refined beats synthetic by "
        "+4.1 points"
    )
    assert "self_regularization_weight" in verdict.next_step


@pytest.mark.parametrize("cost", [1.0, 0.0, -3.0])
def test_where_the_originals_are_read_as_badly_it_is_not_the_refiner(cost: float) -> None:
    verdict = judge(run_with(), _not_holding(cost_points=cost))
    assert (verdict.tone, verdict.label) == ("bad", "Labels do not hold")
    assert "beside the unrefined originals, so it is not the refiner; refined beats" in verdict.sentence
    assert "The originals are read as badly" in verdict.next_step
    assert "self_regularization_weight" not in verdict.next_step
    assert "self_regularization_weight" in judge(run_with(), _not_holding(cost_points=1.01)).next_step


def test_a_record_without_the_cost_is_judged_by_the_two_judgements_or_by_the_difference_alone() -> None:
    record = _not_holding(judge_on_synthetic=0.885)
    del record["labels"]["cost_points"]
    assert "refining cost +0.5 points" in sentence(record)
    del record["labels"]["judge_on_synthetic"]
    assert "97.1 % on real); refined beats" in sentence(record)
    assert "self_regularization_weight" in judge(run_with(), record).next_step


def _not_holding(**labels: float) -> dict[str, Any]:
    worse = {"judge_on_refined": 0.88, "difference_points": -9.1, "holds": False, **labels}
    return changed(**{f"labels__{key}": value for key, value in worse.items()})


def test_the_foot_says_how_many_refiners_the_interval_is_of() -> None:
    one = "1 refiner × 3 task models; the interval does not contain the spread between refiners"
    assert judge(run_with(), changed()).foot == one
    assert judge(run_with(), changed(n_runs=3)).foot == "3 refiners × 1 task model"
    assert judge(run_with(), changed(downstream=None)).foot == ""


DRIFT = {"n": 300, "structure": {"mean": 0.314, "low": 0.28, "high": 0.35, "lost": 0}}


def test_drift_stands_in_the_sentence_of_the_gain() -> None:
    assert sentence(changed(drift=DRIFT)).endswith("on real); structure drifts by 0.31 px [0.28, 0.35].")
    lost = {"n": 300, "structure": {**DRIFT["structure"], "lost": 7}}
    assert sentence(changed(drift=lost)).endswith("0.31 px [0.28, 0.35] and was lost in 7 of 300 images.")
    assert sentence(changed(drift=DRIFT, downstream=None)).endswith("drifts by 0.31 px [0.28, 0.35].")


def test_drift_that_is_not_known_is_said_with_its_reason() -> None:
    nothing = {"n": 300, "structure": {"mean": None}}
    assert sentence(changed(drift=nothing)).endswith("; drift is not known, no structure could be followed.")
    why = "drift was not measured: 8×8 images are too small to follow, 16 pixels a side are needed"
    assert sentence(changed(drift=None, drift_reason=why)).endswith(f"on real); {why}.")


def test_unchecked_labels_are_said_to_be_unchecked() -> None:
    assert sentence(changed(labels=None)).endswith("whether labels hold was not checked.")


def test_a_gap_that_cannot_be_told_is_left_out_of_the_sentence() -> None:
    record = changed(downstream__gap_closed=None, downstream__reason="there is no gap to close")
    assert "closes" not in sentence(record)
    assert [tile.figure for tile in tiles(record) if tile.label == "Gap to real closed"] == ["–"]


def test_errors_fall_rather_than_gain_a_plus_sign() -> None:
    assert sentence(regression()).startswith(
        "Refined beats synthetic by 0.80 px of mean error [0.62, 0.98] on 599 real test images, and level matching "
        "alone by 0.50 px of mean error [0.31, 0.69]"
    )
    assert "judge's skill 0.91 on refined, 0.93 on real" in sentence(regression())


def test_errors_that_rise_are_worse() -> None:
    record = regression(downstream__gain__over_synthetic=gain(-0.8, -0.98, -0.62))
    assert judge(run_with(), record).label == "It hurts"


def test_arms_that_were_not_run_give_no_gain() -> None:
    assert "not both trained" in sentence(changed(downstream__gain={}))
    assert not any(tile.label.startswith("Gain") for tile in tiles(changed(downstream__gain={})))


def test_without_labelled_real_images_only_realism_is_known() -> None:
    record = changed(downstream=None, labels=None)
    verdict = judge(run_with(), record)
    assert (verdict.tone, verdict.label) == ("open", "Only realism is known")
    assert sentence(record) == (
        "Only realism is known: refined images came 50 % of the way towards real ones (sliced Wasserstein 0.150 after "
        "0.250, real against real 0.0500); no real labelled images were given, so nothing shows that a model trained "
        "on them does better."
    )


@pytest.mark.parametrize(
    ("distance", "words"),
    [(0.25, "no nearer to real ones"), (0.3, "no nearer to real ones"), (0.04, "came 100 % of the way")],
)
def test_the_way_towards_real_is_told_honestly(distance: float, words: str) -> None:
    record = changed(downstream=None, labels=None, realism__refined__sliced_wasserstein=distance)
    assert words in sentence(record)


def test_where_synthetic_is_at_the_floor_there_is_no_way_to_go() -> None:
    record = changed(downstream=None, labels=None, realism__synthetic__sliced_wasserstein=0.05)
    assert share_of_way(record["realism"]) is None
    assert "already lay as near to real ones as other real ones do" in sentence(record)
    assert [tile.figure for tile in tiles(record)] == ["–"]


def test_an_evaluation_that_measured_nothing_says_so() -> None:
    assert sentence(changed(downstream=None, labels=None, realism=None)).startswith("Nothing was measured")


def test_a_run_without_evaluation_leaves_it_open_whether_it_helps() -> None:
    run = run_with(step_row(800), candidate(200, 0.22, kept=True), candidate(800, 0.145, kept=True))
    verdict = judge(run, None)
    assert verdict.sentence == (
        "Whether it helps is not known: this run was not evaluated; the kept refiner is that of step 800; its distance "
        "to held-out real images is 0.145, after 0.220 at step 200 (sliced Wasserstein)."
    )
    assert "simgan evaluate" in verdict.next_step
    assert tiles(None) == []


def test_a_single_candidate_is_not_compared_with_itself() -> None:
    assert "after" not in judge(run_with(candidate(200, 0.22, kept=True)), None).sentence


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "not started: 800 steps to go"),
        ((step_row(3, "warmup_refiner"),), "in the warm-up, before step 1 of 800"),
        ((step_row(20),), "at step 20 of 800"),
    ],
)
def test_a_run_before_its_first_checkpoint_has_nothing_to_judge(rows: Any, words: str) -> None:
    verdict = judge(run_with(*rows), None)
    assert verdict.label == "Nothing to judge yet"
    assert words in verdict.sentence


def test_tiles_take_the_tone_of_their_interval() -> None:
    record = changed(
        downstream__gain__over_synthetic=gain(0.04, 0.02, 0.06),
        downstream__gain__over_synthetic_matched=gain(-0.04, -0.06, -0.02),
        labels__holds=False,
    )
    assert [(tile.label, tile.tone) for tile in tiles(record)] == [
        ("Gain over synthetic", "good"),
        ("Gain over level matching", "bad"),
        ("Gap to real closed", "open"),
        ("Way towards real", "open"),
        ("Labels", "bad"),
    ]
    assert tiles(changed(downstream__gain__over_synthetic=gain(0.04, -0.02, 0.06)))[0].tone == "unclear"
