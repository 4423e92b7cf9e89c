"""Patches, whole blocks and channels on every family: what is skipped, counted and refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import randomize
from torch import nn

from las_mm.accounting import released_fixed_macs, released_ratios
from las_mm.models import DynamicBackbone
from las_mm.models.resnet_torch import TorchLASResNet

FAMILIES = {
    'mmdet_r18': lambda **o: build_mm('mmdet', 'LASResNet', depth=18, base_channels=8, **o),
    'mmdet_r50': lambda **o: build_mm('mmdet', 'LASResNet', depth=50, base_channels=8, **o),
    'regnety': lambda **o: build_mm('mmpretrain', 'LASRegNet', arch=SMALL_REGNET, **o),
    'densenet': lambda **o: build_mm('mmpretrain', 'LASDenseNet', arch=SMALL_DENSENET, **o),
}
SMALL_REGNET = dict(w0=8, wa=8.0, wm=2.0, group_w=8, depth=9, bot_mul=1.0, se_ratio=0.25)
SMALL_DENSENET = dict(growth_rate=8, depths=[1, 1, 2, 1], init_channels=16)
MODES = [
    dict(granularity=None, channel_groups=2),
    dict(granularity='2-2-1-1', channel_groups='2-4-2-none'),
    dict(granularity='all', channel_groups=4),
    dict(granularity=(None, 2, 'all', None), channel_groups=(None, None, 2, 8)),
]


def build_mm(framework: str, kind: str, **options) -> DynamicBackbone:
    from mmdet.registry import MODELS as mmdet_models
    from mmpretrain.registry import MODELS as mmpretrain_models

    torch.manual_seed(0)
    models = {'mmdet': mmdet_models, 'mmpretrain': mmpretrain_models}[framework]
    return randomize(models.build(dict(type=kind, **options)))


def undecide(backbone: DynamicBackbone) -> DynamicBackbone:
    """Let every masker depend on its input."""
    for masker in (m for block in backbone.blocks for m in block.maskers):
        for name, parameter in masker.named_parameters():
            nn.init.zeros_(parameter) if name.endswith('bias') else nn.init.normal_(parameter)
    return backbone


@pytest.mark.parametrize('mode', MODES, ids=str)
@pytest.mark.parametrize('family', FAMILIES)
def test_all_on_is_the_static_network_bit_for_bit(family, mode):
    backbone = FAMILIES[family](**mode).eval()
    x = torch.randn(2, 3, 64, 64)
    for masker in (m for block in backbone.blocks for m in block.maskers):
        masker.decided = torch.ones(1)
    with torch.no_grad():
        outs = backbone(x)
        cost, shares = backbone.cost(), [trace.shares for trace in backbone.traces]
        maskers = sum(block.maskers for block in cost.blocks)
        assert torch.as_tensor(cost.dynamic(shares)).unique().item() == cost.static + maskers
        for block in backbone.blocks:
            block.make_static()
        for out, wanted in zip(outs, backbone(x), strict=True):
            assert torch.equal(out, wanted)


@pytest.mark.parametrize('mode', MODES, ids=str)
@pytest.mark.parametrize('family', FAMILIES)
def test_what_is_skipped_costs_nothing_and_trains(family, mode):
    backbone = undecide(FAMILIES[family](**mode)).train()
    outs = backbone(torch.randn(2, 3, 64, 64))
    cost, shares = backbone.cost(), [trace.shares for trace in backbone.traces]
    macs = cost.dynamic(shares)
    assert all(0 < m < cost.static for m in macs.tolist())
    (macs.sum() / cost.static + sum(out.mean() for out in outs)).backward()
    for masker in (m for block in backbone.blocks for m in block.maskers):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in masker.parameters())


@pytest.mark.parametrize('family', FAMILIES)
def test_states_and_copies_carry_all_maskers(family):
    backbone = FAMILIES[family](granularity='2-all-1-none', channel_groups='2-2-none-2')
    state = backbone.state_dict()
    for masker in ('.masker.', '.branch_masker.', '.channel_masker.'):
        assert any(masker in name for name in state)
    other = FAMILIES[family](granularity='2-all-1-none', channel_groups='2-2-none-2')
    other.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for out, wanted in zip(other.eval()(x), backbone.eval()(x), strict=True):
            assert torch.equal(out, wanted)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(granularity=None), 'granularity: got None without channel_groups'),
        (dict(channel_groups='2-2-2'), "channel_groups: got '2-2-2'; give 4 integers"),
        (dict(channel_groups='all'), "channel_groups: got 'all'; give 4 integers"),
        (dict(channel_groups=0), 'channel_groups: got 0; give 4 integers >= 1'),
        (
            dict(channel_groups=7),
            'channel_groups: block layer1.0 got 7 channels per group; it must divide the 64',
        ),
        (dict(channel_groups=2, channel_masker=dict(kind='cnn')), "channel_masker.kind: got 'cnn'"),
        (dict(channel_groups=2, channel_masker=dict(layers=3)), 'channel_masker.layers: got 3'),
        (dict(channel_groups=2, channel_masker=dict(reduction=0)), 'channel_masker.reduction'),
        (dict(channel_groups=2, channel_masker=dict(hidden=3)), "channel_masker: unknown 'hidden'"),
        (dict(channel_masker=dict(layers=1)), 'without channel_groups; give both'),
        (dict(masker=dict(grid='even')), "masker.grid: got 'even'; choose one of fixed, adaptive"),
    ],
    ids=str,
)
def test_wrong_options_are_named_with_what_is_allowed(options, message):
    from mmdet.registry import MODELS

    with pytest.raises((TypeError, ValueError)) as error:
        MODELS.build(dict(type='LASResNet', depth=18, **options))
    assert message in str(error.value)
    assert '\n' not in str(error.value)


GMACS = {
    50: (4.0969, 2.8477, 1.8297, 1.0430, 0.4874),
    101: (7.8129, 5.2671, 3.1983, 1.6063, 0.4912),
}
FULL = {50: 4_091_091_944, 101: 7_803_313_128}


@pytest.mark.parametrize('depth', GMACS)
def test_macs_as_released_are_those_of_the_authors_networks(depth):
    net = TorchLASResNet(depth, None, channel_groups=2).eval()
    with torch.no_grad():
        net(torch.zeros(1, 3, 224, 224))
    for share, gmacs in zip((1, 0.75, 0.5, 0.25, 0), GMACS[depth], strict=True):
        for block in net.blocks:
            groups = block.channel_masker.channels // 2
            mask = (torch.arange(groups) < share * groups).float()[None]
            block.remember((mask,), block.last[1], 1)
        channels = 2048
        fixed = released_fixed_macs(net.stem_sizes) + channels + channels * 1000
        ratios = released_ratios(net.blocks, net.traces, fixed, 'laudnet', channels * 48 + 1000)
        assert ratios.macs.item() / 1e9 == pytest.approx(gmacs, abs=6e-5)
        full = ratios.macs.double() / ratios.network.double()
        assert full.item() == pytest.approx(FULL[depth], rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(5, 23), st.integers(5, 23), st.sampled_from([1, 2]))
def test_the_adaptive_grid_is_the_released_one_where_patches_do_not_fit(s, height, width, stride):
    from las_mm.layers import DynamicBottleneck

    block = DynamicBottleneck(4, 4, 8, s, stride, grid='adaptive').eval()
    nn.init.normal_(block.masker.conv.weight)
    nn.init.zeros_(block.masker.conv.bias)
    x = torch.randn(1, 4, height * stride, width * stride)
    if s > max(height, width):
        return
    with torch.no_grad():
        out = block(x)
    cells = max(height // s, 1), max(width // s, 1)
    pooled = nn.functional.adaptive_avg_pool2d(x, cells)
    logits = block.masker.conv(pooled)
    mask = (logits[:, :1] >= logits[:, 1:]).float()
    assert torch.equal(block.trace.mask, mask)
    wanted = nn.functional.interpolate(mask, (height, width), mode='nearest')
    assert torch.equal(block.trace.pixel_mask, wanted)
    with torch.no_grad():
        skipped = block.identity(x).relu()
    kept = wanted.bool().expand_as(out)
    assert torch.equal(out[~kept], skipped[~kept])
