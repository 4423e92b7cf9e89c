"""Pictures of masks during a test."""

from hashlib import sha1
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from las_mm.checks import check_number
from las_mm.models.backbone import find_backbone
from las_mm.reports.masks import (
    MaskPanel,
    check_level,
    draw_grid,
    figure_to_rgb,
    holds_picture,
    mask_panels,
    save_figure,
)
from las_mm.reports.pixels import as_picture

from .model_loss import unwrapped
from .twins import refuse_twins
from .views import View, ViewWatch

LONGEST_NAME = 100


@HOOKS.register_module()
class MaskVisualizationHook(Hook):
    """During a test, draws what the network computes: bright where computed, dim where skipped.

    Each picture shows the image and the mask of every stage or block with its activation rate r
    (Figures 9 and 12). It is written as PNG into the work dir and handed to the visualizer, and so
    to TensorBoard where the config has a ``TensorboardVisBackend``. Where it is not known how the
    image lies in the network's input, that input itself is shown. A second picture of an image, of
    another view, data set or test, has a name of its own; of several processes the first one draws
    what it sees.

    Args:
        level: ``'stage'`` to average the masks of a stage, or ``'block'``.
        interval: Every how many images one is drawn.
        limit: How many are drawn at most; None for no limit.
        columns: Most pictures side by side.
        out_dir: Folder of the PNG files, in the work dir; None to hand them to the visualizer only,
            which then must have a backend.
        backbone: Name in the model of the dynamic backbone to draw, where it has several.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones, or another hook draws
            into the same folder; after the test, if no picture could be drawn.
        OSError: If a picture cannot be written, or a backend of the visualizer fails.

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
        backbone: str | None = None,
    ) -> None:
        check_level(level)
        check_number('interval', interval, lambda n: n >= 1, '>= 1, 1 draws every image')
        check_number('columns', columns, lambda n: n >= 1, '>= 1')
        if limit is not None:
            check_number('limit', limit, lambda n: n >= 1, '>= 1, or None for no limit')
        self.level, self.interval, self.limit = level, interval, limit
        self.columns, self.out_dir, self.backbone_name = columns, out_dir, backbone
        parts = Path(out_dir or 'masks').parts
        self.folder = '/'.join(part for part in parts if part not in ('/', '..'))
        self.names: dict[str, str] = {}  # which image took a name
        self._drawn_names: set[str] = set()
        self._watch: ViewWatch | None = None

    def before_test(self, runner: Runner) -> None:
        refuse_twins(self, runner, 'folder', 'out_dir')
        backends = runner.visualizer._vis_backends
        if self.out_dir is None and not backends:
            raise ValueError(
                'out_dir: got None, but the visualizer has no vis_backends to take the pictures; '
                "set out_dir, such as 'masks', or visualizer.vis_backends"
            )
        model = unwrapped(runner.model)
        self.runner, self.seen, self.drawn, self.doubt = runner, 0, 0, ''
        self._detach()  # where a test before was interrupted
        self._watch = ViewWatch(model, find_backbone(model, self.backbone_name), self._see)

    def _detach(self) -> None:
        if self._watch is not None:
            self._watch.remove()

    def after_test(self, runner: Runner) -> None:
        self._detach()
        if not self.drawn and is_main_process():
            raise ValueError(
                'MaskVisualizationHook: no picture was drawn, as the backbone ran in no '
                "forward(mode='predict') of its model; name another backbone, or leave the hook out"
            )

    def _see(self, views: list[View]) -> None:
        if not is_main_process():
            return
        for view in views:
            wanted = self.seen % self.interval == 0
            self.seen += 1
            if wanted and (self.limit is None or self.drawn < self.limit):
                try:
                    self._draw(view)
                except Exception:  # the test ends, and whoever tests the model next is not watched
                    self._detach()
                    raise
                self.drawn += 1

    def _draw(self, view: View) -> None:
        if view.doubt and view.doubt != self.doubt:
            self.runner.logger.warning("masks: the network's input is shown, as %s", view.doubt)
            self.doubt = view.doubt
        name = self._name(getattr(view.sample, 'img_path', None))
        picture = as_picture(view.picture)
        masks = mask_panels(picture, view.traces, self.level, view.index, view.input_size)
        figure = draw_grid([[MaskPanel(name, picture), *masks]], self.columns)
        self._hand_over(name, figure_to_rgb(figure))
        if self.out_dir is not None:
            save_figure(figure, Path(self.runner.work_dir) / self.out_dir / f'{name}.png')

    def _name(self, path: str | None) -> str:
        """A file name that no other picture of this hook has."""
        path = str(path) if path else f'image_{self.seen - 1}'
        name = Path(path).stem.encode()[:LONGEST_NAME].decode(errors='ignore')
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
        step, backends = self.runner.iter, self.runner.visualizer._vis_backends
        local = [b for b in backends.values() if isinstance(b, LocalVisBackend)]
        try:
            for backend in local:  # which makes no folders, and says nothing where there is none
                folder = Path(backend.experiment._img_save_dir, self.folder)
                folder.mkdir(parents=True, exist_ok=True)
            self.runner.visualizer.add_image(f'{self.folder}/{name}', picture, step=step)
        except Exception as error:  # each backend's library has its own
            kinds = ', '.join(type(backend).__name__ for backend in backends.values())
            raise OSError(
                f'masks: the visualizer with {kinds} took no picture {name!r}: '
                f'{type(error).__name__}: {error}; mend or leave out that backend'
            ) from error
        for backend in local:
            path = Path(backend._img_save_dir) / self.folder / f'{name}_{step}.png'
            if not holds_picture(path, picture):
                raise OSError(f'masks: {path} could not be written; check disk and permissions')
