"""Which networks are trained: static, and t × S_net × distillation."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mmengine.config import Config

from las_mm.config_parts import type_name

CONFIGS = {
    'detection': 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py',
    'classification': 'configs/las_r50_4-4-2-1_demo.py',
}
TARGETS = (0.7, 0.5, 0.4)
GRANULARITIES = ('1-1-1-1', '4-4-2-1', '4-4-7-1')
HEADLINE = (0.5, '4-4-2-1', True)
DEVICE = 'tx2'
# The demo sets at a size and for a time that let all runs end in a few hours of two CPU cores.
IMAGE_SIZES = {'detection': (192, 192), 'classification': (64, 64)}
STATIC_EPOCHS = {'detection': 5, 'classification': 12}
EPOCHS = {'detection': 5, 'classification': 5}  # of what starts from a static network


@dataclass(frozen=True)
class Experiment:
    """One network to train and test.

    Attributes:
        task: Which demo set.
        target: t of L_FLOPs; None for the static network.
        granularity: S_net.
        distilled: Whether the static network teaches it.
        seed: Of the training.
        by_latency: Whether it is trained to the predicted latency that the network of the same t
            and seed reached by FLOPs, instead of to t.
        longer: Of a static network: whether it is trained a second time from its own weights, as
            long as the dynamic ones are from these. It is what they compare with.
    """

    task: str
    target: float | None = None
    granularity: str = '4-4-2-1'
    distilled: bool = True
    seed: int = 0
    by_latency: bool = False
    longer: bool = False

    @property
    def name(self) -> str:
        """Folder of the run, and what tables call it."""
        if self.target is None:
            return f'{self.task}_{"longer" if self.longer else "static"}_seed{self.seed}'
        kind = 'latency' if self.by_latency else f't{self.target}'
        kd = 'kd' if self.distilled else 'plain'
        return f'{self.task}_{kind}_{self.granularity}_{kd}_seed{self.seed}'

    @property
    def static(self) -> 'Experiment':
        """The static network that this one starts from."""
        return Experiment(self.task, seed=self.seed)

    @property
    def by_flops(self) -> 'Experiment':
        """The network whose predicted latency this one is trained to."""
        return Experiment(self.task, self.target, self.granularity, self.distilled, self.seed)


def plan(tasks: list[str], seeds: list[int]) -> list[Experiment]:
    """Every experiment, each after those that it needs.

    The headline (t = 0.5, S_net 4-4-2-1, distilled), its counterpart trained to latency, and their
    static networks have every seed and come first; the others have the first seed.
    """
    experiments = []
    for task in tasks:
        experiments += [Experiment(task, seed=seed) for seed in seeds]
        experiments += [Experiment(task, seed=seed, longer=True) for seed in seeds]
        experiments += [Experiment(task, *HEADLINE, seed) for seed in seeds]
        experiments += [Experiment(task, *HEADLINE, seed, by_latency=True) for seed in seeds]
        settings = product(TARGETS, GRANULARITIES, (True, False))
        others = [setting for setting in settings if setting != HEADLINE]
        experiments += [Experiment(task, *setting, seeds[0]) for setting in others]
    return experiments


def make_config(
    experiment: Experiment, root: Path, out: Path, latency: float | None, epochs: int | None
) -> Config:
    """The config of an experiment.

    Args:
        experiment: Which.
        root: Of the checkout.
        out: Folder of all runs.
        latency: ℓ_dyn / ℓ_stat to train to, for those that are trained to latency.
        epochs: Length of training, instead of the plan's.
    """
    cfg = Config.fromfile(root / CONFIGS[experiment.task])
    cfg.randomness = dict(seed=experiment.seed)
    first = experiment.target is None and not experiment.longer
    epochs = epochs or (STATIC_EPOCHS if first else EPOCHS)[experiment.task]
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    _resize(cfg, IMAGE_SIZES[experiment.task])
    static = out / experiment.static.name
    if experiment.target is None:
        cfg.load_from = str(static / 'last.pth') if experiment.longer else None
        cfg.model.backbone.update(type='ResNet', norm_eval=False)
        for name in ('granularity', 'masker'):
            cfg.model.backbone.pop(name)
        cfg.custom_hooks = [dict(type='SafeCheckpointHook')]
        return cfg
    cfg.model.backbone.granularity = experiment.granularity
    checkpoint = str(static / 'last.pth')
    cfg.load_from = checkpoint
    hooks = {type_name(hook): hook for hook in cfg.custom_hooks}
    hooks['LatencyReportHook']['measure'] = True
    target = experiment.target
    if experiment.by_latency:
        size = IMAGE_SIZES[experiment.task]
        target = dict(latency=latency, device=DEVICE, input_size=size)
    hooks['SparsityLossHook']['target'] = target
    hooks.pop('DistillationHook', None)
    if experiment.distilled:
        hooks['DistillationHook'] = dict(
            type='DistillationHook', teacher=str(static / 'config.py'), checkpoint=checkpoint
        )
    cfg.custom_hooks = list(hooks.values())
    return cfg


def _resize(cfg: Config, size: tuple[int, int]) -> None:
    """Set the size of images where a pipeline resizes them."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = size
