"""The input size that a config tests at."""

from mmengine.config import Config

from las_mm.config_parts import innermost_datasets, type_name


def configured_input_size(cfg: Config) -> tuple[int, int]:
    """The largest (H, W) that the config's test pipeline makes, padding included.

    It is that of the config's ``LatencyReportHook`` where one is given there; otherwise it follows
    from the pipeline's resizing, cropping and padding. Images that keep their ratio are taken to
    fill the whole scale, in landscape: the paper's latencies of detectors are for 800×1344, too.

    Raises:
        ValueError: If the config does not say.
    """
    for hook in cfg.get('custom_hooks') or ():
        if type_name(hook) == 'LatencyReportHook' and hook.get('input_size'):
            height, width = hook['input_size']
            return height, width
    size = None
    for step in _test_pipeline(cfg):
        size = _size_after(step, size)
    if size is None:
        raise ValueError(
            'input size: the test pipeline of the config does not fix one; give it, '
            'such as --input-size 224 224'
        )
    divisor = _preprocessor(cfg).get('pad_size_divisor') or 1
    height, width = (-(-edge // divisor) * divisor for edge in size)
    return height, width


def _test_pipeline(cfg: Config) -> list[dict]:
    datasets = innermost_datasets((cfg.get('test_dataloader') or {}).get('dataset'))
    return (datasets[0].get('pipeline') if datasets else None) or []


def _preprocessor(cfg: Config) -> dict:
    return cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}


def _size_after(step: dict, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """(H, W) after one step of a pipeline; OpenMMLab writes scales as (W, H), or one edge."""
    key = {'Resize': 'scale', 'CenterCrop': 'crop_size', 'Pad': 'size'}.get(type_name(step))
    value = step.get(key) if key else None
    if value is None:
        return size
    width, height = (value, value) if isinstance(value, int) else value
    if step.get('keep_ratio'):  # (long, short) edge, in any order
        height, width = sorted((height, width))
    return height, width
