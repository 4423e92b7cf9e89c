"""A module that stays the same object and runs another way, until it is put back."""

from functools import cache
from typing import Any, ClassVar, cast

from torch import nn

from las_mm.ops.plain import STANDS_FOR


class StandIn(nn.Module):
    """Mixed into the class of a module by :func:`stand_in`; its forward comes first.

    The module keeps its parameters, attributes, hooks, names and identity, whoever holds it; only
    its class changes, to a subclass of its own one.
    """

    _mixin: ClassVar[type['StandIn']]

    @property
    def own_class(self) -> type[nn.Module]:
        """The class that the module had before."""
        return getattr(type(self), STANDS_FOR)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles stand in, too; the mixed class itself has no name to pickle it by."""
        if STANDS_FOR not in vars(type(self)):  # somebody has derived another class from it
            return super().__reduce_ex__(protocol)
        return _rebuild, (self._mixin, self.own_class), self.__getstate__()


def run_own(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What a module computes by itself, whether it stands in or not."""
    cls = type(module)
    return getattr(cls, STANDS_FOR, cls).forward(module, *args, **kwargs)


@cache
def _mixed(mixin: Any, own: Any) -> type[nn.Module]:
    marks = {'__module__': own.__module__, '_mixin': mixin, STANDS_FOR: own}
    return type(own.__name__, (mixin, own), marks)


def _rebuild(mixin: Any, own: Any) -> nn.Module:
    cls = _mixed(mixin, own)
    return cls.__new__(cls)


def stand_in(module: nn.Module, mixin: type[StandIn], **attributes: Any) -> None:
    """Let a module run by the forward of ``mixin``.

    Args:
        module: The module; must not stand in already.
        mixin: How it is to run.
        **attributes: What the forward needs; their names begin with an underscore.
    """
    module.__class__ = _mixed(cast(Any, mixin), cast(Any, type(module)))
    module.__dict__.update(attributes, _added=tuple(attributes))


def put_back(module: nn.Module) -> None:
    """Undo :func:`stand_in`; does nothing to any other module."""
    for name in module.__dict__.pop('_added', ()):
        module.__dict__.pop(name, None)
    if isinstance(module, StandIn):
        cast(Any, module).__class__ = _without_mixin(type(module))


def _without_mixin(cls: type[nn.Module]) -> type[nn.Module]:
    """The class before it was mixed; of one derived since, such as parametrized, its twin."""
    if STANDS_FOR in vars(cls):
        return vars(cls)[STANDS_FOR]
    bases = tuple(_without_mixin(b) if issubclass(b, StandIn) else b for b in cls.__bases__)
    own = {
        name: part for name, part in vars(cls).items() if name not in ('__dict__', '__weakref__')
    }
    return type(cls.__name__, bases, own)
