"""Launching a kernel: for real, or only compiled, with programmatic dependent launch or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from .options import Options
from .tiles import Tile

_builds: ContextVar[list['Build'] | None] = ContextVar('las_mm_triton_builds', default=None)


@dataclass(frozen=True)
class Build:
    """A kernel that was compiled and not launched.

    Attributes:
        name: Of the kernel.
        constants: Its compile-time arguments and options.
        compiled: Triton's handle: ``.asm['ptx']``, ``.asm['cubin']``, ``.metadata``.
    """

    name: str
    constants: dict[str, Any]
    compiled: Any


@contextmanager
def compile_only() -> Iterator[list[Build]]:
    """Within the ``with`` block kernels are compiled, in all tiles, and collected, not launched."""
    builds: list[Build] = []
    token = _builds.set(builds)
    try:
        yield builds
    finally:
        _builds.reset(token)


def compiling_only() -> bool:
    """Whether launches compile only."""
    return _builds.get() is not None


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU (TRITON_INTERPRET=1 when it was imported)."""
    from .kernels.index import index

    return isinstance(index, InterpretedFunction)


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Launch ``kernel`` on the device of its first argument.

    Args:
        kernel: A Triton kernel.
        grid: Programs per dimension.
        *args: Its tensors and integers.
        **constants: Its compile-time arguments and Triton's options.
    """
    if constants['PDL']:
        constants['launch_pdl'] = True
    builds = _builds.get()
    if builds is not None:
        compiled = kernel.warmup(*args, grid=grid, **constants)
        builds.append(Build(kernel.fn.__name__, constants, compiled))
    elif args[0].is_cuda:
        with torch.cuda.device(args[0].device):
            kernel[grid](*args, **constants)
    else:
        kernel[grid](*args, **constants)


def use_pdl(options: Options, tensor: Tensor) -> bool:
    """Whether to launch kernels on ``tensor`` programmatically dependent on the ones before."""
    if not options.pdl or interpreted():
        return False
    return compiling_only() or torch.cuda.get_device_capability(tensor.device) >= (9, 0)


def common(options: Options, features: Tensor) -> dict[str, Any]:
    """Compile-time arguments of every convolution on ``features``."""
    precision = options.float32 if features.dtype == torch.float32 else None  # of no effect
    return {'PRECISION': precision, 'PDL': use_pdl(options, features)}


def compiled(tile: Tile) -> dict[str, int]:
    """Compile-time arguments and options that make up a tile."""
    return {**tile.constants, 'num_warps': tile.warps, 'num_stages': tile.stages}


def cdiv(number: int, step: int) -> int:
    """Division rounded up."""
    return triton.cdiv(number, step)
