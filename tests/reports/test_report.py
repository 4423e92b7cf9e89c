"""Averages over a test run and the report made of them."""

import json

import pytest
import torch

from las_mm.latency.description import describe_backbone
from las_mm.reports.rates import ObjectRateMeter, RateMeter, rate_map
from las_mm.reports.report import build_report, render, scalars


def run(backbone, *batches):
    meter = RateMeter()
    with torch.no_grad():
        for images in batches:
            backbone(images)
            meter.update(backbone.traces, backbone.cost(), backbone.input_size)
    return meter


def test_averages_do_not_depend_on_batching_or_processes(backbone):
    images = torch.rand(5, 3, 64, 96)
    whole = run(backbone, images)
    merged = RateMeter()
    for part in (run(backbone, images[:2]), run(backbone, images[2:3], images[3:])):
        merged.merge(part)
    assert merged.images == whole.images == 5
    torch.testing.assert_close(merged.rates, whole.rates)
    torch.testing.assert_close(merged.macs, whole.macs)
    assert merged.sizes == whole.sizes


def test_report_adds_up(backbone):
    meter = run(backbone, torch.rand(2, 3, 64, 96), torch.rand(1, 3, 32, 32))
    network = describe_backbone(backbone, meter.typical_size)
    report = build_report(meter, network, backbone.granularity, ['v100', 'tx2'])
    assert report['input_size'] == [64, 96]
    assert report['images'] == 3
    flops = report['flops']
    assert flops['dynamic'] == pytest.approx(
        flops['fixed'] + sum(block['dynamic_macs'] for block in report['blocks'])
    )
    assert flops['ratio'] == pytest.approx(flops['dynamic'] / flops['static'])
    assert sum(stage['blocks'] for stage in report['stages']) == len(backbone.blocks)
    assert sum(block['share'] for block in report['blocks']) < 1
    for row in report['devices']:
        assert row['ratio'] == pytest.approx(row['dynamic_ms'] / row['static_ms'])
    assert json.loads(json.dumps(report)) == report


def test_text_and_scalars_carry_the_numbers(backbone):
    meter = run(backbone, torch.rand(1, 3, 64, 64))
    network = describe_backbone(backbone, (64, 64))
    report = build_report(meter, network, backbone.granularity, ['tx2'])
    report['object_rates'] = {'inside': 0.6, 'outside': 0.3, 'ratio': 2.0}
    text = render(report)
    assert f'{report["flops"]["ratio"]:.3f}' in text
    assert f'{report["devices"][0]["dynamic_ms"]:.2f} ms' in text
    assert all(block['name'] in text for block in report['blocks'])
    assert '2.00 times' in text
    assert scalars(report)['latency/tx2_ratio'] == report['devices'][0]['ratio']


def test_object_rates_count_pixels_inside_and_outside():
    meter = ObjectRateMeter()
    rates = torch.zeros(8, 8)
    rates[2:6, 2:6] = 0.5
    rates[0, 0] = 1.0
    # The second box overlaps the first: its pixels count once.
    meter.update(rates, torch.tensor([[2.0, 2.0, 6.0, 6.0], [3.0, 3.0, 5.0, 5.0]]))
    summary = meter.summary()
    assert summary['inside'] == pytest.approx(0.5)
    assert summary['outside'] == pytest.approx(1 / 48)
    assert summary['ratio'] == pytest.approx(24)


def test_object_rates_are_absent_without_boxes():
    meter = ObjectRateMeter()
    meter.update(torch.ones(4, 4), torch.zeros(0, 4))
    assert meter.summary() is None


def test_rate_map_averages_the_blocks(backbone):
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        backbone(images)
    maps = rate_map(backbone.traces, (64, 96))
    assert maps.shape == (2, 64, 96)
    # 64x96 divides by every stride, so nearest upsampling keeps each block's mean.
    wanted = torch.stack([trace.activation_rate for trace in backbone.traces]).mean(0)
    torch.testing.assert_close(maps.mean((1, 2)), wanted)
