"""Which networks are trained on which data: static ones, and modes × t × distillation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from experiments.tasks import TASKS

DEVICES = ('tx2', 'v100')
LATENCY_REPORT = dict(type='LatencyReportHook', devices=list(DEVICES), measure=True)


@dataclass(frozen=True)
class Experiment:
    """One network to train and test.

    Attributes:
        task: Which data set.
        network: Which of its networks.
        target: t of L_FLOPs; None for a static network.
        mode: S_net, ``'all'`` for whole blocks, ``'channel-'`` and channels per group, or
            ``'dynconv'`` for that paper's masker and loss.
        distilled: ``'teacher'`` for KL(teacher‖student), ``'reverse'``, or ``'no'``.
        seed: Of the training.
        first: Whether it is the static training that the others start from.
    """

    task: str
    network: str
    target: float | None = None
    mode: str = 'static'
    distilled: str = 'no'
    seed: int = 0
    first: bool = False

    @property
    def name(self) -> str:
        """Folder of the run, and its record's file."""
        kind = 'first' if self.first else self.mode
        parts = [self.task, self.network, kind]
        if self.target is not None:
            parts += [f't{self.target}', *([f'kd-{self.distilled}'] * (self.distilled != 'no'))]
        return '_'.join([*parts, f'seed{self.seed}'])

    @property
    def static(self) -> 'Experiment':
        """The same network, static, trained as long: what it compares with, and its teacher."""
        return Experiment(self.task, self.network, seed=self.seed)

    @property
    def start(self) -> 'Experiment | None':
        """The training that it starts from; None where there is none before it."""
        if self.first or not TASKS[self.task].first_epochs:
            return None
        return replace(self.static, first=True)

    @property
    def needs(self) -> list['Experiment']:
        """The trainings that it needs."""
        teacher = [] if self.distilled == 'no' else [self.static]
        return [*([self.start] if self.start else []), *teacher]


def plan(tasks: list[str], seeds: list[int]) -> list[Experiment]:
    """Every experiment, each after those that it needs, the most telling ones first.

    Static networks and the headline have every seed, the others the first one.
    """
    experiments = []
    for name in tasks:
        task, first = TASKS[name], seeds[0]
        for seed in seeds:
            statics = [Experiment(name, network, seed=seed) for network in task.networks]
            settings = task.headline + (task.others if seed == first else ())
            found = statics + [
                Experiment(name, n, *s, seed) for s in settings for n in task.dynamic
            ]
            starts = {static.start: None for static in statics if static.start}
            experiments += [*starts, *found]
    return experiments


def make_config(experiment: Experiment, root: Path, out: Path, epochs: int | None) -> Config:
    """The config that an experiment is trained by.

    Args:
        experiment: Which.
        root: Of the checkout.
        out: Folder of all runs.
        epochs: Length of training, instead of the plan's.
    """
    task = TASKS[experiment.task]
    cfg = Config.fromfile(root / 'configs/experiments' / task.config)
    cfg.randomness = dict(seed=experiment.seed)
    if experiment.first:
        cfg.train_cfg.max_epochs = task.first_epochs
    if epochs:
        cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    start = experiment.start
    given = task.weights.get(experiment.network)
    cfg.load_from = str(out / start.name / 'last.pth') if start else given
    options = task.networks[experiment.network]
    cfg.merge_from_dict({f'model.{name}': value for name, value in options.items()})
    backbone = cfg.model.backbone
    if experiment.target is None:
        backbone.pop('granularity')
        backbone.type = backbone.type.removeprefix('LAS')
    else:
        backbone.update(dict(masker=task.masker) | mode_options(experiment.mode))
    cfg.custom_hooks = make_hooks(experiment, out)
    return cfg


def make_test_config(experiment: Experiment, trained: Config) -> Config:
    """The config that an experiment is tested by.

    A static network is tested as a dynamic one whose maskers keep everything, which gives the same
    outputs, so that all networks are reported on alike.
    """
    cfg = Config(trained.to_dict())
    if experiment.target is None:
        backbone = cfg.model.backbone
        backbone.update(type=f'LAS{backbone.type}', granularity='all', masker=dict(keep_bias=100.0))
    cfg.custom_hooks = [LATENCY_REPORT]
    return cfg


def mode_options(mode: str) -> dict[str, Any]:
    """Options of a dynamic backbone."""
    if mode == 'dynconv':
        return dict(granularity=1, masker=dict(kind='squeeze'))
    if mode.startswith('channel-'):
        return dict(granularity=None, channel_groups=mode.removeprefix('channel-'))
    return dict(granularity=mode)


def make_hooks(experiment: Experiment, out: Path) -> list[dict[str, Any]]:
    """The hooks of a training."""
    hooks = [dict(type='SafeCheckpointHook'), dict(type='InvalidLossHook')]
    if experiment.target is None:
        return hooks
    target: dict[str, Any] = dict(type='SparsityLossHook', target=experiment.target)
    if experiment.mode == 'dynconv':
        target.update(bounded='flops_ratio', counted='branches', by_epoch=True)
        hooks.append(dict(type='GumbelTemperatureHook', start=1.0, by_epoch=True, noise_until=0.8))
    else:
        hooks.append(dict(type='GumbelTemperatureHook', start=5.0, end=0.1, noise_until=0.8))
    hooks.append(target)
    if experiment.distilled != 'no':
        folder = out / experiment.static.name
        hooks.append(
            dict(
                type='DistillationHook',
                teacher=str(folder / 'config.py'),
                checkpoint=str(folder / 'last.pth'),
                reverse=experiment.distilled == 'reverse',
            )
        )
    return hooks
