"""Launch every kernel once in every variant on small inputs: what a sanitizer is to watch.

PYTHONPATH=. compute-sanitizer python tools/benchmarks/cuda_suites/every_kernel.py
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarking.inverted import InvertedResidual

from las_mm.executors.triton.block import run_block
from las_mm.executors.triton.margins import Margins
from las_mm.executors.triton.options import Options
from las_mm.executors.triton.packing import pack_block
from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck

UNFUSED = {'masker_conv1': False, 'gather_conv2': False, 'scatter_add': False}


def blocks() -> Iterator[tuple[DynamicBlock, tuple[int, int]]]:
    """Small blocks that need every kernel, and sizes that cut their last patches."""
    for granularity in (1, 2, 7):
        yield DynamicBottleneck(16, 16, 32, granularity, stride=2), (19, 22)
        yield DynamicBottleneck(32, 16, 32, granularity), (10, 11)
    yield DynamicBottleneck(64, 64, 64, 2, groups=4, squeeze_channels=16), (9, 10)
    yield DynamicBasicBlock(16, 16, 2), (9, 10)
    yield InvertedResidual(24, 2), (9, 10)


@torch.no_grad()
def run_all(device: str) -> int:
    """Launch every kernel in every variant on small inputs; number of blocks run."""
    count = 0
    for block, size in blocks():
        for dtype in (torch.float32, torch.float16):
            own = block.eval().to(device, dtype)
            own.masker.conv.bias.zero_()
            packed = pack_block(own, dtype)
            x = torch.rand(2, own.branch.steps[0].op.in_channels, *size, device=device).to(dtype)
            for switches in ({}, {'masker_conv1': False}, UNFUSED):
                run_block(packed, x, Options(tune=False, **switches))
                count += 1
            if packed.shortcut is None:
                margins = Margins([packed, packed])
                for _ in range(3):
                    x, _mask = run_block(packed, x, Options(tune=False), margins=margins)
                    count += 1
    return count


if __name__ == '__main__':
    print(f'{run_all("cuda")} blocks ran')
    torch.cuda.synchronize()
