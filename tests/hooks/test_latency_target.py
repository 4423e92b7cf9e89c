"""SparsityLossHook with a latency as target."""

from types import SimpleNamespace

import pytest
import torch
from detectors import batch, build_model, classifier
from mmengine.config import Config
from mmengine.logging import MMLogger
from test_sparsity_hook import build, losses_of

from las_mm.hooks import SparsityLossHook
from las_mm.latency.description import describe_backbone
from las_mm.latency.fit import uniform_shares
from latency_predictor import LatencyModel

# Small networks spend most of their predicted time in launching kernels, unless maps are large.
SIZE = (256, 256)
CFG = Config(
    dict(
        model={},
        test_dataloader=dict(dataset=dict(pipeline=[dict(type='Resize', scale=SIZE)])),
    )
)


def start(hook, model, progress=1.0):
    logger = MMLogger.get_instance('latency-target')
    runner = SimpleNamespace(
        model=model, iter=300 * progress, max_iters=300, epoch=0, max_epochs=30,
        cfg=CFG, logger=logger,
    )  # fmt: skip
    hook.before_train(runner)
    return hook


def predicted(model, device='nano'):
    """The predictor's ratio for the mean rates of the last forward."""
    traces = model.backbone.traces
    rates = [trace.activation_rate.mean().item() for trace in traces]
    dilated = [trace.dilated_rate.mean().item() for trace in traces]
    network = describe_backbone(model.backbone, SIZE)
    return LatencyModel(device).network(network, {'sites': rates, 'dilated': dilated})


@pytest.mark.parametrize('kind', ['classifier', 'two-stage'])
def test_loss_pulls_the_predicted_latency_to_the_target(kind):
    model = build(kind)
    hook = start(SparsityLossHook(target=dict(latency=0.9, device='nano')), model)
    torch.manual_seed(0)
    losses = model(**batch(model, images=1), mode='loss')
    ratio = losses['latency_ratio'].item()
    assert ratio == pytest.approx(predicted(model).ratio, rel=0.02)
    assert losses['loss_latency'].item() == pytest.approx(10 * (ratio - 0.9) ** 2, rel=1e-4)
    assert 0 < losses['flops_ratio'].item() < 1.2
    assert not losses['flops_ratio'].requires_grad
    assert 'loss_flops' not in losses
    hook.after_train(None)
    assert 'loss_latency' not in losses_of(model)


LIGHT = {
    'mmpretrain.LASMobileNetV2': dict(widen_factor=0.35, out_indices=(6,)),
    'mmpretrain.LASResNetCIFAR': dict(depth=20, shortcut='A'),
}


@pytest.mark.parametrize('kind', LIGHT)
def test_light_networks_are_pulled_to_it_too(kind):
    config = classifier()
    config.backbone = dict(LIGHT[kind], type=kind)
    config.head.in_channels = 64 if 'CIFAR' in kind else 112
    model = build_model(config).train()
    for block in model.backbone.blocks:
        torch.nn.init.zeros_(block.masker.conv.bias)
    start(SparsityLossHook(target=dict(latency=0.9, device='nano')), model)
    losses = model(**batch(model, images=1, size=64), mode='loss')
    assert losses['latency_ratio'].item() == pytest.approx(predicted(model).ratio, rel=0.02)
    losses['loss_latency'].backward()
    assert all(block.masker.conv.bias.grad.abs().max() > 0 for block in model.backbone.blocks)


def test_training_to_a_latency_gets_there_with_the_predictor_s_number():
    model = build('classifier')
    target = 0.85
    start(SparsityLossHook(target=dict(latency=target, device='nano'), bounds=False), model)
    data = batch(model, images=2)
    optimizer = torch.optim.Adam([p for n, p in model.named_parameters() if 'masker' in n], lr=0.1)
    model.backbone.set_temperature(1.0, noise=False)
    ratios = []
    for _ in range(25):
        losses = model(**data, mode='loss')
        optimizer.zero_grad()
        losses['loss_latency'].backward()
        optimizer.step()
        ratios.append(losses['latency_ratio'].item())
    assert abs(ratios[0] - target) > 0.1 > 0.04 > abs(sum(ratios[-5:]) / 5 - target)


