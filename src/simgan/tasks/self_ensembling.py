"""Self-ensembling: a classifier learns from unlabelled real images to agree with its own moving average.

A classifier of synthetic images reads whole groups of real ones as another class (a handwritten 4 as a drawn 9), and
training on from its own readings alone would confirm them. Two facts need no real label: images of one class lie
together, and how often each class occurs. So the student T follows a teacher T̄, the moving average of its weights,
where T̄ is sure, and T̄'s readings are balanced by a bias per class (French, Mackiewicz, Fisher, "Self-ensembling for
visual domain adaptation", ICLR 2018; the bias is our own form of their class balance):

    p = softmax(T̄(u) + β)           β ← β + η (π − mean p) / π, centred, −3 ≤ β ≤ 3
    q = softmax(T(u′))              u, u′: two augmentations of one real image
    L = w · { mean 1[max p > 0.7] ‖q − p‖² + 0.1 · KL(mean q ‖ π) }

π is how often the classes occur among the synthetic images, no class below 1 %. T̄ reads as T does in training, with
dropout and the statistics of its batch. β is bounded so that π need not be exact: readings that
are sure by more than 3 nats stay, whatever the balance.

Where it ends depends on where it starts: some starts leave a group of images misread. Such a T̄ stays in
doubt, H(p) = −Σ p log p, and that is seen without labels.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

_CONFIDENCE = 0.7
_BALANCE = 0.1
_BIAS_STEP, _LARGEST_BIAS = 0.1, 3.0
_DECAY = 0.99  # of the teacher; less in its first updates, so that it does not start from chance
_FLOOR = 0.01  # of π: a class of which there is hardly any must not take hold of the balance
_DOUBT_DECAY = 0.99


def self_ensembling_loss(student: Tensor, teacher: Tensor, *, bias: Tensor, prior: Tensor) -> Tensor:
    """The braces of the module's equation: logits (N, K) of T and T̄, β and π (K,) → scalar; π need not sum to 1."""
    p, q = softmax(teacher + bias, dim=1).detach(), softmax(student, dim=1)
    sure = (p.amax(1) > _CONFIDENCE).float()
    agreement = (sure * (q - p).square().sum(1)).mean()
    read = q.mean(0)
    return agreement + _BALANCE * (read * (read / _not_rare(prior) + 1e-6).log()).sum()


def _not_rare(prior: Tensor) -> Tensor:
    """π with every class at 1 % at least, summing to 1 again."""
    raised = prior.clamp_min(_FLOOR)
    return raised / raised.sum()


class SelfEnsembling:
    """The teacher T̄ of a student, and its bias β; `weight` is w."""

    def __init__(self, student: nn.Module, prior: Tensor, *, weight: float) -> None:
        """`prior`: π, (K,), sums to 1."""
        self.weight = weight
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.prior = prior
        self.bias = torch.zeros_like(prior)
        self.doubt = torch.zeros((), device=prior.device)
        """Moving average of the mean of H(p), in nats."""
        self._followed = 0

    def loss(self, student_logits: Tensor, teacher_images: Tensor) -> Tensor:
        """w · {…} for T's logits (N, K) of u′ and the images u, (N, C, H, W); then β takes its step."""
        with torch.no_grad():
            teacher_logits = self.teacher.train()(teacher_images)
        loss = self_ensembling_loss(student_logits, teacher_logits, bias=self.bias, prior=self.prior)
        p = softmax(teacher_logits + self.bias, dim=1)
        self.doubt = torch.lerp(-(p * (p + 1e-9).log()).sum(1).mean(), self.doubt, _DOUBT_DECAY)
        self._balance(p.mean(0))
        return self.weight * loss

    def _balance(self, read: Tensor) -> None:
        """The step of β: classes that are read too seldom gain."""
        expected = _not_rare(self.prior)
        bias = self.bias + _BIAS_STEP * (expected - read) / expected
        self.bias = (bias - bias.mean()).clamp(-_LARGEST_BIAS, _LARGEST_BIAS)

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """T̄ ← decay · T̄ + (1 − decay) · T, in the weights; batch statistics are each network's own."""
        self._followed += 1
        decay = min(_DECAY, self._followed / (self._followed + 9))
        averaged: list[Tensor] = list(self.teacher.parameters())
        learned: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(averaged, learned, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher.state_dict(),
            "bias": self.bias,
            "doubt": self.doubt,
            "followed": self._followed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state["teacher"])
        self.bias = state["bias"].to(self.prior.device, copy=True)
        self.doubt = state["doubt"].to(self.prior.device, copy=True)
        self._followed = int(state["followed"])
