"""Measure dynamic blocks and backbones against the best static execution, on the CPU or a GPU.

All variants run in turn in one process, round after round; what is reported are medians, and
medians of the ratios within a round. Static variants: PyTorch eager, channels-last with batch
norms folded, oneDNN through TorchScript, torch.compile with frozen weights, and our own kernels
with every patch on. Ratios: to_pytorch (its best), to_own (our static), to_best (of all).

Examples:
    cd tools/benchmarks
    python benchmark.py blocks --sizes 224,800x1216 --granularity 1,2,4,7,8 --rates .3,.5,.8,1
    python benchmark.py networks --depths 50,101 --ratios .5,.4 --out results.json
    python benchmark.py memory --depths 101 --sizes 800x1216
    python benchmark.py --device cuda --suite all --out gpu.json   (see benchmark_cuda.py)
    python benchmark.py training --cases classifier,detector
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarking.measure import describe_machine
from calibration.process import restart_with_quiet_allocator

FAMILIES = ('resnet', 'regnet', 'regnety', 'mobilenet')
TRAINED = ('classifier', 'detector')
TRAINING = ('static', 'dynamic', 'distilled')
STATIC = ('eager', 'channels_last', 'onednn', 'compile')


def listed(kind):
    """Comma-separated values of a kind, for argparse."""

    def parse(text: str) -> list:
        return [kind(part) for part in text.split(',') if part]

    parse.__name__ = f'list of {kind.__name__}'
    return parse


def size(text: str) -> tuple[int, int]:
    """``224`` or ``800x1216``: height and width of the images."""
    numbers = [int(part) for part in text.split('x')]
    if len(numbers) > 2 or min(numbers) < 32:
        raise ValueError
    return (numbers[0], numbers[-1])


def rate(text: str) -> float:
    """A number in [0, 1]."""
    if not 0 <= float(text) <= 1:
        raise ValueError
    return float(text)


def positive(text: str) -> int:
    """An integer >= 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def choice(*allowed: str):
    """One of the allowed words, for argparse."""

    def parse(text: str) -> str:
        if text not in allowed:
            message = f'got {text!r}; choose from {", ".join(allowed)}'
            raise argparse.ArgumentTypeError(message)
        return text

    parse.__name__ = 'choice'
    return parse


