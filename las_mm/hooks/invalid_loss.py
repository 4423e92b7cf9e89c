"""Stopping a training whose loss is no longer a number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, Runner


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops at the first loss that is NaN or infinite, before anything more is saved.

    The error names the iteration, the terms, the batch's files and the checkpoint to go on from.

    Raises:
        ValueError: In training, at such a loss.

    Example:
        >>> custom_hooks = [dict(type='InvalidLossHook')]
    """

    priority = 'VERY_HIGH'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        values = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items()}
        invalid = [name for name, value in values.items() if not value.isfinite()]
        if not invalid:
            return
        files = batch_files(data_batch)
        checkpoint = last_good_checkpoint(runner.work_dir)
        advice = f'go on with --resume {checkpoint}' if checkpoint else 'no checkpoint yet'
        raise ValueError(
            f'loss: {", ".join(invalid)} not finite in iteration {runner.iter + 1} (epoch '
            f'{runner.epoch + 1}); files of the batch: {", ".join(files) or "unknown"}; {advice}, '
            'a smaller learning rate or clip_grad'
        )


def batch_files(data_batch: Any) -> list[str]:
    """Paths of a batch's images, as far as its samples know them."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    if not isinstance(samples, Sequence):
        return []
    return [str(sample.img_path) for sample in samples if 'img_path' in sample]


def last_good_checkpoint(work_dir: str | Path) -> Path | None:
    """The newest checkpoint in a work dir with finite weights only, None if there is none."""
    paths = sorted(Path(work_dir).glob('*.pth'), key=lambda path: path.stat().st_mtime)
    for path in reversed(paths):
        try:
            weights = CheckpointLoader.load_checkpoint(str(path), 'cpu')['state_dict']
        except (ValueError, KeyError):
            continue
        if all(weight.isfinite().all() for weight in weights.values()):
            return path
    return None
