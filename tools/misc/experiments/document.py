"""docs/experiments.md: what was run, with what result."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from experiments.plan import DEVICE, EPOCHS, IMAGE_SIZES, STATIC_EPOCHS, Experiment
from experiments.records import Result
from las_mm.files import write_whole
from las_mm.reports.masks import save_figure
from las_mm.reports.tradeoff import Run, plot_tradeoff, read_run

COMMAND = 'python tools/misc/run_experiments.py'


def _lengths() -> str:
    """Size of images and length of trainings, a line each task."""
    return ''.join(
        f'- {task}: images of {IMAGE_SIZES[task][0]}×{IMAGE_SIZES[task][1]}, '
        f'{STATIC_EPOCHS[task]} epochs static, then {EPOCHS[task]}\n'
        for task in EPOCHS
    )


INTRO = f"""# Experiments

Static networks and LAS networks on the two demo sets, from scratch: t = 0.7, 0.5, 0.4 × S_net
1-1-1-1, 4-4-2-1, 4-4-7-1, with and without distillation; several seeds for the headline setting
(t = 0.5, 4-4-2-1, distilled), for the same trained to its predicted latency on {DEVICE} instead of
to its FLOPs, and for the static networks. A LAS network starts from the static one of its seed and
is trained further; "static, longer" is trained further as long, and is the one to compare with.

{_lengths()}
The sets are small: read differences against the spread over seeds (± one standard deviation).
Predicted latencies are for one image on {DEVICE}; measured ones for one image on the CPU that
trained, one thread, the optimized dynamic backbone against the optimized static one, with real-time
priority; these tests were made after all trainings (`--test-again`). These
backbones are narrow (16 channels), so that on the CPU what every block costs besides its MACs
weighs far more than in a network of full width.
This page is written by

```bash
{COMMAND}
```

which makes what is missing and goes on where it was stopped; [experiments](experiments) has a
record of each run.
"""
COLUMNS = (
    'trained to',
    'S_net',
    'distilled',
    'seeds',
    'accuracy',
    'FLOPs ratio',
    f'latency ratio, {DEVICE}, predicted',
    'measured, CPU',
    'r of stages',
    'r inside / outside of objects',
)
FINDINGS = '\n## What the runs say\n'
NOTHING = '\n**The runs have not been made yet**, so that there are no results to show.\n'


def write_document(results: Sequence[Result], planned: int, path: Path) -> None:
    """Write the page, and a plot per task beside it.

    What somebody wrote under the heading ``FINDINGS`` of an existing page stays.

    Args:
        results: Runs that are complete.
        planned: How many there are to be.
        path: Of the page.
    """
    text = INTRO
    if not results:
        write_whole(path, text + NOTHING)
        return
    if len(results) < planned:
        text += f'\n**{len(results)} of {planned} runs have been made**; the others are missing.\n'
    for task in dict.fromkeys(result.experiment.task for result in results):
        found = [result for result in results if result.experiment.task == task]
        text += _section(task, found, path)
    write_whole(path, text + _findings(path))


def _findings(path: Path) -> str:
    """The part of an existing page that is not generated; empty if there is none."""
    _, heading, text = path.read_text().partition(FINDINGS) if path.is_file() else ('', '', '')
    return heading + text


def _section(task: str, results: list[Result], path: Path) -> str:
    text = f'\n## {task.capitalize()}\n'
    static = [result.accuracy for result in results if result.experiment.longer]
    groups: dict[Experiment, list[Result]] = {}
    for result in results:
        groups.setdefault(replace(result.experiment, seed=0), []).append(result)
    points = [_point(members) for setting, members in groups.items() if setting.target]
    if points:
        image = path.parent / 'images' / f'experiments_{task}.png'
        save_figure(plot_tradeoff(points, 'accuracy', mean(static) if static else None), image)
        text += f'\n![Accuracy over FLOPs and predicted latency](images/{image.name})\n'
    text += '\n| ' + ' | '.join(COLUMNS) + ' |\n' + '|---' * len(COLUMNS) + '|\n'
    return text + ''.join(_row(members) for members in groups.values())


def _point(members: list[Result]) -> Run:
    """The mean over the seeds of a setting."""
    runs = [read_run(member.path, label=_label(member.experiment)) for member in members]
    latency = {device: mean(run.latency[device] for run in runs) for device in runs[0].latency}
    accuracy, gmacs = mean(run.accuracy for run in runs), mean(run.gmacs for run in runs)
    return replace(runs[0], accuracy=accuracy, gmacs=gmacs, latency=latency)


def _label(experiment: Experiment) -> str:
    by = 'latency' if experiment.by_latency else 'FLOPs'
    kd = 'distilled' if experiment.distilled else 'plain'
    return f'{experiment.granularity}, {kd}, by {by}'


def _row(members: list[Result]) -> str:
    experiment, reports = members[0].experiment, [member.record for member in members]
    cells = [_aim(experiment), '–', '–', len(members), _spread([m.accuracy for m in members])]
    if experiment.target is None:
        return _line([*cells, *['–'] * (len(COLUMNS) - len(cells))])
    cells[1:3] = experiment.granularity, 'yes' if experiment.distilled else 'no'
    stages = zip(*(report['stages'] for report in reports), strict=True)
    objects = [report.get('object_rates') for report in reports]
    return _line(
        [
            *cells,
            _spread([report['flops']['ratio'] for report in reports]),
            _spread([member.latency_ratio() for member in members]),
            _spread([report['measured']['ratio'] for report in reports]),
            ' '.join(f'{mean(row["activation_rate"] for row in rows):.2f}' for rows in stages),
            _spread([rates['ratio'] for rates in objects]) if all(objects) else '–',
        ]
    )


def _aim(experiment: Experiment) -> str:
    """What the network was trained to."""
    if experiment.target is None:
        return 'static, longer' if experiment.longer else 'static'
    return 'its latency' if experiment.by_latency else f't = {experiment.target}'


def _line(cells: Sequence[object]) -> str:
    return '| ' + ' | '.join(map(str, cells)) + ' |\n'


def _spread(values: Sequence[float]) -> str:
    """The value, or mean ± standard deviation of several."""
    if len(values) == 1:
        return f'{values[0]:.3f}'
    return f'{mean(values):.3f} ± {stdev(values):.3f}'
