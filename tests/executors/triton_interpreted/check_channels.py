"""Triton's kernels for active channels equal the dense forward; run by test_triton_interpreter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck

# Of the interpreter, where a loop's length is read from memory.
pytestmark = pytest.mark.filterwarnings('ignore:Conversion of an array:DeprecationWarning')


def prepare(block, seed, zeroed=False):
    """Random weights and decisions; skipped channels carry constants unless ``zeroed``."""
    masker = block._modules.pop('channel_masker')
    randomize(block, seed)
    block.channel_masker = masker.eval()
    with torch.no_grad():
        for parameter in masker.parameters():
            parameter.normal_()
    block.zeroes_channels = zeroed
    return block


@st.composite
def blocks(draw):
    each, stride = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    dilation = draw(st.sampled_from([1, 1, 2, 3]))
    granularity = draw(st.sampled_from([None, 1, 2, 4, 'all']))
    out = 2 * draw(st.integers(1, 12))
    inputs = out if stride == 1 and draw(st.booleans()) else draw(st.integers(1, 9))
    options = dict(stride=stride, dilation=dilation, channel_groups=each)
    if draw(st.booleans()):
        block = DynamicBasicBlock(inputs, out, granularity, **options)
    else:
        middle = each * draw(st.integers(1, 12))
        block = DynamicBottleneck(inputs, middle, out, granularity, **options)
    return prepare(block, draw(st.integers(0, 99)), draw(st.booleans()))


@torch.no_grad()
def assert_same(block, x, bound=1e-5, private=False):
    executor = TritonExecutor(Options())
    assert executor.why_not(block, x) is None
    block.executor = None
    wanted, masks, before = block(x), block.last[0], x.clone()
    block.executor = executor
    out = block(x, private)
    for mask, expected in zip(block.last[0], masks, strict=True):
        assert mask.dtype == expected.dtype
        assert torch.equal(mask, expected.expand_as(mask))
    assert (out - wanted).abs().max() <= bound * wanted.abs().max().clamp(min=1)
    assert private or torch.equal(x, before), 'the input belongs to the caller'
    return out


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_equals_dense(data):
    block = data.draw(blocks())
    edges = st.integers(5 * block.stride_product, 13)
    x = torch.randn(
        data.draw(st.integers(1, 2)), block.conv1.in_channels, *data.draw(st.tuples(edges, edges))
    )
    assert_same(block, x.relu())


@pytest.mark.parametrize('share', [0, 0.4, 1])
def test_from_no_channel_to_every_channel(share):
    block = prepare(DynamicBottleneck(8, 40, 8, 2, channel_groups=2), 1)
    block.channel_masker.decided = (torch.rand(1, 20) < share).float()
    x = torch.randn(1, 8, 9, 7).relu().contiguous(memory_format=torch.channels_last)
    out = assert_same(block, x, private=True)
    assert out.data_ptr() == x.data_ptr()


def test_half_precision():
    block = prepare(DynamicBottleneck(8, 24, 8, None, channel_groups=2), 2).half()
    block.channel_masker.decided = (torch.arange(12) % 3 > 0).half()[None]
    assert_same(block, torch.randn(1, 8, 8, 8).relu().half(), bound=3 * 2**-10)


def test_what_it_leaves_to_others():
    executor = TritonExecutor(Options())
    x = torch.randn(1, 8, 8, 8)
    gated = prepare(DynamicBottleneck(8, 8, 8, None, channel_groups=2, squeeze_channels=2), 3, True)
    assert 'squeeze' in executor.why_not(gated, x)
    grouped = prepare(DynamicBottleneck(8, 8, 8, None, groups=2, channel_groups=2), 3)
    assert 'grouped' in executor.why_not(grouped, x)
    relu6 = prepare(DynamicBottleneck(8, 8, 8, None, channel_groups=2), 3)
    relu6.relu = nn.ReLU6()
    assert executor.why_not(relu6, x) is not None
