"""Short trainings with mmengine's runner."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import torch
from detectors import KINDS, build_model
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

import las_mm  # noqa: F401

SCHEDULES = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1),
    dict(type='SparsityLossHook', target=0.5),
    dict(type='SafeCheckpointHook'),
]


class Recorder(Hook):
    """Notes what the schedules say in every iteration; interrupts training in one of them."""

    priority = 'LOWEST'

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.interrupt_at = interrupt_at
        self.values: dict[int, tuple[float, float, float, float]] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        from las_mm.hooks.model_loss import training_progress
        from las_mm.losses import open_bounds

        temperature = runner.model.backbone.blocks[0].masker.temperature
        rate = runner.optim_wrapper.get_lr()['lr'][0]
        self.values[runner.iter] = (temperature, rate, *open_bounds(training_progress(runner), 0.5))
        if runner.iter == self.interrupt_at:
            raise KeyboardInterrupt


@contextmanager
def hooked(hook: Hook, model: torch.nn.Module, progress: float = 0.0) -> Iterator:
    """The hook at work, at a share of training done."""
    runner = SimpleNamespace(
        model=model, iter=300 * progress, max_iters=300, epoch=30 * progress, max_epochs=30
    )
    hook.before_train(runner)
    yield model
    hook.after_train(runner)


class AutocastOptimWrapper(OptimWrapper):
    """Mixed precision as mmengine's AmpOptimWrapper, which needs a GPU for its loss scaler."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


def loader_options(data: Path) -> list[str]:
    """Options that make all loaders of a demo config read other data, in this process."""
    return [
        option
        for split in ('train', 'val', 'test')
        for option in (
            f'{split}_dataloader.dataset.data_root={data}',
            f'{split}_dataloader.num_workers=0',
            f'{split}_dataloader.persistent_workers=False',
        )
    ]


def data_options(data: Path) -> list[str]:
    """Options that make a demo detector's config use tiny data, in this process."""
    evaluator = f'ann_file={data}/annotations/instances_val.json'
    options = [f'val_evaluator.{evaluator}', f'test_evaluator.{evaluator}', 'load_from=None']
    options += ['train_dataloader.batch_size=1']
    return [*options, *loader_options(data)]


def samples(count: int = 8) -> list[dict]:
    """Random images with a class each."""
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator),
            data_samples=DataSample().set_gt_label(index % 10),
        )
        for index in range(count)
    ]


def runner_of(
    work_dir: Path,
    *hooks: Hook,
    kind: str = 'classifier',
    dataset: Sequence[dict] | None = None,
    batch_size: int = 2,
    epochs: int | None = 3,
    infinite: bool = False,
    masker_lr_mult: float = 1.0,
    **options,
) -> Runner:
    """A training of a tiny model; by default a classifier, for four iterations an epoch."""
    checkpoint = {'interval': 1, **options.pop('checkpoint', {})}
    model = options.pop('model', None)
    loader = dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=samples() if dataset is None else dataset,
        sampler=dict(type=f'{"Infinite" if infinite else "Default"}Sampler', shuffle=True),
        collate_fn=dict(type='default_collate' if kind == 'classifier' else 'pseudo_collate'),
    )
    runner = Runner(
        model=build_model(KINDS[kind]()) if model is None else model,
        work_dir=str(work_dir),
        train_dataloader=loader | options.pop('loader', {}),
        train_cfg=options.pop('train_cfg', dict(by_epoch=True, max_epochs=epochs)),
        optim_wrapper=dict(
            optimizer=options.pop('optimizer', dict(type='SGD', lr=0.01, momentum=0.9)),
            paramwise_cfg=dict(
                custom_keys=dict(masker=dict(lr_mult=masker_lr_mult))
                | options.pop('custom_keys', {}),
                bypass_duplicate=True,  # SwAV's neck has one norm under two names
            ),
            clip_grad=dict(max_norm=10),
            **options.pop('optim_wrapper', {}),
        ),
        param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', **checkpoint),
        ),
        custom_hooks=options.pop('custom_hooks', SCHEDULES),
        default_scope='mmpretrain' if kind == 'classifier' else 'mmdet',
        experiment_name=f'{work_dir.name}_{uuid4()}',
        randomness=dict(seed=0),
        log_level='WARNING',
        **options,
    )
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def class_options(data: Path) -> list[str]:
    """Options that make the demo classifier's config use tiny data, in this process."""
    options = ['train_dataloader.batch_size=5', 'default_hooks.logger.interval=1']
    return [*options, *loader_options(data)]
