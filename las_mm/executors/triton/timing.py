"""Timing what is launched: a graph of launches is replayed, so that the host does not count."""

from collections.abc import Callable
from functools import cache

import torch

GRAPH_MS = 1.0  # of the launches in one graph, if they are many
MOST_LAUNCHES, REPLAYS = 20, 5


def time_graph(run: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one run: the shortest replay of a CUDA graph of several runs.

    ``triton.testing.do_bench_cudagraph`` does the same, but takes 300 ms for it and works on the
    current device only.

    Args:
        run: Launches kernels on the device, any number of times.
        device: The device; need not be the current one.
    """
    with torch.cuda.device(device):
        stream = _side_stream(device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()  # what is compiled or allocated on first use must not be so in the graph
            launches = int(GRAPH_MS / max(_elapsed(run), 1e-6))
            launches = min(max(launches, 1), MOST_LAUNCHES)
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(capture_error_mode='thread_local')
            for _ in range(launches):
                run()
            graph.capture_end()
            graph.replay()  # the first one uploads it
            times = [_elapsed(graph.replay) for _ in range(REPLAYS)]
        torch.cuda.current_stream().wait_stream(stream)
    return min(times) / launches


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: the allocator keeps what was freed for each stream apart."""
    return torch.cuda.Stream(device)


def _elapsed(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
