"""Batch norms that do not move their running statistics for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def untracked(block: nn.Module) -> Iterator[None]:
    """Keep batch norms from moving their running statistics, in whichever mode they are."""
    norms = [part for part in block.modules() if isinstance(part, _NormBase)]
    tracking = [norm for norm in norms if norm.track_running_stats]
    states = [(norm.momentum, norm.num_batches_tracked) for norm in tracking]
    for norm in tracking:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, state in zip(tracking, states, strict=True):
            norm.momentum, norm.num_batches_tracked = state
