"""The Triton executor equals the dense one, whatever the block; run by test_triton_interpreter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import blocks, inputs, randomize
from torch import nn

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.mobilenet_mmpretrain import LASInvertedResidual

FLOAT32_BOUND = 1e-5
FLOAT16_BOUND = 3 * 2**-11  # eleven bits of mantissa, rounded after each of three convolutions
UNFUSED = dict(masker_conv1=False, gather_conv2=False, scatter_add=False)


@torch.no_grad()
def run(block, x, executor, private=False):
    block.executor = executor
    return block(x, private), block.trace.mask


def assert_same(block, x, bound=FLOAT32_BOUND, **options):
    executor = TritonExecutor(Options(**options))
    assert executor.why_not(block, x) is None
    expected, mask = run(block, x, None)
    before = x.clone()
    out, sparse_mask = run(block, x, executor)
    assert torch.equal(sparse_mask, mask) and sparse_mask.dtype == mask.dtype
    assert out.shape == expected.shape and out.dtype == expected.dtype
    assert (out - expected).abs().max() <= bound * expected.abs().max().clamp(min=1)
    assert torch.equal(x, before), 'the input belongs to the caller'


@settings(max_examples=12)
@given(st.data())
def test_equals_dense(data):
    block = data.draw(blocks())
    switches = st.fixed_dictionaries({}, optional={name: st.just(False) for name in UNFUSED})
    assert_same(block, data.draw(inputs(block)), **data.draw(switches))


@pytest.mark.parametrize('granularity', [1, 2, 4, 7, 8, 14])
@pytest.mark.parametrize('stride', [1, 2])
def test_every_granularity(granularity, stride):
    block = randomize(DynamicBottleneck(8, 8, 16, granularity, stride), seed=granularity)
    assert_same(block, torch.randn(1, 8, 15 * stride, 17 * stride))


@pytest.mark.parametrize('bias', [-1e6, 0.0, 1e6])
def test_from_no_patch_to_every_patch(bias):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=3), masker_bias=bias)
    x = torch.randn(2, 8, 10, 11)
    assert_same(block, x)
    assert_same(block, x, masker_conv1=False)


@pytest.mark.parametrize('masker_conv1', [True, False])
def test_tie_keeps(masker_conv1):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    nn.init.zeros_(block.masker.conv.weight)
    nn.init.zeros_(block.masker.conv.bias)
    x = torch.randn(1, 8, 7, 6)
    assert_same(block, x, masker_conv1=masker_conv1)
    assert block.trace.mask.all()


def gated_block(stride=1):
    return randomize(DynamicBottleneck(16, 72, 16, 2, stride, groups=3, squeeze_channels=6))


@pytest.mark.parametrize('switches', [{}, UNFUSED])
@pytest.mark.parametrize('stride', [1, 2])
def test_each_image_has_a_gate_of_its_own(stride, switches):
    """Images of which nothing, something and everything is active, and several in one tile."""
    block = gated_block(stride=stride)
    rates = torch.tensor([0.6, 0, 0.1, 1, 0, 0.3]).view(-1, 1, 1, 1)
    block.masker.decided = (torch.rand(6, 1, 5, 3) < rates).float()
    assert_same(block, torch.randn(6, 16, 9 * stride, 6 * stride), **switches)
    block.masker.decided = torch.zeros(1, 1, 5, 3)
    assert_same(block, torch.randn(2, 16, 9 * stride, 6 * stride), **switches)


@pytest.mark.parametrize('switches', [{}, UNFUSED])
@pytest.mark.parametrize('groups', [1, 4])
def test_float16(groups, switches):
    block = randomize(DynamicBottleneck(16, 8, 16, granularity=2, groups=groups)).half()
    assert_same(block, torch.randn(2, 16, 9, 10).half(), FLOAT16_BOUND, **switches)


def test_float16_with_a_gate():
    assert_same(gated_block().half(), torch.randn(2, 16, 9, 10).half(), 4 / 3 * FLOAT16_BOUND)


def inverted(channels=12, expand=3, granularity=2, **options):
    """An inverted residual with a depthwise convolution, ReLU6 and a linear end."""
    block = LASInvertedResidual(channels, channels, 1, expand, **options)
    block.make_dynamic(granularity)
    return randomize(block)


@pytest.mark.parametrize('switches', [{}, UNFUSED, dict(masker_conv1=False)])
@pytest.mark.parametrize('granularity', [1, 2, 4, 'all'])
@pytest.mark.parametrize('expand', [1, 3])
def test_inverted_residuals(expand, granularity, switches):
    block = inverted(expand=expand, granularity=granularity)
    assert_same(block, 4 * torch.randn(2, 12, 9, 10), **switches)


@pytest.mark.parametrize('switches', [{}, UNFUSED])
def test_inverted_residuals_in_float16_and_with_a_relu(switches):
    assert_same(inverted().half(), torch.randn(2, 12, 9, 10).half(), FLOAT16_BOUND, **switches)
    block = inverted(40, 2, act_cfg=dict(type='ReLU'))
    assert_same(block, 4 * torch.randn(1, 40, 7, 5), **switches)


def test_a_private_input_of_both_signs_is_overwritten():
    block = inverted()
    x = torch.randn(2, 12, 9, 9).contiguous(memory_format=torch.channels_last)
    expected, _ = run(block, x, None)
    out, _ = run(block, x, TritonExecutor(), private=True)
    assert out.data_ptr() == x.data_ptr()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_dilated_and_caffe_style():
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=3, dilation=2))
    assert_same(block, torch.randn(1, 8, 12, 10))
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2, stride=2))
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    assert_same(block, torch.randn(1, 8, 12, 10))


def test_average_pooling_in_the_shortcut():
    block = randomize(DynamicBottleneck(8, 4, 16, granularity=2, stride=2))
    _, norm = block.downsample
    pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    block.downsample = nn.Sequential(pool, nn.Conv2d(8, 16, 1, bias=False), norm)
    assert_same(block, torch.randn(1, 8, 11, 14))


@pytest.mark.parametrize('block_type', [DynamicBasicBlock, DynamicBottleneck])
def test_private_input_is_overwritten(block_type):
    arguments = (8, 8) if block_type is DynamicBasicBlock else (8, 4, 8)
    block = randomize(block_type(*arguments, granularity=2))
    x = torch.rand(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    expected, _ = run(block, x, None)
    out, _ = run(block, x, TritonExecutor(), private=True)
    assert out.data_ptr() == x.data_ptr()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('masker_conv1', [True, False])
def test_decided_masks_are_replayed(masker_conv1):
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    block.masker.decided = (torch.rand(1, 1, 5, 5) < 0.4).float()
    assert_same(block, torch.randn(2, 8, 9, 10), masker_conv1=masker_conv1)


def test_compiled_in_one_graph():
    net = nn.Sequential(
        randomize(DynamicBottleneck(4, 4, 8, granularity=2, stride=2)),
        randomize(DynamicBottleneck(8, 4, 8, granularity=2)),
    )
    for block in net:
        block.executor = None
    x = torch.randn(2, 4, 9, 11)
    with torch.no_grad():
        expected = net(x)
        for block in net:
            block.executor = TritonExecutor()
        out = torch.compile(net, backend='aot_eager', fullgraph=True)(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_custom_operator_is_sound():
    block = randomize(DynamicBottleneck(4, 4, 4, granularity=2))
    block.executor = TritonExecutor()
    arguments = (torch.randn(1, 4, 6, 7), block.number)
    checks = ('test_schema', 'test_faketensor')
    torch.library.opcheck(torch.ops.las_mm.triton_block.default, arguments, test_utils=checks)


def test_parameter_changes_are_noticed():
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.randn(1, 8, 6, 6)
    assert_same(block, x)
    with torch.no_grad():
        block.conv2.weight.neg_()
        block.masker.conv.weight.neg_()
    assert_same(block, x)


@torch.no_grad()
@pytest.mark.parametrize('gated', [False, True])
def test_static_block_runs_folded(gated):
    block = gated_block(stride=2) if gated else randomize(DynamicBottleneck(16, 8, 16, 2, 2))
    del block.masker
    x = torch.randn(2, 16, 9, 10)
    block.executor = None
    expected = block(x)
    block.executor = TritonExecutor()
    assert block.executor.why_not(block, x) is None
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
