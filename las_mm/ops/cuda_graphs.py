"""Capturing a function as a CUDA graph."""

from collections.abc import Callable
from typing import TypeVar

import torch

WARM_UPS = 3
Out = TypeVar('Out')


def capture(run: Callable[[], Out], repeats: int = 1) -> tuple[torch.cuda.CUDAGraph, Out]:
    """Record runs of a function on the current device.

    Args:
        run: Launches kernels, the same ones whenever it is called. It runs a few times before, on a
            stream of its own: what is compiled, tuned or allocated on first use must not be so in
            the graph.
        repeats: How many runs a replay is.

    Returns:
        The graph, and what the last run returned, which every replay overwrites.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            out = run()
    return graph, out
