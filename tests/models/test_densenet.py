"""LAS-DenseNet: exact against static, zeros where skipped, known sizes."""

import copy
from dataclasses import replace
from math import prod

import pytest
import torch
from mmpretrain.registry import MODELS
from networks import always, decide, randomize, undecided
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import las_mm  # noqa: F401  (registers the backbones)
from las_mm.inference import optimize_for_inference
from las_mm.latency.description import describe_backbone, require_description
from las_mm.ops import upsample_mask
from las_mm.reports.rates import RateMeter
from las_mm.reports.report import build_report, render

SMALL = dict(growth_rate=4, depths=[2, 3, 2, 2], init_channels=8)


def build(kind: str = 'LASDenseNet', **options) -> torch.nn.Module:
    """A narrow DenseNet, static or dynamic."""
    options = {'arch': SMALL, 'out_indices': [0, 1, 2, 3], **options}
    if kind == 'LASDenseNet':
        options.setdefault('granularity', '4-2-2-1')
    return MODELS.build(dict(type=kind, **options))


@pytest.mark.parametrize('options', [{}, dict(frozen_stages=2), dict(memory_efficient=True)])
def test_with_every_patch_on_it_is_the_static_network_exactly(options):
    torch.manual_seed(0)
    static, dynamic = build('DenseNet', **options), build(**options)
    randomize(static)
    missing, unexpected = dynamic.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all('.masker.' in name for name in missing)
    assert len(missing) == 2 * len(dynamic.blocks) == 18
    always(dynamic, keep=True)
    x = torch.randn(2, 3, 64, 96)
    for training in (True, False):
        static.train(training), dynamic.train(training)
        assert all(torch.equal(*outs) for outs in zip(static(x), dynamic(x), strict=True))
    for name, parameter in static.named_parameters():
        assert dynamic.get_parameter(name).requires_grad == parameter.requires_grad, name


def test_skipped_pixels_of_new_features_are_zero():
    torch.manual_seed(0)
    layer = randomize(build()).double().stages[1].block[0]
    layer.eval()
    features = [torch.randn(1, 8, 5, 6, dtype=torch.float64)]
    static = always(layer, keep=True)(features)
    mask = torch.tensor([[[[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]]], dtype=torch.float64)
    out = decide(layer, mask)(features)
    assert torch.equal(out, static * upsample_mask(mask, 2, (5, 6)))
    assert layer.trace.activation_rate.item() == pytest.approx((4 + 4 + 4 + 2) / 30)


def test_dropout_drops_in_training_only():
    torch.manual_seed(0)
    network = always(build(drop_rate=0.99), keep=True)
    layer, features = network.stages[0].block[0], [torch.randn(1, 8, 8, 8)]
    assert (layer(features) == 0).float().mean() > 0.9
    layer.eval()
    assert (layer(features) == 0).float().mean() < 0.1


def test_recomputing_changes_no_gradient():
    torch.manual_seed(0)
    plain, frugal = build(), build(memory_efficient=True)
    frugal.load_state_dict(undecided(plain).state_dict())
    x = torch.randn(2, 3, 64, 64)
    for network in (plain, frugal):
        torch.manual_seed(1)
        outs = network.train()(x)
        rates = sum(trace.dilated_rate.mean() for trace in network.traces)
        (sum(out.square().mean() for out in outs) + rates).backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for (name, a), b in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_other_executors_leave_its_layers_to_the_dense_one():
    torch.manual_seed(0)
    network = undecided(randomize(build()))
    network.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        dense = network(x)
        fast = optimize_for_inference(copy.deepcopy(network), executor='torch')
        for out, wanted in zip(fast(x), dense, strict=True):
            torch.testing.assert_close(out, wanted, rtol=1e-3, atol=1e-4)


def test_densenet121_has_its_known_size():
    """7 978 856 parameters and 2.834 G multiply–accumulates, as torchvision publishes them."""
    with FakeTensorMode(), torch.no_grad():
        network = build(arch='121', granularity='1-1-1-1').eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    classifier = 1024 * 1000
    static = [p.numel() for n, p in network.named_parameters() if '.masker.' not in n]
    assert sum(static) + classifier + 1000 == 7978856
    cost = network.cost(classifier)
    assert cost.static / 1e9 == pytest.approx(2.834, abs=6e-4)
    # In inference a masker is one 1×1 filter at the input's resolution.
    maskers = sum(b.masker.conv.in_channels * prod(b.trace.input_size) for b in network.blocks)
    assert 2 * (network.cost().static + maskers) == counter.get_total_flops()


def test_report_has_rates_macs_and_latency():
    network = undecided(build()).eval()
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 64))
    meter = RateMeter()
    meter.update(network.traces, network.cost(), network.input_size)
    described = describe_backbone(network, (64, 64))
    report = build_report(meter, described, network.granularity, ['v100'])
    assert [stage['blocks'] for stage in report['stages']] == SMALL['depths']
    (row,) = report['devices']
    assert row['dynamic_ms'] > 0 and row['ratio'] == row['dynamic_ms'] / row['static_ms']
    assert report['input_size'] == [64, 64]
    assert 'stages.2.block.1' in render(report)


