"""Train and test every network of docs/experiments.md, and write that page from the results.

A run that is complete is left alone and one that was stopped goes on, so that the same command can
be given again at any time. All of them take days on two cores.
tools/prepare_data.py makes the data.

Examples:
    python tools/misc/run_experiments.py
    python tools/misc/run_experiments.py --tasks cifar10 --seeds 0 1 2 3 4
    python tools/misc/run_experiments.py --test-again          # latencies, on a machine now quiet
    python tools/misc/run_experiments.py --write-only          # the page from what there is
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.document import write_document
from experiments.plan import Experiment, make_config, make_test_config, plan
from experiments.records import Records
from experiments.tasks import TASKS
from mmengine.config import Config

from las_mm.cli import run_cli
from las_mm.files import read_json, write_whole

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--tasks', nargs='+', choices=list(TASKS), default=list(TASKS))
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
        help='test complete runs again, for their measured latency; train nothing',
    )
    todo.add_argument('--write-only', action='store_true', help='write the page, run nothing')
    return parser.parse_args()


def run(experiment: Experiment, out: Path, records: Records, epochs: int | None) -> None:
    """Train and test one network, and keep its record.

    Raises:
        ValueError: If a run that it needs is missing, or training or testing failed.
    """
    for needed in experiment.needs:
        require(needed, out, records)
    folder = out / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'config.py'
    write_whole(config, make_config(experiment, ROOT, out, epochs).pretty_text)
    tool('train.py', config, '--work-dir', folder, '--resume')
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip())
    link = folder / 'last.pth'
    link.unlink(missing_ok=True)
    link.symlink_to(checkpoint.name)
    test(experiment, out, records)


def test(experiment: Experiment, out: Path, records: Records) -> None:
    """Test a trained network on the images that no training saw, and keep its record.

    Raises:
        ValueError: If there is no checkpoint, or testing failed.
    """
    folder = out / experiment.name
    config, checkpoint = folder / 'config.py', folder / 'last.pth'
    for file in (config, checkpoint):
        if not file.exists():
            raise ValueError(f'{file} is missing; remove the record of {experiment.name}')
    cfg = make_test_config(experiment, Config.fromfile(config))
    write_whole(folder / 'test_config.py', cfg.pretty_text)
    tool('test.py', folder / 'test_config.py', checkpoint, '--work-dir', folder)
    report = read_json('report', folder / 'latency_report.json')
    records.add(experiment, report)


def require(experiment: Experiment, out: Path, records: Records) -> None:
    """Check that a run is complete and its network is there.

    Raises:
        ValueError: If not.
    """
    result = records.get(experiment)
    if result is None:
        raise ValueError(f'{experiment.name} is missing; run it first')
    file = out / experiment.name / 'last.pth'
    if not file.exists():
        raise ValueError(f'{file} is missing; remove {result.path} to make it again')


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
        if (
            args.write_only
            or complete is not args.test_again
            or (args.only or '') not in experiment.name
        ):
            continue
        print(f'run {index} of {len(experiments)}: {experiment.name}', flush=True)
        if args.test_again:
            test(experiment, out, records)
        else:
            run(experiment, out, records, args.epochs)
    results = records.all(experiments)
    write_document(results, len(experiments), document)
    print(f'{document} written: {len(results)} of {len(experiments)} runs')


if __name__ == '__main__':
    run_cli(main)
