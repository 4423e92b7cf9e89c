"""The adapter from backbones to the predictor's description."""

import pytest
import torch
from torch import nn

from las_mm.latency.description import describe_backbone
from las_mm.models.densenet_mmpretrain import LASDenseNet
from las_mm.models.mobilenet_mmdet import LASMobileNetV2 as MmdetMobileNet
from las_mm.models.mobilenet_mmpretrain import LASMobileNetV2 as PretrainMobileNet
from las_mm.models.regnet_mmdet import LASRegNet as RegNet
from las_mm.models.resnet_cifar_mmpretrain import LASResNetCIFAR as ResNetCIFAR
from las_mm.models.resnet_mmdet import LASResNet as MmdetResNet
from las_mm.models.resnet_mmpretrain import LASResNet as PretrainResNet
from las_mm.models.resnet_torch import TorchLASResNet
from latency_predictor import LatencyModel, build_network, load_devices, network_macs, resnet


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('size', [(224, 224), (97, 131)])
def test_describes_the_same_network_as_the_predictor_builds(depth, size):
    backbone = MmdetResNet(depth, granularity='4-4-2-1')
    described = describe_backbone(backbone, size)
    built = resnet(depth, size, granularity='4-4-2-1')
    assert described.blocks == built.blocks
    assert described.stem == built.stem


@pytest.mark.parametrize('size', [(224, 224), (97, 131)])
def test_describes_the_same_light_networks(size):
    for backbone, name in (
        (PretrainMobileNet(granularity='4-4-2-2-1'), 'mobilenet_v2'),
        (ResNetCIFAR(20, '4-4-2', shortcut='B'), 'resnet20_cifar'),
    ):
        grains = '-'.join(map(str, backbone.granularity))
        described, built = describe_backbone(backbone, size), build_network(name, size, grains)
        assert described.fixed == built.fixed
        shape = [(b.name, b.stage, b.granularity, b.input_size) for b in built.blocks]
        found = [(b.name, b.stage, b.granularity, b.input_size) for b in described.blocks]
        assert found == shape
        assert network_macs(described, 0.4) == network_macs(built, 0.4)
        for device in load_devices('v100,tx2'):
            model = LatencyModel(device)
            ours, theirs = model.network(described, 0.4), model.network(built, 0.4)
            assert (ours.static_ms, ours.dynamic_ms) == (theirs.static_ms, theirs.dynamic_ms)


def resnets():
    for depth in (18, 50):
        for options in (
            {},
            {'style': 'caffe'},
            {'deep_stem': True, 'avg_down': True},
            {'strides': (1, 2, 2, 1), 'dilations': (1, 1, 1, 2)},
            {'base_channels': 16},
            {'granularity': 'all'},
            {'granularity': '2-all-1-1'},
        ):
            yield lambda d=depth, o=options: MmdetResNet(d, **{'granularity': '4-2-2-1', **o})
            if not {'style', 'base_channels'} & set(options):
                yield lambda d=depth, o=options: PretrainResNet(
                    d, **{'granularity': '2-2-1-1', **o}
                )


DENSE = {'growth_rate': 8, 'depths': [2, 3, 2, 2], 'init_channels': 16}


def changed_stem(conv, pool):
    backbone = TorchLASResNet(18, '2-2-1-1')
    backbone.conv1, backbone.maxpool = conv, pool
    return backbone


FAMILIES = [
    *resnets(),
    lambda: TorchLASResNet(101, '4-2-1-1'),
    lambda: RegNet('regnetx_400mf', '2-2-1-1'),
    lambda: RegNet('regnety_400mf', '2-2-1-1'),
    lambda: RegNet('regnety_400mf', '2-all-1-all'),
    lambda: LASDenseNet(DENSE, '4-2-2-1'),
    lambda: LASDenseNet(DENSE, '2-all-1-all', out_indices=(0, 1, 2, 3)),
    lambda: LASDenseNet('121', '4-4-2-1'),
    lambda: MmdetMobileNet(granularity='4-4-2-2-1', out_indices=(2, 4, 6)),
    lambda: PretrainMobileNet(0.1),
    lambda: PretrainMobileNet(0.5, granularity='4-all-2-2-1'),
    lambda: ResNetCIFAR(20, '4-4-2', shortcut='A'),
    lambda: ResNetCIFAR(20, '4-all-2', shortcut='B'),
    lambda: ResNetCIFAR(18, '4-4-2-1'),
    lambda: ResNetCIFAR(8, '1-1-1', masker={'kind': 'squeeze'}),
    lambda: changed_stem(nn.Conv2d(3, 64, 3, 1, 1), nn.Identity()),
    lambda: changed_stem(nn.Conv2d(3, 64, 5, 3, 0), nn.AvgPool2d(2)),
    lambda: changed_stem(nn.Conv2d(3, 64, 7, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True)),
]


@pytest.mark.parametrize('build', FAMILIES)
@pytest.mark.parametrize('size', [(96, 160), (97, 131)])
@torch.no_grad()
def test_training_and_prediction_count_the_same_macs_static_and_dynamic(build, size):
    """To the MAC: the one side counts what ran, the other what was described."""
    backbone = build().eval()
    backbone(torch.zeros(1, 3, *size))
    described, cost = describe_backbone(backbone, size), backbone.cost()
    assert network_macs(described, 1.0).static == cost.static
    shares = [
        dict.fromkeys(('sites', 'branch', 'dilated'), (index % 5 + 1) / 8)
        for index in range(len(cost.blocks))
    ]
    rates = dict.fromkeys(shares[0], [share['sites'] for share in shares])
    assert network_macs(described, rates).dynamic == cost.dynamic(shares)


def test_names_and_granularity_follow_the_backbone():
    backbone = MmdetResNet(50, granularity='4-4-7-1')
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
