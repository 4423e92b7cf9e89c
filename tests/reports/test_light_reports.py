"""Light networks are reported, predicted and drawn as all others."""

import json

import numpy as np
import pytest
from detectors import build_model, classifier
from networks import undecided
from runs import runner_of, samples

from las_mm.reports.masks import mask_panels

LIGHT = {
    'mmpretrain.LASMobileNetV2': (dict(widen_factor=0.35, out_indices=(6,)), 112, 5),
    'mmpretrain.LASResNetCIFAR': (dict(depth=20, shortcut='A'), 64, 3),
}


@pytest.mark.parametrize('kind', LIGHT)
def test_reports_and_pictures(kind, tmp_path):
    options, width, stages = LIGHT[kind]
    config = classifier()
    config.backbone, config.head.in_channels = dict(options, type=kind), width
    model = undecided(build_model(config))
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=samples(),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    runner = runner_of(
        tmp_path,
        model=model,
        test_dataloader=loader,
        test_evaluator=dict(type='mmpretrain.Accuracy', topk=(1,)),
        test_cfg={},
        custom_hooks=[dict(type='LatencyReportHook', devices=['tx2', 'v100'])],
    )
    runner.test()
    report = json.loads((tmp_path / 'latency_report.json').read_text())
    assert [row['device'] for row in report['devices']] == ['tx2', 'v100']
    assert all(row['dynamic_ms'] > 0 and row['static_ms'] > 0 for row in report['devices'])
    assert {block['name'] for block in report['blocks']} == {b.name for b in model.backbone.blocks}
    assert len(mask_panels(np.zeros((32, 32, 3), np.uint8), model.backbone.traces)) == stages
