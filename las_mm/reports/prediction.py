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
from torch import nn

from las_mm.config.testing import visualizer_of
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
        FileNotFoundError, ValueError: If the checkpoint is missing or unreadable, the model has no
            dynamic backbone, or the config no test data or visualizer.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str = 'cpu') -> None:
        self.model: Any
        self.model, saved = load_model(cfg, checkpoint)
        self.model.to(device)
        self.backbone = find_backbone(self.model)
        # mmpretrain's configs leave the name to the runner.
        visualizer = {'name': 'visualizer', **visualizer_of(cfg), 'vis_backends': None}
        self.visualizer = VISUALIZERS.build(visualizer)
        self.visualizer.dataset_meta = saved.get('meta', {}).get('dataset_meta') or {}
        pipeline = _test_dataset(cfg).get('pipeline') or []
        steps = [step for step in pipeline if type_name(step) not in ANNOTATIONS]
        self.load, self.pipeline = Compose(steps[:1]), Compose(steps)

    @torch.no_grad()
    def __call__(self, path: str | Path) -> Prediction:
        """Predict one image file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not an image.
        """
        if '://' not in str(path) and not Path(path).is_file():
            raise FileNotFoundError(f'image: no file {str(path)!r}; check the path')
        loaded = self.load(dict(img_path=str(path), img_id=0))
        data = self.pipeline(dict(img_path=str(path), img_id=0))
        if loaded is None or data is None:
            raise ValueError(f'image: {str(path)!r} cannot be read as an image')
        inputs = data['inputs']
        (sample,) = self.model.test_step({k: [value] for k, value in data.items()})
        height, width = sample.img_shape[:2]
        return Prediction(
            image=as_picture(inputs[:, :height, :width]),
            painted=self._paint(_as_picture(loaded['img']), sample),
            traces=self.backbone.traces,
            sample=sample,
            input_size=self.backbone.input_size,
        )

    def _paint(self, original: np.ndarray, sample: Any) -> np.ndarray:
        if 'pred_label' in sample and hasattr(self.visualizer, 'visualize_cls'):
            return self.visualizer.visualize_cls(original, sample, draw_gt=False, rescale_factor=2)
        self.visualizer.add_datasample('', original, sample, draw_gt=False, show=False)
        return self.visualizer.get_image()


def load_model(cfg: Config, checkpoint: str) -> tuple[nn.Module, dict]:
    """The model of a config with its weights, in eval mode on the CPU, and the checkpoint.

    Args:
        cfg: The config.
        checkpoint: Path or URL of the weights.

    Raises:
        FileNotFoundError, ValueError: If the checkpoint is missing or unreadable.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    options = ConfigDict(cfg.model)
    if cfg.get('data_preprocessor'):  # as a runner does
        options.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(options)
    saved = load_checkpoint(model, checkpoint, map_location='cpu')
    model.eval()
    return model, saved


def _as_picture(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image as OpenMMLab loads it: BGR, or grey."""
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
    return np.ascontiguousarray(image[..., 2::-1].clip(0, 255).astype(np.uint8))


def _test_dataset(cfg: Config) -> ConfigDict:
    datasets = innermost_datasets((cfg.get('test_dataloader') or {}).get('dataset'))
    if not datasets:
        raise ValueError('test_dataloader: the config has no data set to test on; add one')
    return ConfigDict(datasets[0])


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


def test_images(cfg: Config) -> list[str]:
    """The image files, or URLs, of a config's test set, in its order.

    Raises:
        FileNotFoundError: If the test set is not there.
        ValueError: If the config has none, or one that does not tell its files.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    require_data(cfg, 'test_dataloader')
    dataset = DATASETS.build({**_test_dataset(cfg), 'pipeline': []})
    try:
        return [str(dataset.get_data_info(index)['img_path']) for index in range(len(dataset))]
    except (AttributeError, KeyError):
        kind = type(dataset).__name__
        raise ValueError(
            f'test_dataloader.dataset: {kind} does not tell its image files; name some by --images'
        ) from None


def spread(items: Sequence[Any], count: int | None) -> list:
    """At most ``count`` items, evenly spread; all of them for None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]
