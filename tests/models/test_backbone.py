"""LASResNet keeps every option of mmdet's and mmpretrain's ResNet; every test runs in both."""

import copy

import pytest
import torch
from mmdet.registry import MODELS as MMDET
from mmpretrain.registry import MODELS as MMPRETRAIN
from networks import always, randomize, undecided

import las_mm  # noqa: F401  (registers the backbones)

FRAMEWORKS = {'mmdet': MMDET, 'mmpretrain': MMPRETRAIN}
OPTIONS = {
    'plain': {},
    'basic block': dict(depth=18),
    'one output': dict(out_indices=(2,)),
    'two outputs': dict(out_indices=(1, 3)),
    'frozen stem': dict(frozen_stages=0),
    'frozen stages': dict(frozen_stages=2),
    'norms learn': dict(norm_eval=False),
    'norms rest': dict(norm_eval=True, frozen_stages=1),
    'caffe': dict(style='caffe'),
    'recomputed': dict(with_cp=True),
    'dilated': dict(dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)),
    'dilated, basic block': dict(depth=18, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)),
    'ResNet-D': dict(deep_stem=True, avg_down=True),
    'wide stem': dict(stem_channels=16),
    'group norm': dict(norm_cfg=dict(type='GN', num_groups=2)),
    'grey images': dict(in_channels=1),
    'last norm counts': dict(zero_init_residual=False),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def build(framework: str, dynamic: bool, **options) -> torch.nn.Module:
    """A narrow ResNet of the framework, static or dynamic."""
    options = {'depth': 50, 'base_channels': 4, 'stem_channels': 4, **options}
    if dynamic:
        stages = options.get('num_stages', 4)
        options = {'granularity': (2, 2, 1, 1)[:stages], **options}
    kind = 'LASResNet' if dynamic else 'ResNet'
    return FRAMEWORKS[framework].build(dict(type=kind, **options))


def in_mode(network: torch.nn.Module, training: bool) -> torch.nn.Module:
    """The network itself, which OpenMMLab's ``train`` does not return."""
    network.train(training)
    return network


def images(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 65, 47)


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
def test_with_every_patch_on_it_is_the_static_network_exactly(framework, options):
    torch.manual_seed(0)
    static, dynamic = (build(framework, kind, **options) for kind in (False, True))
    randomize(static)
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all('.masker.' in name for name in missing)
    always(dynamic, keep=True)
    x = images(options.get('in_channels', 3))
    for training in (True, False):
        wanted, outs = (in_mode(network, training)(x) for network in (static, dynamic))
        assert all(torch.equal(a, b) for a, b in zip(wanted, outs, strict=True))
    # What training moved beside the weights, and what it may move.
    for name, buffer in static.named_buffers():
        if not options.get('with_cp'):  # the static block counts a recomputed batch twice
            assert torch.equal(buffer, dynamic.get_buffer(name)), name
    in_mode(static, True), in_mode(dynamic, True)
    for name, parameter in static.named_parameters():
        assert dynamic.get_parameter(name).requires_grad == parameter.requires_grad, name
    for name, module in static.named_modules():
        if name:
            assert dynamic.get_submodule(name).training == module.training, name


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_names_are_the_static_ones_and_one_masker_a_block(framework, depth):
    static, dynamic = (build(framework, kind, depth=depth) for kind in (False, True))
    names = set(dynamic.state_dict())
    assert names > set(static.state_dict())
    added = names - set(static.state_dict())
    assert len(dynamic.blocks) == {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}[depth]
    assert added == {
        f'{block.name}.masker.conv.{kind}'
        for block in dynamic.blocks
        for kind in ('weight', 'bias')
    }


