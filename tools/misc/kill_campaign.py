"""Kill a training again and again, also while it saves, and check that nothing is lost.

A small LAS classifier trains on images made for it, with random crops and flips in two worker
processes, Gumbel noise, momentum, and a checkpoint after every iteration. It is killed (SIGKILL) at
random moments, about half of them while a checkpoint is being written, and each time resumed by
`tools/train.py --resume`. In the end every iteration's losses, all weights and the optimizer must
equal those of a training that nobody interrupted, bit for bit. Each training is a process of its
own, forked from this one, which has imported the libraries.

Examples:
    python tools/misc/kill_campaign.py --kills 20
    python tools/misc/kill_campaign.py --kills 5 --loop iteration --epochs 6 --work-dir campaign
"""

import os

os.environ['OMP_NUM_THREADS'] = '1'  # one thread: sums in one order, and safe to fork

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import mmpretrain.models  # noqa: F401  (imported once, not by every training)
import numpy as np
import torch
import train
from mmengine.config import Config

from las_mm.checkpoints.loading import latest_checkpoint
from las_mm.cli import run_cli

ROOT = Path(__file__).resolve().parents[2]
IMAGES, BATCH, CLASSES = 24, 4, 2
KEPT = 3
CLOCK = ('time', 'data_time')  # logged values that are no result of the training


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--epochs', type=int, default=10, help=f'of {IMAGES // BATCH} iterations')
    parser.add_argument(
        '--loop', choices=('epoch', 'iteration'), default='epoch', help="mmengine's training loop"
    )
    parser.add_argument('--workers', type=int, default=2, help='processes that load data')
    parser.add_argument('--seed', type=int, default=0, help='of the moments to kill at')
    parser.add_argument('--work-dir', type=Path, help='folder to keep; by default a temporary one')
    args = parser.parse_args(argv)
    if args.kills < 1 or args.epochs < 1 or args.workers < 0:
        raise ValueError('--kills, --epochs, --workers: must be >= 1, >= 1 and >= 0')
    return args


def make_images(folder: Path) -> Path:
    """Noise of two kinds in class folders."""
    noise = np.random.default_rng(0)
    for index in range(IMAGES):
        path = folder / str(index % CLASSES) / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = noise.integers(0, 128 * (1 + index % CLASSES), (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(path), image)
    return folder


def make_config(folder: Path, args: argparse.Namespace) -> Path:
    """The config of the training: the demo classifier, narrower and with augmentation."""
    cfg = Config.fromfile(ROOT / 'configs' / 'las_r50_4-4-2-1_demo.py')
    cfg.model.backbone.update(depth=18, base_channels=8, stem_channels=8)
    cfg.model.head.update(num_classes=CLASSES, in_channels=64, topk=(1,))
    loader = cfg.train_dataloader
    loader.dataset.update(data_root=str(make_images(folder / 'images')), data_prefix='')
    loader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=32),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackInputs'),
    ]
    workers = dict(num_workers=args.workers, persistent_workers=args.workers > 0)
    loader.update(batch_size=BATCH, **workers)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.02, momentum=0.9)
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=iterations(args), by_epoch=False)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=args.epochs)
    if args.loop == 'iteration':
        cfg.train_cfg = dict(by_epoch=False, max_iters=iterations(args))
        loader.sampler = dict(type='InfiniteSampler', shuffle=True)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg.pop(name)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=KEPT
    )
    path = folder / 'config.json'
    cfg.dump(str(path))
    return path


def iterations(args: argparse.Namespace) -> int:
    """Length of the training."""
    return args.epochs * IMAGES // BATCH


