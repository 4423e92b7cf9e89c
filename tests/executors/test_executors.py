"""Every executor equals the dense one: outputs to 1e-5, masks to the bit, for every block."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import blocks, inputs, randomize
from torch import nn

from las_mm.executors import EXECUTORS, check_executor, find_executor
from las_mm.layers import DynamicBottleneck, SqueezeExcitation

SPARSE = [name for name in EXECUTORS if name not in ('auto', 'triton')]


@torch.no_grad()
def run(block, x, executor):
    block.executor = find_executor(executor)
    return block(x), block.trace.mask


def assert_same(block, x, executor, bound=1e-5):
    expected, mask = run(block, x, 'dense')
    before = x.clone()
    out, sparse_mask = run(block, x, executor)
    assert torch.equal(sparse_mask, mask)
    assert out.shape == expected.shape and out.dtype == expected.dtype
    assert (out - expected).abs().max() <= bound * expected.abs().max().clamp(min=1)
    assert torch.equal(x, before), 'the input belongs to the caller'


@pytest.mark.parametrize('executor', SPARSE)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_dense(executor, data):
    block = data.draw(blocks())
    assert_same(block, data.draw(inputs(block)), executor)


@pytest.mark.parametrize('executor', SPARSE)
@pytest.mark.parametrize('size', [(12, 10), (11, 13)])
def test_pooled_shortcut(executor, size):
    """OpenMMLab's avg_down."""
    block = randomize(DynamicBottleneck(8, 4, 16, granularity=2, stride=2))
    pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    block.downsample = nn.Sequential(pool, nn.Conv2d(8, 16, 1, bias=False), block.downsample[1])
    assert_same(block, torch.randn(2, 8, *size), executor)


def gated_block(stride=1, groups=1):
    return randomize(DynamicBottleneck(16, 24, 16, 2, stride, groups=groups, squeeze_channels=6))


@pytest.mark.parametrize('executor', SPARSE)
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('groups', [1, 3])
@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([0, 0.05, 0.3, 0.7, 1]), min_size=1, max_size=5), st.integers(0, 9))
def test_each_image_has_a_gate_of_its_own(executor, stride, groups, rates, seed):
    block = gated_block(stride, groups)
    torch.manual_seed(seed)
    x = torch.randn(len(rates), 16, 13 * stride, 10 * stride)
    block.masker.decided = (
        torch.rand(len(rates), 1, 7, 5) < torch.tensor(rates).view(-1, 1, 1, 1)
    ).float()
    assert_same(block, x, executor)


@torch.no_grad()
@pytest.mark.parametrize('executor', SPARSE)
def test_gate_matters(executor):
    """The other tests would not notice if all executors left it out."""
    block, x = gated_block(), torch.randn(2, 16, 9, 9)
    out, _ = run(block, x, executor)
    del block.se
    assert not torch.allclose(run(block, x, executor)[0], out, rtol=1e-2)


@pytest.mark.parametrize('executor', SPARSE)
def test_static_block_with_a_gate(executor):
    block = gated_block(stride=2)
    del block.masker
    x = torch.randn(3, 16, 11, 12)
    with torch.no_grad():
        block.executor = None
        expected = block(x)
        block.executor = find_executor(executor)
        assert find_executor(executor).why_not(block, x) is None
        assert (block(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize('executor', SPARSE)
@pytest.mark.parametrize('gated', [False, True])
def test_bfloat16_within_bound(executor, gated):
    block = gated_block() if gated else randomize(DynamicBottleneck(16, 8, 16, granularity=2))
    x = torch.randn(2, 16, 13, 11, dtype=torch.bfloat16)
    # Eight bits of mantissa, rounded after each of three convolutions and the gate.
    assert_same(block.bfloat16(), x, executor, bound=(3 + gated) * 2**-8)


@pytest.mark.parametrize('executor', SPARSE)
def test_changed_parameters_are_noticed(executor):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.randn(1, 8, 9, 9)
    run(block, x, executor)
    with torch.no_grad():
        block.conv2.weight.mul_(-1)
    assert_same(block, x, executor)
    block.bn3.running_mean += 1
    assert_same(block, x, executor)
    block.conv1 = nn.Conv2d(8, 4, 1)
    assert_same(block, x, executor)
    with torch.no_grad():
        block.masker.conv.weight.mul_(-1)
    assert_same(block, x, executor)


@pytest.mark.parametrize('executor', SPARSE)
def test_parameters_swapped_between_training_and_validation(executor):
    """As mmengine's EMA does: through ``.data``, which no version counter sees."""
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.randn(1, 8, 9, 9)
    run(block, x, executor)
    block.train()(x)
    block.conv3.weight.data.neg_()
    assert_same(block.eval(), x, executor)


@pytest.mark.parametrize('executor', SPARSE)
def test_copies_are_independent(executor):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.randn(1, 8, 9, 9)
    run(block, x, executor)
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        with torch.no_grad():
            twin.conv2.weight.mul_(-1)
        assert_same(twin, x, executor)
        assert_same(block, x, executor)


@pytest.mark.parametrize('executor', SPARSE)
def test_training_is_dense(executor):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2)).train()
    block.executor = find_executor(executor)
    block(torch.randn(2, 8, 9, 9)).sum().backward()
    assert block.conv1.weight.grad is not None and block.masker.conv.weight.grad is not None


@pytest.mark.parametrize('executor', SPARSE)
def test_what_cannot_be_folded_runs_dense(executor, caplog):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    block.bn2 = nn.GroupNorm(2, 4)
    assert_same(block, torch.randn(1, 8, 9, 9), executor)


@pytest.mark.parametrize('executor', SPARSE)
def test_another_gate_runs_dense(executor):
    class Doubled(SqueezeExcitation):
        def pool(self, x, pixels):
            return 2 * super().pool(x, pixels)

    block, x = gated_block(), torch.randn(1, 16, 9, 9)
    block.se = randomize(Doubled(24, 6))
    assert 'more than its convolutions' in find_executor(executor).why_not(block, x)
    assert_same(block, x, executor)


def test_unknown_executor_is_refused():
    with pytest.raises(ValueError, match=r"executor: got 'gpu'; choose one of dense, torch"):
        check_executor('gpu')
