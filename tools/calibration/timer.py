"""Measure single convolutions and static residual blocks with PyTorch, as fast as it runs them.

On the CPU: oneDNN with prepacked weights,
channels last, ReLU and residual addition fused, which is what a compiled and frozen model runs. On
a GPU: cuDNN, channels last, autotuned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from las_mm.ops.cuda_graphs import capture
from latency_predictor import BlockSpec

__all__ = ['Convolution', 'Timer', 'static_block']

_RUNS_PER_GRAPH = 10


class Timer:
    """Shortest of many interleaved runs, so that neighbours on a shared machine do not count.

    With one CPU thread it counts that thread's CPU time, which excludes time given to others; with
    more it is wall-clock time. On a GPU it is the time between two events around a replayed CUDA
    graph of several runs: what the host needs to launch them does not count.
    """

    def __init__(self, device: str = 'cpu', threads: int = 1):
        self.device = device
        self._graphs: dict[Callable, torch.cuda.CUDAGraph] = {}
        self._clock = time.thread_time if threads == 1 else time.perf_counter

    def once(self, run: Callable) -> float:
        """Seconds of one run."""
        if self.device == 'cpu':
            start = self._clock()
            run()
            return self._clock() - start
        if run not in self._graphs:
            self._graphs[run] = capture(run, _RUNS_PER_GRAPH)[0]
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        self._graphs[run].replay()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) * 1e-3 / _RUNS_PER_GRAPH

    def interleaved(
        self,
        runs: dict[str, Callable],
        seconds: float,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of each run: the shortest, and the relative spread of the rounds' shortest.

        Args:
            runs: name -> function; all run in turn, round after round, for about ``seconds``.
        """
        for run in runs.values():
            run()
        found: dict[str, list[float]] = {name: [] for name in runs}
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(next(iter(found.values()))) < 3:
            for name, run in runs.items():
                found[name].append(self._shortest(run))
        best = {name: min(times) for name, times in found.items()}
        spread = {
            name: sorted(times)[len(times) // 2] / best[name] - 1 for name, times in found.items()
        }
        return best, spread

    def _shortest(self, run: Callable) -> float:
        """Shortest of three runs or of 20 ms of runs: short ones meet more disturbances."""
        times = [self.once(run) for _ in range(3)]
        at_once = 1 if self.device == 'cpu' else _RUNS_PER_GRAPH
        while at_once * sum(times) < 0.02:
            times.append(self.once(run))
        return min(times)


@dataclass
class Convolution:
    """One convolution with fused ReLU, ready to run; channels-last input and output.

    Args:
        channels: (C_in, C_out).
        size: (height, width) of the input.
    """

    channels: tuple[int, int]
    size: tuple[int, int]
    kernel: int = 1
    stride: int = 1
    device: str = 'cpu'
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        inputs, outputs = self.channels
        weight = torch.randn(outputs, inputs, self.kernel, self.kernel) * 0.01
        self.bias = torch.zeros(outputs, dtype=self.dtype, device=self.device)
        self.where = ([self.kernel // 2] * 2, [self.stride] * 2, [1, 1], 1)
        if self.device == 'cpu':
            self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
                weight.to(self.dtype).to_mkldnn(), *self.where, [1, inputs, *self.size]
            )
        else:
            self.weight = weight.to(self.device, self.dtype, memory_format=torch.channels_last)

    def input(self) -> torch.Tensor:
        """Random input of the right shape."""
        x = torch.rand(1, self.channels[0], *self.size, device=self.device, dtype=self.dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def __call__(self, x: torch.Tensor, activation: str = 'relu') -> torch.Tensor:
        if self.device == 'cpu':
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, *self.where, activation, [], ''
            )
        padding, stride, dilation, groups = self.where
        y = torch.nn.functional.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
        return y.relu_() if activation == 'relu' else y

    def add_to(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """ReLU(identity + conv(x)), in place in ``identity``."""
        if self.device == 'cpu':
            return torch.ops.mkldnn._convolution_pointwise_.binary(
                identity, x, self.weight, self.bias, *self.where, 'add', None, 'relu', [], ''
            )
        return identity.add_(self(x, 'none')).relu_()


def static_block(
    block: BlockSpec, device: str = 'cpu', dtype: torch.dtype = torch.float32
) -> Callable:
    """A function that runs a static bottleneck once on an input of its own."""
    source = block.input_size
    options = {'device': device, 'dtype': dtype}
    conv1 = Convolution((block.in_channels, block.inner_channels), source, **options)
    conv2 = Convolution(
        (block.inner_channels, block.inner_channels), source, 3, block.stride, **options
    )
    conv3 = Convolution(
        (block.inner_channels, block.out_channels), (block.height, block.width), **options
    )
    x = conv1.input()
    if not block.shortcut:
        return lambda: conv3.add_to(conv2(conv1(x)), x)
    shortcut = Convolution(
        (block.in_channels, block.out_channels), source, 1, block.stride, **options
    )
    return lambda: conv3.add_to(conv2(conv1(x)), shortcut(x, 'none'))
