from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from simgan.tasks import SelfEnsembling, self_ensembling_loss

HALF = torch.full((2,), 0.5)
NO_BIAS = torch.zeros(2)


def logits(*first_class: float) -> Tensor:
    """(N, 2) logits of these probabilities of class 0."""
    p = torch.tensor(first_class, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], dim=1)


def loss(student: Tensor, teacher: Tensor, bias: Tensor = NO_BIAS, prior: Tensor = HALF) -> float:
    return float(self_ensembling_loss(student, teacher, bias=bias, prior=prior))


def test_the_loss_by_hand() -> None:
    """q = 0.6 and 0.4 against p = 0.9 and 0.2: both sure; ‖q − p‖² = 2 · 0.3² and 2 · 0.2²; the classes balance."""
    assert loss(logits(0.6, 0.4), logits(0.9, 0.2)) == pytest.approx((0.18 + 0.08) / 2, abs=1e-5)


def test_a_teacher_that_is_not_sure_is_not_followed() -> None:
    """The second reading, 0.6, is below the confidence; the mean is still over both."""
    assert loss(logits(0.6, 0.4), logits(0.9, 0.6)) == pytest.approx(0.18 / 2, abs=1e-5)


def test_readings_of_one_class_alone_cost_a_tenth_of_their_divergence_from_the_prior() -> None:
    """The student agrees with the teacher: what is left is KL((0.9, 0.1) ‖ (½, ½))."""
    divergence = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert loss(logits(0.9, 0.9), logits(0.9, 0.9)) == pytest.approx(0.1 * divergence, abs=1e-5)
    prior = torch.tensor([0.9, 0.1])
    assert loss(logits(0.9, 0.9), logits(0.9, 0.9), prior=prior) == pytest.approx(0, abs=1e-5)


def test_a_class_that_does_not_occur_among_the_synthetic_images_costs_no_infinity() -> None:
    assert math.isfinite(loss(logits(0.9, 0.9), logits(0.9, 0.9), prior=torch.tensor([1.0, 0.0])))


def test_the_bias_moves_the_teacher_alone() -> None:
    """log 3 makes 0.75 of ½."""
    bias = torch.tensor([math.log(3.0), 0.0])
    assert loss(logits(0.5, 0.5), logits(0.5, 0.5), bias) == pytest.approx(2 * 0.25**2, abs=1e-5)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = logits(0.6, 0.4).requires_grad_(), logits(0.9, 0.2).requires_grad_()
    self_ensembling_loss(student, teacher, bias=NO_BIAS, prior=HALF).backward()
    assert student.grad is not None
    assert teacher.grad is None


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([first, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), 2)


def test_the_bias_follows_until_the_classes_are_read_as_often_as_they_occur() -> None:
    """Read as class 0 with odds of e², half of the images being of class 1: β₁ − β₀ must become 2."""
    student = Constant(2.0)
    ensembling = SelfEnsembling(student, HALF, weight=1.0)
    images = torch.zeros(4, 1, 2, 2)
    for _ in range(300):
        ensembling.loss(student(images), images)
    assert float(ensembling.bias[1] - ensembling.bias[0]) == pytest.approx(2, abs=0.01)
    assert float(ensembling.bias.sum()) == pytest.approx(0, abs=1e-5)


def test_a_teacher_that_is_sure_beyond_the_bound_is_not_overruled() -> None:
    student = Constant(20.0)
    ensembling = SelfEnsembling(student, HALF, weight=1.0)
    images = torch.zeros(4, 1, 2, 2)
    for _ in range(300):
        ensembling.loss(student(images), images)
    assert ensembling.bias.tolist() == [-3, 3]


def test_the_weight_scales_the_loss() -> None:
    student, images = Constant(2.0), torch.zeros(4, 1, 2, 2)
    losses = [
        float(SelfEnsembling(student, HALF, weight=w).loss(student(images), images).detach())
        for w in (1.0, 10.0)
    ]
    assert losses[0] > 0
    assert losses[1] == pytest.approx(10 * losses[0], rel=1e-6)


def test_the_teacher_is_the_moving_average_of_the_student() -> None:
    """First by 9/10 (decay 1/10), so that it does not start from chance; later by 1/100."""
    student = Constant(0.0)
    ensembling = SelfEnsembling(student, HALF, weight=1.0)
    with torch.no_grad():
        student.logits.fill_(1.0)
    ensembling.follow(student)
    teacher = dict(ensembling.teacher.named_parameters())["logits"]
    assert teacher.tolist() == pytest.approx([0.9, 0.9])
    with torch.no_grad():
        for _ in range(2000):
            ensembling.follow(student)
        student.logits.fill_(2.0)
    ensembling.follow(student)
    assert teacher.tolist() == pytest.approx([1.01, 1.01], abs=1e-4)
    assert not teacher.requires_grad


def test_a_restored_ensembling_goes_on_as_the_first() -> None:
    def go_on(ensembling: SelfEnsembling, student: Constant) -> list[Tensor]:
        losses = []
        images = torch.zeros(4, 1, 2, 2)
        for _ in range(5):
            losses.append(ensembling.loss(student(images), images).detach())
            ensembling.follow(student)
        return losses

    student = Constant(1.0)
    first = SelfEnsembling(student, HALF, weight=1.0)
    with torch.no_grad():
        student.logits.fill_(3.0)
    go_on(first, student)
    again = SelfEnsembling(Constant(0.0), HALF, weight=1.0)
    again.load_state_dict(first.state_dict())
    assert torch.equal(torch.stack(go_on(first, student)), torch.stack(go_on(again, student)))
