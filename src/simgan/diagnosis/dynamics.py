"""Findings on the game: refiner = identity, D too strong or too weak, λ out of balance, D's field and the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from simgan.diagnosis.finding import Chart, Finding
from simgan.errors import ConfigurationError
from simgan.nn.derivation import SMALLEST_FIELD, derive_layers
from simgan.nn.discriminator import DiscriminatorSpec, discriminator_receptive_field

TOO_STRONG, TOO_WEAK = 0.97, 0.55  # D's accuracy, median over the last third of the logged steps
TOLD_APART = 0.9  # AUC: refined and real are still different
ALIKE = 0.5  # diversity below which refined images have become alike
HEAVY, LIGHT = 3.0, 0.03  # λ‖ψ(x̃) − ψ(x)‖₁ as a multiple of the adversarial loss
DRIFTED_PX = 1.0
_FIELD_TOO_LARGE = 1.5  # times half the shorter side
_FIELD_TOO_SMALL = 1 / 3  # of the field that would be derived


def find_identity(chart: Chart) -> Iterator[Finding]:
    """Is the kept refiner one that does nothing?"""
    kept = chart.kept
    if kept is None:
        return
    level = 2 / 255
    change = float(kept["distance_from_identity"])
    if change < level:
        yield Finding(
            "identity",
            f"The refiner does almost nothing: the mean change of a pixel is {change / level:.2f} of "
            "one of 256 levels.",
            "Lower objective.self_regularization_weight (a tenth of it), or state "
            "objective.drift_budget_px instead; train "
            "longer; check that the two sides differ at all: the AUC of refined against real is "
            f"{kept['realism_auc']:.2f} (0.5 would mean that there is nothing to do).",
        )


def find_unequal_players(chart: Chart) -> Iterator[Finding]:
    """Does D win always, or never?"""
    accuracies = [
        row["discriminator_accuracy"] for row in chart.late_steps if "discriminator_accuracy" in row
    ]
    if not accuracies or not chart.candidates:
        return
    accuracy, auc = median(accuracies), float(chart.candidates[-1]["realism_auc"])
    if accuracy >= TOO_STRONG:
        yield Finding(
            "discriminator too strong",
            f"The discriminator is right in {accuracy:.0%} of its patches to the end: the refiner "
            "gets no useful gradient.",
            "Look first for a trivial cue (below). Else halve training.discriminator_learning_rate, set "
            "discriminator.spectral_normalization = true, raise training.refiner_updates_per_step, or lower "
            "objective.self_regularization_weight so that the refiner may answer.",
        )
    elif accuracy <= TOO_WEAK and auc >= TOLD_APART:
        yield Finding(
            "discriminator too weak",
            f"The discriminator guesses (right in {accuracy:.0%} of its patches), although a simple "
            "classifier tells refined "
            f"from real with AUC {auc:.2f}: it does not see what differs.",
            "Raise training.discriminator_learning_rate or training.discriminator_updates_per_step, widen it "
            "(discriminator.width), enlarge its field (discriminator.layers), or take away "
            "training.augmentation_shift_px "
            "and training.augmentation_gain.",
        )


def find_imbalance(chart: Chart) -> Iterator[Finding]:
    """Does one term of R's loss drown the other?"""
    late = [row for row in chart.late_steps if row.get("adversarial_loss") and "self_regularization" in row]
    kept = chart.kept
    if not late or kept is None:
        return
    weight = chart.configuration.objective.self_regularization_weight
    share = median(weight * row["self_regularization"] / row["adversarial_loss"] for row in late)
    if chart.configuration.objective.patches == "sum":
        share *= chart.data["discriminator"]["patch_grid"][0] * chart.data["discriminator"]["patch_grid"][1]
    budget = chart.configuration.objective.drift_budget_px
    heavy = (
        f"Lower objective.self_regularization_weight (now {weight:.3g}) to a third, or state "
        "objective.drift_budget_px and let movement alone be held."
    )
    light = (
        f"Raise objective.self_regularization_weight (now {weight:.3g}) threefold, or state how far structure may "
        "move: objective.drift_budget_px = 0.5."
    )
    if budget:
        heavy = f"Lower objective.self_regularization_weight (now {weight:.3g}) to a third."
        light = f"Lower objective.drift_budget_px (now {budget:g})."
    if share > HEAVY and kept["realism_auc"] >= TOLD_APART:
        yield Finding(
            "self-regularization too heavy",
            f"λ is out of balance: self-regularization weighs {share:.1f} times the adversarial loss, "
            "and refined images are "
            f"still told from real ones (AUC {kept['realism_auc']:.2f}).",
            heavy,
        )
    drift = kept.get("drift_px")
    alike, moved = kept["diversity"] < ALIKE, drift is not None and drift > max(DRIFTED_PX, 1.2 * budget)
    if alike or moved or (share < LIGHT and _labels_fail(chart)):
        shown = [f"refined images vary by {kept['diversity']:.0%} of what synthetic ones do"] if alike else []
        shown += [f"structure moved by {drift:.2f} px"] if moved else []
        shown += ["labels do not hold"] if _labels_fail(chart) else []
        yield Finding(
            "self-regularization too light",
            f"λ is out of balance: self-regularization weighs {share:.2f} times the adversarial loss, and "
            f"{' and '.join(shown)}.",
            light,
        )


def _labels_fail(chart: Chart) -> bool:
    labels = (chart.evaluation or {}).get("labels")
    return (
        labels is not None
        and not labels["holds"]
        and labels.get("cost_points", 0) > labels["tolerance_points"]
    )


def find_field(chart: Chart) -> Iterator[Finding]:
    """Does D see patches, neither the whole image nor single pixels?"""
    if "discriminator" not in chart.data or chart.configuration.discriminator.scope == "global":
        return
    field, (height, width) = chart.data["discriminator"]["receptive_field_px"], chart.data["crop"]
    shorter = min(height, width)
    largest = _FIELD_TOO_LARGE * max(SMALLEST_FIELD, shorter // 2)
    try:
        spec = DiscriminatorSpec(channels=1, layers=derive_layers(height=height, width=width))
    except ConfigurationError:  # images for which none can be derived
        return
    fitting = discriminator_receptive_field(spec)
    change = f"Leave discriminator.layers empty: {fitting} px would be derived for these images."
    if field > largest:
        yield Finding(
            "field too large",
            f"The discriminator judges {field}×{field} px at once in images of {height}×{width}: "
            "nearly the whole image, "
            "so that content and layout count, and the refiner is pushed to move things.",
            change,
        )
    elif field < _FIELD_TOO_SMALL * fitting:
        yield Finding(
            "field too small",
            f"The discriminator judges {field}×{field} px at once in images of {height}×{width}: it "
            "sees noise and levels, "
            "and no texture or edges that are larger.",
            change,
        )


RULES: tuple[Callable[[Chart], Iterator[Finding]], ...] = (
    find_identity,
    find_unequal_players,
    find_imbalance,
    find_field,
)
