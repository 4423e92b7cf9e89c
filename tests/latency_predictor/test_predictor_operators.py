"""Every operator's counts and every formula, against numbers worked by hand."""

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_predictor import Device, schedule
from latency_predictor import operators as ops
from latency_predictor.block import layer_operator
from latency_predictor.efficiency import engine_utilisation, transaction_efficiency
from latency_predictor.spec import LayerSpec

# Round numbers: 1 PE of 1 lane at 1 MHz, 1 MAC a microsecond; 1e6 fp32 elements a second off-chip
# and 4e6 on-chip; one result in flight is enough; launches are free.
TOY = Device(
    'toy',
    'toy',
    1,
    1.0,
    MappingProxyType({'fp32': 1.0, 'fp16': 2.0}),
    0.004,
    0.016,
    pipeline_depth=1,
    kernel_launch=0.0,
)


@pytest.mark.parametrize(
    ('run', 'gap', 'expected'),
    [
        (16, 8, 1.0),  # two full transactions of 8
        (9, 40, 9 / 16),  # n > 8: the second transaction carries one element
        (4, 52, 4 / 8),  # n + gap > 8: one transaction for 4
        (1, 55, 1 / 8),  # pixel granularity
        (2, 2, 2 / 4),  # several short runs share a transaction
        (5, 0, 1.0),  # no gap: one long run
    ],
)
def test_transaction_efficiency(run, gap, expected):
    assert transaction_efficiency(run, gap, 8) == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2000), st.sampled_from([8, 16, 32]))
def test_efficiencies_lie_in_0_1(run, gap, transaction):
    assert 0 < transaction_efficiency(run, gap, transaction) <= 1
    assert 0 < engine_utilisation(run, transaction) <= 1


def test_engine_utilisation():
    assert engine_utilisation(256, 256) == 1
    assert engine_utilisation(64, 256) == 0.25
    assert engine_utilisation(300, 256) == 300 / 512


def test_static_convolution_worked_by_hand():
    # 2 -> 1 channels, 3x3, one output pixel: K = 18 MACs, 18 us. Off-chip 18 weights + 2 inputs +
    # 1 output = 21 us. On-chip 18 weights + 2 * 9 inputs + 1 output = 37 elements at 4 per us.
    found = schedule(ops.convolution('conv', 2, 1, 1, 1, kernel=3), TOY)
    assert found.computation == pytest.approx(18e-6)
    assert found.data == pytest.approx((21 + 37 / 4) * 1e-6)
    assert tuple(found.tile) == (1, 1, 1, 1)


def test_grouped_strided_dilated_convolution_counts():
    operator = ops.convolution('conv', 8, 16, 5, 6, kernel=3, stride=2, groups=4, dilation=2)
    assert operator.macs_per_output == 2 * 9
    assert operator.offchip == 16 * 2 * 9 + 8 * 10 * 12 + 16 * 5 * 6
    read, write = operator.moves
    # A tile of 8 channels (2 groups of 4) and 2 x 3 outputs: (1*2+5) x (2*2+5) pixels of 2*2.
    assert read.elements(16, 8, 2, 3) == 2 * 2 * 7 * 9
    assert write.elements(16, 8, 2, 3) == 8 * 2 * 3


def test_dynamic_convolution_counts():
    indexed = ops.dynamic_convolution('c', 4, 8, (4, 4), 10, kernel=3, source=(16, 16))
    assert indexed.offchip == 8 * 4 * 9 + min(4 * 36 * 10, 4 * 256) + 10 * 8 * 16
    assert [move.pitch for move in indexed.moves] == [16, 4]
    gathered = ops.dynamic_convolution('c', 4, 8, (4, 4), 10, kernel=3)
    assert gathered.offchip == 8 * 4 * 9 + 4 * 36 * 10 + 10 * 8 * 16
    assert [move.pitch for move in gathered.moves] == [6, 4]
    assert indexed.macs_per_output == gathered.macs_per_output == 36


def test_gather_scatter_add_counts():
    patch, target = (4, 4), (16, 16)
    assert ops.gather('g', 3, (6, 6), 2, target).offchip == 2 * (2 * 3 * 36)
    assert ops.gather('g', 3, (6, 6), 100, target).offchip == 3 * 256 + 100 * 3 * 36
    assert ops.scatter(3, patch, 5, target).offchip == 5 * 3 * 16 + 3 * 256
    assert ops.add(3, 16, 16).offchip == 3 * 3 * 256
    assert ops.scatter_add(3, patch, 5, target).offchip == 5 * 3 * 16 + 2 * 3 * 256