def test_absolute_budget_is_the_same_as_its_ratio():
    models = [build('classifier') for _ in range(2)]
    static = (
        LatencyModel('nano').network(describe_backbone(models[0].backbone, SIZE), 1.0).static_ms
    )
    targets = [dict(latency=0.9), dict(latency_ms=0.9 * static)]
    found = []
    for model, target in zip(models, targets, strict=True):
        start(SparsityLossHook(target=dict(target, device='nano', input_size=SIZE)), model)
        found.append(losses_of(model))
    for name in ('loss_latency', 'loss_bounds', 'latency_ratio'):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-3, atol=1e-6)


def test_bounds_start_from_the_equal_rate_that_meets_the_target():
    model = build('classifier')
    hook = start(SparsityLossHook(target=dict(latency=0.9, device='nano')), model, progress=0)
    rate = hook.target.rate
    network = describe_backbone(model.backbone, SIZE)
    reached = hook.target.fit.ratio(uniform_shares(network, rate)).item()
    assert reached == pytest.approx(0.9, rel=0.01)
    losses = losses_of(model)
    rates = [trace.activation_rate.mean().item() for trace in model.backbone.traces]
    wanted = 10 * sum((q - rate) ** 2 for q in rates) / len(rates)
    assert losses['loss_bounds'].item() == pytest.approx(wanted, rel=1e-3)


def test_bounding_each_block_s_latency():
    model = build('classifier')
    options = dict(target=dict(latency=0.9, device='nano'), bounded='latency_ratio')
    hook = start(SparsityLossHook(**options), model, progress=0)
    losses = losses_of(model)
    traces = model.backbone.traces
    shares = [{name: s.mean() for name, s in trace.shares.items()} for trace in traces]
    blocks = hook.target.fit.block_ratios(shares)
    wanted = 10 * ((blocks - 0.9) ** 2).mean()
    assert losses['loss_bounds'].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_fit_and_its_error_are_logged():
    model = build('classifier')
    said = []
    runner = SimpleNamespace(
        model=model, cfg=CFG, logger=SimpleNamespace(info=lambda text, *a: said.append(text % a))
    )
    SparsityLossHook(target=dict(latency=0.9, device='nano')).before_train(runner)
    (line,) = said
    assert 'nano at 256×256' in line and 'the fit errs by up to' in line
    error = float(line.split('errs by up to ')[1].split(' %')[0])
    assert error <= 2


@pytest.mark.parametrize('target', [dict(latency=0.01), dict(latency_ms=1000.0)])
def test_latency_out_of_reach_is_refused_with_what_can_be_reached(target):
    hook = SparsityLossHook(target=dict(target, device='nano'))
    with pytest.raises(ValueError, match='out of reach: the ratio goes from 0.* to '):
        start(hook, build('classifier'))


def test_the_step_to_nothing_at_all_is_no_target():
    """On small images all is launches: only blocks that never run would meet such a target."""
    model = build('classifier')
    network = describe_backbone(model.backbone, (64, 64))
    nothing, little = (LatencyModel('tx2').network(network, rate).ratio for rate in (0, 0.05))
    assert little - nothing > 0.05
    target = dict(latency=nothing + 0.005, device='tx2', input_size=(64, 64))
    with pytest.raises(ValueError, match='0.05, the least that training settles at'):
        start(SparsityLossHook(target=target), model)


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (dict(latency=0.6), 'device is missing'),
        (dict(device='nano'), 'one of latency .* and latency_ms'),
        (dict(latency=0.6, latency_ms=3, device='nano'), 'one of latency'),
        (dict(latency=-1, device='nano'), r'target.latency: got -1; it must be > 0'),
        (dict(latency='fast', device='nano'), 'target.latency: got'),
        (dict(latency=0.6, device='abacus'), 'abacus'),
        (dict(latency=0.6, device='nano', speed=3), "unknown 'speed'; allowed are latency"),
    ],
)
def test_wrong_targets_are_named(target, message):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
        SparsityLossHook(target=target)


def test_bounded_quantity_must_fit_the_target():
    with pytest.raises(ValueError, match='choose one of activation_rate, latency_ratio'):
        SparsityLossHook(target=dict(latency=0.6, device='nano'), bounded='flops_ratio')


def test_flops_stays_the_default():
    assert SparsityLossHook().target.name == 'flops'