def run_training(config: Path, work_dir: Path) -> None:
    """What a training process does: the tool, with its output in a file."""
    work_dir.mkdir(exist_ok=True)
    log = os.open(work_dir / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ['train.py', str(config), '--work-dir', str(work_dir), '--resume']
    torch.set_num_threads(1)
    run_cli(train.main)


def start_training(config: Path, work_dir: Path) -> multiprocessing.Process:
    context = multiprocessing.get_context('fork')
    process = context.Process(target=run_training, args=(config, work_dir))
    process.start()
    return process


def done(work_dir: Path) -> int:
    """Iterations whose checkpoint is there."""
    return max((int(path.stem[5:]) for path in work_dir.glob('iter_*.pth')), default=0)


def temporary_files(work_dir: Path) -> list[Path]:
    return [path for path in work_dir.glob('.*') if path.name.endswith('.tmp')]


def kill_after(process, work_dir: Path, iteration: int, aimed: bool, delay: float) -> bool:
    """Kill a training some seconds after an iteration's checkpoint, or, aimed, while it writes one.

    Returns:
        Whether it was still running.
    """
    while process.is_alive() and done(work_dir) < iteration:
        sleep(0.002)
    moment = monotonic() + delay
    while process.is_alive() and monotonic() < moment:
        sleep(0.001)
    while process.is_alive() and aimed and not temporary_files(work_dir):
        pass  # a checkpoint takes few milliseconds
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def check_files(work_dir: Path) -> None:
    """Every file under a checkpoint's name is a whole one.

    Raises:
        ValueError: If one is not.
    """
    for path in work_dir.glob('*.pth'):
        try:
            iteration = torch.load(path, weights_only=True)['meta']['iter']
        except Exception as error:  # whatever a broken file leads to
            raise ValueError(f'{path}: corrupt after a kill ({error})') from None
        if path.name != f'iter_{iteration}.pth':
            raise ValueError(f'{path}: holds iteration {iteration}')


def campaign(config: Path, work_dir: Path, args: argparse.Namespace) -> Iterator[tuple[int, bool]]:
    """Train, kill and resume; the iterations done at each kill, and whether it fell into writing.

    Raises:
        ValueError: If a checkpoint is corrupt, or the training ends by itself, or not at all.
    """
    moments = random.Random(args.seed)
    wanted = sorted(moments.randrange(iterations(args) - 2) for _ in range(args.kills))
    for number, iteration in enumerate(wanted):
        process = start_training(config, work_dir)
        aimed, delay = number % 2 == 0, moments.uniform(0, 0.2)
        if not kill_after(process, work_dir, iteration, aimed, delay):
            raise ValueError(f'{work_dir}: training ended before kill {number + 1}; see output.txt')
        check_files(work_dir)
        yield done(work_dir), bool(temporary_files(work_dir))
    process = start_training(config, work_dir)
    process.join()
    if process.exitcode:
        raise ValueError(f'{work_dir}: training ended with {process.exitcode}; see output.txt')
    check_files(work_dir)


def differences(a: object, b: object, name: str = '') -> list[str]:
    """Names of the entries in which two checkpoints differ in any bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        if set(a) != set(b):
            return [f'{name}: {set(a) ^ set(b)}']
        return [part for key in a for part in differences(a[key], b[key], f'{name}/{key}')]
    if isinstance(a, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [part for i, (x, y) in pairs for part in differences(x, y, f'{name}/{i}')]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [name]


def results(work_dir: Path) -> dict:
    """What the last checkpoint says of a training: losses, weights, optimizer, schedules."""
    checkpoint = torch.load(latest_checkpoint(work_dir), weights_only=True)
    logged = checkpoint['message_hub']['log_scalars']
    logged = {name: v for name, v in logged.items() if name.split('/')[-1] not in CLOCK}
    kept = ('state_dict', 'optimizer', 'param_schedulers')
    return {'logged': logged, **{name: checkpoint[name] for name in kept}}


def run_campaign(folder: Path, args: argparse.Namespace) -> None:
    """The whole of it, told on stdout.

    Raises:
        ValueError: If anything was lost.
    """
    config = make_config(folder, args)
    whole, killed = folder / 'uninterrupted', folder / 'killed'
    process = start_training(config, whole)
    process.join()
    if process.exitcode:
        raise ValueError(f'{whole}: training ended with {process.exitcode}; see output.txt')
    count = Counter()
    for number, (iteration, writing) in enumerate(campaign(config, killed, args), start=1):
        count[writing] += 1
        place = 'while it wrote a checkpoint' if writing else 'elsewhere'
        print(f'kill {number:2}: after iteration {iteration}, {place}', flush=True)
    left = temporary_files(killed)
    if left or len(list(killed.glob('*.pth'))) > KEPT:
        raise ValueError(f'{killed}: files accumulate: {sorted(p.name for p in killed.iterdir())}')
    expected, got = results(whole), results(killed)
    losses = len(got['logged']['train/loss'][0])
    if differences(expected, got) or losses != iterations(args):
        raise ValueError(f'{killed}: differs in {differences(expected, got)[:5]}')
    print(
        f'{sum(count.values())} kills, {count[True]} of them while a checkpoint was written: no '
        f'corrupt checkpoint, no temporary file left; losses of all {losses} iterations, weights '
        'and optimizer equal those of the uninterrupted training bit for bit'
    )


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    folder = args.work_dir or Path(tempfile.mkdtemp(prefix='kill_campaign_'))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f'--work-dir: {str(folder)!r} is not empty; give a new folder')
    run_campaign(folder, args)
    if args.work_dir is None:
        shutil.rmtree(folder)


if __name__ == '__main__':
    run_cli(main)
