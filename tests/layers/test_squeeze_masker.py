"""DynConv's masker, blocks and loss give what the authors' code gives; executors follow them."""

import json
from math import prod, sin
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS as MMDET
from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual
from mmpretrain.registry import MODELS as MMPRETRAIN
from random_blocks import randomize

import las_mm  # noqa: F401  (registers the backbones)
from las_mm.accounting import BlockCost
from las_mm.executors import find_executor
from las_mm.layers import DILATED, SITES, DynamicBasicBlock, DynamicBottleneck, Work
from las_mm.losses import bounds_loss, flops_loss, open_bounds
from las_mm.models.mobilenet_mmpretrain import LASInvertedResidual
from las_mm.ops.native import build

DATA = json.loads((Path(__file__).parents[1] / 'data' / 'dynconv.json').read_text())['cases']
SCALES = dict(var=(1, 0.3), mean=(0, 0.1), scale=(1, 0.2), bias=(0, 0.1))


def parameter(k: int, shape: list[int], kind: str) -> torch.Tensor:
    """A parameter by the formula of the data."""
    base, factor = SCALES.get(kind, (0, 1.5 / prod(shape[1:]) ** 0.5))
    values = [base + factor * sin(0.7 * i + 1.3 * k) for i in range(prod(shape))]
    return torch.tensor(values).view(shape)


def parameters(case: dict) -> dict[str, torch.Tensor]:
    found = {name: parameter(**entry) for name, entry in case['parameters'].items()}
    found.update({name: torch.tensor(v) for name, v in case.get('overrides', {}).items()})
    return {name.replace('maskconv.', ''): value for name, value in found.items()}


def image(case: dict) -> torch.Tensor:
    shape = case['input']
    return torch.tensor([sin(0.37 * i + 0.5) for i in range(prod(shape))]).view(shape)


