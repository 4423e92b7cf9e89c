"""Specs, builders, patch geometry and multiply-accumulates."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_predictor import (
    LayerSpec,
    NetworkSpec,
    bottleneck,
    build_network,
    expected_dilated_rate,
    network_macs,
    rate_for_macs_ratio,
    regnet,
    resnet,
)
from latency_predictor.block import dynamic_first_convolution
from latency_predictor.rates import active_patches


def block(**changes):
    fields = {
        'name': 'b',
        'stage': 0,
        'in_channels': 256,
        'mid_channels': 64,
        'out_channels': 256,
        'height': 56,
        'width': 56,
        'granularity': 4,
    }
    return bottleneck(**{**fields, **changes})


@pytest.mark.parametrize('suffix', ['.yaml', '.json'])
def test_network_round_trip(tmp_path, suffix):
    network = resnet(50, (320, 256), '4-4-2-1', head=True)
    path = tmp_path / f'network{suffix}'
    network.save(path)
    assert NetworkSpec.load(path) == network
    assert NetworkSpec.from_dict(json.loads(json.dumps(network.to_dict()))) == network
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_resnet_sizes_and_macs():
    network = resnet(101, 224, head=True)
    assert len(network.blocks) == 33
    assert [(b.height, b.out_channels) for b in network.blocks if b.name.endswith('.0')] == [
        (56, 256),
        (28, 512),
        (14, 1024),
        (7, 2048),
    ]
    assert network_macs(network).static == pytest.approx(7.8e9, rel=0.01)  # paper: 7.8 G
    assert network_macs(resnet(18, 224, head=True)).static == pytest.approx(1.82e9, rel=0.01)


def test_regnet_macs_and_parameters_of_the_family():
    assert network_macs(regnet('400mf', head=True)).static == pytest.approx(0.40e9, rel=0.03)
    assert network_macs(regnet('800mf', head=True)).static == pytest.approx(0.83e9, rel=0.03)


def test_odd_input_sizes_halve_upwards():
    heights = [b.height for b in resnet(50, (800, 1333)).blocks]
    widths = [b.width for b in resnet(50, (800, 1333)).blocks]
    assert sorted(set(heights)) == [25, 50, 100, 200] and sorted(set(widths)) == [42, 84, 167, 334]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'granularity': 0}, 'granularity: got 0; give'),
        ({'granularity': 57}, 'integer from 1 to 56'),
        ({'granularity': 2.0}, 'granularity: got 2.0'),
        ({'in_channels': -1}, 'in_channels: got -1; give an integer >= 1'),
        ({'groups': 5}, 'groups: got 5; give a divisor of mid_channels = 64'),
        ({'conv1_stride': 2}, 'conv1_stride: got 2; give a divisor of stride = 1'),
        ({'input_size': (57, 56)}, 'input_size: got'),
        ({'se_channels': -1}, 'se_channels: got -1'),
        ({'stage': -1}, 'stage: got -1'),
    ],
)
def test_bad_blocks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        block(**changes)
    assert "block 'b'" in str(caught.value)


@pytest.mark.parametrize(
    ('granularity', 'message'),
    [('4-4-7', 'give 4 integers'), ('a-b-c-d', 'give 4 integers'), ('4-4-7-9', 'from 1 to 7')],
)
def test_bad_granularity_is_refused(granularity, message):
    with pytest.raises(ValueError, match=message):
        resnet(50, 224, granularity)


def test_bad_networks_are_refused(tmp_path):
    entry = resnet(18).to_dict()
    entry['blocks'][0]['colour'] = 'red'
    with pytest.raises(
        ValueError, match=r"blocks\[0\]: got the field 'colour'; choose of name, stage, layers"
    ):
        NetworkSpec.from_dict(entry)
    del entry['blocks'][0]['colour'], entry['blocks'][0]['input_size']
    with pytest.raises(ValueError, match=r'blocks\[0\], input_size: got nothing; give it'):
        NetworkSpec.from_dict(entry)
    with pytest.raises(ValueError, match='blocks: got none; give at least one'):
        NetworkSpec('empty', (32, 32), ())
    with pytest.raises(ValueError, match="got the name 'b' twice"):
        NetworkSpec('twice', (32, 32), (block(), block()))
    with pytest.raises(ValueError, match='depth: got 20; choose one of 18'):
        resnet(20)
    with pytest.raises(ValueError, match="network: got 'vgg'; choose one of resnet18"):
        build_network('vgg')
    with pytest.raises(FileNotFoundError, match='give a file that exists'):
        build_network(str(tmp_path / 'none.yaml'))
    with pytest.raises(ValueError, match='groups: got 2; give a divisor of in_channels'):
        LayerSpec('conv', 3, 64, 8, 8, groups=2)


def test_with_granularity_changes_only_the_granularity():
    network = resnet(50, 224, '4-4-2-1')
    assert network.granularity == (4, 4, 2, 1)
    assert network.with_granularity('8-4-7-1') == resnet(50, 224, '8-4-7-1')


@pytest.mark.parametrize(('rate', 'patches'), [(0, 0), (1, 196), (0.5, 98), (0.501, 99), (0.1, 20)])
def test_active_patches_rounds_up(rate, patches):
    assert active_patches(block(), rate) == patches
    assert active_patches(block(), rate, batch_size=3) == 3 * patches


def test_grid_keeps_cut_patches():
    assert block(height=50, width=84, granularity=7).grid == (8, 12)


@pytest.mark.parametrize(('changes', 'edge'), [({}, 6), ({'stride': 2}, 9), ({'dilation': 2}, 8)])
def test_separate_conv1_covers_the_halo_of_the_3x3_convolution(changes, edge):
    """S + 2, 2 S + 1 and S + 4 pixels for S = 4."""
    conv1 = dynamic_first_convolution(block(**changes), 0.5, fused=False)[-1]
    assert (conv1.height, conv1.width) == (edge, edge) and conv1.patches == 98


def brute_force_dilated(mask, size, stride):
    """Share of conv1's pixels read by active pixels, on a torus so that no border matters."""
    fine = np.kron(mask, np.ones((size, size), bool))
    needed = np.zeros((fine.shape[0] * stride, fine.shape[1] * stride), bool)
    for i, j in np.argwhere(fine):
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                needed[(i * stride + di) % needed.shape[0], (j * stride + dj) % needed.shape[1]] = (
                    True
                )
    return needed.mean()


