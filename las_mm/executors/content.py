"""Content: what a module computes with, and how to see that it has changed."""

from operator import is_, methodcaller
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

Slots = list[tuple[dict, str]]
# Kinds of attributes that say how a layer computes, such as a stride or an epsilon.
SETTINGS = (int, float, bool, str, tuple, type(None))
SAMPLES = 8  # elements of each tensor that are looked at


class Content:
    """All that folding a module reads: its parts, their settings, and their tensors.

    Changes are seen by what stands in which slot, by addresses and version counters and, for what
    writes past these (``.data``, NumPy, averaged weights that are swapped in), by a sample of each
    tensor's elements on the CPU.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        owners: list[dict] = [o for p in parts for o in (p._parameters, p._buffers)]
        tensors = [(o, key) for o in owners for key, value in o.items() if value is not None]
        self.slots: Slots = [*tensors, *(slot for part in parts for slot in settings_of(part))]
        self.hooks = [h for p in parts if p is not module for h in hooks_of(p)]
        self._parts, self._tensors = parts, [owner[key] for owner, key in tensors]
        self._values = self._look()
        self._types = list(map(type, parts))
        samples = map(sample_of, self._tensors)
        self._samples = [sample for sample in samples if sample is not None]
        self._marks = self._read_marks()

    def unchanged(self) -> bool:
        """Whether all is as it was at construction; quick, it is asked for every forward."""
        return (
            all(map(is_, self._look(), self._values))
            and list(map(type, self._parts)) == self._types
            and self._read_marks() == self._marks
        )

    def _look(self) -> list:
        return [owner.get(key) for owner, key in self.slots]

    def _read_marks(self) -> list[Any]:
        marks: list[Any] = [*map(len, self.hooks), _has_any_global_hook()]
        marks += map(Tensor.data_ptr, self._tensors)
        marks += [None if t.is_inference() else t._version for t in self._tensors]
        marks += map(methodcaller('tobytes'), self._samples)
        return marks


def settings_of(part: nn.Module) -> Slots:
    """Where a module keeps its submodules, its settings, and perhaps a forward of its own."""
    slots: Slots = [(part._modules, key) for key in part._modules]
    own = part.__dict__
    slots += [(own, k) for k, v in own.items() if k[0] != '_' and isinstance(v, SETTINGS)]
    return [*slots, (own, 'forward')]


def hooks_of(part: nn.Module) -> list[dict]:
    """The hooks that run in a module's forward."""
    return [part._forward_hooks, part._forward_pre_hooks]


def sample_of(tensor: Tensor) -> Any:
    """An array that views a few elements, evenly spread; None for what is not on the CPU."""
    flat = flatten(tensor.detach())
    if flat is None or not flat.numel():
        return None
    elements = flat[:: -(-flat.numel() // SAMPLES)]
    return elements.view(BITS[tensor.element_size()]).numpy()


BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def flatten(tensor: Tensor) -> Tensor | None:
    """A view with one dimension, in the order of memory; None if there is none on the CPU."""
    if type(tensor) is not Tensor or tensor.device.type != 'cpu' or tensor.element_size() > 8:
        return None
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    dense = tensor.permute(order)
    return dense.view(-1) if dense.is_contiguous() else None
