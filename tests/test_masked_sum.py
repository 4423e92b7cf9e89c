"""The end of a dynamic block computes, and teaches, what the plain expression does."""

import pytest
import torch

from las_mm.ops.masked_sum import channel_dot, masked_sum_relu


def inputs(dtype: torch.dtype, batch: int = 3) -> list[torch.Tensor]:
    """Branch, mask and identity, some of it zero or negative."""
    torch.manual_seed(0)
    branch, identity = torch.randn(2, batch, 5, 4, 6, dtype=dtype)
    pixels = (torch.rand(batch, 1, 4, 6) > 0.5).to(dtype)
    return [tensor.requires_grad_() for tensor in (branch, pixels, identity)]


@pytest.mark.parametrize('channels_last', [False, True])
def test_values_and_gradients_are_those_of_the_expression(channels_last):
    ours, plain = inputs(torch.float64), inputs(torch.float64)
    if channels_last:
        ours = [x.detach().to(memory_format=torch.channels_last).requires_grad_() for x in ours]
    out = masked_sum_relu(*ours)
    wanted = torch.relu(plain[0] * plain[1] + plain[2])
    assert torch.equal(out, wanted)
    weights = torch.randn_like(wanted)
    (out * weights).sum().backward()
    (wanted * weights).sum().backward()
    for tensor, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad, rtol=1e-13, atol=1e-13)


def test_only_wanted_gradients_are_computed():
    branch, pixels, identity = inputs(torch.float64)
    masked_sum_relu(branch, pixels.detach(), identity.detach()).sum().backward()
    assert branch.grad is not None
    assert pixels.grad is None
    assert identity.grad is None


def test_precisions_may_differ():
    branch, pixels, identity = inputs(torch.float32)
    out = masked_sum_relu(branch.to(torch.bfloat16), pixels, identity)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in (branch, pixels, identity))
    half = masked_sum_relu(*(x.detach().to(torch.bfloat16) for x in inputs(torch.float32)))
    assert half.dtype == torch.bfloat16


def test_channel_dot():
    a, b = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(channel_dot(a, b), (a * b).sum(1, keepdim=True))
    assert channel_dot(a.mT, b.mT).shape == (3, 1, 6, 4)
