"""Accuracy over FLOPs and over latency, from the reports of several test runs (Figures 7, 11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from las_mm.files import read_json


@dataclass(frozen=True)
class Run:
    """One point of each curve.

    Attributes:
        label: The curve that it belongs to, such as its S_net.
        accuracy: The metric.
        gmacs: Dynamic MACs of an average image, in G.
        static_gmacs: Those of the static network.
        latency: Predicted dynamic milliseconds per device.
        static_latency: Predicted static milliseconds per device.
    """

    label: str
    accuracy: float
    gmacs: float
    static_gmacs: float
    latency: dict[str, float]
    static_latency: dict[str, float]


def read_run(path: str | Path, metric: str | None = None, label: str | None = None) -> Run:
    """A run from its ``latency_report.json``, or from the folder that holds one.

    Args:
        path: File or folder.
        metric: Which of the test's metrics is the accuracy; by default its first.
        label: The curve; by default S_net.

    Raises:
        FileNotFoundError, ValueError: If the report is missing, or lacks the metric.
    """
    path = Path(path)
    path = path / 'latency_report.json' if path.is_dir() else path
    report = read_json('report', path, 'tools/test.py writes it')
    try:
        return _run(report, _accuracy(report, metric, path), label)
    except (KeyError, TypeError):
        raise ValueError(f'report: {str(path)!r} is no latency report') from None


def _accuracy(report: dict[str, Any], metric: str | None, path: Path) -> float:
    metrics = report.get('metrics') or {}
    name = metric or next(iter(metrics), None)
    if name not in metrics:
        has = ', '.join(metrics) or 'none; test again to have them'
        raise ValueError(f'metric: {metric!r} is not in {str(path)!r}; it has {has}')
    return metrics[name]


def _run(report: dict[str, Any], accuracy: float, label: str | None) -> Run:
    flops = report['flops']
    return Run(
        label or f'S_net {report["granularity"]}',
        accuracy,
        gmacs=flops['dynamic'] / 1e9,
        static_gmacs=flops['static'] / 1e9,
        latency={row['device']: row['dynamic_ms'] for row in report['devices']},
        static_latency={row['device']: row['static_ms'] for row in report['devices']},
    )


def plot_tradeoff(
    runs: Sequence[Run], metric: str = 'accuracy', static: float | None = None
) -> Figure:
    """One panel over FLOPs and one per device over latency; a curve per label.

    Args:
        runs: The points.
        metric: Name of the accuracy's axis.
        static: Accuracy of the static network, drawn at its FLOPs and latency.

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError('reports: there is none; give at least one')
    shared = [d for d in runs[0].latency if all(d in run.latency for run in runs)]
    figure = Figure(figsize=(4.2 * (1 + len(shared)), 3.6), layout='constrained')
    first, *others = figure.subplots(1, 1 + len(shared), sharey=True, squeeze=False)[0]
    _panel(first, runs, [run.gmacs for run in runs], 'FLOPs (G multiply–accumulates)')
    for ax, device in zip(others, shared, strict=True):
        _panel(ax, runs, [run.latency[device] for run in runs], f'predicted latency, {device} (ms)')
    first.set_ylabel(metric)
    if static is not None:
        at = [runs[0].static_gmacs, *(runs[0].static_latency[device] for device in shared)]
        for ax, x in zip((first, *others), at, strict=True):
            ax.plot(x, static, 'k*', markersize=10, label='static')
    first.legend(frameon=False, fontsize=8)
    return figure


def _panel(ax: Axes, runs: Sequence[Run], costs: Sequence[float], title: str) -> None:
    for label in dict.fromkeys(run.label for run in runs):
        points = [(c, r.accuracy) for c, r in zip(costs, runs, strict=True) if r.label == label]
        ax.plot(*zip(*sorted(points), strict=True), 'o-', markersize=4, label=label)
    ax.set_xlabel(title)
    ax.grid(alpha=0.25)
    ax.spines[['top', 'right']].set_visible(False)
