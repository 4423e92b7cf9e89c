"""Measured latency of a dynamic backbone and of its static network."""

import copy
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from las_mm.models import DynamicBackbone

from .optimizing import optimize_for_inference, restore_after_inference


def make_static(backbone: DynamicBackbone) -> DynamicBackbone:
    """A copy of the backbone without maskers: the static network of the same weights."""
    static = restore_after_inference(copy.deepcopy(backbone))
    for block in static.blocks:
        block.make_static()
    return static


@torch.inference_mode()
def measure_backbone(
    backbone: DynamicBackbone, x: Tensor, rounds: int = 7, executor: str = 'auto'
) -> tuple[float, float]:
    """Measured latency of the backbone and of its static network, both optimized.

    They compute in the precision that the backbone is optimized for.

    Args:
        backbone: The backbone; left as it is.
        x: (N, 3, H, W) images, on the backbone's device.
        rounds: Interleaved measurements, of which the median counts.
        executor: How dynamic blocks run.

    Returns:
        (static, dynamic) latency of one batch in milliseconds.

    Raises:
        ValueError: If ``rounds`` is not positive.
    """
    if rounds < 1:
        raise ValueError(f'rounds: got {rounds}; give at least 1')
    dynamic = restore_after_inference(copy.deepcopy(backbone))
    names = {None: 'fp32', torch.uint8: 'int8'}
    precision = names.get(backbone.precision, 'auto')
    networks = [
        optimize_for_inference(network, executor, precision=precision)
        for network in (make_static(backbone), dynamic)
    ]
    times: tuple[list[float], list[float]] = [], []
    for index in range(rounds + 2):
        for network, record in zip(networks, times, strict=True):
            milliseconds = _time_once(network, x)
            if index >= 2:  # the first ones pack weights and choose algorithms
                record.append(milliseconds)
    return median(times[0]), median(times[1])


def _time_once(network: nn.Module, x: Tensor) -> float:
    synchronize = torch.cuda.synchronize if x.is_cuda else lambda: None
    synchronize()
    start = perf_counter()
    network(x)
    synchronize()
    return 1000 * (perf_counter() - start)