def check(block: torch.nn.Module, case: dict, logits: torch.Tensor) -> None:
    """Logits, mask and output, of the dense forward and of every executor."""
    x = image(case)
    torch.testing.assert_close(logits.flatten(), torch.tensor(case['logits']), atol=1e-5, rtol=0)
    for name in ('dense', 'torch', 'cpu'):
        block.executor = find_executor(name)
        out = block(x)
        assert block.trace.mask.flatten().tolist() == case['mask']
        wanted = torch.tensor(case['output'])
        torch.testing.assert_close(out.flatten(), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize('name', ['basic', 'basic_stride2', 'bottleneck'])
def test_blocks_with_its_masker_are_the_authors(name):
    case = DATA[f'dynconv_{name}']
    loaded, channels = parameters(case), case['input'][1]
    out_channels = loaded['conv2.weight'].shape[0]
    if name == 'bottleneck':
        block = DynamicBottleneck(channels, out_channels, channels, 1)
    else:
        block = DynamicBasicBlock(channels, out_channels, 1, case['stride'])
    block.make_dynamic(1, kind='squeeze')
    block.load_state_dict(loaded, strict=False)
    block.eval()
    check(block, case, block.masker.logits(image(case))[:, 0])


@torch.no_grad()
def test_the_inverted_residual_is_the_authors():
    case = DATA['dynconv_inverted_residual']
    loaded, channels = parameters(case), case['input'][1]
    block = InvertedResidual(channels, channels, 1, case['expand_ratio'])
    block.__class__ = LASInvertedResidual
    block.make_dynamic(1)
    block.eval()
    places = {'0': '0.conv', '1': '0.bn', '3': '1.conv', '4': '1.bn', '6': '2.conv', '7': '2.bn'}
    for name, value in loaded.items():
        part, index, *rest = name.split('.')
        if part == 'conv':
            block.state_dict()[f'conv.{places[index]}.{rest[0]}'].copy_(value)
    for name in ('weight', 'bias'):  # one logit: the other one is zero
        value = getattr(block.masker.conv, name).zero_()
        value[:1] = loaded[f'masker.{name}']
    logits = block.masker.logits(image(case))
    check(block, case, logits[:, 0])


@pytest.mark.parametrize('epoch', [0, 5, 16, 33, 60])
def test_the_loss_is_the_authors(epoch):
    case = DATA['dynconv_sparsity_loss']
    ratios, active, total = [], 0.0, 0.0
    for plain, pixels, macs, needed, dilated, dilated_macs in case['blocks']:
        works = (
            Work('conv1', dilated * dilated_macs, (DILATED,)),
            Work('conv2', pixels * macs, (SITES,)),
            Work('shortcut', 12345),
        )
        cost = BlockCost(works, maskers=678)
        skipped = cost.skippable({SITES: plain / pixels, DILATED: needed / dilated})
        ratios.append(skipped / cost.skippable({SITES: 1.0, DILATED: 1.0}))
        active, total = active + skipped, total + cost.skippable({SITES: 1.0, DILATED: 1.0})
    limits = open_bounds(epoch / 100, case['target'])
    loss = flops_loss(torch.tensor(active / total), case['target'])
    loss = loss + bounds_loss(torch.tensor(ratios), *limits)
    assert float(loss) == pytest.approx(case['values'][f'epoch {epoch} of 100'], abs=1e-5)


@st.composite
def squeezed(draw: st.DrawFn) -> torch.nn.Module:
    """Residual blocks with DynConv's masker."""
    stride, channels = draw(st.sampled_from([1, 2])), draw(st.sampled_from([2, 4, 8, 16]))
    if draw(st.booleans()):
        block = DynamicBottleneck(channels, 4, channels, 1, stride)
    else:
        block = DynamicBasicBlock(channels, channels, 1, stride)
    randomize(block, draw(st.integers(0, 99)))
    block.make_dynamic(1, kind='squeeze')
    return block.eval()


@pytest.mark.parametrize('name', ['torch', 'cpu', 'auto'])
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_executors_decide_as_it_does(name, data):
    if name == 'cpu' and build.load_native()[0] is None:
        pytest.skip('no native extension here')
    block = data.draw(squeezed())
    size = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    x = torch.randn(data.draw(st.integers(1, 3)), block.conv1.in_channels, *size)
    with torch.no_grad():
        expected, mask = block(x), block.trace.mask
        block.executor = find_executor(name)
        out = block(x)
    assert torch.equal(block.trace.mask, mask)
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_training_is_straight_through_and_may_be_without_noise():
    block = DynamicBasicBlock(4, 4, 1)
    block.make_dynamic(1, kind='squeeze')
    masker, x = block.masker, torch.randn(2, 4, 6, 6)
    masker.noise, masker.temperature = False, 2.5
    mask = masker.train()(x)
    logit = masker.logit(x)
    assert torch.equal(mask.detach(), (logit >= 0).float())
    mask.sum().backward()
    gradient = masker.fc.bias.grad.item()
    soft = torch.sigmoid(logit / 2.5)
    assert gradient == pytest.approx((soft * (1 - soft) / 2.5).sum().item(), rel=1e-5)
    masker.noise = True
    assert any(not torch.equal(masker(x), mask) for _ in range(5))


@pytest.mark.parametrize(
    ('registry', 'options'),
    [
        (MMDET, dict(type='LASResNet', depth=18, base_channels=4, stem_channels=4)),
        (MMPRETRAIN, dict(type='LASResNet', depth=50, base_channels=4, stem_channels=4)),
        (MMPRETRAIN, dict(type='LASResNetCIFAR', depth=8)),
        (MMPRETRAIN, dict(type='LASRegNet', arch='regnety_400mf')),
        (MMDET, dict(type='LASMobileNetV2', widen_factor=0.35)),
        (MMPRETRAIN, dict(type='LASMobileNetV2', widen_factor=0.35)),
    ],
)
def test_every_backbone_can_have_it(registry, options):
    torch.manual_seed(0)
    stages = {'LASResNetCIFAR': 3, 'LASMobileNetV2': 5}.get(options['type'], 4)
    grain = '-'.join('1' * stages)
    network = registry.build(dict(options, granularity=grain, masker=dict(kind='squeeze')))
    network.train()
    outs = network(torch.randn(2, 3, 64, 64))
    rates = sum(trace.activation_rate.mean() for trace in network.traces)
    (rates + sum(out.mean() for out in outs)).backward()
    for block in network.blocks:
        assert block.masker.conv.weight.grad is not None, block.name
        assert block.trace.mask.shape[2:] == block.trace.size
    assert network.cost().static > 0


@pytest.mark.parametrize(
    ('granularity', 'options', 'message'),
    [
        (2, dict(kind='squeeze'), r"granularity: got 2 with masker kind 'squeeze'.*give 1 for"),
        ('all', dict(kind='squeeze'), "granularity: got 'all' with masker kind 'squeeze'"),
        (1, dict(kind='squeeze', keep_bias=3.0), "masker: got 'keep_bias' with kind 'squeeze'"),
        (1, dict(kind='conv'), "masker.kind: got 'conv'; choose one of pool, squeeze"),
    ],
)
def test_wrong_options_are_named(granularity, options, message):
    with pytest.raises(ValueError, match=message):
        DynamicBasicBlock(4, 4, 1).make_dynamic(granularity, **options)
