"""What the suites share: tasks, timing, networks and blocks to measure."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn

from las_mm.executors.triton import TritonExecutor
from las_mm.layers import DynamicBlock, DynamicBottleneck
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.cuda_graphs import capture

WARM_UPS, ROUNDS = 3, 20
DTYPES = {'fp32': torch.float32, 'tf32': torch.float32, 'fp16': torch.float16,
          'bf16': torch.bfloat16}  # fmt: skip
# How the Triton executor multiplies float32 beside a baseline in the same precision.
FLOAT32 = {'fp32': 'tf32x3', 'tf32': 'tf32', 'fp16': 'tf32x3', 'bf16': 'tf32x3'}


@dataclass(frozen=True)
class Machine:
    """Where the suites run, and for how long.

    Attributes:
        device: The GPU; in a dry run the CPU with Triton's interpreter.
        deadline: When to stop, on ``time.monotonic``'s clock.
        folder: Where other files than the results may be written.
    """

    device: torch.device
    deadline: float
    folder: Path

    @property
    def dry(self) -> bool:
        """Whether nothing is measured: small inputs, and None for every time."""
        return self.device.type == 'cpu'

    def has(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return time.monotonic() + seconds < self.deadline


@dataclass(frozen=True)
class Task:
    """A part of a suite that is left out as a whole where there is no time for it.

    Attributes:
        case: What is measured.
        seconds: What it takes at least.
        run: Gives its rows, one after the other.
    """

    case: str
    seconds: float
    run: Callable[[], Iterable[dict]]


@dataclass(frozen=True)
class Suite:
    """A suite.

    Attributes:
        tasks: (machine, results of the suites so far) -> its tasks, in order of importance.
        reserve: Seconds that the suites before it leave to it.
    """

    tasks: Callable[[Machine, dict], Iterable[Task]]
    reserve: float = 0.0


def set_precision(precision: str) -> None:
    """Let cuDNN and cuBLAS use TF32 or not; choose cuDNN's algorithms by timing."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = precision == 'tf32'
    torch.backends.cuda.matmul.allow_tf32 = precision == 'tf32'


def measure(machine: Machine, runs: dict[str, Callable[[], object]]) -> dict[str, float | None]:
    """Median milliseconds of each function, measured in turns; None in a dry run."""
    if machine.dry:
        for run in runs.values():
            run()
        return dict.fromkeys(runs)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(WARM_UPS + ROUNDS):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            if index >= WARM_UPS:
                times[name].append(start.elapsed_time(end))
    return {name: median(values) for name, values in times.items()}


def graphed(machine: Machine, run: Callable[[], object], repeats: int = 1) -> Callable[[], object]:
    """A replay of a CUDA graph of so many runs; in a dry run the function itself."""
    if machine.dry:
        return run
    return capture(run, repeats)[0].replay


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient, None if one was not measured."""
    return None if numerator is None or denominator is None else numerator / denominator


def make_backbone(machine: Machine, precision: str, depth: int = 101) -> TorchLASResNet:
    """LAS-ResNet 4-4-7-1 with random weights that keep features in range."""
    torch.manual_seed(0)
    backbone = TorchLASResNet(18 if machine.dry else depth, '4-2-1-1' if machine.dry else '4-4-7-1')
    for block in backbone.blocks:
        norm = block.branch.steps[-1].norm
        nn.init.constant_(norm.weight, 0.3)  # or activations grow with depth beyond float16
    backbone = backbone.to(machine.device, DTYPES[precision])
    return backbone.eval().to(memory_format=torch.channels_last)


def make_block(
    machine: Machine, channels: int, width: int, granularity: int, precision: str
) -> DynamicBlock:
    """A bottleneck that follows others in its stage, with random weights."""
    torch.manual_seed(0)
    if machine.dry:
        channels, width = 16, 8
    block = DynamicBottleneck(channels, width, channels, granularity).eval()
    return block.to(machine.device, DTYPES[precision]).to(memory_format=torch.channels_last)


def make_features(machine: Machine, block: DynamicBlock, batch: int, size: tuple[int, int]):
    """Non-negative features (N, C, H, W) for a block, as another block would leave them."""
    if machine.dry:
        batch, size = 1, (max(8, block.masker.granularity), 12)
    weight = block.conv1.weight
    x = torch.rand(batch, block.conv1.in_channels, *size, device=machine.device)
    return x.to(weight.dtype).contiguous(memory_format=torch.channels_last)


def static_of(block: DynamicBlock) -> DynamicBlock:
    """The block without masker; the Triton executor runs it by cuDNN on folded weights."""
    static = copy.deepcopy(block)
    static.make_static()
    static.executor = TritonExecutor()
    return static
