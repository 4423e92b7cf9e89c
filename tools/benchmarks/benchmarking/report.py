"""A benchmark's records as a table, as JSON and as a plot."""

import json
import os
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

RATIOS = ('to_pytorch', 'to_own', 'to_best')
HIDDEN = ('milliseconds', *RATIOS)


def make_table(records: list[dict]) -> Table:
    """One row per record: labels, milliseconds of the static variants and of ours, ratios."""
    static = [name for name in records[0]['milliseconds'] if name not in _own_name(records[0])]
    labels = [key for key in records[0] if key not in HIDDEN]
    table = Table(*labels, *[f'{name}, ms' for name in static], 'dynamic, ms', *RATIOS)
    for record in records:
        times = record['milliseconds']
        cells = [_text(record[label]) for label in labels]
        cells += [_text(times[name]) for name in static]
        cells += [_text(times[_own_name(record)[0]])]
        table.add_row(*cells, *[_text(record[name]) for name in RATIOS])
    return table


def _own_name(record: dict) -> list[str]:
    return [name for name in record['milliseconds'] if name.startswith(('smooth', 'random'))]


def _text(value: object) -> str:
    return f'{value:.3f}' if isinstance(value, float) else '–' if value is None else str(value)


def show(records: list[dict]) -> None:
    """Print the table, wide enough even where the output is no terminal."""
    Console(width=max(160, Console().width)).print(make_table(records))


def print_table(rows: list[dict]) -> None:
    """Print rows that share their keys."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(_text, row.values()))
    Console(width=max(160, Console().width)).print(table)


def save_json(path: Path, machine: dict, command: str, records: list[dict]) -> None:
    """Write everything to a file; it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + '.tmp')
    content = {'machine': machine, 'command': command, 'records': records}
    temporary.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(temporary, path)


def save_plot(path: Path, records: list[dict]) -> None:
    """How far latency stays above FLOPs, both as ratios to the best static; one line per case."""
    import matplotlib

    matplotlib.use('agg')
    import matplotlib.pyplot as plt

    lines = defaultdict(list)
    measured = ('rate', 'dilated_rate', 'flops', *HIDDEN)
    varying = [k for k in records[0] if k not in measured and len({r[k] for r in records}) > 1]
    for record in records:
        lines[tuple(record[key] for key in varying)].append(record)
    colours, markers = ([*dict.fromkeys(case[i : i + 1] for case in lines)] for i in (0, 1))
    figure, axes = plt.subplots(figsize=(9, 6), layout='constrained')
    for case, line in lines.items():
        points = sorted((record['flops'], record['to_best'] - record['flops']) for record in line)
        axes.plot(
            *zip(*points, strict=True),
            color=f'C{colours.index(case[:1])}',
            marker='osDv^<>Px*'[markers.index(case[1:2]) % 10],
            linewidth=1,
            label=', '.join(f'{key} {value}' for key, value in zip(varying, case, strict=True)),
        )
    axes.axhline(0, color='grey', linestyle=':')
    axes.set_xlabel('FLOPs, dynamic / static')
    axes.set_ylabel('latency, dynamic / best static, minus FLOPs')
    if varying:
        axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + '.tmp')
    figure.savefig(temporary, format=path.suffix.lstrip('.') or 'png', dpi=120)
    plt.close(figure)
    os.replace(temporary, path)
