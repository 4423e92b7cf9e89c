"""Write latency_predictor/VALIDATION.md: the predictor against the paper and against this machine.

    python tools/predictor/validate_predictor.py                # everything, about five minutes
    python tools/predictor/validate_predictor.py --skip-cpu     # only what needs no measurement

The CPU part calibrates on micro-convolutions, then measures static blocks of ResNet-101 and, where
las_mm's native sparse executor can be built, dynamic blocks with smooth masks.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / 'benchmarks'))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import latency_predictor
from latency_predictor.validation import paper_sections

_HEADER = """# How far the latency predictor can be trusted

Written by `python tools/predictor/validate_predictor.py`; do not edit by hand. Relative errors are
predicted / reference - 1. MAPE is the mean of their absolute values.
"""

_GPU = """## A GPU

Not measured: no GPU was at hand. With one, `python tools/calibrate.py --device cuda --name mine
--output mine.yaml` writes its device file and
`python -m latency_predictor network --device mine.yaml` predicts with it. The CUDA branch of
`calibrate.py` has not been run either.
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--skip-cpu', action='store_true', help='leave the measurements out')
    parser.add_argument(
        '--seconds', type=float, default=180.0, help='time for the measurements (default: 180)'
    )
    parser.add_argument(
        '--output',
        type=Path,
        help='file to write (default: VALIDATION.md of the package)',
        default=Path(latency_predictor.__file__).with_name('VALIDATION.md'),
    )
    arguments = parser.parse_args()
    if not arguments.output.resolve().parent.is_dir():
        raise FileNotFoundError(f"folder of --output '{arguments.output}' does not exist")
    return arguments


def main() -> int:
    try:
        arguments = parse_arguments()
    except (ValueError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    if arguments.skip_cpu:
        cpu = (
            "## This machine's CPU\n\nNot measured in this run: `python "
            'tools/predictor/validate_predictor.py` measures it.\n'
        )
    else:
        import predictor_cpu  # needs PyTorch, which the rest does not
        from calibration.process import restart_with_quiet_allocator

        restart_with_quiet_allocator(threads=1)
        cpu = predictor_cpu.sections(arguments.seconds)
    where = f'\nPython {platform.python_version()}, {platform.machine()}.\n'
    text = '\n'.join((_HEADER + where, paper_sections(), cpu, _GPU))
    temporary = arguments.output.with_name(arguments.output.name + '.tmp')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, arguments.output)
    print(f'wrote {arguments.output}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
