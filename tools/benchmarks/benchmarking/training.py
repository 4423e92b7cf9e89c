"""A training step of the dynamic network against one of its static counterpart."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from torch import Tensor, nn

import las_mm  # noqa: F401  (registers the backbones)
from las_mm.hooks import DistillationHook, SparsityLossHook
from las_mm.models.backbone import find_backbone

from .measure import interleave, ratio
from .report import print_table

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
VARIANTS = ('static', 'dynamic', 'distilled')


@dataclass(frozen=True)
class Case:
    """A network to train, by its two configs, and what it is trained on.

    Attributes:
        static: Name of the static network's config.
        dynamic: Name of the dynamic one's.
        size: Edge of the images.
        batch: Images a step.
    """

    static: str
    dynamic: str
    size: int
    batch: int


CASES = {
    'classifier': Case('r50_imagenet', 'las_r50_4-4-2-1_t-0.5_imagenet', 224, 8),
    'detector': Case('faster_rcnn_r50_demo', 'faster_rcnn_las_r50_4-4-2-1_demo', 256, 4),
}


def measure_training(args) -> Iterator[dict]:
    """One record per case: milliseconds and memory of a step by variant, and their ratios."""
    for name in args.cases:
        case = CASES[name]
        size, batch = args.size or case.size, args.batch or case.batch
        steps = {variant: make_step(case, variant, size, batch) for variant in args.variants}
        memory = {variant: saved_mib(step) for variant, step in steps.items()}
        times = interleave(steps, args.rounds)
        peaks = {variant: _peak_mib(name, variant, size, batch) for variant in args.variants}
        yield {
            'case': name,
            'size': size,
            'batch': batch,
            'milliseconds': {variant: median(values) for variant, values in times.items()},
            'saved_mib': memory,
            'peak_mib': peaks,
            **{
                f'{variant} to static': {
                    'time': ratio(times, variant, ['static']),
                    'saved': memory[variant] / memory['static'],
                    'peak': peaks[variant] / peaks['static'],
                }
                for variant in args.variants
                if variant != 'static'
            },
        }


def show_training(records: list[dict]) -> None:
    """Print a row per case and variant."""
    rows = []
    for record in records:
        for variant, milliseconds in record['milliseconds'].items():
            shares = record.get(f'{variant} to static', dict.fromkeys(('time', 'saved', 'peak')))
            row = {key: record[key] for key in ('case', 'size', 'batch')}
            row |= {'variant': variant, 'ms': milliseconds, 'time': shares['time']}
            row |= {'saved, MiB': record['saved_mib'][variant], 'saved': shares['saved']}
            row |= {'peak, MiB': record['peak_mib'][variant], 'peak': shares['peak']}
            rows.append(row)
    print_table(rows)


def make_step(case: Case, variant: str, size: int, batch: int) -> Callable[[], None]:
    """A training step, forward, backward and SGD, on the same random images every time."""
    torch.manual_seed(0)
    model = build(case, variant).train()
    data = make_batch(model, size, batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()

    return step


def build(case: Case, variant: str) -> nn.Module:
    """The network of a variant, with the losses that its training has."""
    static = Config.fromfile(CONFIGS / f'{case.static}.py')
    cfg = static if variant == 'static' else Config.fromfile(CONFIGS / f'{case.dynamic}.py')
    # A batch norm in eval mode is cheaper: both in the same.
    cfg.model.backbone.norm_eval = static.model.backbone.get('norm_eval', False)
    model = _build(cfg)
    runner = SimpleNamespace(model=model, iter=0, max_iters=100)
    if variant != 'static':
        find_backbone(model).set_temperature(1.0)
        SparsityLossHook(target=0.5).before_train(runner)
    if variant == 'distilled':
        with NamedTemporaryFile(suffix='.pth') as file:  # untrained, which costs the same
            torch.save(_build(static).state_dict(), file.name)
            DistillationHook(static.model, file.name).before_train(runner)
    return model


def _build(cfg: Config) -> nn.Module:
    DefaultScope._instance_dict.clear()
    init_default_scope(cfg.default_scope)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(cfg.model)


def make_batch(model: nn.Module, size: int, batch: int) -> dict:
    """Random images with a class, or three objects, each, as ``forward`` takes them."""
    images = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(batch)]
    if hasattr(model, 'head'):
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(index % 10) for index in range(batch)]
        data = dict(inputs=torch.stack(images), data_samples=samples)
    else:
        data = dict(inputs=images, data_samples=[_objects(size) for _ in range(batch)])
    return model.data_preprocessor(data, training=True)


def _objects(size: int):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
    corners = torch.rand(3, 2) * size / 2
    boxes = torch.cat([corners, corners + size / 4], 1)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.randint(0, 10, (3,)))
    return sample


def saved_mib(step: Callable[[], None]) -> float:
    """MiB of the tensors that autograd keeps from a step's forward for its backward."""
    storages: dict[int, int] = {}
    kept = []  # alive until the end, so that no address is given twice

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            kept.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storages.values()) / 2**20


def _peak_mib(name: str, variant: str, size: int, batch: int) -> int:
    """Peak resident memory of a process of its own after three steps, less that of none."""
    argv = ['training', '--cases', name, '--variants', variant, '--one', '--size', str(size)]
    command = [sys.executable, sys.argv[0], *argv, '--batch', str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])  # mmengine logs before it


def print_peak(args) -> None:
    """What the process of a single variant does."""
    case = CASES[args.cases[0]]
    before = _highest_kib()
    step = make_step(case, args.variants[0], args.size or case.size, args.batch or case.batch)
    for _ in range(3):
        step()
    print(round((_highest_kib() - before) / 1024))


def _highest_kib() -> int:
    """Peak resident memory; getrusage would tell that of the parent process, where it is higher."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM:'))
