"""Outputs, decisions and MACs that LAUDNet's own modules gave for known weights."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from las_mm.accounting import block_cost, released_ratios
from las_mm.layers import DynamicBlock, DynamicBottleneck

CASES = json.loads((Path(__file__).parent / 'released' / 'blocks.json').read_text())
BLOCKS = [name for name in CASES if not name.endswith('loss')]
RENAMED = (
    (r'^f\.', ''),
    (r'^([abc])\.([01])\.', lambda m: f'{("conv", "bn")[int(m[2])]}{"abc".index(m[1]) + 1}.'),
    (r'^masker_spatial\.', 'masker.'),
    (r'^masker_channel\.', 'channel_masker.'),
)


def waves(k: float, shape: list[int], kind: str) -> Tensor:
    """The weights of all cases: sines of an element's index."""
    count = int(torch.tensor(shape).prod())
    wave = torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + 1.3 * k)
    scale = {'var': 0.3, 'mean': 0.1, 'scale': 0.2, 'bias': 0.1}.get(kind)
    offset = 1.0 if kind in ('var', 'scale') else 0.0
    scale = scale or 1.5 / (count / shape[0]) ** 0.5
    return (offset + scale * wave).float().reshape(shape)


def our_name(name: str, layer: bool) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return re.sub('^masker', 'branch_masker', name) if layer else name


def build(case: dict) -> DynamicBlock:
    shapes = {name: spec['shape'] for name, spec in case['parameters'].items()}
    layer, regnet = case['mode'] == 'layer', 'f.a.0.weight' in shapes
    weights = {
        our_name(name, layer): waves(**spec) for name, spec in case['parameters'].items()
    } | {our_name(name, layer): torch.tensor(v) for name, v in case['overrides'].items()}
    middle, inputs = weights['conv1.weight'].shape[:2]
    granularity = {'channel': None, 'layer': 'all'}.get(case['mode'], case['S'])
    block = DynamicBottleneck(
        inputs,
        middle,
        len(weights['conv3.weight']),
        granularity,
        case['stride'],
        groups=middle // case.get('group_width', middle),
        squeeze_channels=len(weights['se.fc1.bias']) if regnet else 0,
        channel_groups=case['G'] if case['mode'] in ('channel', 'both') else None,
        channel_masker=masker_options(weights),
    )
    if regnet:
        block.zeroes_channels = True
        block.se.pools_all = True
    missing, unexpected = block.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith('num_batches_tracked') for name in missing)
    return block.eval()


def masker_options(weights: dict[str, Tensor]) -> dict:
    if 'channel_masker.linear.weight' in weights:
        hidden, inputs = weights['channel_masker.conv.0.weight'].shape[:2]
        return dict(kind='conv_linear', reduction=inputs // hidden)
    return dict(layers=1 if 'channel_masker.conv.weight' in weights else 2)


@pytest.mark.parametrize('name', BLOCKS)
def test_outputs_and_decisions_are_those_of_the_released_block(name):
    case = CASES[name]
    block = build(case)
    count = torch.tensor(case['input']).prod()
    x = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + 0.5).float()
    with torch.no_grad():
        out = block(x.reshape(case['input']))
    wanted = torch.tensor(case['output']).reshape(out.shape)
    assert torch.allclose(out, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)
    trace = block.trace
    for masker, mask in case['masks'].items():
        ours = trace.channels if 'channel' in masker else trace.spatial
        assert ours.mask.flatten().tolist() == mask
    assert trace.channel_rate.mean().item() == pytest.approx(case['channel'])
    assert trace.activation_rate.mean().item() == pytest.approx(case['spatial'][0])
    assert trace.dilated_rate.mean().item() == pytest.approx(case['spatial'][2], abs=1e-6)


@pytest.mark.parametrize('name', BLOCKS)
def test_macs_as_released_are_those_that_the_authors_code_counted(name):
    case = CASES[name]
    block = build(case)
    count = torch.tensor(case['input']).prod()
    with torch.no_grad():
        block(
            torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + 0.5)
            .float()
            .reshape(case['input'])
        )
    ratios = released_ratios([block], [block.trace], fixed=0)
    assert ratios.macs.item() == pytest.approx(case['flops'], rel=1e-6)
    assert ratios.blocks.item() == pytest.approx(case['flops_ratio'], abs=1e-6)


def test_every_case_skips_something():
    assert len(BLOCKS) == 9
    assert all(0 in mask for n in BLOCKS for mask in CASES[n]['masks'].values())


@pytest.mark.parametrize('name', BLOCKS)
def test_all_on_is_the_static_block_bit_for_bit(name):
    block = build(CASES[name])
    x = torch.randn(CASES[name]['input'])
    for masker in block.maskers:
        masker.decided = torch.ones(1)
    with torch.no_grad():
        out = block(x)
        assert block.trace.activation_rate.mean() == block.trace.channel_rate.mean() == 1
        block.make_static()
        assert torch.equal(block(x), out)


def test_macs_are_counted_per_image_and_per_pair_of_channels():
    block = build(CASES['bottleneck_channel_mlp2_g2'])
    x = torch.randn(2, 16, 6, 6)
    block.channel_masker.decided = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    with torch.no_grad():
        block(x)
    cost = block_cost(block, block.trace)
    first, second, third = 16 * 4 * 36, 9 * 4 * 4 * 36, 4 * 16 * 36
    pool, linear = 16 * 36, 16 * 16 + 16 * 4
    assert cost.static == first + second + third
    assert cost.maskers == pool + linear
    assert cost.dynamic(block.trace.shares).tolist() == [
        first / 2 + second / 4 + third / 2 + cost.maskers,
        cost.static + cost.maskers,
    ]


def test_in_a_grouped_convolution_pairs_are_those_within_its_groups():
    block = build(CASES['regnety_channel_g2'])
    block.channel_masker.decided = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    with torch.no_grad():
        block(torch.randn(2, 8, 6, 6))
    # One of two groups computed whole, and a half of each: a half against a quarter of its MACs.
    assert block.trace.shares['channel_pairs'].tolist() == [0.5, 0.25]
    work = next(w for w in block_cost(block, block.trace).works if w.name == 'conv2')
    assert work.runs_at == ('channel_pairs',)


@pytest.mark.parametrize('name', [n for n in BLOCKS if 'channel' in n or 'both' in n])
def test_training_learns_what_to_skip(name):
    block = build(CASES[name]).train()
    x = torch.randn(CASES[name]['input'])
    out = block(x)
    cost = block_cost(block, block.trace).dynamic(block.trace.shares)
    for value in (out.square().sum(), cost.sum()):
        block.zero_grad()
        value.backward(retain_graph=True)
        gradients = [p.grad for p in block.channel_masker.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert block.channel_masker.last.bias.grad.abs().sum() > 0
