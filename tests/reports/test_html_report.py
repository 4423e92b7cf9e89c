"""The HTML page of a test run, read as text and run in a real browser."""

import json
import re

import numpy as np
import pytest
from browser import needs_chromium, run_page

from las_mm.reports.html import gallery_image, render_page
from las_mm.reports.html.chart import PLOT_HEIGHT, rate_chart
from las_mm.reports.masks import MaskPanel

RATES = [(0, 0.9), (0, 0.4), (1, 0.25), (1, 0.0)]


def block(index, stage, rate):
    return dict(
        name=f'layer{stage + 1}.{index}', stage=stage, granularity=4 >> stage,
        activation_rate=rate, dilated_rate=min(1, 1.2 * rate), share=0.2,
        static_macs=2e9, dynamic_macs=2e9 * rate,
    )  # fmt: skip


def device(name, dynamic):
    ratio = dynamic / 10
    return dict(device=name, precision='fp32', static_ms=10.0, dynamic_ms=dynamic, ratio=ratio)


@pytest.fixture
def report():
    blocks = [block(index % 2, stage, rate) for index, (stage, rate) in enumerate(RATES)]
    return dict(
        images=12, granularity='4-2', input_size=[64, 96], blocks=blocks,
        flops=dict(static=9e9, dynamic=4.1e9, fixed=1e9, ratio=4.1 / 9),
        stages=[dict(blocks[0], blocks=2), dict(blocks[2], blocks=2)],
        devices=[device('v100', 9.5), device('tx2', 10.2), device('nano', 7.0)],
        metrics={'coco/bbox_mAP': 0.317, 'coco/bbox_mAP_l': -1.0},
        object_rates=dict(inside=0.6, outside=0.3, ratio=2.0),
        run=dict(checkpoint='epoch_8.pth', versions=dict(las_mm='0.1.0', torch='2.11.0')),
    )  # fmt: skip


@pytest.fixture
def page(report, tmp_path):
    picture = np.full((48, 64, 3), 200, np.uint8)
    images = [gallery_image('a <b>.jpg', picture, [MaskPanel('layer1, r=0.50', picture)])]
    path = tmp_path / 'report.html'
    path.write_text(render_page(report, images, 'x = "<script>"', 'my run'), encoding='utf-8')
    return path


def test_page_has_the_numbers_and_needs_nothing_else(page):
    text = page.read_text(encoding='utf-8')
    for shown in ('0.317', '46%', '70%', '2.00×', 'layer2.1', 'epoch_8.pth', '2.11.0', '64×96'):
        assert shown in text, shown
    assert 'No latency was measured' in text
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(links) == 3 and all(link.startswith('data:') for link in links)
    assert not re.search(r'https?://|@import|url\(', text)


def test_names_are_escaped(page):
    text = page.read_text(encoding='utf-8')
    assert 'a &lt;b&gt;.jpg' in text and '"<script>"' not in text


def test_measured_latency_is_set_beside_the_predicted(report):
    report['measured'] = dict(device='cpu', static_ms=8.0, dynamic_ms=2.0)  # as a test leaves it
    assert '>cpu<' in render_page(report) and '>0.250<' in render_page(report)
    report['measured'] = [dict(device='tx2', static_ms=8.0, dynamic_ms=6.0)]
    text = render_page(report)
    assert '>0.750<' in text and 'No latency was measured' not in text
    report['measured'].append(dict(device='my board', static_ms=4.0, dynamic_ms=5.0))
    assert '>my board<' in render_page(report) and '>1.250<' in render_page(report)


def test_parts_that_a_run_lacks_are_left_out(report):
    for key in ('metrics', 'object_rates', 'run'):
        report.pop(key)
    text = render_page(dict(report, devices=[]))
    assert 'id="accuracy"' not in text and 'id="gallery"' not in text


def test_a_file_that_is_no_report_is_refused(report):
    report.pop('blocks')
    with pytest.raises(ValueError, match="report: 'blocks' is missing"):
        render_page(report)


def test_bars_are_as_high_as_the_rates(report):
    chart = rate_chart(report['blocks'])
    heights = [(chart.base - bar.rate_y) / PLOT_HEIGHT for bar in chart.bars]
    assert heights == pytest.approx([rate for _, rate in RATES])
    assert [stage.label for stage in chart.stages] == ['stage 1, S = 4', 'stage 2, S = 2']
    ends = [bar.x + bar.width for bar in chart.bars]
    assert all(end < bar.x for end, bar in zip(ends, chart.bars[1:], strict=False))
    assert ends[-1] < chart.width


# What a reader does: sort the devices by ratio twice, switch the colours, look at the pictures.
READER = """
const all = () => [...document.querySelectorAll('#latency tbody tr')];
const rows = () => all().map(row => row.cells[0].innerText);
const found = {before: rows()};
const ratio = document.querySelectorAll('#latency th button')[1];
ratio.click(); found.up = rows(); found.mark = ratio.closest('th').getAttribute('aria-sort');
ratio.click(); found.down = rows();
const ink = () => getComputedStyle(document.body).backgroundColor;
found.first = ink(); document.getElementById('theme').click(); found.second = ink();
found.images = [...document.images].map(i => i.complete && i.naturalWidth > 0);
found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.unnamed = [...document.querySelectorAll('button')].filter(b => !b.textContent.trim()).length;
const out = document.createElement('script'); out.type = 'application/json'; out.id = 'found';
out.textContent = JSON.stringify(found); document.body.append(out);
"""


@needs_chromium
def test_page_works_in_a_browser(page, tmp_path):
    document, console = run_page(page, tmp_path / 'profile', READER, width=500)
    assert console == []
    found = json.loads(re.search(r'id="found">(.*?)</script>', document, re.S)[1])
    assert found['before'] == ['v100', 'tx2', 'nano']
    assert found['up'] == ['nano', 'v100', 'tx2'], 'by value: 0.70, 0.95, 1.02'
    assert found['mark'] == 'ascending'
    assert found['down'] == found['up'][::-1]
    assert found['first'] != found['second']
    assert found['images'] == [True, True]
    assert found['overflow'] <= 0, 'on a phone only tables scroll sideways'
    assert found['unnamed'] == 0


@needs_chromium
def test_console_errors_would_be_seen(page, tmp_path):
    _, console = run_page(page, tmp_path / 'profile', 'nothing.there')
    assert len(console) == 1 and 'nothing' in console[0]
