"""Every kernel under compute-sanitizer: bad accesses, races, uninitialised reads, barriers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .setup import Machine, Task

TOOLS = ('memcheck', 'racecheck', 'initcheck', 'synccheck')
SANITIZER = 'compute-sanitizer'
PROGRAM = Path(__file__).with_name('every_kernel.py')
ROOT = PROGRAM.parents[3]
FOUND_SOMETHING = 9  # exit code


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """A task for each of the sanitizer's tools."""
    for tool in () if machine.dry else TOOLS:
        yield Task(tool, 30, partial(sanitize, tool))


def sanitize(tool: str) -> list[dict]:
    """Run every kernel under one of the sanitizer's tools."""
    if shutil.which(SANITIZER) is None:
        return [{'left_out': f'{SANITIZER} is not in PATH'}]
    command = [SANITIZER, '--tool', tool, '--error-exitcode', str(FOUND_SOMETHING)]
    # Each tensor has an allocation of its own then: an access beyond it is seen.
    environment = os.environ | {'PYTORCH_NO_CUDA_MEMORY_CACHING': '1', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [*command, sys.executable, str(PROGRAM)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).strip().splitlines()
    return [{'summary': lines[-1:], 'failures': lines[-40:] if done.returncode else []}]
