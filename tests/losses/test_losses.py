"""Losses and schedules against numbers worked by hand in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from las_mm.losses import bounds_loss, distillation_loss, flops_loss, open_bounds


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_flops_loss():
    ratio = tensor(0.8)[0].requires_grad_()
    loss = flops_loss(ratio, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(0.09, rel=1e-12)
    assert ratio.grad.item() == pytest.approx(0.6, rel=1e-12)
    assert flops_loss(tensor(0.5), 0.5).item() == 0


@pytest.mark.parametrize(
    ('progress', 'lower', 'upper'),
    [
        (0.0, 0.6, 0.6),  # pinned to t
        (0.11, 0.45, 0.7),  # cos²(π/6) = 3/4
        (0.165, 0.3, 0.8),  # cos²(π/4) = 1/2
        (0.33, 0.0, 1.0),  # free after a third
        (1 / 3, 0.0, 1.0),
        (1.0, 0.0, 1.0),
    ],
)
def test_bounds_open_over_the_first_third(progress, lower, upper):
    assert open_bounds(progress, 0.6) == pytest.approx((lower, upper), abs=1e-12)


@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_bounds_always_hold_the_target_and_only_open(progress, target, duration):
    lower, upper = open_bounds(progress, target, duration)
    assert 0 <= lower <= target * (1 + 1e-12)
    assert target - 1e-12 <= upper <= 1
    later = open_bounds(min(1.0, progress + 0.1), target, duration)
    assert later[0] <= lower + 1e-12
    assert later[1] >= upper - 1e-12


def test_bounds_loss():
    rates = tensor(0.9, 0.5, 0.1, 0.8).requires_grad_()
    loss = bounds_loss(rates, lower=0.3, upper=0.7)
    loss.backward()
    # (0.2² + 0 + 0.2² + 0.1²) / 4
    assert loss.item() == pytest.approx(0.0225, rel=1e-12)
    assert rates.grad.tolist() == pytest.approx([0.1, 0, -0.1, 0.05], rel=1e-12)
    assert bounds_loss(rates, 0, 1).item() == 0


def test_distillation_loss_of_a_softmax():
    """Student σ(y/T) = (1/2, 1/2), teacher (3/4, 1/4), by hand in both directions."""
    student, teacher = tensor(0, 0)[None].requires_grad_(), tensor(4 * math.log(3), 0)[None]
    loss = distillation_loss(student.double(), teacher, temperature=4.0)
    wanted = 16 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    loss = distillation_loss(student.double(), teacher, temperature=4.0, reverse=True)
    wanted = 16 * (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert loss.item() == pytest.approx(wanted, rel=1e-6)


def test_distillation_loss_is_a_mean_over_rows():
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    each = [distillation_loss(student[i : i + 1], teacher[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(distillation_loss(student, teacher), torch.stack(each).mean())


def test_distillation_loss_of_independent_classes_adds_up():
    student, teacher = tensor(0, 1)[None], tensor(1, -1)[None]

    def divergence(y, z):
        p, q = 1 / (1 + math.exp(-y / 2)), 1 / (1 + math.exp(-z / 2))
        return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))

    loss = distillation_loss(student, teacher, temperature=2.0, sigmoid=True)
    assert loss.item() == pytest.approx(4 * (divergence(0, 1) + divergence(1, -1)), rel=1e-5)


@pytest.mark.parametrize('sigmoid', [False, True])
def test_equal_logits_cost_nothing(sigmoid):
    logits = torch.randn(6, 4)
    assert distillation_loss(logits, logits.clone(), sigmoid=sigmoid).item() == 0


@pytest.mark.parametrize('sigmoid', [False, True])
def test_without_rows_the_loss_is_zero_and_can_be_differentiated(sigmoid):
    student = torch.zeros(0, 4, requires_grad=True)
    loss = distillation_loss(student, torch.zeros(0, 4), sigmoid=sigmoid)
    loss.backward()
    assert loss.item() == 0
