"""Vision transformers and the predictor: descriptions, fits, trainings to a latency, reports."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample
from vits import ARCH, undecide, vit

from las_mm.hooks import SparsityLossHook
from las_mm.latency.description import describe_backbone
from las_mm.latency.fit import fit_latency
from las_mm.latency.search import configured_network
from las_mm.models.transformer_mmpretrain import LAST2T_ViT, LASVisionTransformer
from las_mm.reports.rates import RateMeter
from las_mm.reports.report import build_report, render
from latency_predictor import LatencyModel, build_network, load_report, network_macs

AXES = ('tokens', 'heads', 'attention', 'mlp')
ALL = ('tokens', 'heads', 'blocks')


def small(kind='vit', **options):
    if kind == 'vit':
        return LASVisionTransformer(ARCH, img_size=64, patch_size=8, **options).eval()
    layers = dict(num_heads=3, feedforward_channels=48)
    options.update(t2t_cfg=dict(token_dims=8), layer_cfgs=layers, img_size=64)
    return LAST2T_ViT(3, embed_dims=24, **options).eval()


def run(net, size=(64, 64), images=1):
    with torch.no_grad():
        net(torch.randn(images, 3, *size))
    return net


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
@pytest.mark.parametrize('policies', [ALL, ('tokens',), ('heads', 'blocks')])
@pytest.mark.parametrize('kind', ['vit', 't2t'])
def test_training_and_prediction_count_the_same_macs(kind, policies, mode):
    """To the MAC: the one side counts what ran, the other what was described."""
    options = dict(head_mode=mode, policies=policies, tokens_with_mlp=mode != 'hidden')
    if 'tokens' in policies and mode == 'input':
        options['token_patch'] = 3
    for size in ((64, 64), (48, 96)):
        net = run(small(kind, **options), size)
        described, cost = describe_backbone(net, size), net.cost()
        assert [block.name for block in described.blocks] == [block.name for block in net.blocks]
        assert network_macs(described).static == cost.static
        shares = [dict.fromkeys(AXES, (i + 1) / 4) for i in range(len(cost.blocks))]
        rates = {axis: [share[axis] for share in shares] for axis in AXES}
        found = network_macs(described, rates).dynamic
        assert found == pytest.approx(cost.dynamic(shares), rel=1e-12)


@pytest.mark.parametrize(
    ('build', 'name'),
    [
        (lambda: LASVisionTransformer('deit-small'), 'deit_s'),
        (lambda: LAST2T_ViT(14), 't2t_vit_14'),
        (lambda: LASVisionTransformer('small'), 'vit_s'),
    ],
)
def test_networks_by_name_are_mmpretrain_s(build, name):
    with torch.device('meta'):
        described = describe_backbone(build(), (224, 224))
    known = build_network(name).with_policies(ALL)
    assert (described.blocks, described.stem) == (known.blocks, known.stem)
    assert described.between == known.between


@pytest.mark.parametrize('policies', [ALL, ('tokens',), ('heads',), ('blocks',)])
def test_a_fit_is_close_to_the_predictor(policies):
    network = describe_backbone(small(policies=policies), (256, 256))
    fit = fit_latency(LatencyModel('nano'), network)
    assert fit.error < 0.04 and fit.block_error < 0.04
    shares = [dict.fromkeys(block.decided, torch.tensor(2 / 3)) for block in network.blocks]
    rates = {n: [float(s.get(n, 1.0)) for s in shares] for n in AXES}
    predicted = LatencyModel('nano').network(network, rates).ratio
    assert fit.ratio(shares).item() == pytest.approx(predicted, rel=0.02)


def test_a_training_reaches_its_latency():
    model = vit()
    target = dict(latency=0.75, device='nano', input_size=(256, 256))
    hook = SparsityLossHook(target=target, bounds=False)
    runner = SimpleNamespace(
        model=model, iter=300, max_iters=300, epoch=0, max_epochs=30,
        cfg=Config(), logger=MMLogger.get_instance('latency-target'),
    )  # fmt: skip
    hook.before_train(runner)
    optimizer = torch.optim.Adam(model.backbone.parameters(), lr=3e-3)
    model.backbone.set_temperature(1.0)
    images = torch.randn(8, 3, 32, 32)
    samples, seen = [DataSample().set_gt_label(i) for i in range(8)], []
    for _ in range(60):
        losses = model(images, samples, mode='loss')
        optimizer.zero_grad()
        losses['loss_latency'].backward()
        optimizer.step()
        seen.append(losses['latency_ratio'].item())
    hook.after_train(None)
    assert sum(seen[-10:]) / 10 == pytest.approx(0.75, abs=0.03), seen[::10]


def test_a_report_has_latencies_and_is_read_again(tmp_path):
    net = run(undecide(small()), images=2)
    meter = RateMeter()
    meter.update(net.traces, net.cost(), (64, 64))
    network = describe_backbone(net, (64, 64))
    report = build_report(meter, network, net.granularity, ['v100', 'tx2'])
    assert 'predicted backbone latency' in render(report)
    path = tmp_path / 'latency_report.json'
    dump(report, str(path))
    measured = load_report(path)
    assert measured.network == network
    again = LatencyModel('tx2').network(measured.network, measured.shares)
    assert again.dynamic_ms == pytest.approx(report['devices'][1]['dynamic_ms'])


def test_a_config_s_transformer_is_described():
    backbone = dict(type='LASVisionTransformer', arch=ARCH, img_size=64, patch_size=8)
    cfg = Config(dict(default_scope='mmpretrain', model=dict(backbone=backbone)))
    assert configured_network(cfg, (64, 64)).is_transformer
