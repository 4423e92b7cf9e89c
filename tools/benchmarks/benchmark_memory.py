"""Start and peak memory of a process that imports, loads and runs a network.

Each row is a process of its own: seconds and memory of the import, then the peak of loading the
network, optimizing it and running it a few times, above what importing torch alone takes and above
what all its imports take. Maskers are untrained: they keep nearly every patch, which takes most.

Examples:
    python tools/benchmarks/benchmark_memory.py --imports torch,las_mm,las_mm.layers
    python tools/benchmarks/benchmark_memory.py --depth 101 --size 800x1216
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    'fp32': {},
    'fp32, weights once': {'keep_weights': False},
    'bf16, weights once': {'keep_weights': False, 'precision': 'bf16'},
}
IMPORT = """
import json, sys, time
start = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - start
"""
RUN = """
import json, sys
import torch
torch_alone = memory('VmRSS')
import las_mm
from las_mm.models.resnet_torch import TorchLASResNet
imported = memory('VmRSS')
depth, granularity, height, width, path, options = json.loads(sys.argv[1])
net = TorchLASResNet(depth, granularity).eval()
net.load_state_dict(torch.load(path, mmap=True, weights_only=True))
las_mm.optimize_for_inference(net, **options)
x = torch.randn(1, 3, height, width)
with torch.inference_mode():
    for _ in range(8):
        outs = net(x)
peak = memory('VmHWM')
print(json.dumps([peak - torch_alone, peak - imported, peak]))
"""
MEMORY = """
def memory(key):
    with open('/proc/self/status') as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
"""


def run_fresh(code: str, argument: str) -> list[float]:
    """What a fresh interpreter prints as JSON for some code and its argument."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', MEMORY + code, argument],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ['no output'])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def show_imports(names: list[str], rounds: int) -> None:
    """Print the fastest of some imports of each module."""
    code = f'{IMPORT}\nprint(json.dumps([seconds, memory("VmHWM")]))'
    for name in names:
        seconds, peak = min(run_fresh(code, name) for _ in range(rounds))
        print(f'import {name:20} {seconds:5.2f} s {peak:6.0f} MiB', flush=True)


def show_peaks(depth: int, granularity: str, size: tuple[int, int]) -> None:
    """Print the peak of each way to optimize."""
    import torch

    from las_mm.models.resnet_torch import TorchLASResNet

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'network.pth')
        torch.save(TorchLASResNet(depth, granularity).state_dict(), path)
        for name, options in OPTIONS.items():
            try:
                argument = json.dumps([depth, granularity, *size, path, options])
                above_torch, above_imports, peak = run_fresh(RUN, argument)
            except RuntimeError as error:
                print(f'{name:20} {error}', flush=True)
                continue
            print(
                f'{name:20} peak {peak:6.0f} MiB, above torch {above_torch:5.0f}, '
                f'above its imports {above_imports:5.0f}',
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--imports', help='comma-separated modules, whose import is measured alone')
    parser.add_argument('--rounds', type=int, default=5, help='imports of each, the fastest counts')
    parser.add_argument('--depth', type=int, default=101, help='of the ResNet')
    parser.add_argument('--granularity', default='4-4-7-1', help='S of each stage')
    parser.add_argument('--size', default='800x1216', help='height and width of the image')
    args = parser.parse_args()
    if args.imports:
        return show_imports(args.imports.split(','), args.rounds)
    height, width = map(int, args.size.split('x'))
    show_peaks(args.depth, args.granularity, (height, width))


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    main()
