"""Pictures of masks during a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from las_mm.checks import check_number
from las_mm.models.backbone import find_backbone
from las_mm.visualization import (
    MaskPanel,
    check_level,
    draw_grid,
    figure_to_rgb,
    mask_panels,
    save_figure,
)

from .model_loss import unwrapped


@HOOKS.register_module()
class MaskVisualizationHook(Hook):
    """During a test, draws what the network computes: bright where computed, dim where skipped.

    Each picture shows the image and the mask of every stage or block with its activation rate r
    (Figures 9 and 12). It is written as PNG into the work dir and handed to the visualizer, and so
    to TensorBoard where the config has a ``TensorboardVisBackend``.

    Args:
        level: ``'stage'`` to average the masks of a stage, or ``'block'``.
        interval: Every how many images one is drawn.
        limit: How many are drawn at most; None for no limit.
        columns: Most pictures side by side.
        out_dir: Folder of the PNG files, in the work dir; None to hand them to the visualizer only.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones.

    Example:
        >>> custom_hooks = [dict(type='MaskVisualizationHook', level='stage', interval=20)]
    """

    def __init__(
        self,
        level: str = 'stage',
        interval: int = 1,
        limit: int | None = 20,
        columns: int = 6,
        out_dir: str | None = 'masks',
    ) -> None:
        check_level(level)
        check_number('interval', interval, lambda n: n >= 1, '>= 1, 1 draws every image')
        check_number('columns', columns, lambda n: n >= 1, '>= 1')
        if limit is not None:
            check_number('limit', limit, lambda n: n >= 1, '>= 1, or None for no limit')
        self.level, self.interval, self.limit = level, interval, limit
        self.columns, self.out_dir = columns, out_dir

    def before_test(self, runner: Runner) -> None:
        self.backbone = find_backbone(unwrapped(runner.model))
        self.seen = self.drawn = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        if not is_main_process() or outputs is None:
            return
        # Test-time augmentation runs the network several times: its traces are of the last.
        if len(outputs) != len(self.backbone.traces[0].mask):
            return
        for index, sample in enumerate(outputs):
            wanted = self.seen % self.interval == 0
            self.seen += 1
            if wanted and (self.limit is None or self.drawn < self.limit):
                self._draw(runner, data_batch['inputs'][index], sample, index)

    def _draw(self, runner: Runner, image: Tensor | list, sample: Any, index: int) -> None:
        image = image[0] if isinstance(image, list) else image
        name = Path(getattr(sample, 'img_path', None) or f'image_{self.seen - 1}').stem
        height, width = sample.img_shape[:2]
        # OpenMMLab loads images as BGR.
        picture = image[:, :height, :width].permute(1, 2, 0).cpu().numpy()[..., ::-1]
        picture = np.ascontiguousarray(picture.astype(np.uint8))
        masks = mask_panels(picture, self.backbone.traces, self.level, index)
        figure = draw_grid([[MaskPanel(name, picture), *masks]], self.columns)
        runner.visualizer.add_image(f'masks/{name}', figure_to_rgb(figure), step=runner.iter)
        if self.out_dir is not None:
            save_figure(figure, Path(runner.work_dir) / self.out_dir / f'{name}.png')
        self.drawn += 1
