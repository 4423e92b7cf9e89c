"""Dynamic vision transformers: AdaViT's outputs, the static network's, costs and losses."""

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from detectors import build_model
from mmpretrain.models.backbones import T2T_ViT, VisionTransformer
from runs import runner_of
from torch import nn
from torch.nn.utils import parametrizations, prune
from vits import ARCH, small, undecide

from las_mm.inference import optimize_for_inference, restore_after_inference
from las_mm.layers import BLOCKS, HEADS, TOKENS
from las_mm.models.transformer_mmpretrain import (
    LASEncoderLayer,
    LASVisionTransformer,
)
from las_mm.reports.bars import BAR_COMPUTED
from las_mm.reports.html.page import render_page
from las_mm.reports.masks import mask_panels
from las_mm.reports.rates import RateMeter
from las_mm.reports.report import build_report, rate_columns, render

CASES = json.loads((Path(__file__).parents[1] / 'layers' / 'released' / 'adavit.json').read_text())
RENAMED = {
    'norm1': 'ln1',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
    'attn.token_select': 'token_masker',
    'head_select': 'head_masker',
    'layer_select': 'block_masker',
}
ALL = ('tokens', 'heads', 'blocks')


def released_weight(k: int, shape: list[int], kind: str) -> torch.Tensor:
    """The parameter of the formula that the outputs were made with."""
    wave = torch.sin(0.7 * torch.arange(prod(shape), dtype=torch.float64) + 1.3 * k)
    wave = wave.reshape(shape)
    scale = {'scale': 1 + 0.2 * wave, 'bias': 0.1 * wave}
    return (scale[kind] if kind in scale else 1.5 * wave / prod(shape[1:]) ** 0.5).float()


def released_block(case: dict) -> LASEncoderLayer:
    block = LASEncoderLayer(16, 4, 48, qkv_bias=False)
    policies = {
        name: {'threshold': threshold}
        for name, key, threshold in (
            ('tokens', 'token', 0.6),
            ('heads', 'head', 0.5),
            ('blocks', 'layer', 0.5),
        )
        if case[key] is not None
    }
    block.make_dynamic(policies)
    weights = {n: released_weight(**p) for n, p in case['parameters'].items()}
    qkv = [weights.pop(f'attn.{part}.weight') for part in ('query', 'key', 'value')]
    state = {'attn.qkv.weight': torch.cat(qkv)}
    for name, weight in weights.items():
        for theirs, ours in RENAMED.items():
            name = name.replace(f'{theirs}.', f'{ours}.')
        state[name] = weight
    block.load_state_dict(state)
    block.grid = (3, 3)
    return block.eval()


@pytest.mark.parametrize('name', CASES)
def test_blocks_are_those_of_adavit(name):
    case = CASES[name]
    block = released_block(case)
    count = prod(case['input'])
    x = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + 0.5).float()
    with torch.no_grad():
        out = block(x.reshape(case['input']))
    assert (out.flatten() - torch.tensor(case['output'])).abs().max() < 1e-5
    decided = {d.axis: d.mask.flatten().tolist() for d in block.trace.decisions}
    assert decided.get(HEADS) == case['head']
    assert decided.get(BLOCKS) == case['layer']
    if case['token'] is not None:
        tokens = block.spread_tokens(block.last[0][0])
        assert tokens.flatten().tolist() == case['token']


def static(kind: str, net: nn.Module) -> nn.Module:
    """mmpretrain's network with the same weights."""
    if kind == 'vit':
        other = VisionTransformer(ARCH, img_size=64)
    else:
        cfg = dict(num_heads=6)
        other = T2T_ViT(64, embed_dims=24, num_layers=3, t2t_cfg=dict(token_dims=8), layer_cfgs=cfg)
    missing = net.load_state_dict(other.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert missing.missing_keys and all('masker' in name for name in missing.missing_keys)
    other.eval()  # returns nothing
    return other


@pytest.mark.parametrize('kind', ['vit', 't2t'])
def test_all_on_is_the_static_network_bit_for_bit(kind):
    net = small(kind)
    other = static(kind, net)
    for block in net.blocks:
        for masker in block.maskers:
            nn.init.constant_(masker.mlp_head.bias, 99)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(images)[0], other(images)[0])
    cost = net.cost()
    assert cost.dynamic([t.shares for t in net.traces])[0] == cost.static + sum(
        block.maskers for block in cost.blocks
    )


