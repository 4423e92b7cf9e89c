"""MACs: against a hand-worked block, other counters, and the paper's numbers."""

from functools import cache
from math import prod

import mmcv
import pytest
import torch
from coco_sizes import SIZES
from detectors import build_model, classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import fuse_conv_bn
from mmdet.models import ResNet
from mmengine.analysis import get_model_complexity_info
from networks import always, bottleneck, decide
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from las_mm.accounting import BlockCost, NetworkCost, block_cost
from las_mm.layers import Work, conv_macs
from las_mm.models.backbone import classifier_macs
from las_mm.models.resnet_torch import TorchLASResNet

FAKE = FakeTensorMode()


@cache
def network_of(depth: int) -> TorchLASResNet:
    """A LAS-ResNet of fake tensors: shapes without numbers."""
    with FAKE:
        return TorchLASResNet(depth, '1-1-1-1').eval()


@cache
def cost_of(depth: int, size: tuple[int, int]) -> NetworkCost:
    """The cost of a LAS-ResNet at a size, without computing anything."""
    with FAKE, torch.no_grad():
        network_of(depth)(torch.zeros(1, 3, *size))
    return network_of(depth).cost()


def test_a_bottleneck_worked_by_hand():
    """4 → 3 → 3 → 6 channels, 8×8 → 4×4 pixels, S = 2, one of four patches active."""
    block = decide(bottleneck(granularity=2, stride=2), torch.tensor([[[[1.0, 0], [0, 0]]]]))
    block(torch.zeros(1, 4, 8, 8, dtype=torch.float64))
    cost = block_cost(block, block.trace)
    conv1, conv2, conv3, shortcut = 64 * 4 * 3, 16 * 9 * 3 * 3, 16 * 3 * 6, 16 * 4 * 6
    pooling, logits = 64 * 4, 4 * 4 * 2
    works = (
        ('conv1', conv1, ('dilated',)),
        ('conv2', conv2, ('sites',)),
        ('conv3', conv3, ('sites',)),
    )
    works = tuple(Work(*work) for work in (*works, ('shortcut', shortcut)))
    assert cost == BlockCost(works, pooling + logits)
    assert cost.static == conv1 + conv2 + conv3 + shortcut
    # The active 2×2 pixels read the 4×4 corner of conv1, whose halo outside the image is zero.
    rate, dilated = block.trace.activation_rate.item(), block.trace.dilated_rate.item()
    assert (rate, dilated) == (4 / 16, 16 / 64)
    wanted = conv1 * 16 / 64 + (conv2 + conv3) * 4 / 16 + shortcut + pooling + logits
    assert cost.dynamic({'sites': rate, 'dilated': dilated}) == wanted


def test_groups_and_bias_of_a_convolution():
    assert conv_macs(torch.nn.Conv2d(8, 8, 3, groups=4), (5, 7)) == 5 * 7 * 8 * 2 * 9


@pytest.mark.parametrize('depth', [18, 50, 101])
@pytest.mark.parametrize('size', [(224, 224), (161, 97)])
def test_static_macs_agree_with_other_counters(depth, size):
    ours = cost_of(depth, size).static
    network = ResNet(depth)
    network.eval()
    fuse_conv_bn(network)  # as inference does: mmengine counts two for each element of a norm
    theirs = get_model_complexity_info(network, input_shape=(3, *size), show_table=False)
    assert ours == pytest.approx(theirs['flops'], rel=0.005)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size))
    assert 2 * ours == counter.get_total_flops()


@settings(max_examples=10)
@given(st.integers(33, 150), st.integers(33, 150))
def test_dynamic_macs_at_full_rate_are_the_static_ones_and_the_maskers(height, width):
    cost = cost_of(18, (height, width))
    ones = [{'sites': 1.0, 'dilated': 1.0}] * len(cost.blocks)
    assert cost.dynamic(ones) == cost.static + sum(block.maskers for block in cost.blocks)
    zeros = [{'sites': 0.0, 'dilated': 0.0}] * len(cost.blocks)
    always = [work for block in cost.blocks for work in block.works if work.name == 'shortcut']
    rest = sum(work.macs for work in always) + sum(block.maskers for block in cost.blocks)
    assert cost.dynamic(zeros) == cost.fixed + rest


def test_resnet101_at_224_is_the_paper_s():
    """The paper's 7.8 G on ImageNet, classifier included."""
    assert (cost_of(101, (224, 224)).static + 2048 * 1000) / 1e9 == pytest.approx(7.8, rel=0.005)


@pytest.mark.parametrize('multiple', [1, 32], ids=['resized', 'padded'])
def test_resnet101_over_coco_is_the_paper_s(multiple):
    """The 141.2 G of Table 2 are the average over images resized to (1333, 800)."""
    total = 0
    for size, images in SIZES.items():
        width, height = mmcv.rescale_size((size[1], size[0]), (1333, 800))
        padded = (-(-edge // multiple) * multiple for edge in (height, width))
        total += images * cost_of(101, tuple(padded)).static
    assert total / sum(SIZES.values()) / 1e9 == pytest.approx(141.2, rel=0.01)


def test_cost_scales_the_rates_and_is_differentiable():
    def block(first, rest, shortcut, maskers):
        works = Work('conv1', first, ('dilated',)), Work('conv2', rest, ('sites',))
        return BlockCost((*works, Work('shortcut', shortcut)), maskers)

    cost = NetworkCost(fixed=100, blocks=(block(10, 20, 5, 1), block(30, 40, 0, 2)))
    rates = torch.tensor([0.5, 0.25], dtype=torch.float64, requires_grad=True)
    dilated = torch.tensor([0.6, 0.5], dtype=torch.float64, requires_grad=True)
    pairs = zip(rates, dilated, strict=True)
    macs = cost.dynamic([{'sites': r, 'dilated': d} for r, d in pairs])
    macs.backward()
    assert macs.item() == pytest.approx(100 + (6 + 10 + 6) + (15 + 10 + 2), rel=1e-12)
    assert rates.grad.tolist() == [20, 40]
    assert dilated.grad.tolist() == [10, 30]
    assert cost.static == 100 + 35 + 70


def test_a_classifier_s_linear_layer_counts_and_a_detector_s_head_does_not(tmp_path):
    model = build_model(classifier())
    assert classifier_macs(model) == 64 * 10
    model.eval()
    always(model, keep=True)(torch.zeros(1, 3, 64, 64))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 64, 64))
    cost = model.backbone.cost(classifier_macs(model))
    # In inference a masker is one weight row, multiplied before pooling.
    maskers = sum(
        block.conv1.in_channels * prod(block.trace.input_size) for block in model.backbone.blocks
    )
    assert 2 * (cost.static + maskers) == counter.get_total_flops()
