"""The settings of a training run, one docstring per field. Data only: `simgan.config` reads, checks and writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class TreeSettings:
    """A folder of images."""

    root: str = ""
    """The folder; relative paths are relative to where the command runs."""
    images: str = "**/*"
    """Which files below it are the images (a glob). Label masks are images too: leave them out here."""


@dataclass(frozen=True)
class DataSettings:
    """How pixel values and sizes are read."""

    value_low: int | None = None
    """Lowest valid pixel value; with `value_high`, declares the range instead of measuring it."""
    value_high: int | None = None
    """Highest valid pixel value."""
    value_step: int = 1
    """Distance of two neighbouring levels, for declared ranges (12-bit data in the high bits of 16: 16)."""
    invalid_value: int | None = None
    """Pixels of this value hold no measurement (depth 0), as holes: they are never changed, R gets no gradient there,
    and D sees them at the lowest level on both sides. Pixels of the lowest level itself are treated alike."""
    crop: tuple[int, ...] | None = None
    """[height, width] of the training crops; unset: whole images, or the smallest size where sizes differ."""
    held_out_share: float = 0.15
    """Share of the unlabelled real images that D never sees: they choose the checkpoint and measure realism."""
    level_matching: bool = False
    """Match each synthetic image's histogram to a real one's before the refiner: a stage recorded in the weights."""


@dataclass(frozen=True)
class RefinerSettings:
    """R_θ."""

    width: int = 64
    """Feature maps."""
    blocks: int = 0
    """Residual blocks; 0: derived, so that R's receptive field reaches D's."""
    kernel: int = 3
    """Side of the blocks' convolutions (odd)."""
    first_kernel: int = 3
    """Side of the first convolution (odd)."""
    output: Literal["image", "residual"] = "residual"
    """"image": the network computes the refined image; "residual": it computes the change, zero at the start."""
    average_decay: float = 0.0
    """Decay of the moving average of R's weights that is kept and used for refining; 0: none."""


@dataclass(frozen=True)
class DiscriminatorSettings:
    """D_φ."""

    width: int = 64
    """Feature maps of a derived discriminator."""
    layers: tuple[tuple[int, ...], ...] = ()
    """[maps, kernel, stride] of each layer, maps 0 for max-pooling; empty: derived from the image size."""
    output_maps: Literal[1, 2] = 1
    """1: one logit a patch; 2: the published softmax over two maps (the same function)."""
    scope: Literal["local", "global"] = "local"
    """"local": every patch is judged; "global": the image as a whole (ablation)."""
    spectral_normalization: bool = False
    """Bounds every layer's Lipschitz constant by 1."""


@dataclass(frozen=True)
class ObjectiveSettings:
    """The losses."""

    self_regularization_weight: float = 0.3
    """λ for the mean over elements of |ψ(x̃) − ψ(x)|, images in [-1, 1]."""
    drift_budget_px: float = 0.0
    """How far structure may move, in pixels (mean over images): R's loss gains the movement of its images, with a
    weight that rises while the averaged R moves more and falls while it moves less, and no refiner above the budget is
    kept where one within it is. 0: movement is not looked at."""
    feature_transform: Literal["identity", "gradients", "channel_mean", "local_contrast"] = "identity"
    """ψ."""
    task_consistency_weight: float = 0.0
    """μ: a task network that learns from synthetic and refined images must still read the synthetic label; 0: none.
    Needs labels on the synthetic side that simgan finds itself (class folders, labels.csv, UnityEyes files); without
    them it is left out, with a warning."""
    self_ensembling_weight: float = 0.0
    """How much the task network of task consistency learns from unlabelled real images, where labels are classes;
    0: not at all. It takes classes to be about as frequent among real images as among synthetic ones."""
    patches: Literal["mean", "sum"] = "mean"
    """Whether the patches (and pixels) of an image are averaged, or summed as published."""


@dataclass(frozen=True)
class TrainingSettings:
    """Algorithm 1."""

    steps: int = 2000
    """T, turns of Algorithm 1."""
    batch_size: int = 32
    """b: real images, and refined images, in one update of D."""
    refiner_updates_per_step: int = 1
    """K_g."""
    discriminator_updates_per_step: int = 1
    """K_d."""
    warmup_refiner_steps: int = 0
    """Updates of R on self-regularization alone, before all else."""
    warmup_task_steps: int = 0
    """Updates of the task network of task consistency on synthetic images alone, before D's warm-up."""
    task_starts: int = 1
    """Task networks that go through the warm-ups side by side, where there is self-ensembling; the surest is kept."""
    warmup_self_ensembling_steps: int = 0
    """Updates of the task network on synthetic and unlabelled real images, after `warmup_task_steps`."""
    warmup_discriminator_steps: int = 0
    """Updates of D alone, after R's warm-up; they fill the history."""
    history_batches: int = 50
    """Capacity of the history buffer in batches (B = history_batches · b); 0: no history (ablation)."""
    optimizer: Literal["sgd", "adam"] = "adam"
    """Plain SGD, or Adam with β = (0.5, 0.999)."""
    refiner_learning_rate: float = 1e-3
    """Step size of R."""
    discriminator_learning_rate: float = 1e-3
    """Step size of D."""
    learning_rate_decay: Literal["none", "linear"] = "none"
    """"linear": constant for the first half of the steps, then down to 2 % in a straight line."""
    learning_rate_milestones: tuple[tuple[float, ...], ...] = ()
    """[step, factor]: from that step on, both learning rates are multiplied by the factor."""
    augmentation_shift_px: int = 0
    """Random shift of refined and real images alike before D, in pixels; 0: none."""
    augmentation_gain: float = 0.0
    """Random gain of 1 ± this, of refined and real images alike before D; 0: none."""


@dataclass(frozen=True)
class RunSettings:
    """What a run writes, and where it computes."""

    checkpoint_every: int = 200
    """Steps between checkpoints to resume from, sample grids, and candidates for the kept refiner."""
    log_every: int = 20
    """Steps between rows of metrics.jsonl."""
    device: str = "auto"
    """"auto", "cpu", "cuda"."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """"auto": bf16 where the processor has units for it and the images are 8 bit. Recorded: refining takes the same."""


@dataclass(frozen=True)
class Configuration:
    """All of a run, beside the recipe's name and the seed that everything is drawn from."""

    recipe: str = "default"
    seed: int = 0
    synthetic: TreeSettings = field(default_factory=TreeSettings)
    real: TreeSettings = field(default_factory=TreeSettings)
    data: DataSettings = field(default_factory=DataSettings)
    refiner: RefinerSettings = field(default_factory=RefinerSettings)
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    run: RunSettings = field(default_factory=RunSettings)
