"""LAS-MobileNetV2: exact against static in both frameworks; blocks without shortcut are static."""

import copy

import pytest
import torch
from mmdet.registry import MODELS as MMDET
from mmpretrain.registry import MODELS as MMPRETRAIN
from networks import always, randomize, undecided
from torch.utils.flop_counter import FlopCounterMode

import las_mm  # noqa: F401  (registers the backbones)
from las_mm.inference import optimize_for_inference
from las_mm.inference.optimizing import restore_after_inference
from las_mm.latency.description import describe_backbone
from latency_predictor import network_macs

FRAMEWORKS = {'mmdet': MMDET, 'mmpretrain': MMPRETRAIN}
OPTIONS = {
    'plain': dict(widen_factor=0.35),
    'a block without expansion skips': dict(widen_factor=0.1),
    'some outputs': dict(widen_factor=0.35, out_indices=(2, 4, 6)),
    'frozen': dict(widen_factor=0.35, frozen_stages=3),
    'norms rest': dict(widen_factor=0.35, norm_eval=True),
    'recomputed': dict(widen_factor=0.35, with_cp=True),
    'another activation': dict(widen_factor=0.35, act_cfg=dict(type='HSwish')),
    'group norm': dict(widen_factor=0.35, norm_cfg=dict(type='GN', num_groups=2)),
}
DYNAMIC = [f'layer{s}.{i}' for s, n in {2: 2, 3: 3, 4: 4, 5: 3, 6: 3}.items() for i in range(1, n)]


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def build(framework: str, dynamic: bool, **options) -> torch.nn.Module:
    """A narrow MobileNetV2 of the framework."""
    kind = 'LASMobileNetV2' if dynamic else 'MobileNetV2'
    return FRAMEWORKS[framework].build(dict(type=kind, **{'widen_factor': 0.35, **options}))


@pytest.mark.filterwarnings('ignore::UserWarning')  # mmdet's way of recomputing
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
def test_with_every_patch_on_it_is_the_static_network_exactly(framework, options):
    torch.manual_seed(0)
    static, dynamic = (build(framework, kind, **options) for kind in (False, True))
    randomize(static)
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert len(missing) == 2 * len(dynamic.blocks)
    assert all('.masker.' in name for name in missing)
    always(dynamic, keep=True)
    x = torch.randn(2, 3, 65, 47)
    for training in (True, False):
        for network in (static, dynamic):
            network.train(training)
        assert all(map(torch.equal, static(x), dynamic(x)))
    static.train(), dynamic.train()
    for name, parameter in static.named_parameters():
        assert dynamic.get_parameter(name).requires_grad == parameter.requires_grad, name
    for name, module in static.named_modules():
        if name:
            assert dynamic.get_submodule(name).training == module.training, name


def test_only_blocks_with_a_shortcut_skip(framework):
    network = undecided(build(framework, True, granularity='4-2-2-1-1'))
    network.eval()
    network(torch.randn(2, 3, 96, 64))
    assert [block.name for block in network.blocks] == DYNAMIC
    assert [trace.granularity for trace in network.traces] == [4, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    narrow = build(framework, True, widen_factor=0.1)
    assert narrow.blocks[0].name == 'layer1.0'  # 8 channels in, 8 out
    with pytest.raises(ValueError, match="granularity: got '4-4-2-1'; give 5 integers"):
        build(framework, True, granularity='4-4-2-1')


def test_skipped_pixels_carry_the_input_with_its_sign(framework):
    block = build(framework, True).layer3[1].eval()
    x = torch.randn(1, 16, 8, 8)
    block.masker.decided = torch.tensor([[[[1.0, 0], [0, 1]]]])
    out = block(x)
    assert torch.equal(out[..., :4, 4:], x[..., :4, 4:])
    assert torch.equal(out[..., 4:, :4], x[..., 4:, :4])
    assert (out[..., :4, :4] != x[..., :4, :4]).all()


def test_macs_are_those_of_torch(framework):
    network = always(build(framework, True), keep=False)
    static = build(framework, False)
    network.eval(), static.eval()
    x = torch.randn(1, 3, 96, 64)
    network(x)
    counter = FlopCounterMode(display=False)
    with counter:
        static(x)
    cost = network.cost()
    assert cost.static == counter.get_total_flops() // 2
    maskers = sum(block.maskers for block in cost.blocks)
    shares = [trace.shares for trace in network.traces]
    assert float(cost.dynamic(shares)) == cost.fixed + maskers
    assert network_macs(describe_backbone(network, (96, 64)), 1.0).static == cost.static


def test_mmengine_initialises_maskers_as_maskers(framework):
    network = build(framework, True)
    network.init_weights()
    for block in network.blocks:
        assert block.masker.conv.bias.tolist() == [5.0, 1.0]
        assert block.masker.conv.weight.abs().max() <= block.masker.conv.in_channels**-0.5


@torch.no_grad()
@pytest.mark.parametrize('executor', ['torch', 'cpu', 'auto', 'dense'])
def test_the_optimized_network_is_the_same_network(framework, executor):
    torch.manual_seed(0)
    network = undecided(randomize(build(framework, True, out_indices=(1, 3, 7))))
    network.eval()
    x = torch.randn(2, 3, 65, 47)
    expected, masks = network(x), [trace.mask for trace in network.traces]
    fast = optimize_for_inference(copy.deepcopy(network), executor)
    for _ in range(2):
        outs = fast(x)
        for out, wanted in zip(outs, expected, strict=True):
            assert (out - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        assert [t.activation_rate.tolist() for t in fast.traces] == [
            trace.activation_rate.tolist() for trace in network.traces
        ]
    assert len(masks) == len(fast.blocks)
    again = restore_after_inference(fast)(x)
    assert all(map(torch.equal, again, expected))


def test_recomputing_needs_one_decision():
    torch.manual_seed(0)
    plain, frugal = build('mmpretrain', True), build('mmpretrain', True, with_cp=True)
    frugal.load_state_dict(undecided(plain).state_dict())
    for network in (plain, frugal):
        torch.manual_seed(1)
        network.train()
        outs = network(torch.randn(2, 3, 64, 64))
        rates = sum(trace.activation_rate.mean() for trace in network.traces)
        (sum(out.square().mean() for out in outs) + rates).backward()
    for block, twin in zip(plain.blocks, frugal.blocks, strict=True):
        for a, b in zip(block.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
