"""The operators ``las_mm::…`` on packed parts of a network, which recorded programs call.

They are a library of their own that knows nothing of Python, so that a program in C++ can load it,
too. What is packed is an object of the library; its pickle holds weights as they were before, and
whoever loads it packs them for its own CPU.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .build import build_library, once
from .compilation import OPERATORS

Flat = tuple[tuple[str, Any], ...]


@once
def load_operators() -> str | None:
    """Load the library, built on first use; returns the reason why there is none here, or None.

    Afterwards ``torch.classes.las_mm`` has ``Chain`` and ``Stem``, and ``torch.ops.las_mm`` the
    operators ``chain`` and ``stem``.
    """
    try:
        _load(build_library(OPERATORS))
    except (RuntimeError, OSError, AttributeError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
        return f'there is no library of operators ({cause})'
    return None


def _load(path: Path) -> None:
    torch.ops.load_library(str(path))
    register = torch._library.register_fake_class
    register('las_mm::Chain')(FakeChain)
    register('las_mm::Stem')(FakeStem)
    for name in ('chain', 'stem'):  # they compute, and change nothing
        torch.library._register_effectful_op(f'las_mm::{name}', None)
    torch.library.register_fake('las_mm::chain', fake_chain)
    torch.library.register_fake('las_mm::stem', fake_stem)


class FakeChain:
    """What compilers know of a chain: see ``ChainObject::outline`` of the extension."""

    def __init__(self, outline: list[list[int]]) -> None:
        self._outline = outline

    def outline(self) -> list[list[int]]:
        return self._outline

    @classmethod
    def __obj_unflatten__(cls, flat: Flat) -> 'FakeChain':
        return cls(dict(flat)['outline'])


class FakeStem:
    """What compilers know of a stem: see ``StemObject::outline`` of the extension."""

    def __init__(self, outline: list[int]) -> None:
        self._outline = outline

    def outline(self) -> list[int]:
        return self._outline

    @classmethod
    def __obj_unflatten__(cls, flat: Flat) -> 'FakeStem':
        return cls(dict(flat)['outline'])


def fake_chain(packed: Any, x: Tensor, identity: Tensor | None) -> list[Tensor]:
    """The last output, and of each block its mask of patches and of groups of channels, if any."""
    images, channels, *size = x.shape
    masks = []
    for stride, out_channels, grain, groups in packed.outline():
        size, channels = [ceil_div(edge, stride) for edge in size], out_channels
        if grain:
            grid = (ceil_div(edge, grain) for edge in size)
            masks.append(x.new_empty((images, 1, *grid), dtype=torch.float32))
        if groups:
            masks.append(x.new_empty((images, groups), dtype=torch.float32))
    return [empty_features(x, (images, channels, *size)), *masks]


def fake_stem(packed: Any, x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C', H', W'), channels-last."""
    channels, *windows = packed.outline()
    size = [x.shape[2], x.shape[3]]
    for kernel, stride, padding in (windows[:3], windows[3:]):
        size = [(edge + 2 * padding - kernel) // stride + 1 for edge in size]
    return empty_features(x, (x.shape[0], channels, *size))


def ceil_div(size: int, step: int) -> int:
    """⌈size / step⌉, of a symbol, too."""
    return size if step == 1 else (size + step - 1) // step


def empty_features(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Features of that size in channels-last memory, on the device and of the type of ``x``."""
    options: dict[str, Any] = dict(dtype=x.dtype, device=x.device)
    return torch.empty(size, memory_format=torch.channels_last, **options)
