"""Plans and the incremental masker on whole backbones; run by test_triton_interpreter."""

import copy
import gc
import weakref
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from random_blocks import randomize
from torch import nn

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.inference.graphed import GraphedBackbone
from las_mm.inference.planning import plan_backbone
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.backbone import DynamicBackbone


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


# As a framework's own forward, of which it is known that the stem's layers follow each other.
Static.__module__ = Static.forward.__module__ = 'torchvision.models'


class Dynamic(DynamicBackbone, Static):
    def __init__(self, granularity, bottleneck=True):
        super().__init__(bottleneck)
        self.make_dynamic(granularity)


@pytest.fixture(autouse=True)
def poison():
    """What is allocated and never written is NaN, and would be seen in the output."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(1).isnan()
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
    runner = GraphedBackbone(copied, torch.randn(2, 3, 32, 32), Options(incremental_masker=True))
    assert_same_twice(backbone, runner, (32, 32))
    assert runner.traces[2].mask.all()


def test_incremental_where_a_stage_has_one_block_only():
    backbone = make()
    del backbone.layer2[1]
    options = Options(incremental_masker=True)
    runner = GraphedBackbone(copy.deepcopy(backbone), torch.randn(2, 3, 32, 28), options)
    assert modes(runner.plan) == ['incremental', 'fused']
    assert_same_twice(backbone, runner, (32, 28))


def test_threshold_of_the_activation_rate_decides():
    backbone, x = make(), torch.randn(1, 3, 24, 24)
    executor, plan = TritonExecutor(), partial(plan_backbone, backbone, x)
    assert modes(plan(executor, r_th=0.0)) == ['fused', 'fused']
    assert modes(plan(executor, r_th=1.0)) == ['incremental', 'incremental']
    unfused = TritonExecutor(Options(incremental_masker=False))
    assert modes(plan(unfused, r_th=1.0)) == ['separate', 'separate']
    with pytest.raises(ValueError, match='r_th: got 1.5; give an activation rate from 0 to 1'):
        plan_backbone(backbone, x, TritonExecutor(), r_th=1.5)


def test_other_images_than_planned_are_refused():
    runner = GraphedBackbone(make(), torch.randn(1, 3, 24, 24))
    with pytest.raises(ValueError, match=r'images: shape is .*, but this was made for'):
        runner(torch.randn(1, 3, 32, 24))


@torch.no_grad()
def test_a_planned_block_may_run_by_itself_and_again():
    backbone, x = make(), torch.randn(1, 16, 8, 9)
    executor = TritonExecutor(Options(masker_conv1=False))
    executor.plan = plan_backbone(backbone, torch.randn(1, 3, 24, 24), executor)
    block = backbone.layer1[2]
    block.executor = None
    expected = block(x)
    block.executor = executor
    for _ in range(3):
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


class FakeStream:
    def wait_stream(self, other):
        pass


class FakeGraph:
    def replay(self):
        pass


@pytest.fixture
def captured(monkeypatch):
    """A backbone captured where there is no GPU: replays leave its outputs as they are."""
    for name in ('device', 'stream', 'graph'):
        monkeypatch.setattr(torch.cuda, name, lambda argument: nullcontext())
    monkeypatch.setattr(torch.cuda, 'current_stream', FakeStream)
    monkeypatch.setattr(torch.cuda, 'Stream', FakeStream)
    monkeypatch.setattr(torch.cuda, 'CUDAGraph', FakeGraph)
    backbone = make()
    runner = GraphedBackbone(backbone, torch.randn(1, 3, 24, 24))
    backbone.conv1.fold.folded(torch.float32)  # as a forward on a GPU does
    runner._capture()
    return backbone, runner


def test_traces_are_those_of_the_graph_whatever_else_runs(captured):
    backbone, runner = captured
    before = runner.traces
    with torch.no_grad():
        backbone(torch.randn(1, 3, 32, 32))
    runner(torch.randn(1, 3, 24, 24))
    for trace, captured_trace in zip(runner.traces, before, strict=True):
        assert trace.mask is captured_trace.mask and trace is not captured_trace


def test_made_in_inference_mode_and_called_outside(captured):
    with torch.inference_mode():
        runner = GraphedBackbone(make(), torch.randn(1, 3, 24, 24))
        runner._capture()
    runner(torch.randn(1, 3, 24, 24))


def test_what_the_graph_reads_outlives_changed_parameters(captured):
    backbone, _runner = captured
    block = backbone.layer1[1]
    packed = weakref.ref(block.executor.pack(block, torch.float32))
    stem = weakref.ref(backbone.conv1.fold.folded(torch.float32))
    with torch.no_grad():
        backbone.layer1[1].conv1.weight.neg_()
        backbone.conv1.weight.neg_()
        backbone(torch.randn(1, 3, 24, 24))
    gc.collect()
    assert packed() is not None and stem() is not None
