"""Run a trained detector or classifier on image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope
from mmengine.runner import load_checkpoint

from las_mm.config_parts import innermost_datasets, type_name
from las_mm.data.datasets import require_data
from las_mm.layers import BlockTrace
from las_mm.models.backbone import find_backbone

from .pixels import as_picture

# Steps that need ground truth, which an image file has none of.
ANNOTATIONS = ('LoadAnnotations', 'LoadPanopticAnnotations')
SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'}


@dataclass(frozen=True)
class Prediction:
    """What a model made of one image.

    Attributes:
        image: (H, W, 3) uint8 RGB: the picture as the network saw it, without padding.
        painted: The original picture with the predictions painted on it, RGB.
        traces: The backbone's traces, padding included.
        sample: The framework's data sample.
        input_size: (H, W) of the backbone's input, whose upper left part the image is.
    """

    image: np.ndarray
    painted: np.ndarray
    traces: list[BlockTrace]
    sample: Any
    input_size: tuple[int, int]


class Predictor:
    """A model of a config with its checkpoint, applied to image files.

    Args:
        cfg: The config.
        checkpoint: Path or URL of the weights.
        device: Where to run.

    Raises:
        FileNotFoundError, ValueError: If the checkpoint is missing or unreadable, or the model
            has no dynamic backbone.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str = 'cpu') -> None:
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        self.model: Any = MODELS.build(cfg.model)
        saved = load_checkpoint(self.model, checkpoint, map_location='cpu')
        self.model.to(device).eval()
        self.backbone = find_backbone(self.model)
        # mmpretrain's configs leave the name to the runner.
        visualizer = {'name': 'visualizer', **cfg.visualizer, 'vis_backends': None}
        self.visualizer = VISUALIZERS.build(visualizer)
        self.visualizer.dataset_meta = saved.get('meta', {}).get('dataset_meta') or {}
        pipeline = _test_dataset(cfg).pipeline
        steps = [step for step in pipeline if type_name(step) not in ANNOTATIONS]
        self.pipeline = Compose(steps)

    @torch.no_grad()
    def __call__(self, path: str | Path) -> Prediction:
        """Predict one image file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not an image.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f'image: no file {str(path)!r}; check the path')
        data = self.pipeline(dict(img_path=str(path), img_id=0))
        if data is None:
            raise ValueError(f'image: {str(path)!r} cannot be read as an image')
        inputs = data['inputs']
        (sample,) = self.model.test_step({k: [value] for k, value in data.items()})
        height, width = sample.img_shape[:2]
        return Prediction(
            image=as_picture(inputs[:, :height, :width]),
            painted=self._paint(path, sample),
            traces=self.backbone.traces,
            sample=sample,
            input_size=self.backbone.input_size,
        )

    def _paint(self, path: str | Path, sample: Any) -> np.ndarray:
        import cv2

        original = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        if 'pred_instances' in sample:
            self.visualizer.add_datasample('', original, sample, draw_gt=False, show=False)
            return self.visualizer.get_image()
        return self.visualizer.visualize_cls(original, sample, draw_gt=False, rescale_factor=2)


def _test_dataset(cfg: Config) -> ConfigDict:
    return innermost_datasets(cfg.test_dataloader.dataset)[0]


def image_files(names: list[str]) -> list[Path]:
    """The files named, and those in folders named, in order.

    Raises:
        FileNotFoundError: If there is none.
    """
    files = []
    for path in map(Path, names):
        inside = sorted(p for p in path.glob('*') if p.suffix.lower() in SUFFIXES)
        files.extend(inside if path.is_dir() else [path])
    if not files:
        raise FileNotFoundError(f'images: no image in {", ".join(names)}; give files or folders')
    return files


def test_images(cfg: Config) -> list[Path]:
    """The image files of a config's test set, in its order.

    Raises:
        FileNotFoundError: If the test set is not there.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    require_data(cfg, 'test_dataloader')
    dataset = DATASETS.build(dict(_test_dataset(cfg), pipeline=[]))
    return [Path(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))]


def spread(items: Sequence[Path], count: int | None) -> list[Path]:
    """At most ``count`` items, evenly spread; all of them for None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
