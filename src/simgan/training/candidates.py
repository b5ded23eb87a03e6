"""Which refiner of a run is kept: a rule that needs no label.

Every checkpoint's refiner is a candidate. It is compared with the real images that D has never seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simgan.errors import WeightsError
from simgan.measures import measure_displacement, sliced_wasserstein, two_sample_auc
from simgan.measures.displacement import REACH_PX, SMALLEST_SIDE_PX
from simgan.training.assembly import Assembly
from simgan.training.inspection import spread
from simgan.weights import load_refiner

TOLERANCE = 1.05
_FOLLOWED = 128  # of the sample: images whose drift is measured
_SAMPLE = 500  # images of each side that a candidate is judged on


@dataclass(frozen=True)
class Candidate:
    """A refiner's standing after `step` steps.

    `sliced_wasserstein` and `realism_auc` compare refined with held-out real images (0 and 0.5: the same);
    `distance_from_identity` is the mean |R(x) − x| in [-1, 1]; `diversity` the mean over pixels of the standard
    deviation over refined images, as a share of synthetic's. `drift_px`: how far R moved structure, mean over images;
    None where that cannot be measured. `over_budget_px`: how much of that is above the drift budget and its tolerance.
    """

    step: int
    sliced_wasserstein: float
    realism_auc: float
    distance_from_identity: float
    diversity: float
    drift_px: float | None = None
    over_budget_px: float = 0.0

    def better_than(self, other: Candidate | None) -> bool:
        """Whether this, the later one, is to be kept instead of `other`: nearer to the drift budget where one of them
        is above it, else nearer to real images."""
        if other is None or self.over_budget_px != other.over_budget_px:
            return other is None or self.over_budget_px < other.over_budget_px
        return self.sliced_wasserstein <= other.sliced_wasserstein

    def row(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @staticmethod
    def from_row(row: dict[str, Any]) -> Candidate:
        """The inverse of `row`."""
        return Candidate(**row)


def judge_candidate(
    assembly: Assembly, refiner: nn.Module, *, step: int, allowed_px: float = 0.0
) -> Candidate:
    """Measures `refiner` on evenly spread synthetic images against the held-out real ones; `allowed_px`: the drift that
    a budget holds it to, 0 without one."""
    synthetic = assembly.synthetic.sample(spread(len(assembly.synthetic.cache), _SAMPLE), assembly.crop)
    held_out = assembly.real_held_out
    real = assembly.real.sample(held_out[spread(len(held_out), _SAMPLE)], assembly.crop)
    staged = assembly.first_stage(synthetic)
    refined = refine_batch(assembly, refiner, staged)
    a, b = refined.permute(0, 2, 3, 1).numpy(), real.permute(0, 2, 3, 1).numpy()
    spread_before = float(staged.std(dim=0).mean())
    followed = torch.from_numpy(spread(len(staged), _FOLLOWED))
    drift = drift_px(staged[followed], refined[followed])
    return Candidate(
        step=step,
        sliced_wasserstein=float(sliced_wasserstein(a, b)),
        realism_auc=float(two_sample_auc(a, b).auc),
        distance_from_identity=float((refined - staged).abs().mean()),
        diversity=float(np.divide(float(refined.std(dim=0).mean()), spread_before)) if spread_before else 1.0,
        drift_px=drift,
        over_budget_px=over_budget(drift, allowed_px),
    )


def drift_px(staged: torch.Tensor, refined: torch.Tensor) -> float | None:
    """Mean drift over the images (N, C, H, W) that can be measured; None where none can, or more are lost."""
    if min(staged.shape[2:]) < SMALLEST_SIDE_PX:
        return None
    found = measure_displacement(*(one.permute(0, 2, 3, 1).numpy() for one in (staged, refined)))
    measured = found.measured
    if not measured.any() or found.lost.sum() > measured.sum():
        return None
    return float(found.drift_px[measured].mean())


def over_budget(drift: float | None, budget_px: float) -> float:
    """Pixels above 1.05 times the budget (what it is on other images); 0 without a budget.

    Drift that cannot be measured is structure that was not found again: as far above as can be.
    """
    if not budget_px:
        return 0.0
    return REACH_PX if drift is None else max(0.0, drift - TOLERANCE * budget_px)


def doubt_kept_refiner(kept: Candidate | None, weights: Path) -> str | None:
    """What a run that continues says where its refiner's file is not the one that its checkpoint knows; or None.

    The two are written one after the other, so that a run can die in between.
    """
    if kept is None and not weights.exists():
        return None
    known = "no refiner yet" if kept is None else f"the refiner of step {kept.step}"
    found = unlike_kept(kept, weights)
    if found is None:
        return None
    return (
        f"by its checkpoint the run has kept {known}, but {found}. If the run was stopped between writing the "
        "two, training on writes it again; if the file was replaced, restore it, or delete the checkpoint to train anew"
    )


def unlike_kept(kept: Candidate | None, weights: Path) -> str | None:
    """What is found in place of the kept refiner's file; None where it is there and whole."""
    if not weights.is_file():
        return f"{weights} is gone"
    try:
        step = load_refiner(weights, device="cpu", precision="float32").provenance.get("step")
    except WeightsError as error:
        return str(error)
    return None if kept is not None and step == kept.step else f"{weights} holds that of step {step}"


@torch.no_grad()
def refine_batch(assembly: Assembly, refiner: nn.Module, staged: torch.Tensor) -> torch.Tensor:
    """x̃ on the files' grid, float32 on the CPU, for a few hundred images at most."""
    route, carries_lowest = assembly.route, assembly.value_range.invalid is not None
    parts = []
    for chunk in torch.split(staged, 100):
        with route.autocast():
            refined = refiner(route.put(chunk)).float().cpu()
        parts.append(torch.where(chunk <= -1, chunk, refined) if carries_lowest else refined)
    return assembly.quantization.quantize(torch.cat(parts))
