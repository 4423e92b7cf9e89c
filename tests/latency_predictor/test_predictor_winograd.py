"""Winograd's share of the work: worked by hand, against real masks, and where it does not apply."""

import dataclasses

import numpy as np
import pytest

from latency_predictor import LatencyModel, basic, bottleneck, load_device, schedule
from latency_predictor.block import dynamic_rest, static_operators
from latency_predictor.winograd import winograd_share as share_of_layer


def build(**changes):
    sizes = {'height': 56, 'width': 56, 'granularity': 4}
    return bottleneck('block', 0, 256, 64, 256, **{**sizes, **changes})


def winograd_share(block, *rates):
    return share_of_layer(block, block.layers[1], *rates)


BLOCK = build()
WHOLE = (4 * 64 + 30) / (9 * 64)  # of quads without a pixel too many


def test_even_patches_consist_of_quads():
    assert winograd_share(BLOCK, 0.3) == pytest.approx(WHOLE)
    assert winograd_share(BLOCK.with_granularity(None)) == pytest.approx(WHOLE)


def test_an_odd_patch_by_itself_is_covered_by_larger_quads():
    odd = BLOCK.with_granularity(7)
    assert winograd_share(odd, 0.3) == pytest.approx(WHOLE * 64 / 49)
    assert winograd_share(odd, 1.0) == pytest.approx(WHOLE)  # all quads of the map, no more
    small = build(height=7, width=7, granularity=7)
    assert winograd_share(small, 1.0) == pytest.approx(WHOLE * 64 / 49)


def test_never_more_than_the_direct_convolution():
    assert winograd_share(BLOCK.with_granularity(1), 0.1) == 1
    assert np.all(winograd_share(BLOCK.with_granularity(1), np.linspace(0, 1, 9)) <= 1)


@pytest.mark.parametrize('granularity', [1, 3, 7])
def test_quads_of_smooth_masks(granularity):
    """Quads counted in masks, against the estimate from their dilated rate."""
    noise, edge = np.random.default_rng(0).random((40, 40)), 40 * granularity
    for axis in (0, 1, 0, 1):
        noise = sum(np.roll(noise, step, axis) for step in range(4))
    mask = np.kron(noise > np.median(noise), np.ones((granularity, granularity), bool))
    padded = np.pad(mask, 1)
    around = [padded[dy : dy + edge, dx : dx + edge] for dy in range(3) for dx in range(3)]
    quads = mask.reshape(edge // 2, 2, edge // 2, 2).any((1, 3)).mean()
    block = build(height=edge, width=edge, granularity=granularity)
    share = winograd_share(block, mask.mean(), np.any(around, 0).mean())
    assert share == pytest.approx(min(1, WHOLE * quads / mask.mean()), rel=0.03)


@pytest.mark.parametrize(
    'changes',
    [{'stride': 2, 'height': 28, 'width': 28}, {'dilation': 2}, {'groups': 4}, {'se_channels': 16}],
    ids=str,
)
def test_bottlenecks_without_it(changes):
    assert winograd_share(build(**changes), 0.5) is None


def test_a_basic_block_adds_as_it_writes_and_has_none():
    block = basic('block', 0, 64, 64, 56, 56, granularity=4)
    assert [share_of_layer(block, layer, 0.5) for layer in block.layers] == [None, None]


def test_a_device_without_it_takes_no_notice():
    (conv2,) = (o for o in dynamic_rest(BLOCK, [0.5]) if o.name == 'gather_conv2')
    usual = dataclasses.replace(conv2, winograd_share=None)
    plain = load_device('epyc')
    assert schedule(conv2, plain).total == schedule(usual, plain).total
    faster = dataclasses.replace(plain, winograd=1.0)
    found, reference = schedule(conv2, faster), schedule(usual, faster)
    assert found.computation == pytest.approx(WHOLE * reference.computation)


def test_both_static_and_dynamic_blocks_become_faster():
    plain = load_device('epyc')
    before, after = (
        LatencyModel(device).block(BLOCK, 0.5)
        for device in (plain, dataclasses.replace(plain, winograd=1.0))
    )
    assert after.static_us < before.static_us and after.dynamic_us < before.dynamic_us
    assert [o.winograd_share for o in static_operators(BLOCK)] == [
        None,
        pytest.approx(WHOLE),
        None,
        None,
    ]
