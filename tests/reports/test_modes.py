"""Reports and pictures of backbones that skip channels, whole blocks, or patches in some stages."""

import numpy as np
import pytest
import torch
from networks import randomize

from las_mm.accounting import NetworkCost
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.reports.bars import BAR_COMPUTED, BAR_SKIPPED
from las_mm.reports.html.chart import rate_chart
from las_mm.reports.masks import mask_panels
from las_mm.reports.rates import RateMeter, rate_map
from las_mm.reports.report import build_report, render, scalars


@pytest.fixture(scope='module')
def backbone() -> TorchLASResNet:
    """Channels in stages 1 and 2, patches in 2, whole blocks in 3, nothing in stage 4."""
    torch.manual_seed(0)
    net = TorchLASResNet(18, (None, 2, 'all', None), channel_groups=(4, 8, None, None))
    randomize(net).eval()
    for masker in (m for block in net.blocks for m in block.maskers):
        for name, parameter in masker.named_parameters():
            zero = name.endswith('bias')
            torch.nn.init.zeros_(parameter) if zero else torch.nn.init.normal_(parameter)
    with torch.no_grad():
        net(torch.randn(3, 3, 64, 96))
    return net


def report_of(net: TorchLASResNet, cost: NetworkCost | None = None) -> dict:
    meter = RateMeter()
    meter.update(net.traces, cost or net.cost(), (64, 96))
    return build_report(meter, None, net.granularity, [], channel_groups=net.channel_groups)


def test_each_row_has_the_rates_of_what_its_block_decides(backbone):
    report = report_of(backbone)
    assert report['granularity'] == 'none-2-all-none'
    assert report['channel_groups'] == '4-8-none-none'
    for row, trace in zip(report['blocks'], backbone.traces, strict=True):
        assert ('channel_rate' in row) == (row['stage'] < 2)
        assert row['activation_rate'] == pytest.approx(trace.activation_rate.mean().item())
        assert row.get('channel_rate', 1) == pytest.approx(trace.channel_rate.mean().item())
        assert set(row['shares']) == set(trace.shares)
    static = [row for row in report['blocks'] if row['stage'] == 3]
    assert all(row['dynamic_macs'] == row['static_macs'] for row in static)
    assert report['flops']['dynamic'] == pytest.approx(
        backbone.cost().dynamic([t.shares for t in backbone.traces]).mean().item(), rel=1e-6
    )


def test_text_and_scalars_name_the_channels(backbone):
    report = report_of(backbone)
    text = render(report)
    assert 'channel rate' in text
    assert f'{report["stages"][0]["channel_rate"]:.3f}' in text
    values = scalars(report)
    assert {name for name in values if 'channel' in name} == {
        'backbone/channel_rate_stage1', 'backbone/channel_rate_stage2'
    }  # fmt: skip


def test_reports_without_channels_say_nothing_of_them():
    net = TorchLASResNet(18, '4-2-2-1').eval()
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 64))
    report = report_of(net)
    assert 'channel_groups' not in report
    assert 'channel rate' not in render(report)


def test_the_chart_has_a_bar_for_every_block(backbone):
    chart = rate_chart(report_of(backbone)['blocks'])
    assert [stage.label.split(', ')[1] for stage in chart.stages] == [
        'S = none', 'S = 2', 'S = all', 'S = none'
    ]  # fmt: skip
    assert len(chart.bars) == 8


def test_pictures_show_channels_as_a_bar_and_skipped_blocks_dark(backbone):
    image = np.full((64, 96, 3), 200, np.uint8)
    panels = mask_panels(image, backbone.traces, 'block', index=1)
    for panel, trace in zip(panels, backbone.traces, strict=True):
        bar = panel.image[-1]
        if trace.channels is None:
            assert 'c=' not in panel.title
            continue
        share = trace.channel_rate[1].item()
        assert f'c={share:.2f}' in panel.title
        bright = (bar == BAR_COMPUTED).all(-1).sum()
        assert bright == round(96 * share)
        assert bright + (bar == BAR_SKIPPED).all(-1).sum() == 96
    whole = panels[4]
    assert 'S=all' in whole.title
    on = backbone.traces[4].activation_rate[1].item()
    assert (whole.image == (200 if on else 50)).all()
    assert panels[0].title.startswith('layer1.0, c=')  # where no pixels are skipped, no r


def test_the_rate_map_counts_whole_and_static_blocks(backbone):
    maps = rate_map(backbone.traces, (64, 96))
    assert maps.shape == (3, 64, 96)
    means = torch.stack([t.pixel_mask.mean((1, 2, 3)) for t in backbone.traces]).mean(0)
    torch.testing.assert_close(maps.mean((1, 2)), means, atol=0.05, rtol=0)
