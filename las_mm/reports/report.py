"""The latency report of a test run: as a dictionary, as text, and as scalars."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from las_mm.layers import CHANNELS, HEADS
from las_mm.ops import format_granularity
from latency_predictor import LatencyModel, NetworkSpec

from .rates import RateMeter

Report = dict[str, Any]


def block_rows(meter: RateMeter, granularity: Sequence[int | str | None]) -> list[dict]:
    """One row per block: rates averaged over images, MACs of an average image, share of the sum."""
    rates = (meter.rates / meter.images).tolist()
    macs = (meter.macs / meter.images).tolist()
    whole = sum(dynamic for _, dynamic in macs) + meter.fixed_macs / meter.images
    rows = []
    parts = zip(meter.names, meter.stages, rates, meter.shares, macs, strict=True)
    for name, stage, (rate, dilated), shares, (static, dynamic) in parts:
        rows.append(
            {
                'name': name,
                'stage': stage,
                'granularity': granularity[stage],
                'activation_rate': rate,
                'dilated_rate': dilated,
                **_channel_rate(shares, meter.images),
                'shares': {axis: total / meter.images for axis, total in shares.items()},
                'static_macs': static,
                'dynamic_macs': dynamic,
                'share': dynamic / whole,
            }
        )
    return rows


def _channel_rate(shares: Mapping[str, float], images: int) -> dict[str, float]:
    found = [shares[axis] / images for axis in (CHANNELS, HEADS) if axis in shares]
    return {'channel_rate': found[0]} if found else {}


# Of encoder layers, what a report calls their shares.
ENCODER_RATES = {'tokens': 'tokens', 'heads': 'heads', 'attention': 'attention', 'mlp': 'MLP'}


def rate_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """The rates of a report's rows by their headings; None where a row has no such decision.

    Args:
        rows: The rows ``blocks`` or ``stages`` of a report.
    """
    shares = [row.get('shares', {}) for row in rows]
    axes = [axis for axis in ENCODER_RATES if any(axis in found for found in shares)]
    if axes:
        return {ENCODER_RATES[axis]: [found.get(axis) for found in shares] for axis in axes}
    keys = [('activation rate', 'activation_rate'), ('dilated rate', 'dilated_rate')]
    if any('channel_rate' in row for row in rows):
        keys.append(('channel rate', 'channel_rate'))
    return {heading: [row.get(key) for row in rows] for heading, key in keys}


def stage_rows(blocks: list[dict]) -> list[dict]:
    """One row per stage: mean rates and summed MACs of its blocks."""
    rows = []
    for stage in sorted({block['stage'] for block in blocks}):
        members = [block for block in blocks if block['stage'] == stage]
        row = {'stage': stage, 'granularity': members[0]['granularity'], 'blocks': len(members)}
        for key in ('activation_rate', 'dilated_rate', 'channel_rate'):
            having = [block[key] for block in members if key in block]
            if having:
                row[key] = sum(having) / len(having)
        row['shares'] = _mean_shares([block['shares'] for block in members])
        for key in ('static_macs', 'dynamic_macs', 'share'):
            row[key] = sum(block[key] for block in members)
        rows.append(row)
    return rows


def _mean_shares(blocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each share over the blocks that have it."""
    axes = dict.fromkeys(axis for shares in blocks for axis in shares)
    having = {axis: [shares[axis] for shares in blocks if axis in shares] for axis in axes}
    return {axis: sum(found) / len(found) for axis, found in having.items()}


def device_rows(
    network: NetworkSpec, blocks: list[dict], devices: Sequence[str], precision: str
) -> list[dict]:
    """Predicted backbone latency per device at the measured shares (Sec. 3.3)."""
    axes = {axis for block in blocks for axis in block['shares']}
    # What a block does not decide on runs in full.
    shares = {axis: [block['shares'].get(axis, 1.0) for block in blocks] for axis in axes}
    rows = []
    for device in devices:
        model = LatencyModel(device, precision=precision)
        latency = model.network(network, shares)
        rows.append(
            {
                'device': model.device.name,
                'precision': precision,
                'static_ms': latency.static_ms,
                'dynamic_ms': latency.dynamic_ms,
                'ratio': latency.ratio,
            }
        )
    return rows


