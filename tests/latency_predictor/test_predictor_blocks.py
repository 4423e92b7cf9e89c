"""Blocks as lists of layers: what each family's layers run at, count, move and skip."""

import dataclasses
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_predictor import (
    Fusion,
    LatencyModel,
    NetworkSpec,
    basic,
    bottleneck,
    dense_layer,
    inverted_residual,
    network_macs,
)
from latency_predictor.block import dynamic_first_convolution, dynamic_rest, static_operators
from latency_predictor.deciding import narrowed
from latency_predictor.macs import block_macs, masker_macs


def test_layers_name_the_shares_they_run_at():
    one = bottleneck('b', 0, 256, 64, 256, 56, 56, se_channels=8)
    assert [layer.runs_at for layer in one.layers] == [
        ('dilated', 'channels', 'branch'),
        ('sites', 'channels', 'channels', 'branch'),
        ('branch',),
        ('sites', 'channels', 'branch'),
    ]
    two = basic('b', 0, 64, 64, 56, 56)
    assert [layer.runs_at[:-1] for layer in two.layers] == [
        ('dilated', 'channels'),
        ('sites', 'channels'),
    ]


def test_an_inverted_residual_counts_its_depthwise_convolution_once_per_channel():
    block = inverted_residual('b', 1, 32, 32, (28, 28), granularity=4)
    expand, depthwise, project = block.layers
    area = 28 * 28
    assert [x.macs for x in block.layers] == [32 * 192 * area, 192 * 9 * area, 192 * 32 * area]
    assert [x.runs_at for x in block.layers] == [
        ('dilated', 'channels', 'branch'),
        ('sites', 'channels', 'branch'),
        ('sites', 'channels', 'branch'),
    ]
    macs = block_macs(block, {'sites': 0.5, 'dilated': 0.75})
    rest = depthwise.macs + project.macs
    assert macs.dynamic == 0.75 * expand.macs + 0.5 * rest + masker_macs(block)
    conv = static_operators(block)[1]
    assert conv.offchip == 192 * 9 + 2 * 192 * area and conv.macs_per_output == 9


def test_an_inverted_residual_without_a_shortcut_skips_nothing():
    for changed in ({'stride': 2}, {'out_channels': 64}):
        options = {'in_channels': 32, 'out_channels': 32, 'input_size': (28, 28), **changed}
        block = inverted_residual('b', 0, **options)
        assert [o.name for o in static_operators(block)] == ['conv1', 'conv2', 'conv3']
        with pytest.raises(ValueError, match='granularity: got 2; give None, without a shortcut'):
            block.with_granularity(2)
        network = NetworkSpec('n', (56, 56), (block,)).with_granularity('2')
        assert network.granularity == (None,) and LatencyModel('tx2').network(network).ratio == 1


def test_the_first_block_of_mobilenet_has_nothing_to_fuse_its_masker_with():
    """Its first layer is depthwise: the mask's logit reads all channels."""
    block = inverted_residual('b', 0, 16, 16, (56, 56), expand_ratio=1, granularity=4)
    found = LatencyModel('tx2').block(block, 0.5, Fusion(masker_conv1=True))
    names = [operator.name for operator in found.operators]
    assert found.masker_fused is False
    assert names == ['masker', 'indexing', 'gather_conv2', 'conv3', 'scatter_add']


def test_a_dense_layer_copies_all_features_and_leaves_its_own_in_zeros():
    block = dense_layer('b', 0, 64, 128, 32, (56, 56), granularity=4)
    concat, conv1, conv2 = static_operators(block)
    assert concat.offchip == 2 * 64 * 56 * 56
    assert (conv1.channels, conv2.channels) == (128, 32)
    rest = dynamic_rest(block, 0.5)
    assert [operator.name for operator in rest] == ['concat', 'gather_conv2', 'scatter']
    assert rest[-1].offchip == 98 * 32 * 16 + 32 * 56 * 56
    apart = dynamic_first_convolution(block, 0.5, fused=False)
    assert [operator.name for operator in apart] == ['masker', 'indexing', 'conv1']
    # Its masker reads what comes before the norm, conv1 what comes after it.
    assert LatencyModel('tx2').block(block, 0.9).masker_fused is False
    whole = LatencyModel('tx2').block(block.with_granularity('all'), 0.0)
    assert {o.name for o in whole.operators if o.total_us > 0} == {
        'masker_pool',
        'masker_fc',
        'concat',
    }


