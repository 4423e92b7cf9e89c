"""Layer and channel skipping."""

import pytest

from latency_predictor import LatencyModel, regnet, resnet


@pytest.fixture(scope='module')
def model():
    return LatencyModel('tx2')


def test_layer_skipping_is_linear_in_the_rate(model):
    block = resnet(50, 224).blocks[4]
    none, half, full = (model.skipping_block(block, r, 'layer').dynamic_us for r in (0, 0.5, 1))
    assert half == pytest.approx((none + full) / 2)
    masker = sum(
        o.total_us
        for o in model.skipping_block(block, 1, 'layer').operators
        if o.name.startswith('masker')
    )
    assert full == pytest.approx(model.block(block).static_us + masker)
    assert none == pytest.approx(masker)


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
        masker = sum(o.total_us for o in full.operators if o.name.startswith('masker'))
        assert full.dynamic_us == pytest.approx(full.static_us + masker)


def test_bad_input(model):
    block = resnet(50).blocks[1]
    with pytest.raises(ValueError, match="mode is 'token': choose one of layer, channel"):
        model.skipping_block(block, 0.5, 'token')
    with pytest.raises(ValueError, match='channel_group is 3, it must divide mid_channels = 64'):
        model.skipping_block(block, 0.5, 'channel', 3)
    with pytest.raises(ValueError, match='activation_rate is 2'):
        model.skipping_block(block, 2, 'layer')
