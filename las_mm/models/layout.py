"""The memory layout of what leaves a backbone."""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from las_mm.ops.layout import is_channels_last, to_contiguous


def restore_layout(backbone: nn.Module, args: tuple, outs: Any) -> Any:
    """Give what leaves a backbone the memory layout that its dense forward would give it.

    Executors compute in channels-last memory, which not every operator that comes next can read:
    compiled ones of mmcv take any tensor for a contiguous one. A forward hook, so that no subclass
    can forget it. Where blocks have a precision of their own, the type of the images comes back.
    """
    if not args or not isinstance(args[0], Tensor):
        return outs
    dtype = None if backbone.precision is None else args[0].dtype
    weight = next((p for p in backbone.parameters() if p.dim() == 4), args[0])
    if backbone.any_layout or any(is_channels_last(tensor) for tensor in (args[0], weight)):
        if dtype is None:
            return outs
        return tree_map_only(Tensor, partial(Tensor.to, dtype=dtype), outs)
    return tree_map_only(Tensor, partial(to_contiguous, dtype=dtype), outs)