@pytest.mark.parametrize(('size', 'stride'), [(1, 1), (2, 1), (4, 1), (1, 2), (3, 2)])
def test_expected_dilated_rate_is_the_mean_over_independent_masks(size, stride):
    generator = np.random.default_rng(0)
    rate, masks = 0.3, 60
    found = np.mean(
        [brute_force_dilated(generator.random((10, 10)) < rate, size, stride) for _ in range(masks)]
    )
    assert found == pytest.approx(float(expected_dilated_rate(rate, size, stride)), abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.integers(1, 12), st.integers(1, 2))
def test_dilated_rate_is_at_least_the_rate_and_at_most_one(rate, size, stride):
    dilated = float(expected_dilated_rate(rate, size, stride))
    assert rate - 1e-12 <= dilated <= 1 + 1e-12


def test_macs_ratio_is_solved():
    network = resnet(101, (800, 1344), '4-4-7-1')
    rate = rate_for_macs_ratio(network, 0.5)
    assert network_macs(network, rate).ratio == pytest.approx(0.5, abs=1e-6)
    assert network_macs(network, 1.0).ratio == pytest.approx(1.0, abs=0.005)  # masker is small
    with pytest.raises(ValueError, match='macs_ratio: got 0.01; give one from 0.0'):
        rate_for_macs_ratio(network, 0.01)


def test_block_macs_worked_by_hand():
    # conv1 256*64*56*56, conv2 64*64*9*56*56, conv3 64*256*56*56; masker 256*(56*56 + 2*14*14).
    network = NetworkSpec('one', (224, 224), (block(),))
    area = 56 * 56
    conv1, conv2, conv3 = 256 * 64 * area, 64 * 64 * 9 * area, 64 * 256 * area
    masker = 256 * (area + 2 * 14 * 14)
    macs = network_macs(network, {'sites': 0.5, 'dilated': 0.75})
    assert macs.static == conv1 + conv2 + conv3
    assert macs.dynamic == 0.75 * conv1 + 0.5 * (conv2 + conv3) + masker
    static = NetworkSpec('static', (224, 224), (dataclasses.replace(block(), granularity=None),))
    assert network_macs(static, 0.5).ratio == 1