def test_one_s_per_stage_at_any_input_size(framework):
    network = in_mode(undecided(build(framework, True, granularity='4-3-2-1')), False)
    for size in ((64, 64), (97, 50), (33, 130)):
        network(torch.randn(1, 3, *size))
        for trace, block in zip(network.traces, network.blocks, strict=True):
            stage = int(trace.name[5]) - 1
            assert block.masker.granularity == (4, 3, 2, 1)[stage]
            assert trace.size == tuple(-(-edge // 2 ** (2 + stage)) for edge in size)
            assert trace.mask.shape[2:] == tuple(-(-e // (4, 3, 2, 1)[stage]) for e in trace.size)


def test_fewer_stages(framework):
    options = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    network = in_mode(build(framework, True, granularity='4-2-1', **options), False)
    assert network(images())[-1].shape == (2, 64, 5, 3)
    with pytest.raises(ValueError, match="granularity: got '4-4-2-1'; give 3 integers"):
        build(framework, True, granularity='4-4-2-1', **options)


@pytest.mark.parametrize('freeze', [False, True])
def test_maskers_of_frozen_stages_learn_unless_told_otherwise(framework, freeze):
    network = build(framework, True, frozen_stages=1, freeze_maskers=freeze)
    for _ in ('as built', 'training'):
        frozen, free = network.layer1[0].masker, network.layer2[0].masker
        assert all(p.requires_grad is not freeze for p in frozen.parameters())
        assert all(p.requires_grad for p in free.parameters())
        assert not any(p.requires_grad for p in network.layer1[0].conv1.parameters())
        assert (frozen.training, free.training) == (not freeze, True)
        network.train()
    network.eval()
    assert not network.layer1[0].masker.training


def test_drop_path_drops_the_branch_of_whole_samples():
    torch.manual_seed(0)
    network = in_mode(build('mmpretrain', True, drop_path_rate=0.999), True)
    always(network, keep=True)
    last, kept = network.layer4[-1], {}
    last.conv3.register_forward_hook(lambda _, args, out: kept.setdefault('branch', out))
    x = torch.randn(2, 128, 3, 3).relu()
    assert torch.equal(last(x), x)
    assert kept['branch'].abs().sum() > 0


def test_recomputing_needs_one_decision(framework):
    torch.manual_seed(0)
    plain = in_mode(build(framework, True, norm_eval=False), True)
    frugal = in_mode(build(framework, True, norm_eval=False, with_cp=True), True)
    frugal.load_state_dict(plain.state_dict())
    x = images()
    for network in (plain, frugal):
        torch.manual_seed(1)
        outs = network(x)
        rates = sum(trace.activation_rate.mean() for trace in network.traces)
        (sum(out.square().mean() for out in outs) + rates).backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), b in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_traces_and_cost_need_a_forward(framework):
    network = build(framework, True)
    assert network.traces == []
    with pytest.raises(ValueError, match='traces: there are none before the first forward'):
        network.cost()


def test_a_copy_is_independent(framework):
    network = in_mode(build(framework, True), False)
    network(images())
    twin = copy.deepcopy(network)
    always(twin, keep=False)(images())
    assert twin.traces[0].activation_rate.max() == 0 < network.traces[0].activation_rate.min()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depth=77), 'depth: got 77; choose one of 18, 34, 50, 101, 152'),
        (dict(granularity='4-4-7'), "granularity: got '4-4-7'; give 4 integers"),
        (dict(granularity=(4, 4, 0, 1)), r'granularity: got \(4, 4, 0, 1\)'),
        (dict(executor='fast'), "executor: got 'fast'; choose one of dense, "),
        (dict(plugins=[dict(cfg=dict(type='ContextBlock'))]), 'plugins: got .*leave plugins out'),
        (dict(dcn=dict(type='DCN')), 'dcn: got .*leave dcn out'),
    ],
)
def test_wrong_options_are_named(framework, options, message):
    with pytest.raises(ValueError, match=message):
        build(framework, True, **options)


def test_a_patch_larger_than_its_stage_names_block_size_and_choice(framework):
    network = in_mode(build(framework, True, granularity='4-4-2-9'), False)
    with pytest.raises(ValueError, match=r'block layer4\.0 has S=9, .*2x2 .*choose S <= 2'):
        network(torch.zeros(1, 3, 64, 64))
