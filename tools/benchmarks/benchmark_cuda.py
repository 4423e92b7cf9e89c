"""Check, tune and measure the GPU kernels, all by one command.

    python tools/benchmarks/benchmark_cuda.py --suite all --out results.json

Suites run in the order below. The JSON file is written after every row, so that an interruption
costs only what had not been measured; what there was no time for says so, and what failed says
why. Suites that are in the file from an earlier run on the same machine are kept, so that several
short runs can do what one has no time for. Without a GPU, --dry-run runs the same code with
Triton's interpreter on tiny inputs and reports no times.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
if '--dry-run' in sys.argv:
    os.environ['TRITON_INTERPRET'] = '1'  # read when Triton is imported

import torch
import triton
from cuda_suites import (
    ablation,
    ceilings,
    check,
    compiled,
    compiling,
    kernels,
    networks,
    predictor,
    sanitizer,
    tokens,
)
from cuda_suites.setup import Machine, Suite, Task

BUDGET = 450.0  # seconds

SUITES: dict[str, Suite] = {
    'compile': Suite(compiling.tasks),
    'check': Suite(check.tasks),
    'ceilings': Suite(ceilings.tasks),
    'ablation': Suite(ablation.tasks),
    'networks': Suite(networks.tasks),
    'kernels': Suite(kernels.tasks, reserve=30),
    'tokens': Suite(tokens.tasks, reserve=60),
    'predictor': Suite(predictor.tasks, reserve=80),
    'compiled': Suite(compiled.tasks, reserve=60),
    'sanitizer': Suite(sanitizer.tasks),
}


class OutOfTime(BaseException):
    """Raised in the main thread when the budget ends, past every ``except Exception``."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` in a ``with`` block that takes longer."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Record:
    """Rows of each suite, on the console and in a file that is never half written."""

    def __init__(self, path: Path, machine: dict) -> None:
        self._path = path
        self.results: dict = {'machine': machine, **_earlier(path, machine)}

    def start(self, suite: str) -> None:
        """Forget what an earlier run found in this suite."""
        self.results[suite] = []
        print(f'== {suite}', flush=True)

    def add(self, suite: str, case: str, row: dict) -> None:
        """Keep what was found of a case."""
        row = {'case': case, **row}
        self.results[suite].append(row)
        print(json.dumps(_rounded(row)), flush=True)
        self.write()

    def write(self) -> None:
        """Write the file anew."""
        temporary = self._path.with_suffix('.tmp')
        temporary.write_text(json.dumps(self.results, indent=1))
        os.replace(temporary, self._path)


def _earlier(path: Path, machine: dict) -> dict:
    """Suites of an earlier run on this machine."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    same = isinstance(found, dict) and found.get('machine') == machine
    return {name: found[name] for name in SUITES if same and name in found}


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f'{value:.4g}')
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def describe(dry: bool) -> dict:
    """What is measured, and with what."""
    return {
        'device': 'none, dry run' if dry else torch.cuda.get_device_name(),
        'torch': torch.__version__, 'triton': triton.__version__,
        'cudnn': torch.backends.cudnn.version(), 'dry_run': dry,
    }  # fmt: skip


def run_suites(machine: Machine, names: list[str], record: Record) -> None:
    """Run suites until the machine's deadline; a task that fails does not stop the others."""
    for place, name in enumerate(names):
        later = sum(SUITES[other].reserve for other in names[place + 1 :])
        own = replace(machine, deadline=machine.deadline - later)
        record.start(name)
        for task in SUITES[name].tasks(own, record.results):
            add = partial(record.add, name, task.case)
            if own.has(task.seconds):
                _run_task(task, machine.deadline, add)
            else:
                add({'left_out': 'no time was left'})
    compiled.add_to(record.results)
    record.write()


def _run_task(task: Task, deadline: float, add: Callable[[dict], None]) -> None:
    try:
        with time_limit(deadline - time.monotonic()):
            for row in task.run():
                add(row)
    except OutOfTime:
        add({'left_out': 'the time ended while it ran'})
    except Exception as error:  # whatever went wrong, the other tasks are to run
        text = str(error).strip().splitlines() or ['']
        add({'failed': f'{type(error).__name__}: {text[0]}'})


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--suite', nargs='+', default=['all'], choices=[*SUITES, 'all'])
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    parser.add_argument('--budget', type=float, default=BUDGET, help='seconds to end within')
    parser.add_argument('--dry-run', action='store_true', help='interpret on tiny inputs, no times')
    args = parser.parse_args(argv)
    if not args.dry_run and not torch.cuda.is_available():
        parser.error('--device: this machine or this PyTorch has no CUDA device; use --dry-run')
    if not args.out.resolve().parent.is_dir():
        parser.error(f'--out: {args.out} is in a folder that does not exist; create it first')
    device = torch.device('cpu' if args.dry_run else 'cuda')
    machine = Machine(device, time.monotonic() + args.budget, args.out.resolve().parent)
    names = [name for name in SUITES if name in args.suite or 'all' in args.suite]
    record = Record(args.out, describe(args.dry_run))
    run_suites(machine, names, record)
    bad = [
        name
        for name in names
        if any(row.get('failed') or row.get('failures') for row in record.results[name])
    ]
    if bad:
        print(f'benchmark_cuda: not all is well in: {", ".join(bad)}', file=sys.stderr)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
