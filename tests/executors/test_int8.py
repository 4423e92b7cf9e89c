"""Blocks in 8 bits give the integers of the same arithmetic in plain PyTorch."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_reference import run_reference
from random_blocks import randomize
from torch import nn

import las_mm
from las_mm.executors.cpu.int8 import RANGES, pack_bytes, why_not_quantizable
from las_mm.inference import make_static, unquantize
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops import upsample_mask
from las_mm.ops.native import build

native, reason = build.load_native()
pytestmark = pytest.mark.skipif(native is None, reason=f'no native code: {reason}')


def in_bytes(*sizes):
    return torch.randint(0, 256, sizes, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )


@st.composite
def blocks(draw):
    torch.manual_seed(draw(st.integers(0, 1000)))
    granularity, stride = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2]))
    dilation, fours = draw(st.sampled_from([1, 2])), st.integers(1, 5)
    groups, out = draw(st.sampled_from([1, 1, 2])), 4 * draw(fours)
    channels = out if stride == 1 and draw(st.booleans()) else 4 * draw(fours)
    if draw(st.booleans()):
        mid = 4 * groups * draw(fours)
        sizes = channels, mid, out, granularity, stride, dilation, groups
        block = DynamicBottleneck(*sizes)
    else:
        block = DynamicBasicBlock(channels, out, granularity, stride, dilation)
    randomize(block)
    block.eval().register_buffer(RANGES, torch.rand(len(block.branch.steps) + 2) + 0.5)
    if block.branch.shortcut is None:
        block._buffers[RANGES][-1] = block._buffers[RANGES][0]
    return block


@settings(max_examples=40)
@given(blocks(), st.data())
def test_integers_of_plain_arithmetic(block, data):
    assert why_not_quantizable([block]) is None
    n, h, w = (data.draw(st.integers(low, high)) for low, high in ((1, 2), (5, 12), (5, 12)))
    x = in_bytes(n, block.branch.steps[0].op.in_channels, h, w)
    out_h, out_w = -(-h // block.stride_product), -(-w // block.stride_product)
    grain = min(block.spatial_masker.granularity, max(out_h, out_w))
    sizes = n, 1, -(-out_h // grain), -(-out_w // grain)
    mask = (torch.rand(sizes) < data.draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))).float()
    pixels = upsample_mask(mask, grain, (out_h, out_w))
    for isa in native.int8_isas():
        packed, made = pack_bytes(block, isa)
        packed.band_bytes = data.draw(st.sampled_from([1, 1 << 20]))
        assert packed.isa == isa
        out, _ = packed.run(x, None, mask)
        assert torch.equal(out, run_reference(made, x, pixels, None))


def test_maskers_decide_on_what_the_bytes_stand_for():
    torch.manual_seed(0)
    net = quantized()
    block = net.layer2[0]
    packed, made = pack_bytes(block)
    # Few channels at a time, so that patches differ.
    few = (torch.rand(2, 64, 4, 4) < 0.1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    x = (in_bytes(2, 64, 16, 16) * few).contiguous(memory_format=torch.channels_last)
    _, mask = packed.run(x)
    assert torch.equal(mask, block.spatial_masker(x.float() * made.step))
    assert 0 < mask.mean() < 1


IMAGES = (2, 3, 64, 64)


def network(seed=0):
    torch.manual_seed(seed)
    net = TorchLASResNet(18, '4-2-2-1')
    randomize(net)
    for block in net.blocks:  # as in a trained network, so that features stay in range
        nn.init.uniform_(block.bn2.weight, 0.05, 0.15)
    return net.eval()


def quantized(seed=0):
    net = network(seed)
    return las_mm.quantize(net, [torch.randn(IMAGES) for _ in range(2)])


def optimized(net):
    return las_mm.optimize_for_inference(copy.deepcopy(net), precision='int8')


@torch.no_grad()
def test_network_near_the_float_one_with_its_masks():
    net = quantized()
    x = torch.randn(IMAGES)
    low, full = optimized(net), las_mm.optimize_for_inference(copy.deepcopy(net))
    for ours, theirs in zip(optimized(make_static(net))(x), make_static(net)(x), strict=True):
        assert 0 < (ours - theirs).norm() < 0.1 * theirs.norm()
    low(x), full(x)
    same = [
        (ours.decisions[0].mask == theirs.decisions[0].mask).float().mean()
        for ours, theirs in zip(low.traces, full.traces, strict=True)
    ]
    assert torch.stack(same).mean() > 0.9


@torch.no_grad()
def test_all_on_is_the_static_network():
    net = quantized()
    for block in net.blocks:
        nn.init.constant_(block.masker.conv.bias, 0)
        block.masker.conv.bias[0] = 1e4
    x = torch.randn(IMAGES)
    for ours, static in zip(optimized(net)(x), optimized(make_static(net))(x), strict=True):
        assert torch.equal(ours, static)


@torch.no_grad()
def test_saved_loaded_copied_and_undone():
    net = quantized()
    x = torch.randn(IMAGES)
    low = optimized(net)
    expected = low(x)
    other = network(seed=1)
    other.load_state_dict(low.state_dict())
    twins = optimized(other), pickle.loads(pickle.dumps(low)), copy.deepcopy(low)
    for twin in twins:
        assert all(map(torch.equal, twin(x), expected))
    exact = net(x)
    assert all(map(torch.equal, las_mm.restore_after_inference(low)(x), exact))
    net.load_state_dict(unquantize(network()).state_dict())
    with pytest.raises(ValueError, match='call las_mm.quantize'):
        optimized(net)


@torch.no_grad()
def test_changed_weights_are_noticed():
    low, x = optimized(quantized()), torch.randn(IMAGES)
    before = low(x)[-1]
    low.layer4[1].conv1.weight.mul_(-1)
    after = low(x)[-1]
    assert not torch.equal(before, after)
    assert torch.equal(after, optimized(las_mm.restore_after_inference(low))(x)[-1])


@torch.no_grad()
def test_whoever_looks_sees_float_blocks():
    low, seen = optimized(quantized()), []
    low.layer2[0].register_forward_hook(lambda block, args, out: seen.append(out.dtype))
    low(torch.randn(IMAGES))
    assert seen == [torch.float32]


def test_refusals():
    net = network()
    with pytest.raises(ValueError, match='images'):
        las_mm.quantize(net, [])
    with pytest.raises(ValueError, match='precision.*tools/quantize.py'):
        las_mm.optimize_for_inference(net, precision='int8')
    with pytest.raises(ValueError, match='nothing of a Conv2d'):
        las_mm.quantize(nn.Conv2d(3, 3, 1), [])
    with pytest.raises(ValueError, match='keep_weights'):
        las_mm.optimize_for_inference(quantized(), precision='int8', keep_weights=False)
