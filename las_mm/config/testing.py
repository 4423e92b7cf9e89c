"""What tests of a model add to its config: augmentation, pictures, a report of latency."""

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS

from las_mm.config_parts import by_names, class_of, innermost_datasets, type_name

from .frameworks import framework_of

NMS = dict(type='nms', iou_threshold=0.5)
# mmdet registers its own with mmengine, where the name of its scope does not find it.
TTA_MODELS: dict[str | None, dict[str, Any]] = {  # by framework, where a config has no tta_model
    'mmdet': dict(type='mmdet.models.DetTTAModel', tta_cfg=dict(nms=NMS, max_per_img=100)),
    'mmpretrain': dict(type='mmpretrain.AverageClsScoreTTA'),
}
VISUALIZERS: dict[str | None, dict[str, Any]] = {
    'mmdet': dict(type='mmdet.DetLocalVisualizer', name='visualizer'),
    'mmpretrain': dict(type='mmpretrain.UniversalVisualizer', name='visualizer'),
}
PAINTING: dict[str | None, dict[str, Any]] = {
    'mmdet': dict(type='mmdet.DetVisualizationHook'),
    'mmpretrain': dict(type='mmpretrain.VisualizationHook'),
}
FLIPS: dict[str | None, str] = {'mmdet': 'mmdet.datasets.transforms.RandomFlip'}
FLIPPED = ('flip', 'flip_direction')  # what augmented samples must tell


def set_latency_report(cfg: Config, devices: str | None, measure: bool) -> None:
    """Make sure that the config reports latency, once, as asked for.

    Raises:
        ValueError: If flags are to change a hook that is an object already.
    """
    hooks = list(cfg.get('custom_hooks') or ())
    report = next((hook for hook in hooks if _reports_latency(cfg, hook)), None)
    if report is None:
        report = ConfigDict(type='LatencyReportHook')
        hooks.append(report)
    if not isinstance(report, dict) and (devices is not None or measure):
        raise ValueError(
            f'--devices, --measure: custom_hooks has a {type(report).__name__} that is '
            'made already; give it as a dict, or set its devices and measure there'
        )
    if devices is not None:
        report['devices'] = [name.strip() for name in devices.split(',') if name.strip()]
    if measure:
        report['measure'] = True
    cfg.custom_hooks = hooks


def _reports_latency(cfg: Config, hook: object) -> bool:
    kind = class_of(cfg, hook, HOOKS) if isinstance(hook, dict) else type(hook)
    names = [base.__name__ for base in getattr(kind, '__mro__', ())]
    return 'LatencyReportHook' in (
        names if not isinstance(hook, dict) else [type_name(hook), *names]
    )


def set_tta(cfg: Config) -> None:
    """Wrap the model and the pipeline for test-time augmentation, by default with a flip.

    Raises:
        ValueError: If the config says neither how nor of which framework it is.
    """
    framework = framework_of(cfg)
    if not cfg.get('tta_model') and framework not in TTA_MODELS:
        allowed = ' and '.join(map(str, TTA_MODELS))
        raise ValueError(
            f'--tta: the config has no tta_model, and only models of {allowed} have a default, '
            f'not {type_name(cfg.model)!r}; add tta_model and tta_pipeline'
        )
    tta_model = cfg.get('tta_model') or TTA_MODELS[framework]
    for dataset in innermost_datasets(cfg.test_dataloader.dataset):
        dataset['pipeline'] = cfg.get('tta_pipeline') or with_flips(
            dataset.get('pipeline') or [], framework
        )
    if cfg.get('data_preprocessor') and not cfg.model.get('data_preprocessor'):
        cfg.model.data_preprocessor = cfg.data_preprocessor
    cfg.model = ConfigDict(**tta_model, module=cfg.model)


def with_flips(pipeline: list[dict], framework: str | None) -> list[dict]:
    """A test pipeline that shows each image twice, once flipped.

    Args:
        pipeline: The steps, of which the last one packs the sample.
        framework: Whose flip it is.

    Raises:
        ValueError: If there is no step that packs.
    """
    if not pipeline or not type_name(pipeline[-1]).startswith('Pack'):
        last = type_name(pipeline[-1]) if pipeline else 'nothing'
        raise ValueError(
            f'--tta: the test pipeline ends in {last!r}, which does not pack samples; add '
            'tta_pipeline to the config'
        )
    *steps, pack = pipeline
    if keys := pack.get('meta_keys'):
        pack = {**pack, 'meta_keys': [*keys, *(key for key in FLIPPED if key not in keys)]}
    flip = FLIPS.get(framework, 'mmcv.transforms.RandomFlip')
    flips = [dict(type=flip, prob=probability) for probability in (1.0, 0.0)]
    return by_names([*steps, dict(type='mmcv.transforms.TestTimeAug', transforms=[flips, [pack]])])


def set_painting(cfg: Config, show: bool, folder: str | None, wait_time: float) -> None:
    """Paint predictions, with whichever visualisation hook and visualizer the config has.

    Args:
        cfg: The config.
        show: Whether in a window.
        folder: For the pictures, in the work dir, and there in the run's if it is a detector's;
            None for none.
        wait_time: Seconds between pictures in the window.

    Raises:
        ValueError: If it has none, and is of no framework that brings one.
    """
    framework = framework_of(cfg)
    hooks = cfg.get('default_hooks') or ConfigDict()
    hook = hooks.get('visualization') or PAINTING.get(framework)
    if hook is None:
        raise ValueError('--show-dir: default_hooks.visualization is missing in the config; add it')
    hook = ConfigDict(hook)
    bases = [base.__name__ for base in getattr(class_of(cfg, hook, HOOKS), '__mro__', ())]
    classifier = 'VisualizationHook' in (type_name(hook), *bases)
    hook['enable' if classifier else 'draw'] = True
    hook['show'], hook['wait_time'] = show, wait_time
    if classifier:
        hook.setdefault('interval', 1)  # mmpretrain paints every 5000th
    if folder and classifier:  # which mmpretrain takes as it is
        hook['out_dir'] = str(Path(cfg.get('work_dir') or '.') / folder)
    elif folder:
        hook['test_out_dir'] = folder
    cfg.default_hooks = ConfigDict({**hooks, 'visualization': hook})
    cfg.visualizer = visualizer_of(cfg)


def visualizer_of(cfg: Config) -> ConfigDict:
    """The visualizer of a config, by default its framework's.

    Raises:
        ValueError: If it has none, and is of no framework that brings one.
    """
    found = cfg.get('visualizer') or VISUALIZERS.get(framework_of(cfg))
    if not found:
        raise ValueError(
            "visualizer: the config has none, and none is known for its model's framework; add one"
        )
    return ConfigDict(found)
