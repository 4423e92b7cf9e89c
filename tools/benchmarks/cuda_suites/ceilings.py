"""What the device can do at most: bytes copied and products added per second."""

from collections.abc import Iterator
from functools import partial

import torch

from .setup import DTYPES, Machine, Task, graphed, measure, set_precision

COPY_BYTES, EDGE = 2**32, 8192


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """All of it."""
    yield Task('device', 5, partial(_run, machine))


def _run(machine: Machine) -> list[dict[str, float | None]]:
    """TB/s of a large copy, read and written bytes counted, and TFLOP/s of a matrix product.

    Multiply and add count as two. Operands are random: zeros would run faster than data does.
    """
    found = {'copy_TB_per_s': _copy(machine)}
    edge = 32 if machine.dry else EDGE
    for precision in ('fp32', 'tf32', 'fp16', 'bf16'):
        set_precision(precision)
        a, b = (
            torch.randn(edge, edge, device=machine.device).to(DTYPES[precision]) for _ in range(2)
        )
        time = measure(machine, {'mm': lambda a=a, b=b: a @ b})['mm']
        found[f'{precision}_TFLOP_per_s'] = None if time is None else 2 * edge**3 / time / 1e9
    found['empty_kernel_us'] = _launch(machine)
    return [found]


def _copy(machine: Machine) -> float | None:
    size = 2**10 if machine.dry else COPY_BYTES
    source = torch.rand(size // 4, device=machine.device)
    target = torch.empty_like(source)
    time = measure(machine, {'copy': lambda: target.copy_(source)})['copy']
    return None if time is None else 2 * size / time / 1e9


def _launch(machine: Machine, count: int = 100) -> float | None:
    """Microseconds of a kernel with nothing to do, within a CUDA graph of many."""
    one = torch.zeros(1, device=machine.device)
    replay = graphed(machine, lambda: one.add_(1), count)
    time = measure(machine, {'launch': replay})['launch']
    return None if time is None else 1000 * time / count