def parse_device() -> tuple[str, list[str]]:
    """The device, and the arguments that are left."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    args, rest = parser.parse_known_args()
    return args.device, rest


def parse_args(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--device', choices=('cpu', 'cuda'), help='cuda: the arguments of benchmark_cuda.py follow'
    )
    commands = parser.add_subparsers(dest='command', required=True)
    blocks = commands.add_parser('blocks', help='one block of each stage, at activation rates')
    blocks.add_argument('--family', choices=FAMILIES, default='resnet')
    blocks.add_argument('--stages', type=listed(int), default=[1, 2, 3, 4])
    blocks.add_argument('--granularity', type=listed(int), default=[1, 4], help='values of S')
    blocks.add_argument('--rates', type=listed(rate), default=[0.3, 0.5, 0.8, 1.0])
    blocks.add_argument('--length', type=positive, default=3, help='blocks in a row, as in a stage')
    blocks.add_argument('--batch', type=positive, default=1)
    blocks.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    networks = commands.add_parser('networks', help='whole backbones, at FLOPs ratios')
    networks.add_argument(
        '--channel-groups', help='also the same networks that skip channels, such as 2-2-2-2'
    )
    networks.add_argument('--ratios', type=listed(rate), default=[0.5, 0.4], help='F_dyn/F_stat')
    networks.add_argument('--batches', type=listed(positive), default=[1])
    networks.add_argument(
        '--regnets', type=listed(str), default=[], help='such as regnety_800mf; needs mmpretrain'
    )
    networks.add_argument(
        '--mobilenets', type=listed(float), default=[], help='widths of MobileNetV2, such as 1.0'
    )
    memory = commands.add_parser('memory', help='peak memory of backbones, each in its own process')
    memory.add_argument('--one', help=argparse.SUPPRESS)
    training = commands.add_parser('training', help='a training step, dynamic against static')
    training.add_argument(
        '--cases',
        type=listed(choice(*TRAINED)),
        default=list(TRAINED),
        help='of ' + ','.join(TRAINED),
    )
    training.add_argument('--size', type=int, help="edge of the images, by default the case's")
    training.add_argument('--batch', type=int, help="images a step, by default the case's")
    training.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
    for command in (networks, memory):
        command.add_argument('--depths', type=listed(int), default=[101])
        command.add_argument('--granularity', default='4-4-7-1', help='S_net')
    for command in (blocks, networks, memory):
        command.add_argument('--sizes', type=listed(size), default=[(224, 224)])
    for command in (blocks, networks, memory, training):
        command.add_argument('--threads', type=int, default=2)
    training.add_argument(
        '--variants',
        type=listed(choice(*TRAINING)),
        default=list(TRAINING),
        help='distilled also has a teacher; of ' + ','.join(TRAINING),
    )
    for command in (blocks, networks):
        command.add_argument('--masks', type=listed(choice('smooth', 'random')), default=['smooth'])
        command.add_argument(
            '--variants',
            type=listed(choice(*STATIC)),
            default=list(STATIC),
            help='static variants of PyTorch, of ' + ','.join(STATIC),
        )
        command.add_argument('--executor', default='auto', help='executor of the dynamic ones')
        command.add_argument('--plot', type=Path, help='picture of the results, .png or .svg')
    for command in (blocks, networks, training):
        command.add_argument('--rounds', type=int, default=15)
        command.add_argument('--out', type=Path, help='JSON file of the results')
    return parser.parse_args(arguments)


def measure_memory(args: argparse.Namespace) -> None:
    """Peak resident memory after three forwards, by variant."""
    for name in ('idle', *STATIC[:3], 'own static', 'dynamic'):
        command = [sys.executable, *sys.argv, '--one', name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f'{name:14} {done.stdout.strip():>8} MiB')


def measure_one_memory(args: argparse.Namespace) -> None:
    import resource

    import torch
    from benchmarking.static import static_variants

    from las_mm.inference import make_static, optimize_for_inference
    from las_mm.models.resnet_torch import TorchLASResNet

    net = TorchLASResNet(args.depths[0], args.granularity).eval()
    x = torch.randn(1, 3, *args.sizes[0])
    with torch.inference_mode():
        if args.one == 'dynamic':
            optimize_for_inference(net)
            run = lambda: net(x)  # noqa: E731
        elif args.one == 'own static':
            static = optimize_for_inference(make_static(net))
            run = lambda: static(x)  # noqa: E731
        elif args.one == 'idle':
            run = lambda: None  # noqa: E731
        else:
            run = static_variants(make_static(net), x, [args.one])[args.one]
        for _ in range(3):
            run()
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def run_training(args: argparse.Namespace) -> None:
    """Measure training steps, or in a process of its own the memory of one."""
    from benchmarking.training import measure_training, print_peak, show_training

    if args.one:
        print_peak(args)
        return
    args.variants = list(dict.fromkeys(['static', *args.variants]))
    show_training(collect(measure_training(args), args.out))


def collect(measured: Iterable[dict], out: Path | None) -> list[dict]:
    """All records; each is in the file, if one is wanted, before the next one is measured."""
    from benchmarking.report import save_json

    records = []
    for record in measured:
        records.append(record)
        if out:
            save_json(out, describe_machine(), shlex.join(sys.argv), records)
    return records


def main() -> int:
    device, arguments = parse_device()
    if device == 'cuda':
        import benchmark_cuda

        return benchmark_cuda.main(arguments)
    args = parse_args(arguments)
    if args.command == 'memory':
        (measure_one_memory if args.one else measure_memory)(args)
        return 0
    restart_with_quiet_allocator(args.threads)
    if args.command == 'training':
        run_training(args)
        return 0
    from benchmarking.cases import measure_blocks, measure_networks
    from benchmarking.report import save_plot, show

    from las_mm.executors import check_executor

    check_executor(args.executor)
    measure = measure_blocks if args.command == 'blocks' else measure_networks
    records = collect(measure(args), args.out)
    show(records)
    if args.plot:
        save_plot(args.plot, records)
    return 0


if __name__ == '__main__':
    sys.exit(main())
