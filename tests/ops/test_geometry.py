"""Grids, upsampling and dilation of masks at any size, granularity, stride and dilation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from las_mm.ops import (
    conv_size,
    dilate_mask,
    format_granularity,
    grid_size,
    parse_granularity,
    upsample_mask,
)

sizes = st.tuples(st.integers(1, 17), st.integers(1, 17))
seeds = st.integers(0, 2**31)


def random_mask(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < 0.3).float()


@pytest.mark.parametrize('value', ['4-4-7-1', (4, 4, 7, 1), [4, 4, 7, 1]])
def test_granularity_is_read_in_both_notations(value):
    assert parse_granularity(value) == (4, 4, 7, 1)


@pytest.mark.parametrize(
    ('value', 'wanted'),
    [
        (4, (4,) * 4),
        ('4', (4,) * 4),
        (None, (None,) * 4),
        ('4-none-none-all', (4, None, None, 'all')),
    ]
    + [((None, 4, 'all', 1), (None, 4, 'all', 1))],
)
def test_one_entry_is_for_all_stages_and_none_skips_nothing(value, wanted):
    assert parse_granularity(value) == wanted
    assert parse_granularity(format_granularity(wanted)) == wanted


def test_channel_groups_have_a_name_of_their_own_and_no_words():
    with pytest.raises(ValueError, match="channel_groups: got 'all'"):
        parse_granularity('all', 4, 'channel_groups', ())


@pytest.mark.parametrize(
    'value',
    ['', '4-4-7', '4-4-7-1-1', '4-4-7-0', '4-4--7-1', 'a-b-c-d', '4-4-7-1.5', '4-4-7-²', (4, 4, 7)]
    + [[], (4, 4, 7, 0), (4, 4, 7, -1), (4, 4, 7, 1.0), ('4', '4', '7', '1'), 4.0, 0, True]
    + [(4, 4, 7, True), {4: 4, 5: 4, 7: 7, 1: 1}],
)
def test_wrong_granularity_is_named_with_what_is_allowed(value):
    with pytest.raises((TypeError, ValueError), match='granularity: got .*4 integers >= 1') as e:
        parse_granularity(value)
    assert repr(value) in str(e.value)
    assert '\n' not in str(e.value)


@given(sizes, st.integers(1, 3))
def test_conv_size_is_that_of_a_padded_convolution(size, stride):
    conv = torch.nn.Conv2d(1, 1, 3, stride, padding=1)
    assert conv_size(size, stride) == tuple(conv(torch.zeros(1, 1, *size)).shape[-2:])


@given(sizes, st.integers(1, 9), st.integers(1, 3), seeds)
def test_every_pixel_follows_its_patch(size, granularity, batch, seed):
    mask = random_mask(seed, batch, 1, *grid_size(size, granularity))
    pixels = upsample_mask(mask, granularity, size)
    assert pixels.shape == (batch, 1, *size)
    for row in range(size[0]):
        for column in range(size[1]):
            patch = mask[..., row // granularity, column // granularity]
            assert torch.equal(pixels[..., row, column], patch)


@given(sizes, st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(1, 3), seeds)
def test_dilated_set_is_every_tap_of_a_masked_output(size, kernel_size, stride, dilation, seed):
    output = conv_size(size, stride)
    mask = random_mask(seed, 2, 1, *output)
    wanted = torch.zeros(2, 1, *size)
    reach = kernel_size // 2
    for sample, _, row, column in mask.nonzero().tolist():
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                y, x = row * stride + dy * dilation, column * stride + dx * dilation
                if 0 <= y < size[0] and 0 <= x < size[1]:
                    wanted[sample, 0, y, x] = 1
    assert torch.equal(dilate_mask(mask, size, kernel_size, stride, dilation), wanted)


def test_cost_of_the_first_convolution_teaches_the_mask():
    mask = torch.zeros(1, 1, 3, 3)
    mask[..., 0, 1], mask[..., 2, 2] = 0.2, 0.1
    dilate_mask(mask.requires_grad_(), (3, 3), 3).sum().backward()
    # By hand: 0.2 is the maximum of the six windows around it, 0.1 of two of its own four, and
    # the one window that sees neither belongs to a zero.
    assert mask.grad[0, 0, 0, 1] == 6
    assert mask.grad[0, 0, 2, 2] == 2
    assert mask.grad.sum() == 9
