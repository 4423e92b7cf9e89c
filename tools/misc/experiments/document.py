"""docs/experiments.md: what was run, with what result."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from experiments.figure import COSTS, group, plot_task, static_cost_at
from experiments.plan import DEVICES
from experiments.records import Result
from experiments.tasks import TASKS
from las_mm.files import write_whole
from las_mm.reports.masks import save_figure

COMMAND = 'python tools/misc/run_experiments.py'
INTRO = f"""# Experiments on real images

Is a dynamic network more accurate than a static one of equal cost? Static families and dynamic
networks are trained equally long, from the same published or static weights. Costs are
multiply–accumulates of an average test image, and the backbone's latency for one image: as the
predictor says for {' and '.join(DEVICES)}, and as measured on the CPU that trained (one thread, the
optimized backbone). Test images are read once, after the training; a tenth of the training images
validates. ± is one standard deviation over seeds; rows of one seed have none. "r inside / outside"
is the mean activation rate in objects over that of the background.

```bash
{COMMAND}
```

makes what is missing, goes on where it was stopped, and writes this page;
[experiments](experiments) has a record of each run. Older runs on composed digits are in an
[appendix](experiments_digits.md).
"""
COLUMNS = (
    'network',
    'mode',
    't',
    'distilled',
    'seeds',
    'accuracy',
    'MACs (M)',
    *(f'{device} (ms)' for device in DEVICES),
    'CPU, measured (ms)',
    'r of stages',
    'r inside / outside',
)
FINDINGS = '\n## What the runs say\n'
ISOLINES = (
    '\nCost over that of static networks of equal accuracy, between the rows that no cheaper one '
    'surpasses, or of the cheapest one where that is more accurate:\n\n'
)
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


def _section(name: str, results: list[Result], path: Path) -> str:
    task = TASKS[name]
    image = path.parent / 'images' / f'experiments_{name}.png'
    save_figure(plot_task(results), image)
    text = f'\n## {task.title}\n\n{task.text}\n'
    text += f'\n![Accuracy over MACs and latency, {task.title}](images/{image.name})\n'
    text += '\n| ' + ' | '.join(COLUMNS) + ' |\n' + '|---' * len(COLUMNS) + '|\n'
    groups = [g for g in group(results) if not g[0].experiment.first]
    return text + ''.join(map(_row, groups)) + _isolines(groups)


def _isolines(groups: list[list[Result]]) -> str:
    """Per dynamic network, its cost in shares of a static one of equal accuracy."""
    statics = [g for g in groups if g[0].experiment.target is None]
    text = ''
    for members in groups:
        first = members[0]
        if first.experiment.target is None:
            continue
        accuracy = mean(m.accuracy for m in members)
        costs = {title: static_cost_at(accuracy, statics, cost) for title, cost in COSTS.items()}
        shares = [
            f'{mean(map(COSTS[title], members)) / static:.2f} ({title.partition(" (")[0]})'
            for title, static in costs.items()
            if static
        ]
        said = ', '.join(shares) or 'no static network of the family is as accurate'
        text += f'- {first.label}, t = {first.experiment.target}: {said}\n'
    return text and ISOLINES + text


def _row(members: list[Result]) -> str:
    experiment, records = members[0].experiment, [member.record for member in members]
    objects = [record.get('object_rates') for record in records]
    cells = [
        experiment.network,
        experiment.mode,
        '–' if experiment.target is None else experiment.target,
        experiment.distilled,
        len(members),
        _spread([m.accuracy for m in members]),
        _spread([m.macs for m in members]),
        *(_spread([m.predicted_ms(device) for m in members], 3) for device in DEVICES),
        _spread([m.measured_ms for m in members], 2),
        '–' if experiment.target is None else _rates(records),
        _spread([rates['ratio'] for rates in objects], 2) if all(objects) else '–',
    ]
    return '| ' + ' | '.join(map(str, cells)) + ' |\n'


def _rates(records: list[dict]) -> str:
    """Mean activation rate of each stage."""
    stages = zip(*(record['stages'] for record in records), strict=True)
    return ' '.join(f'{mean(row["activation_rate"] for row in rows):.2f}' for rows in stages)


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """The value, or mean ± standard deviation of several."""
    text = f'{mean(values):.{digits}f}'
    return text if len(values) == 1 else f'{text} ± {stdev(values):.{digits}f}'
