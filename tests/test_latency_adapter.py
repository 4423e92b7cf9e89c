"""The adapter from backbones to the predictor's description."""

import pytest
import torch

from las_mm.latency import describe_backbone
from las_mm.models.resnet_mmdet import LASResNet
from las_mm.models.resnet_torch import TorchLASResNet
from latency_predictor import network_macs, resnet


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('size', [(224, 224), (97, 131)])
def test_describes_the_same_network_as_the_predictor_builds(depth, size):
    backbone = LASResNet(depth, granularity='4-4-2-1')
    described = describe_backbone(backbone, size)
    built = resnet(depth, size, granularity='4-4-2-1')
    assert described.blocks == built.blocks
    assert described.stem == built.stem


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'style': 'caffe'},
        {'deep_stem': True, 'avg_down': True},
        {'strides': (1, 2, 2, 1), 'dilations': (1, 1, 1, 2)},
        {'base_channels': 16},
    ],
)
def test_counts_the_same_static_macs(options):
    backbone = LASResNet(50, granularity='4-4-2-1', **options).eval()
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 96, 160))
    described = describe_backbone(backbone, (96, 160))
    ours = backbone.cost().static
    predicted = network_macs(described, 1.0).static
    # A caffe-style block has the stride in its first convolution; the predictor has it in the
    # second, which makes its first one up to four times larger.
    tolerance = 0.12 if options.get('style') == 'caffe' else 1e-9
    assert predicted == pytest.approx(ours, rel=tolerance)


def test_names_and_granularity_follow_the_backbone():
    backbone = LASResNet(50, granularity='4-4-7-1')
    blocks = describe_backbone(backbone, (256, 320)).blocks
    assert [block.name for block in blocks] == [block.name for block in backbone.blocks]
    assert [block.granularity for block in blocks if block.name.endswith('.0')] == [4, 4, 7, 1]


@torch.no_grad()
def test_a_backbone_without_openmmlab():
    backbone = TorchLASResNet(18, '4-4-2-1').eval()
    backbone(torch.zeros(1, 3, 64, 96))
    network = describe_backbone(backbone, (64, 96))
    assert network.name == 'LAS-ResNet-18'
    assert network_macs(network, 1.0).static == pytest.approx(backbone.cost().static)
