"""What the native executor can run leaves nothing to PyTorch, and no test is fast by accident."""

import pytest
import torch
from networks import randomize
from torch.profiler import ProfilerActivity, profile

import las_mm
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.native.build import load_native

native, reason = load_native()
pytestmark = pytest.mark.skipif(native is None, reason=str(reason))
COMPUTING = ('aten::convolution', 'aten::max_pool2d', 'aten::batch_norm', 'aten::relu', 'aten::mm')


def backbones():
    yield 'torchvision', lambda: TorchLASResNet(18, '4-4-2-1')
    yield 'bottlenecks, whole blocks', lambda: TorchLASResNet(50, '4-4-all-1')
    if las_mm.models is not None:
        from mmengine.registry import MODELS

        for name, options in {
            'mmdet.LASResNet': dict(depth=18),
            'mmpretrain.LASResNet': dict(depth=50, base_channels=16, stem_channels=16),
            'mmpretrain.LASRegNet': dict(arch='regnetx_400mf'),
        }.items():
            options |= dict(type=name, granularity='4-4-2-1')
            yield name, lambda options=options: MODELS.build(options)


@pytest.mark.parametrize('build', [pytest.param(make, id=name) for name, make in backbones()])
@torch.no_grad()
def test_a_whole_backbone_runs_natively(build):
    torch.manual_seed(0)
    network = las_mm.optimize_for_inference(randomize(build()), 'cpu')
    x = torch.randn(1, 3, 64, 96)
    network(x)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        network(x)
    called = {event.key: event.count for event in record.key_averages()}
    assert called, 'the profiler saw nothing'
    assert not {name: called[name] for name in COMPUTING if name in called}


@torch.no_grad()
def test_the_profiler_sees_what_dense_execution_calls():
    network = randomize(TorchLASResNet(18, '4-4-2-1')).eval()
    with profile(activities=[ProfilerActivity.CPU]) as record:
        network(torch.randn(1, 3, 64, 96))
    called = {event.key for event in record.key_averages()}
    assert {'aten::convolution', 'aten::max_pool2d', 'aten::batch_norm'} <= called
