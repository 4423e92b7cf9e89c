"""Launch every kernel once in every variant on small inputs: what a sanitizer is to watch.

PYTHONPATH=. compute-sanitizer python tools/benchmarks/cuda_suites/every_kernel.py
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarking.inverted import InvertedResidual

from las_mm.executors.triton import TritonExecutor
from las_mm.executors.triton.block import run_block
from las_mm.executors.triton.margins import Margins
from las_mm.executors.triton.options import Options
from las_mm.executors.triton.packing import pack_block
from las_mm.layers import DynamicBasicBlock, DynamicBlock, DynamicBottleneck
from las_mm.layers.encoder_branch import HEAD_MODES
from las_mm.models.transformer_mmpretrain import LASVisionTransformer

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


@torch.no_grad()
def run_layers(device: str) -> int:
    """The same of encoder layers of transformers."""
    count = 0
    for mode in HEAD_MODES:
        for policies in (('tokens', 'heads', 'blocks'), ('heads',)):
            network = LASVisionTransformer(
                dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
                img_size=72, patch_size=8, keep_layers=0, token_patch=2, policies=policies,
                head_mode=mode, tokens_with_mlp=mode == 'input', layer_scale_init_value=0.5,
            ).eval()  # fmt: skip
            for dtype in (torch.float32, torch.float16):
                network = network.to(device, dtype)
                undecide(network)
                network.executor = TritonExecutor(Options(tune=False))
                network(torch.rand(2, 3, 72, 72, device=device).to(dtype))
                count += len(network.blocks)
    return count


def undecide(network: torch.nn.Module) -> None:
    """Let the maskers of a transformer keep about the half."""
    for name, module in network.named_modules():
        if name.endswith('_masker'):
            torch.nn.init.normal_(module.mlp_head.weight)
            torch.nn.init.zeros_(module.mlp_head.bias)


if __name__ == '__main__':
    print(f'{run_all("cuda") + run_layers("cuda")} blocks ran')
    torch.cuda.synchronize()
