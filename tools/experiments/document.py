"""docs/experiments.md: what was run, with what result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiments.plan import DEVICE, Experiment
from las_mm.tradeoff import plot_tradeoff, read_run
from las_mm.visualization import save_figure

COMMAND = 'python tools/run_experiments.py'
INTRO = f"""# Experiments

Static networks and LAS networks on the two demo sets, from scratch: t = 0.7, 0.5, 0.4 × S_net
1-1-1-1, 4-4-2-1, 4-4-7-1, with and without distillation; several seeds for the headline setting
(t = 0.5, 4-4-2-1, distilled), for the same trained to its predicted latency on {DEVICE} instead of
to its FLOPs, and for the static networks. The demo sets are small: read differences against the
spread over seeds. Latencies are the predictor's, for one image; none is measured here. This page is
written by

```bash
{COMMAND}
```

which makes what is missing and goes on where it was stopped.
"""
NOTHING = '\n**The runs have not been made yet**, so that there are no results to show.\n'


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        experiment: Which.
        accuracy: The task's first metric.
        report: The latency report; None for a static network.
        folder: Of the run.
    """

    experiment: Experiment
    accuracy: float
    report: dict[str, Any] | None
    folder: Path

    def latency_ratio(self, device: str = DEVICE) -> float:
        """Predicted ℓ_dyn / ℓ_stat."""
        return next(row['ratio'] for row in self.report['devices'] if row['device'] == device)


def write_document(results: Sequence[Result], planned: int, path: Path, save) -> None:
    """Write the page, and a plot per task beside it.

    Args:
        results: Runs that are complete.
        planned: How many there are to be.
        path: Of the page.
        save: Function of (path, text) that writes it.
    """
    text = INTRO
    if not results:
        save(path, text + NOTHING)
        return
    if len(results) < planned:
        text += f'\n**{len(results)} of {planned} runs have been made**; the others are missing.\n'
    for task in dict.fromkeys(result.experiment.task for result in results):
        found = [result for result in results if result.experiment.task == task]
        text += _section(task, found, path)
    save(path, text)


def _section(task: str, results: list[Result], path: Path) -> str:
    text = f'\n## {task.capitalize()}\n'
    dynamic = [result for result in results if result.report]
    static = [result.accuracy for result in results if not result.report]
    if dynamic:
        image = path.parent / 'images' / f'experiments_{task}.png'
        runs = [read_run(r.folder, label=_label(r.experiment)) for r in dynamic]
        save_figure(plot_tradeoff(runs, 'accuracy', mean(static) if static else None), image)
        text += f'\n![Accuracy over FLOPs and predicted latency](images/{image.name})\n'
    header = (
        '\n| trained to | S_net | distilled | seeds | accuracy | FLOPs ratio | '
        f'latency ratio, {DEVICE} | r of stages |\n|---|---|---|---|---|---|---|---|\n'
    )
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        e = result.experiment
        groups.setdefault((e.target, e.granularity, e.distilled, e.by_latency), []).append(result)
    return text + header + ''.join(_row(members) for members in groups.values())


def _label(experiment: Experiment) -> str:
    by = 'latency' if experiment.by_latency else 'FLOPs'
    kd = 'distilled' if experiment.distilled else 'plain'
    return f'{experiment.granularity}, {kd}, by {by}'


def _row(members: list[Result]) -> str:
    experiment = members[0].experiment
    accuracy = _spread([member.accuracy for member in members])
    if experiment.target is None:
        return f'| static | – | – | {len(members)} | {accuracy} | 1 | 1 | – |\n'
    flops = _spread([member.report['flops']['ratio'] for member in members])
    latency = _spread([member.latency_ratio() for member in members])
    stages = zip(*(member.report['stages'] for member in members), strict=True)
    rates = ' '.join(f'{mean(row["activation_rate"] for row in rows):.2f}' for rows in stages)
    aim = 'its latency' if experiment.by_latency else f't = {experiment.target}'
    kd = 'yes' if experiment.distilled else 'no'
    start = f'| {aim} | {experiment.granularity} | {kd} | {len(members)} | '
    return start + f'{accuracy} | {flops} | {latency} | {rates} |\n'


def _spread(values: Sequence[float]) -> str:
    """The value, or mean ± standard deviation of several."""
    if len(values) == 1:
        return f'{values[0]:.3f}'
    return f'{mean(values):.3f} ± {stdev(values):.3f}'
