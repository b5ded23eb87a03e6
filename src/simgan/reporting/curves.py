"""Which curves of a run are worth a look, and what each of them says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simgan.reporting.charts import LineChart, Series, line_chart
from simgan.reporting.record import Row, RunRecord


def training_charts(run: RunRecord) -> list[LineChart]:
    """Over steps of Algorithm 1: candidates first, as they decide what is kept, then losses and accuracy."""
    kept = run.kept
    marker = None if kept is None else float(kept["step"])
    coin_toss, held = _coin_toss(run), [row for row in run.rows if row.get("kind") == "drift_budget"]
    charts = [
        line_chart(
            "Distance to real",
            [_series(run.candidates, "sliced_wasserstein", "refined to real", "refined", dots=True)],
            caption="Sliced Wasserstein distance of refined images to held-out real ones. Lower is nearer; "
            f"the lowest {'within the drift budget ' if held else ''}is kept.",
            marker=marker,
        ),
        line_chart(
            "Told from real",
            [_series(run.candidates, "realism_auc", "AUC", "refined", dots=True)],
            caption="AUC of a classifier that tells refined images from held-out real ones. At 0.5 it guesses.",
            reference=(0.5, "guessing"),
            marker=marker,
        ),
        line_chart(
            "Change of the images",
            [
                # [-1, 1] is two units wide: half the mean change is the share of the value range.
                _series(
                    run.candidates, "distance_from_identity", "mean change", "refined", dots=True, factor=50
                )
            ],
            caption="Mean absolute change of a pixel by the refiner, in percent of the value range. "
            "Near 0, refined is synthetic.",
            marker=marker,
            unit="\u202f%",
        ),
        line_chart(
            "Variety of the images",
            [_series(run.candidates, "diversity", "variety", "refined", dots=True, factor=100)],
            caption="Spread over the refined images, in percent of that over the synthetic ones. "
            "Far below 100, they become alike.",
            reference=(100.0, "as synthetic"),
            marker=marker,
            unit="\u202f%",
        ),
        line_chart(
            "Drift",
            [
                _series(run.candidates, "drift_px", "drift", "refined", dots=True),
                *([_series(held, "drift_px", "what ν followed", "mixed")] if held else []),
            ],
            caption="How far refining moves structure, in pixels, mean over images that can be measured.",
            reference=(budget, "budget") if (budget := run.configuration.objective.drift_budget_px) else None,
            marker=marker,
            unit="\u202fpx",
        ),
        line_chart(
            "ν",
            [_series(held, "movement_weight", "ν", "refined")],
            caption="Weight of a pixel of movement in R's loss: it rises while drift is above its budget or on its way "
            "there, and is 0 far below it.",
            marker=marker,
        ),
        line_chart(
            "Losses",
            [
                _series(run.steps, "discriminator_loss", "discriminator", "real"),
                _series(run.steps, "adversarial_loss", "refiner, adversarial", "refined"),
            ],
            caption="A loss at its dashed level is that of a discriminator that guesses. "
            "Losses do not tell when to stop.",
            reference=None if coin_toss is None else (coin_toss, "D guesses"),
            marker=marker,
        ),
        line_chart(
            "Discriminator accuracy",
            [_series(run.steps, "discriminator_accuracy", "accuracy", "real", factor=100)],
            caption="Share of patches that D tells right. At 100 % the refiner learns nothing, "
            "at 50 % it has caught up.",
            reference=(50.0, "guessing"),
            marker=marker,
            unit="\u202f%",
        ),
        line_chart(
            "Task consistency",
            [_series(run.steps, "task_consistency", "loss on refined images", "refined")],
            caption="Loss of the task network that reads the synthetic label from the refined image. "
            "Rising, labels drift.",
            marker=marker,
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _series(
    rows: Sequence[Row], key: str, name: str, look: str, *, dots: bool = False, factor: float = 1.0
) -> Series:
    found = [
        (float(row["step"]), factor * float(row[key]))
        for row in rows
        if row.get(key) is not None and math.isfinite(row[key])
    ]
    return Series(name, look, [x for x, _ in found], [y for _, y in found], dots)


def _coin_toss(run: RunRecord) -> float | None:
    """D's loss when it answers one half everywhere: 2 ln 2 a patch (equation 2)."""
    if run.configuration.objective.patches == "mean":
        return 2 * math.log(2)
    grid = run.data.get("discriminator", {}).get("patch_grid")
    return 2 * math.log(2) * math.prod(grid) if grid else None
