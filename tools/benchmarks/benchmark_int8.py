"""Stages in 8 bits against OpenVINO: static and dynamic ResNets with the same weights.

Needs openvino, nncf, onnx and onnxscript. Engines run in turn, round by round; times are medians,
and ratios medians of those within a round. The stem is in each.

Example:
    python tools/benchmarks/benchmark_int8.py --depth 50 --sizes 1x224x224 8x224x224 1x800x1216
"""

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from benchmarking.masks import decide_masks
from torch import Tensor, nn

import las_mm
from las_mm.inference import make_static
from las_mm.models.resnet_torch import TorchLASResNet

RIVAL = 'openvino int8'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--depth', type=int, default=50, choices=[50, 101])
    parser.add_argument('--sizes', nargs='+', default=['1x224x224'], help='NxHxW')
    parser.add_argument('--shares', nargs='*', type=float, default=[0.5, 0.4], help='F of masks')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=7)
    return parser.parse_args()


def make_network(depth: int) -> TorchLASResNet:
    """A network with statistics of random images, so that features stay in range."""
    torch.manual_seed(0)
    net = TorchLASResNet(depth, '4-4-7-1')
    for norm in [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        norm.momentum = None
    for block in net.blocks:
        nn.init.uniform_(block.bn3.weight, 0.05, 0.15)
    net.train()(torch.randn(4, 3, 224, 224))
    return las_mm.quantize(net.eval(), [torch.randn(2, 3, 224, 224)])


def openvino(static: nn.Module, x: Tensor, threads: int) -> dict[str, Callable[[], Any]]:
    """OpenVINO in single precision and, quantized by NNCF, in 8 bits."""
    import nncf
    import openvino as ov

    core, images = ov.Core(), x.numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/network.onnx'
        torch.onnx.export(static, (x,), path, dynamo=True, external_data=False)
        exact = core.read_model(path)
        low = nncf.quantize(exact, nncf.Dataset([torch.randn(x.shape).numpy() for _ in range(2)]))
        hints = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': threads}
        runs: dict[str, Callable[[], Any]] = {}
        for name, model in (('openvino fp32', exact), (RIVAL, low)):
            request = core.compile_model(model, 'CPU', hints).create_infer_request()
            request.set_input_tensor(ov.Tensor(images, shared_memory=True))
            runs[name] = request.infer
    return runs


def engines(net: TorchLASResNet, x: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """What is to be timed on x."""
    runs = openvino(make_static(net), x, args.threads)
    networks = {'static': make_static(net)}
    for share in args.shares:
        dynamic = copy.deepcopy(net)
        dynamic(x[:1])
        decide_masks(dynamic, share)
        networks[f'F={share}'] = dynamic
    for name, network in networks.items():
        for precision in ('fp32', 'int8'):
            fast = las_mm.optimize_for_inference(copy.deepcopy(network), precision=precision)
            runs[f'{name} {precision}'] = lambda fast=fast: fast(x)
    return runs


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    net = make_network(args.depth)
    for size in args.sizes:
        n, height, width = map(int, size.split('x'))
        runs = engines(net, torch.randn(n, 3, height, width), args)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for index in range(args.rounds + 2):
            for name, run in runs.items():
                start = perf_counter()
                run()
                if index >= 2:
                    times[name].append(1000 * (perf_counter() - start))
        for name, mine in times.items():
            ratio = median(a / b for a, b in zip(mine, times[RIVAL], strict=True))
            print(f'R{args.depth} {size} {name:14} {median(mine):8.1f} ms  {ratio:.2f}', flush=True)


if __name__ == '__main__':
    with torch.inference_mode():
        main()
