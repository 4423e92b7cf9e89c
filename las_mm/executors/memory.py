"""Memory: what was made of modules' parameters, kept until these change."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from las_mm.ops.compiling import not_compiled

from .content import Content

Made = TypeVar('Made')


@dataclass
class _Entry:
    """What was made of one module, and of which content and generation."""

    content: Content
    generation: int
    made: dict = field(default_factory=dict)
    kept: bool = False  # whatever else was done to the module, see Memory.keep

    def is_of(self, module: nn.Module) -> bool:
        """Whether the module is still what this was made of."""
        same = self.kept or generation_of(module) == self.generation
        return same and self.content.unchanged()


def generation_of(module: nn.Module) -> int:
    """Counts how often a block was trained; 0 for a module that does not count."""
    return getattr(module, 'generation', 0)


class Memory:
    """Remembers, for any number of modules, what was made of their parameters.

    It is kept outside of the modules, so that pickling, deep copies and state dicts know nothing of
    it, and forgets a module that is freed.
    """

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[nn.Module, _Entry] = WeakKeyDictionary()

    @not_compiled  # looks at addresses, which a compiler cannot follow
    def remember(
        self, make: Callable[[Any, torch.dtype], Made], module: nn.Module, dtype: torch.dtype
    ) -> Made:
        """``make(module, dtype)``, made anew only when the module has changed.

        Args:
            make: A module-level function of a module and the dtype of its features.
            module: The module; where it has a ``generation``, that says when it was trained.
            dtype: Of the features.
        """
        entry = self._entries.get(module)
        if entry is None or not entry.is_of(module):
            if entry is not None and entry.kept:  # it may become again what it was
                return make(module, dtype)
            entry = self._entries[module] = _Entry(Content(module), generation_of(module))
        if (make, dtype) not in entry.made:
            entry.made[make, dtype] = make(module, dtype)
        return entry.made[make, dtype]

    def __deepcopy__(self, memo: dict) -> 'Memory':
        """Copies of whoever owns it make everything anew."""
        return Memory()

    def __reduce__(self) -> tuple:
        return Memory, ()

    def keep(self, module: nn.Module) -> None:
        """Take what was made of a module for all that there is: it has given up the rest."""
        entry = self._entries[module]
        entry.content, entry.kept = Content(module), True

    def forget(self, module: nn.Module) -> None:
        """Drop everything that was made of a module."""
        self._entries.pop(module, None)

    def made_of(self, module: nn.Module) -> dict:
        """All that is remembered of a module; whoever keeps it keeps it from being freed."""
        entry = self._entries.get(module)
        return {} if entry is None else entry.made