def test_a_checkpoint_of_another_depth_is_refused():
    other = build('DenseNet', arch=dict(SMALL, depths=[2, 2, 2, 2]))
    with pytest.raises(ValueError, match='2-2-2-2 blocks per stage, the LASDenseNet has 2-3-2-2'):
        build().load_state_dict(other.state_dict(), strict=False)


@pytest.mark.parametrize('freeze', [False, True])
def test_maskers_of_frozen_stages_learn_unless_told_otherwise(freeze):
    network = build(frozen_stages=1, freeze_maskers=freeze).train()
    masker = network.stages[0].block[0].masker
    assert masker.training is not freeze
    assert all(p.requires_grad is not freeze for p in masker.parameters())
    assert not network.stages[0].block[0].conv1.weight.requires_grad


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="arch: got '122'; choose one of 121, 161, 169, 201"):
        build(arch='122')


@torch.no_grad()
def test_planned_for_a_cuda_graph():
    """Its layers take lists; planning must see past that, though no kernel runs them yet."""
    pytest.importorskip('triton', reason='Triton is not installed')
    from las_mm.inference.graphed import GraphedBackbone

    net, x = randomize(build().eval()), torch.randn(1, 3, 64, 64)
    expected = net(x)
    run = GraphedBackbone(net, x)
    assert run.plan.stages == ()
    for out, dense in zip(run(x), expected, strict=True):
        assert (out - dense).abs().max() <= 1e-5 * dense.abs().max()


def test_the_predictor_sees_what_a_dense_stage_copies():
    """Each layer copies all features before it, and the stage puts them all into one map."""
    described = describe_backbone(build(), (64, 96))
    copied = [block.layers[0].in_channels for block in described.blocks if block.stage == 1]
    assert copied == [8, 12, 16]
    assert [(x.kind, x.in_channels, x.size) for x in described.between if x.kind != 'avg_pool'] == [
        ('concat', 16, (16, 24)),
        ('conv', 16, (16, 24)),
        ('concat', 20, (8, 12)),
        ('conv', 20, (8, 12)),
        ('concat', 18, (4, 6)),
        ('conv', 18, (4, 6)),
        ('concat', 17, (2, 3)),
    ]
    assert {block.join for block in described.blocks} == {'concat'}


def test_a_block_of_which_the_predictor_has_no_model_is_refused_with_the_reason():
    network = build()
    step = network.blocks[0].branch.steps[1]
    layer = network.blocks[0]
    several = replace(layer.branch, steps=(step, step, step))
    layer.__class__ = type('Odd', (type(layer),), {'branch': several})
    assert describe_backbone(network, (64, 64)) is None
    with pytest.raises(ValueError, match='no model of LAS-DenseNet-custom.* share of FLOPs'):
        require_description(network, (64, 64))
