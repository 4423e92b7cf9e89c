"""The decision: its values, its probabilities, and its straight-through gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from las_mm.ops import gumbel_decision

finite = st.floats(-20, 20)


def logits(keep: float, skip: float) -> torch.Tensor:
    return torch.tensor([keep, skip], dtype=torch.float64).reshape(1, 2, 1, 1)


@given(finite, finite)
def test_without_noise_it_keeps_where_the_keep_logit_is_not_smaller(keep, skip):
    assert gumbel_decision(logits(keep, skip), 1.0, noise=False).item() == float(keep >= skip)


def test_a_tie_keeps():
    assert gumbel_decision(torch.zeros(2, 2, 3, 3), 1.0, noise=False).all()


@given(finite, finite, st.floats(0.05, 10), st.integers(0, 2**31))
def test_training_decides_for_zero_or_one_exactly(keep, skip, temperature, seed):
    torch.manual_seed(seed)
    for dtype in (torch.float32, torch.float64):
        wide = logits(keep, skip).to(dtype).expand(2, 2, 5, 5)
        mask = gumbel_decision(wide, temperature)
        assert mask.shape == (2, 1, 5, 5)
        assert mask.dtype == dtype
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize('margin', [-2.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize('temperature', [0.1, 5.0])
def test_a_patch_is_kept_with_the_softmax_probability_at_any_temperature(margin, temperature):
    torch.manual_seed(0)
    draws = gumbel_decision(logits(margin, 0).expand(1, 2, 300, 300), temperature)
    probability = 1 / (1 + math.exp(-margin))
    deviation = math.sqrt(probability * (1 - probability) / 90000)
    assert draws.mean().item() == pytest.approx(probability, abs=5 * deviation)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.2, 5))
def test_gradient_is_that_of_the_relaxed_decision(keep, skip, temperature):
    """By hand: for s = σ(Δ/τ), ds/dkeep = s(1−s)/τ and ds/dskip the negative of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'rand_like', lambda x: torch.full_like(x, 0.5))
        wanted = logits(keep, skip).requires_grad_()
        gumbel_decision(wanted, temperature).sum().backward()
    soft = 1 / (1 + math.exp(-(keep - skip) / temperature))
    slope = soft * (1 - soft) / temperature
    assert wanted.grad.flatten().tolist() == pytest.approx([slope, -slope], rel=1e-9)


def test_gradient_equals_a_numerical_one_with_noise(monkeypatch):
    """The same noise twice: the relaxed decision's difference quotient, Eq. 1 in two softmaxes."""
    torch.manual_seed(1)
    uniform = torch.rand(1, 1, 4, 4, dtype=torch.float64).clamp(0.05, 0.95)
    monkeypatch.setattr(torch, 'rand_like', lambda x: uniform)
    values = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    temperature, step = 0.7, 1e-6
    gumbel_decision(values, temperature).sum().backward()
    noise = torch.stack([torch.logit(uniform[:, 0]), torch.zeros(1, 4, 4)], 1)

    def relaxed(x):
        return torch.softmax((x + noise) / temperature, 1)[:, 0].sum()

    for index in range(2):
        shift = torch.zeros_like(values)
        shift[:, index] = step
        with torch.no_grad():
            slope = (relaxed(values + shift) - relaxed(values - shift)) / (2 * step)
        assert values.grad[:, index].sum().item() == pytest.approx(slope.item(), rel=1e-6)


def test_noise_at_the_ends_of_its_range_stays_finite(monkeypatch):
    for end in (0.0, 1.0):
        monkeypatch.setattr(torch, 'rand_like', lambda x, end=end: torch.full_like(x, end))
        values = torch.zeros(1, 2, 2, 2, requires_grad=True)
        mask = gumbel_decision(values, 0.1)
        mask.sum().backward()
        assert mask.unique().tolist() == [end]
        assert values.grad.isfinite().all()


@given(finite, finite, st.floats(0.05, 10))
def test_without_noise_training_decides_as_inference_and_still_learns(keep, skip, temperature):
    values = logits(keep, skip).requires_grad_()
    mask = gumbel_decision(values, temperature, noise=False)
    assert mask.item() == float(keep >= skip)
    mask.sum().backward()
    soft = 1 / (1 + math.exp(-(keep - skip) / temperature))
    slope = soft * (1 - soft) / temperature
    assert values.grad.flatten().tolist() == pytest.approx([slope, -slope], rel=1e-6, abs=1e-12)
