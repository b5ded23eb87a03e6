"""evaluate(): is refined more real than synthetic, do models trained on it do better, do its labels hold?"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simgan.data.trees import ImageTree
from simgan.errors import ConfigurationError, DataError, OutputError
from simgan.evaluation.agreement import warn_of_labels, warn_of_levels
from simgan.evaluation.downstream import ARMS, Budget, Progress, choose_matching, derive_seeds, run_downstream
from simgan.evaluation.drift import measure_drift
from simgan.evaluation.inputs import open_inputs
from simgan.evaluation.label_check import check_labels
from simgan.evaluation.outcomes import Outcomes, describe_seeds, summarize
from simgan.evaluation.overlap import check_overlap
from simgan.evaluation.realism import measure_realism
from simgan.images import ValueRange, write_atomically

SCHEMA = 1
FEW_GROUPS = 8


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`record`: what evaluation.json holds. `outcomes`: per-image errors, None without labelled images."""

    record: dict[str, Any]
    outcomes: Outcomes | None = None

    def save(self, path: str | Path) -> None:
        """Writes the record as JSON to `path`, and the outcomes beside it as .npz; both atomically."""
        target = Path(path)
        if self.outcomes is not None:
            self.outcomes.save(target.with_suffix(".npz"))
        text = json.dumps(self.record, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(target, text.encode() + b"\n")

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """The inverse of `save`; `DataError` where the file is not an evaluation."""
        source = Path(path)
        try:
            record = json.loads(source.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{source}: an evaluation.json is wanted, but it cannot be read: {error}; make one with "
                f"`simgan evaluate`"
            ) from error
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            found = record.get("schema") if isinstance(record, dict) else type(record).__name__
            raise DataError(
                f"{source}: an evaluation of schema {SCHEMA} is wanted, found {found!r}; run "
                f"`simgan evaluate` again"
            )
        outcomes = source.with_suffix(".npz")
        return cls(record, Outcomes.load(outcomes) if record.get("downstream") is not None else None)


def evaluate(
    *,
    synthetic: ImageTree,
    refined: ImageTree,
    real: ImageTree,
    real_labelled: ImageTree | None = None,
    real_dev: ImageTree | None = None,
    real_paths: Sequence[str] | None = None,
    seed: int = 0,
    task_seeds: int = 3,
    updates: int | None = None,
    batch_size: int = 64,
    mirror: bool = False,
    arms: Sequence[str] = ARMS,
    masks: str | None = None,
    value_range: ValueRange | None = None,
    generator: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    cache_dir: str | Path | None = None,
    command: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Realism and drift, and with labelled real images also the downstream task and the label check.

    synthetic, refined: trees with labels (refined carries those of synthetic). real: unlabelled; `real_paths`
    are those of its images that the refiner did not see: realism is measured on these, levels are matched to
    the others. real_labelled: the test images; none may be in `real` or real_dev, under whatever name.
    real_dev: labelled images that train the bound `real`, the few in `refined_plus_some_real`, and the
    judge; without it real_labelled is split by group in two halves.

    Every arm trains the same model with the same augmentation (mirror only if `mirror`) for `updates` updates
    of `batch_size` images, once per task seed. masks: which files of the synthetic tree are class masks, one of the
    same name for each image, for the drift of masks. value_range: one scale for all sets; None measures it.
    generator: {"generator": name, "version": …} of the simulator, for the record. out: evaluation.json to
    write (with evaluation.npz beside it), or the folder for it. cache_dir: keeps decoded images between
    calls. progress: called with one sentence before each unit of work. On the CPU the numbers depend on the
    arguments and the number of threads alone. `DataError`, `LabelError`, `ConfigurationError` as fits.
    """
    say: Progress = progress if progress is not None else lambda _: None
    derive_seeds(seed, task_seeds)
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or not arms:
        raise ConfigurationError(f"unknown arms {unknown or 'none'}; there are: {', '.join(ARMS)}")
    if masks is not None:
        ImageTree(synthetic.root, masks).paths()  # `DataError` where there is none, before minutes are spent
    target = None if out is None else _prepare_target(Path(out))
    with tempfile.TemporaryDirectory() as temporary:
        say("reading the images")
        inputs = open_inputs(
            synthetic=synthetic,
            refined=refined,
            real=real,
            real_labelled=real_labelled,
            real_dev=real_dev,
            real_paths=real_paths,
            value_range=value_range,
            cache_dir=cache_dir if cache_dir is not None else temporary,
            seed=seed,
        )
        budget = Budget.for_images(
            len(inputs.synthetic), updates=updates, batch_size=batch_size, mirror=mirror
        )
        warnings = [
            *inputs.warnings,
            *check_overlap(inputs),
            *warn_of_labels(inputs),
            *warn_of_levels(inputs),
        ]
        if real_paths is None:
            warnings.append(
                "realism was measured on all real images, also on those that the discriminator was trained on, "
                "so it may flatter the refiner; name those that were held out: --run, or "
                "real_paths=run.held_out_real"
            )
        if not inputs.same_paths:
            warnings.append(
                "refined images do not stand under the paths of synthetic ones, so their originals are not "
                "known: the judge of the label check may have seen some of them"
            )
        matching: dict[str, Any] = {"chosen": "histogram", "error_on_real_dev": None}
        if inputs.test is not None and "synthetic_matched" in arms:
            say("choosing how to match levels")
            matching = choose_matching(inputs, budget, seed=seed)
        realism, unmeasured = measure_realism(inputs, matching=matching["chosen"], seed=seed, progress=say)
        if unmeasured is not None:
            warnings.append(unmeasured)
        outcomes = downstream = labels = None
        if inputs.test is not None:
            outcomes = run_downstream(
                inputs,
                arms=arms,
                matching=matching["chosen"],
                budget=budget,
                seed=seed,
                task_seeds=task_seeds,
                progress=say,
            )
            downstream = summarize([outcomes], seed=seed)
            n_groups = len(set(outcomes.groups.tolist()))
            if n_groups < FEW_GROUPS:
                warnings.append(
                    f"the test images form {n_groups} groups only: intervals from fewer than {FEW_GROUPS} "
                    f"groups are rough, and too narrow rather than too wide"
                )
            labels = check_labels(inputs, budget=budget, seed=seed, progress=say)
        else:
            warnings.append(
                "no real_labelled was given: only realism was measured, nothing shows that it helps"
            )
        drift, no_drift = measure_drift(
            inputs, matching=matching["chosen"], masks=masks, budget=budget, seed=seed, progress=say
        )
        if no_drift is not None:
            warnings.append(no_drift)
        if drift is not None:
            drift["gain"] = None if downstream is None else downstream["gain"]
        sets = {"real_labelled": inputs.test, "real_dev": inputs.dev}
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "seed": seed,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "command": command if command is not None else " ".join(sys.argv),
            "synthetic": inputs.synthetic.describe() | _generator(generator),
            "refined": inputs.refined.describe(),
            "real": inputs.real.describe(),
            **{name: None if one is None else one.describe() for name, one in sets.items()},
            "value_range": inputs.value_range.to_dict(),
            "budget": {"updates": budget.updates, "batch_size": budget.batch_size, "mirror": budget.mirror},
            "matching": matching,
            "realism": realism,
            "downstream": downstream,
            "labels": labels,
            "drift": drift,
            "drift_reason": no_drift,
            "warnings": warnings,
        }
        if downstream is not None:
            warnings.append(describe_seeds(record))
    evaluation = Evaluation(record, outcomes)
    if target is not None:
        evaluation.save(target)
    return evaluation


def _prepare_target(out: Path) -> Path:
    """Where evaluation.json will stand; its folder is made before minutes are spent."""
    target = out if out.suffix == ".json" else out / "evaluation.json"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.parent}: this folder for the evaluation cannot be made: {error.strerror or error}; "
            f"choose another place with `out`"
        ) from error
    return target


def _generator(generator: Mapping[str, Any] | None) -> dict[str, Any]:
    given = generator or {}
    return {"generator": given.get("generator"), "version": given.get("version")}


def _versions() -> dict[str, str]:
    packages = ("simgan", "torch", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
