"""Check, tune and measure the GPU kernels, all by one command.

    python tools/benchmark_cuda.py --suite all --out results.json

Suites run in the order below, each ends in a table, and the JSON file is written after each of
them, so that an interruption costs only what had not been measured. What there was no time for
says so. Without a GPU, --dry-run runs the same code with Triton's interpreter on tiny inputs and
reports no times.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if '--dry-run' in sys.argv:
    os.environ['TRITON_INTERPRET'] = '1'  # read when Triton is imported

import torch
import triton
from check_triton_builds import STAGES, compile_block, gallery
from cuda_suites import ablation, ceilings, check, kernels, networks, predictor
from cuda_suites.setup import DTYPES, FLOAT32, Machine

from las_mm.ops.executors.triton.launch import compile_only
from las_mm.ops.executors.triton.options import Options

BUDGET = 450.0  # seconds


def compile_ahead(task: tuple[str, int]) -> int:
    """Compile all kernels of a stage in all tiles into Triton's cache on disk; their number."""
    precision, stage = task
    with torch.no_grad(), compile_only() as builds:
        for block, x in gallery(DTYPES[precision], [stage]):
            compile_block(block, x, Options(float32=FLOAT32[precision]))
    return len(builds)


def run_compile(machine: Machine, out: Path) -> dict:
    """In as many processes as there are cores: tuning then finds every kernel compiled."""
    start = time.monotonic()
    if machine.dry:
        return {'kernels': 0, 'seconds': None}
    tasks = [(precision, stage) for precision in DTYPES for stage in range(len(STAGES))]
    workers = min(len(tasks), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        count = sum(pool.map(compile_ahead, tasks))
    return {'kernels': count, 'seconds': time.monotonic() - start}


SUITES: dict[str, Callable[[Machine, Path], object]] = {
    'compile': run_compile,
    'check': lambda machine, out: check.run(machine),
    'ceilings': lambda machine, out: ceilings.run(machine),
    'ablation': lambda machine, out: ablation.run(machine),
    'networks': lambda machine, out: networks.run(machine),
    'kernels': lambda machine, out: kernels.run(machine),
    'predictor': lambda machine, out: predictor.run(machine, out.parent),
    'compiled': lambda machine, out: networks.run_compiled(machine),
}


def describe(machine: Machine) -> dict:
    """What was measured, and with what."""
    name = 'none, dry run' if machine.dry else torch.cuda.get_device_name()
    return {
        'device': name, 'torch': torch.__version__, 'triton': triton.__version__,
        'cudnn': torch.backends.cudnn.version(), 'dry_run': machine.dry,
    }  # fmt: skip


def write(path: Path, results: dict) -> None:
    """Write JSON so that no half file is ever there."""
    temporary = path.with_suffix('.tmp')
    temporary.write_text(json.dumps(results, indent=1))
    os.replace(temporary, path)


def show(name: str, result: object) -> None:
    """A suite's result on the console, a line per row."""
    print(f'== {name}', flush=True)
    for row in result if isinstance(result, list) else [result]:
        print(json.dumps(_rounded(row)), flush=True)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f'{value:.4g}')
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def run_suites(machine: Machine, names: list[str], out: Path) -> dict:
    """Run suites and write what they find after each; a failing one does not stop the others."""
    results: dict = {'machine': describe(machine)}
    for name in names:
        try:
            results[name] = SUITES[name](machine, out)
        except (RuntimeError, ValueError, ImportError) as error:
            results[name] = {'failed': f'{type(error).__name__}: {error}'}
        if name == 'compiled' and isinstance(results.get('networks'), list):
            networks.add_compiled(results['networks'], results['compiled'])
            show('networks', results['networks'])
        show(name, results[name])
        write(out, results)
    return results


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
    machine = Machine(device, time.monotonic() + args.budget)
    names = list(SUITES) if 'all' in args.suite else args.suite
    results = run_suites(machine, names, args.out)
    failed = [name for name in names if isinstance(results[name], dict)
              and (results[name].get('failed') or results[name].get('failures'))]  # fmt: skip
    if failed:
        print(f'benchmark_cuda: not all is well in: {", ".join(failed)}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
