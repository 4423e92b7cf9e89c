"""Train and test every network of docs/experiments.md, and write that page from the results.

A run that is complete is left alone and one that was stopped goes on, so that the same command can
be given again at any time. It takes a few hours on two cores.

Examples:
    python tools/misc/run_experiments.py
    python tools/misc/run_experiments.py --tasks classification --seeds 0 1 2 3 4
    python tools/misc/run_experiments.py --test-again          # latencies, on a machine now quiet
    python tools/misc/run_experiments.py --write-only          # the page from what there is
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.document import write_document
from experiments.plan import CONFIGS, DEVICE, Experiment, make_config, plan
from experiments.records import Records, Result

from las_mm.cli import run_cli
from las_mm.files import read_json, write_whole

ROOT = Path(__file__).resolve().parents[2]
METRICS = {'detection': 'coco/bbox_mAP', 'classification': 'accuracy/top1'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tasks', nargs='+', choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--out', default='work_dirs/experiments', help='folder of all runs')
    parser.add_argument(
        '--document', default='docs/experiments.md', help='page to write; records lie beside it'
    )
    parser.add_argument('--epochs', type=int, help="length of each training, by default the plan's")
    parser.add_argument('--only', metavar='NAME', help='only runs with NAME in their names')
    parser.add_argument('--list', action='store_true', help='say which runs there are, and stop')
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument(
        '--test-again',
        action='store_true',
        help='test complete dynamic runs again, for their measured latency; train nothing',
    )
    todo.add_argument('--write-only', action='store_true', help='write the page, run nothing')
    return parser.parse_args()


def run(experiment: Experiment, out: Path, records: Records, epochs: int | None) -> None:
    """Train and test one network, and keep its record.

    Raises:
        ValueError: If a run that it needs is missing, or training or testing failed.
    """
    if experiment.target is not None or experiment.longer:
        need(experiment.static, records, out / experiment.static.name / 'last.pth')
    latency = None
    if experiment.by_latency:
        latency = need(experiment.by_flops, records).latency_ratio()
    cfg = make_config(experiment, ROOT, out, latency, epochs)
    folder = out / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'config.py'
    write_whole(config, cfg.pretty_text)
    tool('train.py', config, '--work-dir', folder, '--resume')
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip())
    link = folder / 'last.pth'
    link.unlink(missing_ok=True)
    link.symlink_to(checkpoint.name)
    if experiment.target is None:
        metric = METRICS[experiment.task]
        records.add(experiment, {metric: validated(folder, metric)}, None)
    else:
        test(experiment, folder, records)


def test(experiment: Experiment, folder: Path, records: Records) -> None:
    """Test a trained dynamic network, and keep its record.

    Raises:
        ValueError: If there is no checkpoint, or testing failed.
    """
    config, checkpoint = folder / 'config.py', folder / 'last.pth'
    for file in (config, checkpoint):
        if not file.exists():
            raise ValueError(f'{file} is missing; remove the record of {experiment.name}')
    devices = f'{DEVICE},v100,gtx1080'
    tool('test.py', config, checkpoint, '--work-dir', folder, '--devices', devices)
    report = read_json('report', folder / 'latency_report.json')
    metric = METRICS[experiment.task]
    records.add(experiment, {metric: report['metrics'][metric]}, report)


def need(experiment: Experiment, records: Records, file: Path | None = None) -> Result:
    """The result of a run, and that a file of it is there.

    Raises:
        ValueError: If not.
    """
    result = records.get(experiment)
    if result is None:
        raise ValueError(f'{experiment.name} is missing; run it first')
    if file is not None and not file.exists():
        raise ValueError(f'{file} is missing; remove {result.path} to make it again')
    return result


def validated(folder: Path, metric: str) -> float:
    """The metric of the last validation, which ends training."""
    values = []
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        rows = map(json.loads, path.read_text().splitlines())
        values += [row[metric] for row in rows if metric in row]
    if not values:
        raise ValueError(f'{folder}: no {metric} in its logs; remove the folder and run it again')
    return values[-1]


def tool(name: str, *argv: object) -> None:
    """Run one of the project's tools.

    Raises:
        ValueError: If it failed; what it said is on the console.
    """
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ))
    if done.returncode:
        raise ValueError(f'{name} ended with {done.returncode} on {argv[0]}; see above')


def main() -> None:
    args = parse_args()
    out, experiments = Path(args.out).resolve(), plan(args.tasks, args.seeds)
    document = Path(args.document)
    records = Records(document.with_suffix(''))
    if args.epochs is not None and args.epochs < 1:
        raise ValueError(f'--epochs: got {args.epochs}; it must be >= 1')
    if args.list:
        for experiment in experiments:
            done = 'complete' if records.get(experiment) else 'to do'
            print(f'{done:9}{experiment.name}')
        return
    for index, experiment in enumerate(experiments, 1):
        complete = records.get(experiment) is not None
        is_due = complete and experiment.target is not None if args.test_again else not complete
        if args.write_only or not is_due or (args.only or '') not in experiment.name:
            continue
        print(f'run {index} of {len(experiments)}: {experiment.name}', flush=True)
        if args.test_again:
            test(experiment, out / experiment.name, records)
        else:
            run(experiment, out, records, args.epochs)
    results = records.all(experiments)
    write_document(results, len(experiments), document)
    print(f'{document} written: {len(results)} of {len(experiments)} runs')


if __name__ == '__main__':
    run_cli(main)
