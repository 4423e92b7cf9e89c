"""Compile in parallel what the other suites will launch, so that tuning finds it compiled."""

import os
import time
from collections.abc import Iterator
from multiprocessing import get_context

import torch
from check_triton_builds import STAGES, compile_block, gallery

from las_mm.executors.triton.launch import compile_only
from las_mm.executors.triton.options import Options

from .setup import DTYPES, FLOAT32, Machine, Task

BLOCKS = 2  # of each stage in the gallery: a stage's first one, and one of the others


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """All kernels in all tiles, in as many processes as there are cores."""
    if not machine.dry:
        yield Task('kernels of LAS-ResNet-101', 10, _compile_all)


def _compile_all() -> Iterator[dict]:
    parts = [(precision, stage, block) for precision in DTYPES for stage in range(len(STAGES))
             for block in range(BLOCKS)]  # fmt: skip
    start = time.monotonic()
    with get_context('spawn').Pool(min(len(parts), os.cpu_count() or 1)) as pool:
        found = sum(pool.imap_unordered(compile_part, parts))
    yield {'kernels': found, 'seconds': time.monotonic() - start}


def compile_part(part: tuple[str, int, int]) -> int:
    """Compile a block's kernels into Triton's cache on disk; their number.

    With a mask to replay, as all suites but ``check`` have.
    """
    precision, stage, number = part
    with torch.no_grad(), compile_only() as builds:
        block, x = list(gallery(DTYPES[precision], [stage]))[number]
        compile_block(block, x, Options(float32=FLOAT32[precision]), torch.ones(1, 1, 1, 1))
    return len(builds)
