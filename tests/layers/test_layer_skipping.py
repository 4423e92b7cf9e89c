"""Blocks that are computed whole or not at all, at any input size, by every executor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

import las_mm
from las_mm.executors import find_executor
from las_mm.layers import BranchMasker, DynamicBasicBlock, DynamicBottleneck
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops import parse_granularity


def skipping(build):
    block = build()
    block.make_static()
    block.make_dynamic('all')
    return randomize(block)


BUILDS = {
    'bottleneck': lambda: DynamicBottleneck(8, 4, 8, 1),
    'strided': lambda: DynamicBottleneck(8, 4, 12, 1, stride=2),
    'gated': lambda: DynamicBottleneck(8, 8, 8, 1, groups=2, squeeze_channels=2),
    'basic': lambda: DynamicBasicBlock(8, 8, 1),
    'dilated': lambda: DynamicBasicBlock(8, 8, 1, dilation=2),
}


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(BUILDS)),
    executor=st.sampled_from(['torch', 'cpu']),
    on=st.lists(st.booleans(), min_size=1, max_size=4),
    size=st.tuples(st.integers(2, 23), st.integers(2, 23)),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_equal_to_dense_for_each_image_of_a_batch(name, executor, on, size, seed):
    torch.manual_seed(seed)
    block, x = skipping(BUILDS[name]), torch.randn(len(on), 8, *size)
    block.branch_masker.decided = torch.tensor(on).float().view(-1, 1, 1, 1)
    wanted = block(x)
    assert block.trace.activation_rate.tolist() == list(map(float, on))
    block.executor = find_executor(executor)
    out = block(x)
    assert (out - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert block.trace.mask.flatten().tolist() == list(map(float, on))
    off = [index for index, kept in enumerate(on) if not kept]
    assert torch.allclose(out[off], block.identity(x[off]).relu(), atol=1e-5)


@pytest.mark.parametrize('executor', ['torch', 'cpu'])
@pytest.mark.parametrize('size', [(33, 47), (64, 64), (96, 40)])
@torch.no_grad()
def test_a_network_decides_the_same_at_any_size(executor, size):
    torch.manual_seed(0)
    network = randomize(TorchLASResNet(18, '4-all-2-all'))
    images = torch.randn(3, 3, *size)
    wanted = network(images)
    masks = [trace.mask for trace in network.traces]
    assert 0 < sum(mask.mean() for mask in masks) < len(masks)
    outs = las_mm.optimize_for_inference(network, executor)(images)
    for out, expected in zip(outs, wanted, strict=True):
        assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(map(torch.equal, masks, [trace.mask for trace in network.traces]))


@torch.no_grad()
def test_all_layers_on_it_is_the_static_network_bit_for_bit():
    torch.manual_seed(0)
    network = randomize(TorchLASResNet(18, 'all'), masker_bias=1e6)
    images, outs = torch.randn(2, 3, 50, 64), []
    for _ in range(2):
        outs.append(network(images))
        for block in network.blocks:
            block.make_static()
    assert all(map(torch.equal, *outs))


def test_macs_are_all_or_nothing_but_for_shortcut_and_maskers():
    block = skipping(BUILDS['strided'])
    block.branch_masker.decided = torch.tensor([1.0, 0, 0, 1]).view(4, 1, 1, 1)
    with torch.no_grad():
        block(torch.randn(4, 8, 9, 10))
    from las_mm.accounting import block_cost

    cost = block_cost(block, block.trace)
    works = {work.name: work for work in cost.works}
    assert works['shortcut'].runs_at == ()
    assert all(works[name].runs_at == ('branch',) for name in ('conv1', 'conv2', 'conv3'))
    assert cost.maskers == 8 * 9 * 10 + 2 * 8
    on, off = cost.static + cost.maskers, works['shortcut'].macs + cost.maskers
    assert cost.dynamic(block.trace.shares).tolist() == [on, off, off, on]


def test_the_masker_learns():
    torch.manual_seed(0)
    block = skipping(BUILDS['bottleneck']).train()
    assert isinstance(block.spatial_masker, BranchMasker)
    block(torch.randn(2, 8, 6, 7))
    block.trace.shares['branch'].mean().backward()
    keep, skip = block.branch_masker.conv.bias.grad.tolist()
    assert keep > 0 > skip


@pytest.mark.parametrize(
    'value, wanted',
    [
        ('4-4-7-all', (4, 4, 7, 'all')),
        ('all', ('all',) * 4),
        ([4, 'all', 2, 1], (4, 'all', 2, 1)),
    ],
)
def test_how_configs_say_it(value, wanted):
    assert parse_granularity(value) == wanted
    with pytest.raises(ValueError, match="give 4 integers >= 1, 'all' or None, one per stage"):
        parse_granularity('all-4')
    with pytest.raises(TypeError, match="'all' or None, one per stage"):
        parse_granularity([4, 4, 'every', 1])


def test_state_dicts_tell_it_from_patches():
    names = {name for name in TorchLASResNet(18, '4-all-2-1').state_dict() if 'mask' in name}
    assert all(('branch_masker' in name) == name.startswith('layer2') for name in names)
    assert nn.Module.state_dict(TorchLASResNet(18, 'all')).keys() > set()
