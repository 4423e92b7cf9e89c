"""BlockTrace's rates are counts of pixels, and conv1's set is exactly the one that is needed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import basic_block, bottleneck, decide

from las_mm.ops import conv_size, dilate_mask, grid_size

cases = given(
    build=st.sampled_from([bottleneck, basic_block]),
    size=st.tuples(st.integers(2, 11), st.integers(2, 11)),
    granularity=st.integers(1, 4),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    batch=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)


def traced(build, size, granularity, stride, dilation, batch, share, seed):
    """A block that has run on random data with a random mask, its input and that mask."""
    torch.manual_seed(seed)
    output = conv_size(size, stride)
    granularity = min(granularity, max(output))
    block = build(granularity, stride, dilation)
    mask = (torch.rand(batch, 1, *grid_size(output, granularity)) < share).double()
    x = torch.randn(batch, 4, *size, dtype=torch.float64)
    with torch.no_grad():
        decide(block, mask)(x)
    return block, x, mask


@cases
def test_activation_rate_counts_the_pixels_of_active_patches(**case):
    block, x, mask = traced(**case)
    height, width = conv_size(x.shape[-2:], block.stride_product)
    edge = block.masker.granularity
    for sample, rate in enumerate(block.trace.activation_rate.tolist()):
        active = sum(
            mask[sample, 0, row // edge, column // edge].item()
            for row in range(height)
            for column in range(width)
        )
        assert rate == pytest.approx(active / (height * width), abs=1e-6)


def spoil(block, pixels):
    """Overwrite what conv1 computed, at ``pixels``, before the second convolution reads it."""
    return block.conv2.register_forward_pre_hook(
        lambda _, args: (args[0].masked_fill(pixels, float('nan')),)
    )


@settings(max_examples=30)
@cases
def test_conv1_needs_its_dilated_set_and_nothing_else(**case):
    block, x, _ = traced(**case)
    trace = block.trace
    with torch.no_grad():
        clean = block(x)
    needed = dilate_mask(
        trace.pixel_mask.float(),
        conv_size(x.shape[-2:], block.conv1.stride[0]),
        block.conv2.kernel_size[0],
        block.conv2.stride[0],
        block.conv2.dilation[0],
    ).bool()
    assert torch.equal(trace.branch.dilate(trace.spatial, trace.input_size).bool(), needed)
    torch.testing.assert_close(trace.dilated_rate, needed.float().mean((1, 2, 3)))

    # Everything outside the set may be wrong: no active pixel of the output changes.
    handle = spoil(block, ~needed)
    with torch.no_grad():
        spoiled = block(x)
    handle.remove()
    active = trace.pixel_mask.bool().expand_as(clean)
    assert torch.equal(spoiled[active], clean[active])

    # Every single pixel inside is needed: some active pixel of the output notices.
    for sample in range(len(x)):
        inside = needed[sample, 0].nonzero()
        if not len(inside):
            continue
        one_each = torch.zeros(len(inside), 1, *needed.shape[-2:], dtype=torch.bool)
        one_each[range(len(inside)), 0, inside[:, 0], inside[:, 1]] = True
        decide(block, trace.mask[sample : sample + 1].expand(len(inside), -1, -1, -1))
        handle = spoil(block, one_each)
        with torch.no_grad():
            spoiled = block(x[sample : sample + 1].expand(len(inside), -1, -1, -1))
        handle.remove()
        noticed = spoiled.isnan() & active[sample : sample + 1]
        assert noticed.flatten(1).any(1).all()


def test_rates_carry_gradients_to_the_masker():
    torch.manual_seed(0)
    for rate in ('activation_rate', 'dilated_rate'):
        block = bottleneck(granularity=2, stride=2).train()
        block.masker.temperature = 5.0
        block(torch.randn(2, 4, 12, 12, dtype=torch.float64))
        getattr(block.trace, rate).mean().backward()
        assert block.masker.conv.bias.grad[0] > 0 > block.masker.conv.bias.grad[1]
