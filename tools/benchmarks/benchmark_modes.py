"""Measure blocks that skip channels, whole images or both with patches, against the static block.

Blocks are ResNet-50's identity blocks; several of the same shape as a stage of an optimized model,
each with weights and decisions of its own. Latencies are paired: all variants in turn, round after
round, in one process.

Example:
    python tools/benchmarks/benchmark_modes.py --sizes 224,800x1216 --threads 2
"""

import argparse
import copy
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch
from benchmarking.cases import in_place
from benchmarking.families import BOTTLENECKS
from benchmarking.masks import make_mask
from benchmarking.measure import describe_machine, interleave, ratio
from calibration.process import restart_with_quiet_allocator
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from las_mm.accounting import block_cost
from las_mm.executors import find_executor
from las_mm.layers import DynamicBottleneck
from las_mm.ops import conv_size

# Rates of patches, blocks and channels; None for what is not decided on.
MODES: dict[str, dict[str, float]] = {
    'channels .5': dict(channels=0.5),
    'channels .25': dict(channels=0.25),
    'blocks .5': dict(branch=0.5),
    'joint .6 .7': dict(sites=0.6, channels=0.7),
}


def make_row(stage: int, mode: dict[str, float], x: Tensor, length: int) -> nn.Sequential:
    """Blocks of a stage in a row that decide as told.

    Args:
        stage: From 1.
        mode: The rate of each axis.
        x: Their input.
        length: How many.
    """
    channels, middle, groups, _ = BOTTLENECKS['resnet'][stage - 1]
    granularity = 'all' if 'branch' in mode else 4 if 'sites' in mode and stage < 4 else None
    if 'sites' in mode and stage == 4:
        granularity = 1
    blocks = [
        DynamicBottleneck(
            *(channels, middle, channels, granularity),
            groups=groups,
            channel_groups=2 if 'channels' in mode else None,
        )
        for _ in range(length)
    ]
    for seed, block in enumerate(blocks):
        generator = torch.Generator().manual_seed(seed)
        nn.init.constant_(block.bn3.weight, 1e-3)  # so that features stay in range
        if 'channels' in mode:
            order = torch.randperm(middle // 2, generator=generator)
            mask = (order < round(mode['channels'] * middle / 2)).float()
            block.channel_masker.decided = mask[None]
        if 'branch' in mode:  # alternately, so that their mean is the rate
            block.branch_masker.decided = torch.full((1, 1, 1, 1), float(seed % 2 == 0))
        if 'sites' in mode:
            grid = conv_size(x.shape[-2:], int(granularity or 1))
            block.masker.decided = make_mask(grid, mode['sites'], seed, True)
    return nn.Sequential(*blocks).eval()


def static_of(row: nn.Sequential) -> nn.Sequential:
    """The same blocks without maskers."""
    static = copy.deepcopy(row)
    for block in static:
        block.make_static()
    return static


@torch.inference_mode()
def measure(size: tuple[int, int], args: argparse.Namespace) -> Iterator[list[str]]:
    """One line per stage and mode."""
    for stage in args.stages:
        channels = BOTTLENECKS['resnet'][stage - 1][0]
        x = torch.randn(1, channels, *conv_size(size, 2 ** (stage + 1))).relu_()
        x = x.contiguous(memory_format=torch.channels_last)
        rows = {name: make_row(stage, mode, x, args.length) for name, mode in MODES.items()}
        rows['static'] = static_of(rows['channels .5'])
        for row in rows.values():
            executor = find_executor('cpu')
            for block in row:
                block.executor = executor
        times = interleave({name: in_place(row, x) for name, row in rows.items()}, args.rounds)
        for name in MODES:
            costs = [block_cost(block, block.trace) for block in rows[name]]
            shares = [block.trace.shares for block in rows[name]]
            pairs = zip(costs, shares, strict=True)
            macs = sum(float(torch.as_tensor(c.dynamic(s))) for c, s in pairs)
            found, share = ratio(times, name, ['static']), macs / sum(c.static for c in costs)
            yield [
                'x'.join(map(str, size)), str(stage), name,
                f'{share:.2f}', f'{found:.2f}', f'{found - share:+.2f}',
            ]  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--sizes', default='224', help='of images, such as 224,800x1216')
    parser.add_argument('--stages', type=int, nargs='+', default=[1, 2, 3, 4])
    parser.add_argument('--length', type=int, default=4, help='blocks in a row')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    restart_with_quiet_allocator(args.threads)
    table = Table('image', 'stage', 'skipped', 'MACs', 'time', 'over', title='to own static')
    for text in args.sizes.split(','):
        edges = [int(edge) for edge in text.split('x')]
        for line in measure((edges[0], edges[-1]), args):
            table.add_row(*line)
    Console().print(table, describe_machine())


if __name__ == '__main__':
    main()
