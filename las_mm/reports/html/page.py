"""Fill the page's template with a test run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from las_mm.reports.report import rate_columns

from .chart import rate_charts
from .gallery import GalleryImage

HERE = Path(__file__).parent


def render_page(
    report: dict[str, Any],
    gallery: Sequence[GalleryImage] = (),
    config: str = '',
    title: str = 'LAS test run',
) -> str:
    """One HTML document with everything in it: no further file, no network.

    Args:
        report: The latency report of a test run, as in ``latency_report.json``. Its ``metrics``,
            ``run``, ``object_rates`` and ``measured`` are shown where they are there.
        gallery: Images with their predictions and masks.
        config: The config as text.
        title: Of the page.

    Raises:
        ValueError: If the report lacks what every latency report has.
    """
    missing = [key for key in ('flops', 'stages', 'blocks', 'devices') if key not in report]
    if missing:
        raise ValueError(f'report: {missing[0]!r} is missing; give a latency_report.json')
    loader = FileSystemLoader(HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters['giga'] = lambda count: f'{count / 1e9:.3f}'
    environment.globals['rate_columns'] = rate_columns
    template = environment.get_template('template.html')
    return template.render(
        title=title,
        report=report,
        run=report.get('run') or {},
        metrics=shown_metrics(report),
        headline=headline(report),
        devices=device_rows(report),
        charts=rate_charts(report['blocks']),
        gallery=gallery,
        config=config,
        style=(HERE / 'style.css').read_text(encoding='utf-8'),
        script=(HERE / 'script.js').read_text(encoding='utf-8'),
    )


def shown_metrics(report: dict[str, Any]) -> dict[str, float | None]:
    """The test's metrics; COCO's -1, which says that there is no object of that size, is None."""
    metrics = report.get('metrics') or {}
    return {name: None if value == -1 else value for name, value in metrics.items()}


def headline(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers at the top: value, name, explanation."""
    flops, tiles = report['flops'], []
    metrics = list(shown_metrics(report).items())
    # COCO's first metric is mAP, a classifier's is top-1.
    tiles += [(f'{value:.3g}', name, 'of this test') for name, value in metrics[:1] if value]
    giga = f'{flops["dynamic"] / 1e9:.2f} G'
    tiles.append((f'{flops["ratio"]:.0%}', 'of the static FLOPs', giga))
    best = min(report['devices'], key=lambda row: row['ratio'], default=None)
    if best:
        where = f'predicted, {best["device"]}'
        tiles.append((f'{best["ratio"]:.0%}', 'of the static latency', where))
    objects = report.get('object_rates')
    if objects:
        text = f'inside of objects {objects["inside"]:.2f}, outside {objects["outside"]:.2f}'
        tiles.append((f'{objects["ratio"]:.2f}×', 'activation on objects', text))
    return tiles


def device_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Predicted latency per device, with the measured one beside it where there is one."""
    measured = report.get('measured') or []
    # A test run measures one device, its own.
    measured = [measured] if isinstance(measured, dict) else measured
    measured = {row['device']: row for row in measured}
    rows = [dict(row, measured=measured.pop(row['device'], None)) for row in report['devices']]
    for row in measured.values():
        nothing = dict(static_ms=None, dynamic_ms=None, ratio=None, precision='')
        rows.append(dict(nothing, device=row['device'], measured=row))
    for row in rows:
        found = row['measured']
        if found:
            row['measured'] = dict(found, ratio=found['dynamic_ms'] / found['static_ms'])
    return rows