def build_report(
    meter: RateMeter,
    network: NetworkSpec | None,
    granularity: Sequence[int | str | None],
    devices: Sequence[str],
    precision: str = 'fp32',
    channel_groups: Sequence[int | str | None] = (),
) -> Report:
    """The report of a test run.

    Args:
        meter: What the run computed.
        network: The backbone as the predictor sees it, at the size to predict for; None if
            it has no model of the backbone's blocks, which leaves the latencies out.
        granularity: S of each stage.
        devices: Names or description files of devices.
        precision: Precision to predict for.
        channel_groups: Channels per group in each stage; () where none are skipped.

    Returns:
        A JSON-ready dictionary. MACs are those of an average image, latencies those of a batch of
        one at ``network.input_size``.
    """
    blocks = block_rows(meter, granularity)
    size = network.input_size if network else meter.typical_size
    fixed = meter.fixed_macs / meter.images
    static = fixed + sum(block['static_macs'] for block in blocks)
    dynamic = fixed + sum(block['dynamic_macs'] for block in blocks)
    return {
        'images': meter.images,
        'granularity': format_granularity(granularity),
        **_groups(channel_groups),
        'input_size': list(size),
        'flops': {
            'static': static,
            'dynamic': dynamic,
            'fixed': fixed,
            'ratio': dynamic / static,
        },
        'stages': stage_rows(blocks),
        'blocks': blocks,
        'devices': device_rows(network, blocks, devices, precision) if network else [],
        'network': network.to_dict() if network else None,
    }


def _groups(channel_groups: Sequence[int | str | None]) -> dict[str, str]:
    used = any(group is not None for group in channel_groups)
    return {'channel_groups': format_granularity(channel_groups)} if used else {}


def scalars(report: Report) -> dict[str, float]:
    """The report's headline numbers, by the names they carry in a visualizer."""
    values = {
        'backbone/flops_ratio': report['flops']['ratio'],
        'backbone/gmacs': report['flops']['dynamic'] / 1e9,
    }
    for stage in report['stages']:
        for key in ('activation_rate', 'channel_rate'):
            if key in stage:
                values[f'backbone/{key}_stage{stage["stage"] + 1}'] = stage[key]
    for row in report['devices']:
        values[f'latency/{row["device"]}_ms'] = row['dynamic_ms']
        values[f'latency/{row["device"]}_ratio'] = row['ratio']
    return values


def render(report: Report, width: int = 100) -> str:
    """The report as text: a table per stage, per block and per device."""
    tables = [_rate_table(report, 'stages'), _rate_table(report, 'blocks'), _device_table(report)]
    text = StringIO()
    console = Console(width=width, file=text)
    console.print(*(table for table in tables if table.row_count), _summary(report), sep='\n')
    return text.getvalue()


def _rate_table(report: Report, level: str) -> Table:
    table = Table(title=f'{level} over {report["images"]} images', title_justify='left')
    columns = rate_columns(report[level])
    for heading in (level[:-1], 'S', *columns, 'GMACs', 'of', 'share'):
        table.add_column(heading, justify='left' if heading == level[:-1] else 'right')
    for index, row in enumerate(report[level]):
        rates = [column[index] for column in columns.values()]
        table.add_row(
            row.get('name', f'stage {row["stage"] + 1}'),
            format_granularity([row['granularity']]),
            *('–' if rate is None else f'{rate:.3f}' for rate in rates),
            f'{row["dynamic_macs"] / 1e9:.3f}',
            f'{row["static_macs"] / 1e9:.3f}',
            f'{row["share"]:.1%}',
        )
    return table


def _device_table(report: Report) -> Table:
    height, width = report['input_size']
    title = f'predicted backbone latency at {height}×{width}, batch 1'
    table = Table('device', 'precision', title=title, title_justify='left')
    for heading in ('static', 'dynamic', 'ratio'):
        table.add_column(heading, justify='right')
    for row in report['devices']:
        static, dynamic = f'{row["static_ms"]:.2f} ms', f'{row["dynamic_ms"]:.2f} ms'
        table.add_row(row['device'], row['precision'], static, dynamic, f'{row["ratio"]:.3f}')
    return table


def _summary(report: Report) -> str:
    flops, objects = report['flops'], report.get('object_rates')
    measured = report.get('measured')
    text = (
        f'backbone FLOPs (MACs): {flops["dynamic"] / 1e9:.3f} G of {flops["static"] / 1e9:.3f} G '
        f'static, ratio {flops["ratio"]:.3f}'
    )
    if measured:
        text += (
            f'\nmeasured on this {measured["device"]}, last image: static '
            f'{measured["static_ms"]:.2f} ms, dynamic {measured["dynamic_ms"]:.2f} ms, '
            f'ratio {measured["ratio"]:.3f}'
        )
    if objects:
        text += (
            f'\nactivation rate inside ground-truth boxes {objects["inside"]:.3f}, outside '
            f'{objects["outside"]:.3f}: {objects["ratio"]:.2f} times'
        )
    return text