BLOCKS = {
    'bottleneck': lambda g: bottleneck('b', 0, 64, 32, 128, 16, 16, granularity=g, shortcut=True),
    'gated': lambda g: bottleneck('b', 0, 64, 32, 64, 16, 16, granularity=g, se_channels=8),
    'grouped': lambda g: bottleneck('b', 0, 64, 32, 64, 16, 16, granularity=g, groups=4),
    'basic': lambda g: basic('b', 0, 32, 32, 16, 16, granularity=g),
    'inverted': lambda g: inverted_residual(
        'b', 0, 16, 16, (16, 16), granularity=g, expand_ratio=2
    ),
    'dense': lambda g: dense_layer('b', 0, 48, 32, 16, (16, 16), granularity=g),
}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(BLOCKS)),
    group=st.sampled_from([1, 2, 4, 8, 16, 32]),
    share=st.floats(0, 1),
)
def test_a_narrowed_block_has_whole_decisions_and_no_more_work(kind, group, share):
    block = BLOCKS[kind](None).with_channel_group(group)
    narrow = narrowed(block, share)
    assert narrow.in_channels == block.in_channels and narrow.out_channels == block.out_channels
    wanted = max(1, ceil(share * 32 / group - 1e-9)) * group
    assert wanted <= narrow.inner_channels <= max(wanted, ceil(wanted / 4) * 4)
    for layer, full in zip(narrow.layers, block.layers, strict=True):
        sides = full.runs_at.count('channels')
        exact = (narrow.inner_channels / 32) ** sides if full.kind == 'conv' else 1
        if kind == 'grouped' and group >= 8 and full.groups > 1:
            exact = narrow.inner_channels / 32  # whole groups go
        if full.kind == 'conv':
            assert layer.macs == pytest.approx(full.macs * exact)
    assert narrowed(block, 1.0) == dataclasses.replace(block, channel_group=None)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(BLOCKS)),
    granularity=st.sampled_from([None, 2, 4, 'all']),
    group=st.sampled_from([None, 2, 8]),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    device=st.sampled_from(['tx2', 'v100', 'epyc']),
)
def test_any_mix_of_decisions_is_predicted_and_rises_with_its_shares(
    kind, granularity, group, low, high, device
):
    block = BLOCKS[kind](granularity).with_channel_group(group)
    model, (low, high) = LatencyModel(device), sorted((low, high))
    less, more = (model.block(block, dict.fromkeys(block.decided, rate)) for rate in (low, high))
    assert 0 < less.dynamic_us <= more.dynamic_us + 1e-9
    assert less.static_us == model.block(block.static()).static_us
    assert sum(o.total_us for o in less.operators) == pytest.approx(less.dynamic_us)
    assert set(less.shares) == set(block.decided)
    one = NetworkSpec('n', (16, 16), (block,))
    assert network_macs(one, low).dynamic <= network_macs(one, high).dynamic + 1e-6
    full = network_macs(one, 1.0)
    assert full.dynamic == pytest.approx(full.static + masker_macs(block))


def test_blocks_that_cannot_be_run_so_are_refused():
    block = bottleneck('b', 0, 64, 32, 64, 16, 16)
    with pytest.raises(ValueError, match='channel_group: got 3; give a divisor of its 32 inner'):
        block.with_channel_group(3)
    with pytest.raises(ValueError, match="join: got 'sum'; choose one of add, concat, none"):
        dataclasses.replace(block, join='sum')
    conv1, conv2, conv3 = block.layers
    with pytest.raises(ValueError, match="layers: got 32 input channels of 'conv3'; give the 64"):
        dataclasses.replace(
            block, layers=(conv1, dataclasses.replace(conv2, out_channels=64), conv3)
        )
    wide = dataclasses.replace(conv3, kernel=3)
    with pytest.raises(ValueError, match='granularity: got 2; give None, its layer conv3 reads'):
        dataclasses.replace(block, layers=(conv1, conv2, wide), granularity=2)
    with pytest.raises(ValueError, match="runs_at: got 'site'; choose one of dilated, sites"):
        dataclasses.replace(conv1, runs_at=('site',))
