"""Executors that skip channels give the dense forward's outputs and decisions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

from las_mm.executors import find_executor
from las_mm.executors.cpu.channels import pack_channels
from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck
from las_mm.ops.native.build import load_native

KINDS = [{}, dict(layers=1), dict(kind='conv_linear', reduction=2)]


@st.composite
def blocks(draw: st.DrawFn) -> DynamicBlock:
    """Blocks that skip channels, and perhaps patches or all of themselves."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    each = draw(st.sampled_from([1, 2, 3]))  # channels of a group of the mask
    middle = groups * each * draw(st.integers(1, 4))
    out = draw(st.integers(1, 24))
    stride, dilation = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 1, 2, 3]))
    same = stride == 1 and draw(st.booleans())
    inputs = out if same else draw(st.integers(1, 9))
    options = dict(
        granularity=draw(st.sampled_from([None, None, 1, 2, 4, 'all'])),
        stride=stride,
        dilation=dilation,
        channel_groups=each,
        channel_masker=draw(st.sampled_from(KINDS)),
    )
    if draw(st.integers(0, 2)):
        squeeze = draw(st.sampled_from([0, 0, 1, 5]))
        block = DynamicBottleneck(
            inputs, middle, out, groups=groups, squeeze_channels=squeeze, **options
        )
        if draw(st.booleans()):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    else:
        options['channel_groups'] = next(g for g in (each, 1) if out % g == 0)
        block = DynamicBasicBlock(inputs, out, **options)
    block.zeroes_channels = draw(st.booleans())
    if draw(st.booleans()):  # whose bias is not what a skipped channel carries
        for conv in (block.conv1, block.conv2):
            conv.bias = nn.Parameter(torch.randn(conv.out_channels))
    bias = draw(st.sampled_from([-50.0, 0.0, 0.0, 0.0, 50.0]))
    return decide(block, draw(st.integers(0, 99)), bias)


def decide(block: DynamicBlock, seed: int, bias: float) -> DynamicBlock:
    """Random weights; channels all off, some on, or all on by the bias."""
    patches = block.spatial_masker
    channels = block._modules.pop('channel_masker')
    randomize(block, seed)
    block.channel_masker = channels.eval()
    with torch.no_grad():
        for name, parameter in channels.named_parameters():
            if not name.startswith('conv.1.'):
                parameter.normal_()
        channels.last.bias.view(2, -1)[0].add_(bias)
    assert patches is block.spatial_masker
    return block


@st.composite
def images(draw: st.DrawFn, block: DynamicBlock, dtype: torch.dtype = torch.float32):
    smallest = 4 * block.stride_product
    height, width = draw(st.integers(smallest, 17)), draw(st.integers(smallest, 17))
    x = torch.randn(draw(st.integers(1, 3)), block.conv1.in_channels, height, width)
    return x.to(dtype).relu()


@pytest.mark.parametrize('executor', ['torch', 'cpu'])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_executors_equal_the_dense_forward(executor, data):
    block = data.draw(blocks())
    x = data.draw(images(block))
    before = x.clone()
    with torch.no_grad():
        wanted = block(x)
        decisions = [decision.mask for decision in block.trace.decisions]
        block.executor = find_executor(executor)
        reason = block.executor.why_not(block, x)
        out = block(x)
    constant_gate = executor == 'cpu' and block.gate is not None and not block.zeroes_channels
    assert reason is None or constant_gate and 'squeeze-and-excitation' in reason
    assert torch.equal(x, before)
    for decision, mask in zip(block.trace.decisions, decisions, strict=True):
        assert torch.equal(decision.mask, mask)
    scale = float(wanted.abs().max()) + 1
    assert (out - wanted).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize(
    ('executor', 'dtype'),
    [('torch', torch.float64), ('torch', torch.bfloat16), ('cpu', torch.bfloat16)],
)
def test_executors_in_other_precisions(executor, dtype):
    block = DynamicBottleneck(6, 8, 12, 2, channel_groups=2)
    block = decide(block, 3, 0.0).to(dtype)
    x = torch.randn(2, 6, 9, 11).to(dtype)
    with torch.no_grad():
        wanted = block(x)
        block.executor = find_executor(executor)
        out = block(x)
    assert 0 < block.trace.channel_rate.mean() < 1
    tolerance = {torch.float64: 1e-6, torch.bfloat16: 3e-2}[dtype]
    assert (out - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize('executor', ['torch', 'cpu'])
def test_weights_that_change_are_noticed(executor):
    block = decide(DynamicBottleneck(6, 8, 12, None, channel_groups=2), 1, 0.0)
    x = torch.randn(1, 6, 8, 8)
    block.executor = find_executor(executor)
    with torch.no_grad():
        block(x)
        block.bn1.bias.data.add_(1)  # skipped channels carry another constant now
        out = block(x)
        block.executor = None
        torch.testing.assert_close(out, block(x), atol=1e-5, rtol=1e-5)


def variants() -> list[tuple[str, bool]]:
    native, reason = load_native()
    assert native is not None, reason
    return [(isa, winograd) for isa in native.float32_isas() for winograd in (True, False)]


@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('zeroed', [True, False])
def test_every_instruction_set_and_algorithm_gives_the_same(zeroed, groups):
    block = DynamicBottleneck(48, 64, 48, 3, groups=groups, channel_groups=2)
    block.zeroes_channels = zeroed
    block = decide(block, 5, 0.0)
    x = torch.randn(1, 48, 13, 17).contiguous(memory_format=torch.channels_last)
    for share in (0, 0.2, 0.5, 0.8, 1):
        mask = (torch.rand(1, 32) < share).float()
        block.channel_masker.decided = mask
        with torch.no_grad():
            wanted = block(x)
        for isa, winograd in variants():
            packed = pack_channels(block, torch.float32, isa, winograd)
            out, patches, groups = packed.run(x, mask)
            assert torch.equal(groups, mask)
            assert torch.equal(patches, block.trace.mask)
            assert (out - wanted).abs().max() <= 1e-5 * wanted.abs().max(), (isa, winograd, share)


def test_the_input_is_written_over_where_it_is_private():
    block = decide(DynamicBottleneck(16, 8, 16, 2, channel_groups=2), 2, 0.0)
    x = torch.randn(3, 16, 8, 8).relu().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = block(x)
        block.executor = find_executor('cpu')
        out = block(x, private=True)
    assert out.data_ptr() == x.data_ptr()
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)
