"""One training run on several processes (ranks), started by torchrun: the same run, each rank a part of every batch.

All ranks draw the same global batches, the same history entries and the same augmentations, and each computes on its
part. Losses are means over the batch, so the mean of the ranks' gradients is the gradient of the global batch, and
all networks, optimizers and histories stay equal on all ranks: what the recipe says of batch, history and D's
composition holds of the whole. Rank 0 alone writes the run.

A batch is two halves (D sees b/2 current and b/2 from the history), and each rank has its share of each: a tensor of
a rank is made of blocks of h = b/(2·ranks) images, block k being the rank's share of block k of the whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from simgan.errors import ConfigurationError, RunError
from simgan.nn.augmentation import DiscriminatorAugmentation
from simgan.nn.draws import Draws
from simgan.nn.history import HistoryBuffer
from simgan.settings import Configuration
from simgan.training.algorithm import Metrics, Players, SyntheticBatch
from simgan.training.run import RunDirectory
from simgan.training.task_consistency import TaskConsistency

Result = TypeVar("Result")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `count`; a share of a batch is made of blocks of `block` images."""

    rank: int = 0
    count: int = 1
    block: int = 0
    device: torch.device = _CPU

    @property
    def writes(self) -> bool:
        """Whether the run directory, warnings and progress are this process's affair."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This rank's share of a global batch."""
        return batch if self.count == 1 else batch[self.places(len(batch) // self.count).to(batch.device)]

    def part_of(self, batch: SyntheticBatch) -> SyntheticBatch:
        """The same of images with their labels."""
        return SyntheticBatch(
            self.part(batch.images), None if batch.labels is None else self.part(batch.labels)
        )

    def places(self, length: int) -> Tensor:
        """Where the `length` images of this rank's share stand in the whole, (length,)."""
        blocks = torch.arange(length // self.block)[:, None] * (self.block * self.count)
        return (blocks + self.rank * self.block + torch.arange(self.block)).flatten()

    def gather(self, share: Tensor) -> Tensor:
        """The whole of which each rank has a share. Gradients pass to this rank's own."""
        sent = share.detach().to(self.device).contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.count)]
        dist.all_gather(parts, sent)
        shares = [part.to(share.device) for part in parts]
        shares[self.rank] = share
        blocks = torch.stack([one.reshape(-1, self.block, *one.shape[1:]) for one in shares], dim=1)
        return blocks.flatten(0, 2)

    def mean(self, metrics: Metrics) -> Metrics:
        """Each metric's mean over the ranks."""
        if self.count == 1 or not metrics:
            return metrics
        values = torch.stack([value.float().to(self.device) for value in metrics.values()])
        dist.all_reduce(values)
        return dict(zip(metrics, values / self.count, strict=True))

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank."""
        if self.count == 1:
            return here
        said = torch.tensor(float(here), device=self.device)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said)

    def of_first(self, number: int) -> int:
        """What rank 0 has: decisions that rounding could turn are its own."""
        if self.count == 1:
            return number
        said = torch.tensor(number, device=self.device)
        dist.broadcast(said, 0)
        return int(said)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def first_alone(self, work: Callable[[], Result]) -> Result:
        """`work` on rank 0, then on the others, which find what it wrote; `RunError` there where it could not."""
        if not self.writes:
            if self.any(False):
                raise RunError("the first process has stopped: what it says is the reason")
            return work()
        try:
            result = work()
        except Exception:
            self.any(True)
            raise
        self.any(False)
        return result

    def refuse_other_count(self, checkpoint: dict[str, Any], path: object) -> None:
        """`RunError` where the run was begun with another number of ranks: rounding would be another."""
        began = int(checkpoint.get("ranks", 1))
        if began != self.count:
            how = (
                "without torchrun"
                if began == 1
                else f"with: torchrun --nproc-per-node {began} -m simgan -- train …"
            )
            raise RunError(
                f"{path}: this run was begun by {began} process{'es' * (began > 1)} and is continued by {self.count}; "
                f"exactly the same run needs the same number: continue it {how}, or choose a new folder for the run"
            )


_ALONE = Ranks()


@contextmanager
def joined(c: Configuration) -> Iterator[Ranks]:
    """The ranks that torchrun started, or this process alone; gloo on processors, NCCL on GPUs."""
    count = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    if count == 1:
        yield _ALONE
        return
    if c.training.batch_size % (2 * count):
        raise ConfigurationError(
            f"`training.batch_size` must be a multiple of {2 * count}, twice the number of processes, so that each has "
            f"the same share of both halves of a batch; it is {c.training.batch_size}"
        )
    if ":" in c.run.device:
        raise ConfigurationError(
            f"`run.device` is {c.run.device!r}, but {count} processes need a device each: set it to auto, cuda or cpu"
        )
    device = _CPU
    if c.run.device != "cpu" and torch.cuda.is_available():  # pragma: cuda
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device.type == "cpu" else "nccl")
    try:
        yield Ranks(dist.get_rank(), count, c.training.batch_size // (2 * count), device)
    except RuntimeError as error:
        # Errors of gloo have no type of their own.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RunError(
                f"one of the {count} processes has ended, and what it says is the reason; this one stopped with it "
                f"({str(error).splitlines()[0]})"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def share(players: Players, ranks: Ranks) -> None:
    """From here on the players' updates are those of the global batch, each rank computing on its share."""
    if ranks.count == 1:
        return
    for optimizer in (players.refiner_optimizer, players.discriminator_optimizer):
        optimizer.register_step_pre_hook(lambda stepping, *_: _average_gradients(stepping, ranks))
    if players.history is not None:
        players.history = _SharedHistory(players.history, ranks)
    if players.augmentation is not None:
        players.augmentation = _SharedAugmentation(
            players.augmentation.shift_px, players.augmentation.gain, ranks
        )
    if players.task is not None:
        players.task = _SharedTask(players.task, ranks)


def _average_gradients(optimizer: torch.optim.Optimizer, ranks: Ranks) -> None:
    gradients = [
        weights.grad
        for group in optimizer.param_groups
        for weights in group["params"]
        if weights.grad is not None
    ]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= ranks.count
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _SharedHistory(HistoryBuffer):
    """The whole history on every rank; a rank draws and adds its share."""

    def __init__(self, history: HistoryBuffer, ranks: Ranks) -> None:
        self.__dict__.update(history.__dict__)
        self._ranks = ranks

    def sample(self, count: int, draws: Draws) -> Tensor:
        whole = super().sample(count * self._ranks.count, draws)
        return whole[self._ranks.places(count).to(whole.device)]

    def add(self, codes: Tensor, draws: Draws) -> None:
        super().add(self._ranks.gather(codes), draws)


@dataclass(frozen=True)
class _SharedAugmentation(DiscriminatorAugmentation):
    """One draw an image of the whole batch, of which this rank uses its own."""

    ranks: Ranks = _ALONE

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        places = self.ranks.places(len(images)).to(images.device)
        whole = images.new_zeros((len(images) * self.ranks.count, *images.shape[1:]))
        return super().__call__(whole.index_copy(0, places, images), draws)[places]


class _SharedTask(TaskConsistency):
    """T on the whole batch on every rank: batch normalization sees what it would see in one process. No rank is
    faster for it, but T is small."""

    def __init__(self, task: TaskConsistency, ranks: Ranks) -> None:
        self.__dict__.update(task.__dict__)
        self._ranks = ranks
        for start in self._starts:  # devices may round differently, and T has to stay one
            start.optimizer.register_step_pre_hook(lambda stepping, *_: _average_gradients(stepping, ranks))

    def _surest(self) -> int:
        return self._ranks.of_first(super()._surest())

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        loss = super().loss(self._ranks.gather(images), self._ranks.gather(labels))
        # Each rank's gradient is its own images' part of a sum, and the ranks' mean will be taken.
        return loss.detach() + self._ranks.count * (loss - loss.detach())

    def update(self, images: Tensor, labels: Tensor, *, real: Tensor | None = None) -> Tensor:
        whole_real = None if real is None else self._ranks.gather(real)
        return super().update(self._ranks.gather(images), self._ranks.gather(labels), real=whole_real)


class OnlookingRun(RunDirectory):
    """The run as ranks above 0 have it: they read, and write nothing."""

    def open_for_training(self, configuration: Configuration) -> None: ...

    def write_description(self, description: dict[str, Any]) -> None: ...

    def append_metrics(self, row: dict[str, Any]) -> None: ...

    def truncate_metrics(self, size: int) -> None: ...

    def save_checkpoint(self, state: dict[str, Any]) -> None: ...
