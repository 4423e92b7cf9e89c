"""The paper's figures from predictions; the only module that needs matplotlib."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .device import load_device
from .release.published import LINES, PANELS, reproduced_ms
from .search import StageCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PLOT_SUFFIXES = ('.png', '.pdf', '.svg')


def _panels(count: int, title: str) -> 'tuple[Figure, Sequence[Axes]]':
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, count, figsize=(3.4 * count, 3.2), squeeze=False, layout='constrained'
    )
    figure.suptitle(title)
    return figure, axes[0]


def plot_ratio_over_rate(stages: Sequence[StageCurves], title: str) -> 'Figure':
    """r_l over r, one panel per stage and one line per S (Figure 5)."""
    figure, axes = _panels(len(stages), title)
    for axis, curves in zip(axes, stages, strict=True):
        for size, ratio in zip(curves.granularities, curves.ratio, strict=True):
            axis.plot(curves.activation_rates, ratio, marker='.', label=f'S = {size}')
        axis.axhline(1, color='grey', linewidth=0.8, linestyle='--')
        axis.set(
            title=f'stage {curves.stage + 1}',
            xlabel='activation rate r',
            ylabel=r'latency ratio $r_\ell$',
        )
        axis.legend(fontsize='x-small')
    return figure


def plot_ratio_over_granularity(stages: Sequence[StageCurves], title: str) -> 'Figure':
    """r_l over S, one panel per stage and one line per r (Figures 6 and 10)."""
    figure, axes = _panels(len(stages), title)
    for axis, curves in zip(axes, stages, strict=True):
        for index, rate in enumerate(curves.activation_rates):
            axis.plot(
                curves.granularities, curves.ratio[:, index], marker='.', label=f'r = {rate:g}'
            )
        axis.axhline(1, color='grey', linewidth=0.8, linestyle='--')
        axis.set(
            title=f'stage {curves.stage + 1}',
            xlabel='granularity S',
            ylabel=r'latency ratio $r_\ell$',
        )
        axis.set_xscale('log', base=2)
        axis.set_xticks(curves.granularities, labels=[str(s) for s in curves.granularities])
        axis.legend(fontsize='x-small')
    return figure


def read_frontier(path: str | Path) -> list[tuple[str, float, float]]:
    """(label, latency in ms, accuracy) of each line of a CSV with these three columns.

    Raises:
        FileNotFoundError, ValueError: No file, a missing column, or a cell that is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'frontier: got {str(path)!r}; give a file that exists')
    with path.open(newline='', encoding='utf-8') as lines:
        reader = csv.DictReader(lines)
        missing = {'label', 'latency_ms', 'accuracy'} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(
                f'{path}: got no column {sorted(missing)[0]!r}; give the header '
                'label,latency_ms,accuracy'
            )
        points = []
        for number, row in enumerate(reader, start=2):
            try:
                points.append((row['label'], float(row['latency_ms']), float(row['accuracy'])))
            except (TypeError, ValueError):
                raise ValueError(
                    f'{path}, line {number}: got {",".join(map(str, row.values()))}; give numbers '
                    'as latency_ms and accuracy'
                ) from None
    if not points:
        raise ValueError(f'{path}: got no data below its header; give at least one line')
    return points


def plot_frontier(points: Sequence[tuple[str, float, float]], title: str) -> 'Figure':
    """Accuracy over latency, a line per label (Figure 7), and the best of all (dashed)."""
    figure, (axis,) = _panels(1, title)
    for label in dict.fromkeys(point[0] for point in points):
        line = sorted((x, y) for name, x, y in points if name == label)
        axis.plot(*zip(*line, strict=True), marker='o', label=label)
    ordered = sorted((x, -y) for _, x, y in points)
    best = np.maximum.accumulate([-y for _, y in ordered])
    axis.step(
        [x for x, _ in ordered], best, where='post', color='grey', linestyle='--', label='frontier'
    )
    axis.set(xlabel='latency (ms)', ylabel='accuracy (%)')
    axis.legend(fontsize='x-small')
    return figure


def plot_laudnet() -> 'Figure':
    """LAUDNet's main figure, top-1 accuracy over latency; crosses are the release reproduced."""
    figure, axes = _panels(len(PANELS), 'LAUDNet: accuracy over predicted latency')
    for axis, (family, device) in zip(axes, PANELS, strict=True):
        for line in (line for line in LINES if line.family == family and device in line.latency_ms):
            axis.plot(line.latency_ms[device], line.top1, marker='o', label=line.label)
            again = reproduced_ms(line, device)
            axis.plot(again, line.top1[: len(again)], 'x', color='black', zorder=3)
        axis.set(
            title=f'{family} on {load_device(device).label}',
            xlabel='latency (ms per image)',
            ylabel='top-1 accuracy (%)',
        )
        axis.legend(fontsize='xx-small')
    return figure


def check_suffix(path: str | Path) -> str:
    """The file format that the path's suffix names; ValueError for one that is not known."""
    suffix = Path(path).suffix.lower()
    if suffix not in PLOT_SUFFIXES:
        raise ValueError(
            f'--output: got {str(path)!r}; give a name that ends in {", ".join(PLOT_SUFFIXES)}'
        )
    return suffix[1:]


def render(figure: 'Figure', path: str | Path) -> bytes:
    """The figure as a file's content; the format is the path's suffix."""
    content = io.BytesIO()
    figure.savefig(content, format=check_suffix(path), dpi=150)
    return content.getvalue()
