"""The masker: true patches at any size, biases, gradients and precision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from las_mm.layers import PatchMasker
from las_mm.ops import conv_size, grid_size


@given(
    st.tuples(st.integers(1, 23), st.integers(1, 23)), st.integers(1, 7), st.sampled_from([1, 2])
)
def test_each_patch_sees_the_mean_of_its_own_pixels(size, granularity, stride):
    masker = PatchMasker(2, granularity, stride).double()
    if granularity > max(conv_size(size, stride)):
        return  # refused by the block
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    logits = masker.logits(x)
    assert logits.shape[-2:] == grid_size(conv_size(size, stride), granularity)
    edge = granularity * stride
    for row in range(logits.shape[-2]):
        for column in range(logits.shape[-1]):
            window = x[..., row * edge : (row + 1) * edge, column * edge : (column + 1) * edge]
            mean = window.mean((2, 3), keepdim=True)
            wanted = torch.nn.functional.conv2d(mean, masker.conv.weight, masker.conv.bias)
            torch.testing.assert_close(logits[..., row, column], wanted[..., 0, 0])


def test_biases_start_training_with_nearly_every_patch_active():
    assert PatchMasker(8, 2).conv.bias.tolist() == [5, 1]
    assert PatchMasker(8, 2, keep_bias=10.0).conv.bias.tolist() == [10, 1]
    torch.manual_seed(0)
    assert 0.95 < PatchMasker(8, 2).train()(torch.zeros(1, 8, 200, 200)).mean() < 1


def test_reset_restores_the_biases():
    masker = PatchMasker(8, 2, keep_bias=3.0, skip_bias=2.0)
    torch.nn.init.zeros_(masker.conv.bias)
    masker.init_weights()
    assert masker.conv.bias.tolist() == [3, 2]


def test_evaluation_is_deterministic_and_training_is_not():
    torch.manual_seed(0)
    masker, x = PatchMasker(4, 1, keep_bias=1.0), torch.randn(1, 4, 16, 16)
    assert torch.equal(masker.eval()(x), masker(x))
    assert not torch.equal(masker.train()(x), masker(x))


def test_gradient_reaches_weights_bias_and_input():
    masker, x = PatchMasker(4, 2), torch.randn(1, 4, 6, 6, requires_grad=True)
    masker.train()(x).sum().backward()
    for tensor in (masker.conv.weight, masker.conv.bias, x):
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_never_rounds_a_decision(dtype):
    torch.manual_seed(0)
    masker, x = PatchMasker(16, 2), torch.randn(1, 16, 9, 9)
    plain = masker.logits(x)
    with torch.autocast('cpu', dtype):
        assert torch.equal(masker.logits(x), plain)
        assert masker.logits(x.to(dtype)).dtype == torch.float32