@pytest.mark.parametrize('arch, gmacs', [('deit-small', 4.6), ('deit-tiny', 1.25)])
def test_macs_are_the_published_ones(arch, gmacs):
    net = LASVisionTransformer(arch).eval()
    with torch.no_grad():
        net(torch.randn(1, 3, 224, 224))
    assert net.cost().static / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_nothing_on_leaves_tokens_as_they_were():
    net = small(keep_layers=0, final_norm=False, out_type='raw')
    for block in net.blocks:
        nn.init.constant_(block.block_masker.mlp_head.bias, -99)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before, _ = net.patch_embed(images)
        out = net(images)[0]
    assert torch.equal(out[:, 1:], before + net.pos_embed[:, 1:])
    cost = net.cost()
    least = cost.fixed + sum(block.maskers for block in cost.blocks)
    assert cost.dynamic([t.shares for t in net.traces])[0] == least


@pytest.mark.parametrize('patch', [1, 2, 3])
def test_tokens_are_decided_on_in_patches_of_their_grid(patch):
    net = undecide(small(token_patch=patch, policies=('tokens',)))
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 80))
    for trace in net.traces:
        decision = trace.spatial
        assert decision.axis == TOKENS and decision.pixels.shape[2:] == (4, 5)
        assert decision.mask.shape[2:] == (-(-4 // patch), -(-5 // patch))
        kept = decision.pixels.sum((1, 2, 3)) + 1
        assert torch.allclose(trace.shares[TOKENS], kept / 21)


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
def test_gradients_of_the_macs_reach_every_masker(mode):
    net = undecide(small(head_mode=mode)).train()
    out = net(torch.randn(8, 3, 64, 64))[0]
    cost = net.cost()
    (cost.dynamic([t.shares for t in net.traces]).mean() / cost.static + out.sum()).backward()
    for block in net.blocks:
        for masker in block.maskers:
            assert masker.mlp_head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(policies=('token',)), 'policies'),
        (dict(policies=()), 'policies'),
        (dict(keep_layers=3), 'keep_layers'),
        (dict(thresholds=dict(tokens=1.5)), 'token_threshold'),
        (dict(thresholds=dict(token=0.5)), 'thresholds'),
        (dict(token_patch=0), 'token_patch'),
        (dict(head_mode='both'), 'head_mode'),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
@pytest.mark.parametrize('kind', ['vit', 't2t'])
@pytest.mark.parametrize('policies', [ALL, ('tokens',), ('heads',), ('blocks',)])
def test_skipping_equals_the_dense_forward(kind, mode, policies):
    options = dict(head_mode=mode, policies=policies, tokens_with_mlp=mode != 'hidden')
    net = undecide(small(kind, **options)).double()
    images = torch.randn(5, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        dense = net(images)[0]
        masks = [d.mask for trace in net.traces for d in trace.decisions]
        assert any(0 < mask.mean() < 1 for mask in masks)
        net.executor = 'torch'
        assert net.blocks[0]._choose(images) is not None
        sparse = net(images)[0]
    assert torch.allclose(dense, sparse, atol=1e-9)
    others = [d.mask for trace in net.traces for d in trace.decisions]
    assert all(torch.equal(*pair) for pair in zip(masks, others, strict=True))


def test_optimized_models_skip_and_can_be_restored():
    net = undecide(small())
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        dense = net(images)[0]
        optimized = optimize_for_inference(net)
        assert net.executor == 'auto'
        assert net.blocks[0]._choose(images) is not None
        assert torch.allclose(optimized(images)[0], dense, atol=1e-5)
        restore_after_inference(net)
        assert net.executor == 'dense' and torch.equal(net(images)[0], dense)


class Adapted(nn.Linear):
    """A linear layer with a forward of its own, as adapters have it."""

    def forward(self, x):
        return super().forward(x) + 0.5 * x.mean(-1, keepdim=True)


def adapt(block) -> None:
    block.attn.qkv.__class__ = Adapted


def mask_weights(block) -> None:
    prune.random_unstructured(block.ffn.layers[1], 'weight', 0.5)


def parametrize(block) -> None:
    parametrizations.weight_norm(block.attn.proj)


def hook(block) -> None:
    block.ffn.layers[0][0].register_forward_hook(lambda module, args, out: out * 0.5)


def override(block) -> None:
    block.__class__ = type('Own', (type(block),), {'_mlp': lambda self, x, *masks: x * 0.1})


@pytest.mark.parametrize('change', [adapt, mask_weights, parametrize, hook, override])
def test_layers_that_are_not_what_their_class_suggests_run_as_they_are(change):
    net = undecide(small())
    change(net.blocks[1])
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        dense = net(images)[0]
        net.executor = 'torch'
        assert net.blocks[1]._choose(images) is None
        assert net.blocks[2]._choose(images) is not None
        assert torch.allclose(net(images)[0], dense, atol=1e-5)


def test_a_training_pulls_the_macs_to_their_target(tmp_path):
    backbone = dict(type='LASVisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    head = dict(type='LinearClsHead', num_classes=10, in_channels=24)
    model = dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head)
    hooks = [
        dict(type='GumbelTemperatureHook', start=5.0, end=0.1),
        dict(type='SparsityLossHook', target=0.5),
    ]
    runner = runner_of(tmp_path, model=build_model(model), custom_hooks=hooks, epochs=2)
    net = runner.model.backbone
    weights = [m.mlp_head.weight for block in net.blocks for m in block.maskers]
    before = [weight.detach().clone() for weight in weights]
    runner.train()
    assert not any(torch.equal(*pair) for pair in zip(before, weights, strict=True))
    logged = runner.message_hub.log_scalars
    assert {'train/token_rate', 'train/head_rate', 'train/block_rate', 'train/flops_ratio'} <= set(
        logged
    ), list(logged)


def test_reports_and_pictures_show_tokens_and_heads():
    net = undecide(small())
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    meter = RateMeter()
    meter.update(net.traces, net.cost(), (64, 64))
    report = build_report(meter, None, net.granularity, [], 'fp32', net.channel_groups)
    assert render(report)
    for row, trace in zip(report['blocks'], net.traces, strict=True):
        assert row['activation_rate'] == pytest.approx(float(trace.shares[TOKENS].mean()))
        heads = trace.shares.get(HEADS)
        assert row.get('channel_rate') == (None if heads is None else pytest.approx(heads.mean()))
    assert set(rate_columns(report['stages'])) == {'tokens', 'heads', 'attention', 'MLP'}
    page = render_page(report)
    for name in ('tokens', 'heads', 'attention', 'MLP'):
        assert f'Share of {name} that each block computes' in page
    assert 'dilated rate' not in page


def test_pictures_show_tokens_heads_attention_and_mlp():
    net = undecide(small())
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    picture = np.full((64, 64, 3), 200, np.uint8)
    panels = mask_panels(picture, net.traces, 'block', 1, (64, 64))
    assert 'S=1' in panels[0].title and 'h=' not in panels[0].title
    assert panels[0].image.shape == picture.shape
    heads, halves = (
        next(d.mask[1] for d in net.traces[1].decisions if d.axis == a) for a in (HEADS, BLOCKS)
    )
    shown = panels[1].image
    assert f'h={heads.mean():.2f}' in panels[1].title
    tokens = net.traces[1].pixel_mask[1, 0].bool()
    bright = torch.from_numpy(shown[8:64:16, 8::16, 0] == 200)
    assert torch.equal(bright, tokens)
    below = shown[64:]
    for row, parts in ((below.shape[0] // 2 - 1, heads), (below.shape[0] - 1, halves)):
        middles = [(2 * i + 1) * 64 // (2 * len(parts)) for i in range(len(parts))]
        assert [below[row, x, 0] == BAR_COMPUTED[0] for x in middles] == [bool(p) for p in parts]


@pytest.mark.parametrize(
    'options',
    [
        dict(patch_size=8),
        dict(patch_size=8, patch_cfg=dict(kernel_size=16, stride=8, padding=4)),
        dict(patch_size=8, patch_cfg=dict(conv_type='ConvStem')),
    ],
)
@pytest.mark.parametrize('size', [(64, 64), (60, 84)])
def test_tokens_and_macs_of_the_stem_are_counted(options, size):
    net = LASVisionTransformer(ARCH, img_size=64, **options).eval()
    macs, tokens = [], []

    def count(conv, args, out):
        macs.append(conv.weight.numel() * prod(out.shape[2:]))
        tokens[:] = [tuple(out.shape[2:])]

    for module in net.patch_embed.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.randn(1, 3, *size))
    assert net.token_grid(size) == net.layers[0].grid == tokens[0]
    assert net.stem_macs(size) == sum(macs)


@pytest.mark.parametrize(
    'options',
    [
        dict(patch_size=12),
        dict(patch_size=8, patch_cfg=dict(kernel_size=16, stride=8)),
        dict(patch_size=8, patch_cfg=dict(padding=4)),
    ],
)
def test_a_stem_of_convolutions_halves_to_whole_patches(options):
    patch_cfg = dict(options.pop('patch_cfg', {}), conv_type='ConvStem')
    with pytest.raises(ValueError, match='patch_size: got .* with ConvStem choose one power of'):
        VisionTransformer(ARCH, img_size=64, patch_cfg=patch_cfg, **options)