def test_masker_indexing_pool_and_se_counts():
    assert ops.masker(8, 6, 6).macs_per_output == 8
    assert ops.masker(8, 6, 6).offchip == 8 + 8 * 36 + 36
    assert ops.indexing((3, 4), 5).offchip == 12 + 5
    assert ops.pooling('p', 2, 4, 4, kernel=3, stride=2).offchip == 2 * 64 + 2 * 16
    assert ops.pooling('p', 2, 4, 4, kernel=3, stride=2).macs_per_output == 9
    pool = ops.global_pool('g', 2, (3, 5), 1)
    assert (pool.offchip, pool.macs_per_output) == (2 * 15 + 2, 15)
    assert pool.moves[0].elements(2, 2, 1, 1) == 2 * 15
    assert ops.scale(2, (3, 5), 4).offchip == 2 * 30 * 4 + 2
    fc = ops.fully_connected('fc', 10, 3)
    assert (fc.macs_per_output, fc.offchip) == (10, 30 + 10 + 3)


def test_depthwise_convolution_moves_each_channel_by_itself():
    operator = ops.convolution('c', 32, 32, 8, 8, kernel=3, groups=32)
    assert (operator.macs_per_output, operator.offchip) == (9, 32 * 9 + 2 * 32 * 64)
    read, write = operator.moves
    assert read.group_channels is None  # in a channels-last map a tile's channels are one run
    assert read.elements(32, 4, 2, 2) == 4 * 4 * 4 and write.elements(32, 4, 2, 2) == 4 * 4
    patches = ops.dynamic_convolution('c', 32, 32, (4, 4), 3, kernel=3, groups=32, source=(8, 8))
    assert patches.offchip == 32 * 9 + min(3 * 32 * 36, 32 * 64) + 3 * 32 * 16
    assert patches.moves[0].elements(32, 4, 4, 4) == 4 * 36


def test_dynamic_computation_counts_waves_of_tiles():
    # 3 patches of 1 x 1 x 2 outputs, K = 5, 2 engines, one result at a time. A tile of one patch
    # takes 10 us and three tiles two waves: 20 us. Cutting patches in two gives 6 tiles of 5 us in
    # three waves: 15 us, the best.
    device = Device(
        'two',
        'two',
        2,
        1.0,
        MappingProxyType({'fp32': 1.0}),
        1e6,
        1e6,
        pipeline_depth=1,
        kernel_launch=3.0,
    )
    found = schedule(ops.dynamic_convolution('c', 5, 1, (1, 2), 3.0), device)
    assert found.computation == pytest.approx(15e-6)
    assert tuple(found.tile) == (1, 1, 1, 1)
    assert found.total == pytest.approx(15e-6 + 3e-6, rel=1e-4)  # plus the launch


def test_overlap_hides_the_shorter_part():
    operator = ops.convolution('conv', 2, 1, 1, 1, kernel=3)
    added = schedule(operator, TOY)
    hidden = schedule(operator, dataclasses.replace(TOY, overlap=1.0))
    assert hidden.total == pytest.approx(max(added.data, added.computation))


def test_half_precision_halves_bytes_and_fills_transactions():
    operator = ops.convolution('conv', 2, 1, 1, 1, kernel=3)
    full, half = schedule(operator, TOY), schedule(operator, TOY, 'fp16')
    assert half.data == pytest.approx(full.data / 2)
    # 2 lanes and one output: half the engine idles, the time stays.
    assert half.computation == pytest.approx(full.computation)


def test_no_active_patch_costs_only_the_launch():
    found = schedule(ops.dynamic_convolution('c', 4, 8, (4, 4), np.array([0.0, 1.0])), TOY)
    assert found.total[0] == 0 and found.total[1] > 0


def test_layers_of_stem_and_head():
    conv = layer_operator(LayerSpec('conv', 3, 8, 4, 4, kernel=7, stride=2))
    assert conv.macs_per_output == 3 * 49
    assert layer_operator(LayerSpec('max_pool', 8, 8, 4, 4, 3, 2)).macs_per_output == 9
    assert layer_operator(LayerSpec('avg_pool', 8, 8, stride=7, kernel=7)).macs_per_output == 49
    assert layer_operator(LayerSpec('fc', 8, 10)).channels == 10
