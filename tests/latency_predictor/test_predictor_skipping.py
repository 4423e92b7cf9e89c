"""Layers, channels, and both with patches skipped."""

import pytest

from latency_predictor import LatencyModel, network_macs, regnet, resnet


@pytest.fixture(scope='module')
def model():
    return LatencyModel('tx2')


def masker_us(latency):
    return sum(o.total_us for o in latency.operators if o.name.startswith('masker'))


def test_layer_skipping_is_linear_in_the_rate(model):
    block = resnet(50, 224).blocks[4]
    none, half, full = (model.skipping_block(block, r, 'layer') for r in (0, 0.5, 1))
    assert half.dynamic_us == pytest.approx((none.dynamic_us + full.dynamic_us) / 2)
    assert full.dynamic_us == pytest.approx(model.block(block).static_us + masker_us(full))
    assert none.dynamic_us == pytest.approx(masker_us(none))


def test_the_shortcut_of_a_skipped_layer_still_runs(model):
    block = resnet(50, 224).blocks[0]
    skipped = {o.name: o.total_us for o in model.skipping_block(block, 0, 'layer').operators}
    assert skipped['shortcut'] > 0 and skipped['conv2'] == 0


@pytest.mark.parametrize('network', [resnet(18), resnet(50), regnet('400mf')])
def test_channel_skipping_saves_and_ends_at_the_dense_block(model, network):
    for block in (network.blocks[0], network.blocks[1]):
        times = [model.skipping_block(block, r, 'channel').dynamic_us for r in (0.25, 0.5, 1)]
        assert times == sorted(times)
        full = model.skipping_block(block, 1, 'channel')
        assert full.dynamic_us == pytest.approx(full.static_us + masker_us(full))


@pytest.mark.parametrize('device', ['tx2', 'v100'])
def test_joint_skipping_is_faster_than_either_alone(device):
    model, block = LatencyModel(device), resnet(50, (800, 1344), '4-4-2-1').blocks[1]
    both = block.with_channel_group(2)
    joint = model.block(both, {'sites': 0.5, 'channels': 0.5}).dynamic_us
    assert joint < model.block(block, 0.5).dynamic_us
    assert joint < model.block(both.with_granularity(None), {'channels': 0.5}).dynamic_us
    # Nothing is lost against the spatial block but the second masker where all channels run.
    full = model.block(both, {'sites': 0.5, 'channels': 1.0})
    spatial = model.block(block, 0.5)
    pool = sum(o.total_us for o in full.operators if o.name in ('masker_pool', 'masker_fc1'))
    last = sum(o.total_us for o in full.operators if o.name == 'masker_fc2')
    assert full.dynamic_us == pytest.approx(spatial.dynamic_us + pool + last)


def test_macs_of_channels_worked_by_hand():
    """conv1 at c, conv2 at c², conv3 at c; 256 -> 16 -> 64 logits for 32 groups."""
    network = resnet(50, 224).with_channel_groups('2-2-2-2')
    block = network.blocks[1]
    area = 56 * 56
    one, two, three = (layer.macs for layer in block.layers)
    only = type(network)('one', (224, 224), (block,))
    masker = 256 * area + 256 * 16 + 16 * 64
    assert network_macs(only, 0.5).dynamic == (one + three) / 2 + two / 4 + masker


def test_channel_maskers_and_rates_of_each_stage(model):
    network = resnet(50, 224, '4-4-all-1').with_channel_groups((2, None, 4, 8))
    found = model.network(network, {'sites': 0.6, 'branch': 0.5, 'channels': 0.7})
    shares = [dict(b.shares) for b in found.blocks if b.name.endswith('.0')]
    assert shares == [
        {'sites': 0.6, 'channels': 0.7},
        {'sites': 0.6},
        {'channels': 0.7, 'branch': 0.5},
        {'sites': 0.6, 'channels': 0.7},
    ]


def test_bad_input(model):
    block = resnet(50).blocks[1]
    with pytest.raises(ValueError, match="mode: got 'token'; choose one of spatial, layer, chan"):
        model.skipping_block(block, 0.5, 'token')
    with pytest.raises(ValueError, match='channel_group: got 3; give a divisor of its 64 inner'):
        model.skipping_block(block, 0.5, 'channel', 3)
    with pytest.raises(ValueError, match='branch: got 2; give a number from 0 to 1'):
        model.skipping_block(block, 2, 'layer')
    with pytest.raises(ValueError, match="shares: got 'pixels'; choose one of dilated, sites"):
        model.block(block.with_granularity(4), {'pixels': 0.5})
