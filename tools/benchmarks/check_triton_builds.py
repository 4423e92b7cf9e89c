"""Compile every Triton kernel in every tile for GPUs that need not be there, and check the builds.

A build fails the check if it spills registers, or lacks the instructions that make it fast: wgmma
on Hopper, mma.sync elsewhere, 16-byte cp.async wherever there is a loop to pipeline.

    python tools/benchmarks/check_triton_builds.py
    python tools/benchmarks/check_triton_builds.py --arch 90 --dtype bfloat16 --out builds.json
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from benchmarking.inverted import InvertedResidual
from torch import Tensor
from triton_offline import Report, offline_target, read_report

from las_mm.executors.triton.block import run_block
from las_mm.executors.triton.channels import pack_channels, run_channels
from las_mm.executors.triton.encoding import run_layer
from las_mm.executors.triton.launch import compile_only
from las_mm.executors.triton.margins import Margins
from las_mm.executors.triton.options import Options
from las_mm.executors.triton.packing import PackedBlock, pack_block
from las_mm.layers import DynamicBlock, DynamicBottleneck, EncoderBlock
from las_mm.models.transformer_mmpretrain import LASVisionTransformer

ARCHS = (80, 90, 120)
DTYPES = {'float32': torch.float32, 'tf32': torch.float32, 'ieee': torch.float32,
          'float16': torch.float16, 'bfloat16': torch.bfloat16}  # fmt: skip
FLOAT32 = {'tf32': 'tf32', 'ieee': 'ieee'}  # how those multiply, if not by default
FOLLOWING = (2, 22)  # blocks whose margins one may compute: in ResNet-101 up to 22
# Width of the 3×3 convolution and granularity of each stage of a LAS-ResNet 4-4-7-1.
STAGES = ((64, 4), (128, 4), (256, 7), (512, 1))
# Encoder layers: among them are all kernels in all variants.
LAYERS: tuple[dict[str, Any], ...] = (
    dict(policies=('tokens', 'heads', 'blocks'), head_mode='input'),
    dict(policies=('heads',), head_mode='hidden', layer_scale_init_value=0.1),
    dict(policies=('tokens', 'heads'), head_mode='attention', tokens_with_mlp=False),
)
TOKENS_EDGE = 14
EDGE = 28  # of the maps; what is compiled depends on channels and granularity only


def gallery(
    dtype: torch.dtype, stages: Sequence[int] = range(len(STAGES))
) -> Iterator[tuple[DynamicBlock, Tensor]]:
    """Blocks with an input each: three of each stage of a LAS-ResNet, one of them skipping
    channels, too, a grouped, gated one, and an inverted residual.
    """
    blocks = []
    for stage in stages:
        width, granularity = STAGES[stage]
        inputs, stride = (2 * width, 2) if stage else (width, 1)
        blocks.append(DynamicBottleneck(inputs, width, 4 * width, granularity, stride))
        blocks.append(DynamicBottleneck(4 * width, width, 4 * width, granularity))
        blocks.append(DynamicBottleneck(4 * width, width, 4 * width, granularity, channel_groups=2))
    blocks.append(DynamicBottleneck(128, 128, 128, 4, groups=8, squeeze_channels=32))
    for block in (*blocks, InvertedResidual(64, 4)):
        x = torch.zeros(1, block.branch.steps[0].op.in_channels, EDGE, EDGE, dtype=dtype)
        yield block.eval().to(dtype), x


def encoders(
    dtype: torch.dtype, layers: Sequence[int] = range(len(LAYERS))
) -> Iterator[tuple[EncoderBlock, Tensor]]:
    """Encoder layers of DeiT-S in every mode of its heads, with an input each."""
    for layer in layers:
        arch = dict(embed_dims=384, num_layers=1, num_heads=6, feedforward_channels=1536)
        network = LASVisionTransformer(arch, keep_layers=0, **LAYERS[layer])
        block = network.layers[0]
        block.grid = (TOKENS_EDGE, TOKENS_EDGE)
        yield block.eval().to(dtype), torch.zeros(1, 1 + TOKENS_EDGE**2, 384, dtype=dtype)


def compile_layer(block: EncoderBlock, x: Tensor, options: Options) -> None:
    """Launch what runs an encoder layer; to be called within ``compile_only``."""
    normed = block.ln1(x) if 'token_masker' in block._modules else None
    masks = block.decide(x, x if normed is None else normed)
    run_layer(block, x, normed, masks, block.grid, options)


def compile_block(
    block: DynamicBlock, x: Tensor, options: Options, decided: Tensor | None = None
) -> None:
    """Launch what any plan could launch for a block; to be called within ``compile_only``.

    Args:
        block: The block.
        x: Its input.
        options: Switches; those of the fusions are tried on and off.
        decided: A mask for kernels that replay one, None for those that decide.
    """
    if 'channel_masker' in block._modules:
        run_channels(block, pack_channels(block, x.dtype), options, x)
        return
    packed = pack_block(block, x.dtype)
    for fused in (True, False):
        run_block(packed, x, replace(options, masker_conv1=fused), decided=decided)
    unfused = replace(options, gather_conv2=False, scatter_add=False)
    run_block(packed, x, unfused, decided=decided)
    if packed.shortcut is None:
        for following in FOLLOWING:
            _run_chain(packed, x, options, decided, following)


def _run_chain(
    packed: PackedBlock, x: Tensor, options: Options, decided: Tensor | None, following: int
) -> None:
    """The first, the second and the last kind of block of an incremental stage."""
    margins = Margins([packed] * following)
    for _ in range(3):
        x, _ = run_block(packed, x, options, margins=margins, decided=decided)


def check(
    arch: int,
    dtype: str,
    all_tiles: bool = True,
    stages: Sequence[int] = range(len(STAGES)),
    layers: Sequence[int] = range(len(LAYERS)),
) -> list[Report]:
    """Compile the gallery for a compute capability.

    Args:
        arch: 80, 90, 120 or another that Triton knows.
        dtype: Of the features, a key of ``DTYPES``; ``tf32`` and ``ieee`` are other ways to
            multiply float32.
        all_tiles: Whether in every tile that may be tuned for, or in the first one only.
        stages: Stages of the LAS-ResNet to compile for, from 0.
        layers: Which of ``LAYERS``.
    """
    reports: dict[str, Report] = {}
    options = Options(float32=FLOAT32.get(dtype, 'tf32x3'), pdl=arch >= 90, tune=all_tiles)
    with torch.no_grad(), offline_target(arch):
        for block, x in (*gallery(DTYPES[dtype], stages), *encoders(DTYPES[dtype], layers)):
            with compile_only() as builds:
                if isinstance(block, EncoderBlock):
                    compile_layer(block, x, options)
                else:
                    compile_block(block, x, options)
            for build in builds:
                key = f'{build.name} {sorted(build.constants.items())}'
                if key not in reports:
                    reports[key] = read_report(build, arch)
    return list(reports.values())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--arch', type=int, nargs='+', default=ARCHS, help='compute capabilities')
    parser.add_argument('--dtype', nargs='+', default=list(DTYPES), choices=DTYPES)
    parser.add_argument('--first-tile', action='store_true', help='only the tile taken untuned')
    parser.add_argument('--out', type=Path, help='JSON file for all reports')
    args = parser.parse_args(argv)
    reports = []
    for arch in args.arch:
        for dtype in args.dtype:
            found = check(arch, dtype, not args.first_tile)
            faulty = [report for report in found if report.faults()]
            worst = max(report.registers for report in found)
            print(f'sm_{arch} {dtype}: {len(found)} builds, at most {worst} registers, '
                  f'{len(faulty)} faulty', flush=True)  # fmt: skip
            for report in faulty:
                print(f'  {report.name} {report.constants}: {"; ".join(report.faults())}')
            reports += found
    if args.out:
        temporary = args.out.with_suffix('.tmp')
        rows = [asdict(report) | {'faults': report.faults()} for report in reports]
        temporary.write_text(json.dumps(rows, indent=1))
        os.replace(temporary, args.out)
    return 1 if any(report.faults() for report in reports) else 0


if __name__ == '__main__':
    sys.exit(main())
