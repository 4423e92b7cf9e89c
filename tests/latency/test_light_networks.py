"""ResNets for CIFAR, with DynConv's masker, too: trained to a latency, and reported with one."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from networks import undecided

from las_mm.hooks import SparsityLossHook
from las_mm.latency.description import describe_backbone
from las_mm.reports.rates import RateMeter
from las_mm.reports.report import build_report
from latency_predictor import LatencyModel

NETWORKS = {
    'cifar': dict(type='LASResNetCIFAR', depth=8, shortcut='A'),
    'squeeze': dict(
        type='LASResNetCIFAR', depth=8, granularity='1-1-1', masker={'kind': 'squeeze'}
    ),
}
SIZE = (64, 96)
CFG = Config(dict(model={}, test_dataloader=dict(dataset=dict(pipeline=[]))))


@pytest.fixture(params=NETWORKS)
def model(request):
    head = dict(type='LinearClsHead', num_classes=3, in_channels=64)
    cfg = dict(
        type='ImageClassifier',
        backbone=NETWORKS[request.param],
        neck=dict(type='GlobalAveragePooling'),
        head=head,
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return undecided(MODELS.build(cfg)).train()


def test_the_latency_loss_is_that_of_the_prediction(model):
    target = dict(latency=0.97, device='nano', input_size=SIZE)
    hook = SparsityLossHook(target=target)
    logger = SimpleNamespace(info=lambda *_: None)
    hook.before_train(
        SimpleNamespace(
            model=model, cfg=CFG, logger=logger, iter=3, max_iters=3, epoch=0, max_epochs=1
        )
    )
    assert hook.target.fit.error < 0.02
    losses = model(torch.randn(2, 3, *SIZE), mode='loss', data_samples=samples(2))
    traces = model.backbone.traces
    rates = {
        name: [trace.shares[name].mean().item() for trace in traces]
        for name in ('sites', 'dilated')
    }
    predicted = LatencyModel('nano').network(describe_backbone(model.backbone, SIZE), rates)
    assert losses['latency_ratio'].item() == pytest.approx(predicted.ratio, rel=0.02)
    losses['loss_latency'].backward()
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if 'masker.conv.w' in n)


@torch.no_grad()
def test_the_report_predicts_every_device(model):
    backbone = model.eval().backbone
    backbone(torch.randn(1, 3, *SIZE))
    meter = RateMeter()
    meter.update(backbone.traces, backbone.cost(), SIZE)
    report = build_report(
        meter,
        describe_backbone(backbone, SIZE),
        backbone.granularity,
        ['tx2', 'v100'],
        'fp32',
        backbone.channel_groups,
    )
    assert [row['device'] for row in report['devices']] == ['tx2', 'v100']
    assert all(0.5 < row['ratio'] < 3 for row in report['devices'])
    assert len(report['stages']) == len(backbone.granularity)


def samples(count):
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(i) for i in range(count)]
