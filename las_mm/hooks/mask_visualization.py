"""Pictures of masks during a test."""

from hashlib import sha1
from pathlib import Path
from typing import cast

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend
from torch import Tensor

from las_mm.checks import check_number
from las_mm.models.backbone import find_backbone
from las_mm.reports.masks import (
    MaskPanel,
    check_level,
    draw_grid,
    figure_to_rgb,
    mask_panels,
    save_figure,
)

from .model_loss import unwrapped
from .views import View, ViewWatch

LONGEST_NAME = 100


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
        out_dir: Folder of the PNG files, in the work dir; None to hand them to the visualizer only,
            which then must have a backend.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones.
        OSError: If a picture cannot be written.

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
        backends = runner.visualizer._vis_backends
        if self.out_dir is None and not backends:
            raise ValueError(
                'out_dir: got None, but the visualizer has no vis_backends to take the pictures; '
                "set out_dir, such as 'masks', or visualizer.vis_backends"
            )
        model = unwrapped(runner.model)
        self.runner, self.seen, self.drawn = runner, 0, 0
        self.names: dict[str, str] = {}  # which image took a name
        self._drawn_names: set[str] = set()
        self._watch = ViewWatch(model, find_backbone(model), self._see)

    def after_test(self, runner: Runner) -> None:
        self._watch.detach()
        if not self.drawn and is_main_process():
            runner.logger.warning('masks: no picture was drawn in this test')

    def _see(self, views: list[View]) -> None:
        if not is_main_process():
            return
        for view in views:
            wanted = self.seen % self.interval == 0 and view.picture is not None
            self.seen += 1
            if wanted and (self.limit is None or self.drawn < self.limit):
                self._draw(view)
                self.drawn += 1

    def _draw(self, view: View) -> None:
        name = self._name(getattr(view.sample, 'img_path', None))
        height, width = view.sample.img_shape[:2]
        # OpenMMLab loads images as BGR.
        image = cast(Tensor, view.picture)[:, :height, :width].permute(1, 2, 0).cpu().numpy()
        picture = np.ascontiguousarray(image[..., ::-1].astype(np.uint8))
        masks = mask_panels(picture, view.traces, self.level, view.index)
        figure = draw_grid([[MaskPanel(name, picture), *masks]], self.columns)
        self._hand_over(name, figure_to_rgb(figure))
        if self.out_dir is not None:
            save_figure(figure, Path(self.runner.work_dir) / self.out_dir / f'{name}.png')

    def _name(self, path: str | None) -> str:
        """A file name that no other image of this test has."""
        path = str(path) if path else f'image_{self.seen - 1}'
        name = Path(path).stem[:LONGEST_NAME]
        if self.names.setdefault(name.casefold(), path) != path or name != Path(path).stem:
            name = f'{name}_{sha1(path.encode()).hexdigest()[:8]}'
        count, plain = 1, name
        while self.names.setdefault(name.casefold(), path) != path or name in self._drawn_names:
            count += 1
            name = f'{plain}_{count}'
        self._drawn_names.add(name)
        return name

    def _hand_over(self, name: str, picture: np.ndarray) -> None:
        """Give a picture to the visualizer, and see that it arrives where that is a file."""
        step, backends = self.runner.iter, self.runner.visualizer._vis_backends.values()
        local = [backend for backend in backends if isinstance(backend, LocalVisBackend)]
        for backend in local:  # which makes no folders, and says nothing where there is none
            Path(backend.experiment._img_save_dir, 'masks').mkdir(parents=True, exist_ok=True)
        self.runner.visualizer.add_image(f'masks/{name}', picture, step=step)
        for backend in local:
            path = Path(backend._img_save_dir) / 'masks' / f'{name}_{step}.png'
            if not path.is_file():
                raise OSError(f'masks: {path} could not be written; check disk and permissions')
