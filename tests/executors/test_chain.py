"""A stage in one native call: the same bits as block by block, and steps back where it must."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

import las_mm
from las_mm.executors import find_executor
from las_mm.inference.stage import InferenceStage
from las_mm.inference.stand_ins import stand_in
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.native import build

native, why_not = build.load_native()
if native is None:
    pytest.skip(why_not, allow_module_level=True)


@st.composite
def stages(draw):
    """Stages of up to seven blocks, some static, some gated, some with a shortcut in between."""
    granularity, stride = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2]))
    mid, out, basic = draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.booleans())
    channels, blocks = draw(st.integers(1, 9)), []
    for index in range(draw(st.integers(1, 7))):
        step = stride if index in (0, draw(st.integers(0, 9))) else 1
        each = draw(st.sampled_from([None, None, 1]))  # channels of a group to skip
        if basic:
            block = DynamicBasicBlock(channels, out, granularity, step, channel_groups=each)
        else:
            squeeze = 0 if each else draw(st.sampled_from([0, 0, 1, 4]))
            block = DynamicBottleneck(
                *(channels, mid, out, granularity, step),
                squeeze_channels=squeeze,
                channel_groups=each,
            )
        blocks.append(block)
        channels = out
    for index, block in enumerate(blocks):
        channel_masker = block._modules.pop('channel_masker', None)
        randomize(block, draw(st.integers(0, 99)), draw(st.sampled_from([-1e6, 0, 0, 0, 1e6])))
        if channel_masker is not None:
            block.channel_masker = channel_masker
            for parameter in channel_masker.parameters():
                nn.init.normal_(parameter)
        block.name = str(index)
        if draw(st.integers(0, 5)) == 0:
            del block.masker
    return nn.Sequential(*blocks).eval()


def as_stage(blocks):
    stand_in(blocks, InferenceStage)
    return blocks


def run(blocks, executor, x):
    for block in blocks:
        block.executor = find_executor(executor)
    out = blocks(x)
    found = [mask for block in blocks if block.is_dynamic for mask in block.last[0]]
    return out, found


@torch.no_grad()
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_same_bits_as_block_by_block(data):
    blocks = data.draw(stages())
    # At most three strides leave a map that holds one patch.
    size = data.draw(st.integers(40, 49)), data.draw(st.integers(40, 52))
    x = torch.randn(data.draw(st.integers(1, 2)), blocks[0].conv1.in_channels, *size)
    dense, dense_masks = run(blocks, 'dense', x)
    single, _ = run(blocks, 'cpu', x)
    stage, kept = as_stage(blocks), x.clone()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out, masks = run(stage, 'cpu', x)
            assert stage._find_chain(x) is not None
            assert torch.equal(out, single)
            assert all(map(torch.equal, masks, dense_masks))
    finally:
        torch.set_num_threads(before)
    assert (out - dense).abs().max() <= 1e-5 * dense.abs().max().clamp(min=1)
    assert torch.equal(x, kept), 'the input belongs to the caller'


def make_stage(granularity=2):
    blocks = [
        DynamicBottleneck(8 if i else 4, 4, 8, granularity, squeeze_channels=2 * (i == 1))
        for i in range(3)
    ]
    for index, block in enumerate(blocks):
        block.executor, block.name = find_executor('cpu'), f'layer1.{index}'
        randomize(block, index, masker_bias=3.0)
    return as_stage(nn.Sequential(*blocks).eval())


X = torch.randn(1, 4, 13, 11, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_bfloat16_chain_decides_as_single_blocks():
    stage, x = make_stage().bfloat16(), X.bfloat16()
    if not native.bfloat16_isas():
        pytest.skip('this CPU has no instructions for bfloat16')
    out = stage(x)
    assert stage._find_chain(x) is not None
    masks = [block.trace.mask for block in stage]
    assert torch.equal(out, stage._run_blocks(x, False))
    assert all(torch.equal(m, block.trace.mask) for m, block in zip(masks, stage, strict=True))
    assert masks[0].dtype == torch.bfloat16


@torch.no_grad()
def test_pooled_shortcut_of_the_first_block():
    stage = make_stage()
    pool = nn.AvgPool2d(1, 1)
    stage[0].downsample = nn.Sequential(pool, *stage[0].downsample)
    assert stage._find_chain(X) is not None
    assert torch.equal(stage(X), stage._run_blocks(X, False))


@torch.no_grad()
def test_replayed_masks():
    stage = make_stage()
    for index, block in enumerate(stage):
        block.masker.decided = (torch.rand(1, 1, 7, 6) < 0.2 + 0.3 * index).float()
    out = stage(torch.cat([X, X.flip(-1)]))
    for block in stage:
        assert torch.equal(block.trace.mask, block.masker.decided.expand(2, -1, -1, -1))
    assert torch.equal(out, stage._run_blocks(torch.cat([X, X.flip(-1)]), False))


@torch.no_grad()
@pytest.mark.parametrize(
    'change',
    [
        lambda stage: stage[1].conv2.weight.mul_(-1),
        lambda stage: stage[2].bn3.running_mean.add_(1),
        lambda stage: stage[1].se.fc2.bias.sub_(1),
        lambda stage: setattr(stage[0], 'conv1', nn.Conv2d(4, 4, 1)),
        lambda stage: setattr(stage[1].conv1, 'weight', nn.Parameter(torch.ones(4, 8, 1, 1))),
        lambda stage: stage[1].masker.conv.weight.mul_(-1),
        lambda stage: stage.load_state_dict(randomize(make_stage(), 7).state_dict()),
    ],
)
def test_changes_are_noticed(change):
    stage = make_stage()
    before = stage(X)
    change(stage)
    out = stage(X)
    assert not torch.equal(out, before)
    assert torch.equal(out, stage._run_blocks(X, False))


@torch.no_grad()
@pytest.mark.parametrize(
    'step_back',
    [
        lambda stage: stage[1].register_forward_hook(lambda *args: None),
        lambda stage: stage[1].register_forward_pre_hook(lambda *args: None),
        lambda stage: setattr(stage[1], 'executor', find_executor('torch')),
        lambda stage: setattr(stage[1], 'forward', stage[1].forward),
        lambda stage: stage[2].masker.train(),
        lambda stage: stage[1].bn1.train(),
        lambda stage: setattr(stage[1], 'bn2', nn.GroupNorm(2, 4)),
    ],
)
def test_whoever_looks_in_between_sees_single_blocks(step_back):
    stage = make_stage()
    stage(X)
    assert stage._find_chain(X) is not None
    step_back(stage)
    assert stage._find_chain(X) is None


@torch.no_grad()
def test_hooks_can_come_and_go():
    stage, seen = make_stage(), []
    expected = stage(X)
    handle = stage[1].register_forward_hook(lambda module, args, out: seen.append(out.clone()))
    assert torch.equal(stage(X), expected) and len(seen) == 1
    handle.remove()
    assert torch.equal(stage(X), expected) and len(seen) == 1
    assert stage._find_chain(X) is not None


def test_training_and_gradients_run_block_by_block():
    stage = make_stage()
    with torch.no_grad():
        stage(X)
    stage(X).sum().backward()
    assert stage[0].conv1.weight.grad is not None
    with torch.no_grad():
        stage[1].train()(stage[0](X))
        stage[1].conv3.weight.data.neg_()  # which no version counter sees
        stage.eval()
        assert torch.equal(stage(X), stage._run_blocks(X, False))


@torch.no_grad()
def test_copies_pack_their_own_blocks():
    stage = make_stage()
    expected = stage(X)
    for twin in (copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):
        assert torch.equal(twin(X), expected)
        twin[1].conv2.weight.mul_(-1)
        assert not torch.equal(twin(X), expected)
        assert torch.equal(stage(X), expected)


@torch.no_grad()
def test_patches_larger_than_the_map_are_refused():
    net = las_mm.optimize_for_inference(TorchLASResNet(18, '4-4-7-1').eval())
    with pytest.raises(ValueError, match=r'granularity: block layer3.0 has S=7, larger than its'):
        net(torch.randn(1, 3, 64, 64))
