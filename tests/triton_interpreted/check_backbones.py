"""Plans and the incremental masker on whole backbones; run by test_triton_interpreter."""

import copy

import pytest
import torch
from random_blocks import randomize
from torch import nn

from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.backbone import DynamicBackbone
from las_mm.ops.executors.triton.graphed import GraphedBackbone
from las_mm.ops.executors.triton.options import Options
from las_mm.ops.executors.triton.planning import plan_backbone


class Static(nn.Module):
    """A ResNet's structure at a size that an interpreter can run."""

    def __init__(self, bottleneck):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        for name, stride, blocks in (('layer1', 1, 4), ('layer2', 2, 2)):
            channels = [8 if stride == 1 else 16] + [16] * blocks
            stage = []
            for index, inputs in enumerate(channels[:-1]):
                step = stride if index == 0 else 1
                stage.append(
                    DynamicBottleneck(inputs, 8, 16, 1, step)
                    if bottleneck
                    else DynamicBasicBlock(inputs, 16, 1, step)
                )
            setattr(self, name, nn.Sequential(*stage))

    def forward(self, x):
        first = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return first, self.layer2(first)


class Dynamic(DynamicBackbone, Static):
    def __init__(self, granularity, bottleneck=True):
        super().__init__(bottleneck)
        self.make_dynamic(granularity)


@pytest.fixture(autouse=True)
def poison():
    """What is allocated and never written is NaN, and would be seen in the output."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def make(granularity='2-1', bottleneck=True):
    return randomize(Dynamic(granularity, bottleneck), seed=3)


def modes(plan):
    return [stage.mode for stage in plan.stages]


@torch.no_grad()
def assert_same_twice(backbone, runner, size):
    """On images that the runner has not seen, so that nothing of a forward stays for the next."""
    for _ in range(2):
        x = torch.randn(2, 3, *size)
        expected, masks = backbone(x), [trace.mask for trace in backbone.traces]
        outs = runner(x)
        traces = runner.traces
        assert all(torch.equal(t.mask, mask) for t, mask in zip(traces, masks, strict=True))
        for out, reference in zip(outs, expected, strict=True):
            torch.testing.assert_close(out, reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('bottleneck', [True, False])
@pytest.mark.parametrize(
    'options',
    [
        dict(masker_conv1=True),
        dict(masker_conv1=False, incremental_masker=False),
        dict(incremental_masker=True),
        dict(scatter_add=False),
    ],
)
def test_every_plan_equals_dense(options, bottleneck):
    backbone = make(bottleneck=bottleneck)
    copied = copy.deepcopy(backbone)
    runner = GraphedBackbone(copied, torch.randn(2, 3, 32, 28), Options(**options))
    assert_same_twice(backbone, runner, (32, 28))


def test_incremental_with_cut_patches():
    backbone = make('3-2')
    runner = GraphedBackbone(
        copy.deepcopy(backbone), torch.randn(2, 3, 27, 30), Options(incremental_masker=True)
    )
    assert modes(runner.plan) == ['incremental', 'incremental']
    assert_same_twice(backbone, runner, (27, 30))


def test_incremental_with_tie_and_decided_masks():
    backbone = make()
    nn.init.zeros_(backbone.layer1[2].masker.conv.weight)
    nn.init.zeros_(backbone.layer1[2].masker.conv.bias)
    backbone.layer1[1].masker.decided = torch.eye(4)[None, None]
    copied = copy.deepcopy(backbone)
    runner = GraphedBackbone(
        copied, torch.randn(2, 3, 32, 32), Options(incremental_masker=True)
    )
    assert_same_twice(backbone, runner, (32, 32))
    assert runner.traces[2].mask.all()


def test_threshold_of_the_activation_rate_decides():
    backbone, x = make(), torch.randn(1, 3, 24, 24)
    assert modes(plan_backbone(backbone, x, r_th=0.0)) == ['fused', 'fused']
    assert modes(plan_backbone(backbone, x, r_th=1.0)) == ['incremental', 'incremental']
    unfused = Options(incremental_masker=False)
    assert modes(plan_backbone(backbone, x, unfused, r_th=1.0)) == ['separate', 'separate']
    with pytest.raises(ValueError, match='r_th: got 1.5; give an activation rate from 0 to 1'):
        plan_backbone(backbone, x, r_th=1.5)


def test_other_images_than_planned_are_refused():
    runner = GraphedBackbone(make(), torch.randn(1, 3, 24, 24))
    with pytest.raises(ValueError, match=r'images: shape is .*, but this was made for'):
        runner(torch.randn(1, 3, 32, 24))
