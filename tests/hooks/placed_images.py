"""Images of known objects that go through a pipeline, and a model that runs on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.dataset import BaseDataset, Compose
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from networks import undecided
from torch import Tensor

from las_mm.models.resnet_mmdet import LASResNet

STRIDES = {'layer1': 4, 'layer2': 8, 'layer3': 16, 'layer4': 32}  # of a ResNet's stages


@dataclass(frozen=True)
class Scene:
    """An image's size and its objects.

    Attributes:
        size: (H, W).
        boxes: x1, y1, x2, y2 of each object, possibly beyond the image.
        ignored: Whether an object is one of a crowd.
    """

    size: tuple[int, int]
    boxes: tuple[tuple[float, float, float, float], ...]
    ignored: tuple[bool, ...]

    def entry(self, image: np.ndarray) -> dict:
        """What a data set hands to its pipeline."""
        instances = [
            dict(bbox=list(box), bbox_label=0, ignore_flag=int(ignored))
            for box, ignored in zip(self.boxes, self.ignored, strict=True)
        ]
        return dict(img=image, instances=instances, img_path=f'{self.size}.jpg', img_id=0)

    def bands(self) -> list[np.ndarray]:
        """For each object an image: its columns, its rows, and where there is an image at all."""
        images = []
        for x1, y1, x2, y2 in [(0, 0, 0, 0), *self.boxes]:
            image = np.zeros((*self.size, 3), np.uint8)
            image[:, max(int(x1), 0) : max(int(x2), 0), 0] = 255
            image[max(int(y1), 0) : max(int(y2), 0), :, 1] = 255
            image[..., 2] = 255
            images.append(image)
        return images


class Scenes(BaseDataset):
    """Scenes of noise, as a data set of mmengine."""

    def __init__(self, scenes: Sequence[Scene], pipeline: list, seed: int = 0) -> None:
        self.scenes, self.seed = list(scenes), seed
        with DefaultScope.overwrite_default_scope('mmdet'):
            super().__init__(pipeline=pipeline, serialize_data=False)

    def load_data_list(self) -> list[dict]:
        generator = np.random.default_rng(self.seed)
        return [
            scene.entry(generator.integers(0, 256, (*scene.size, 3), np.uint8))
            for scene in self.scenes
        ]


class Watcher(BaseModel):
    """Predicts nothing, but runs its backbone as a detector does.

    Args:
        divisor: What edges of batches are padded to multiples of.
        runs: How often it runs.
    """

    def __init__(self, divisor: int = 1, runs: int = 1, preprocessor=DetDataPreprocessor) -> None:
        super().__init__(preprocessor(pad_size_divisor=divisor, mean=[127.0] * 3, std=[64.0] * 3))
        torch.manual_seed(0)
        self.backbone = LASResNet(18, granularity='4-2-2-1', base_channels=4, stem_channels=4)
        undecided(self.backbone)
        self.runs = runs

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        for _ in range(self.runs):
            features = self.backbone(inputs)
        return data_samples if mode == 'predict' else features


def through(pipeline: Compose, scene: Scene, image: np.ndarray, seed: int) -> dict:
    """One image after a pipeline whose random choices follow a seed."""
    np.random.seed(seed)
    return pipeline(scene.entry(image))


def warped(pipeline: Compose, scene: Scene, seed: int, slack: int) -> list[tuple[Tensor, Tensor]]:
    """Which pixels of the network's input surely are, and may be, picture, object and ignored.

    The pipeline itself moves pictures of them; where its interpolation mixes, it may be both, and
    so it may be in a distance of ``slack`` pixels, if it interpolates what it has interpolated.
    """
    bands = [through(pipeline, scene, band, seed)['inputs'].float() for band in scene.bands()]
    picture, parts = bands[0][2], []
    for ignored in (False, True):
        chosen = [
            band[0].minimum(band[1])
            for band, flag in zip(bands[1:], scene.ignored, strict=True)
            if flag == ignored
        ]
        parts.append(torch.stack(chosen).amax(0) if chosen else torch.zeros_like(picture))
    return [(-grown(-part, slack) > 136, grown(part, slack) > 119) for part in (picture, *parts)]


def grown(image: Tensor, pixels: int) -> Tensor:
    """(H, W): the largest value in a distance of so many pixels."""
    return F.max_pool2d(image[None], 2 * pixels + 1, 1, pixels)[0]


def read_rates(backbone: LASResNet, index: int, size: Sequence[int]) -> Tensor:
    """(H, W) share of blocks that computed each pixel, read from the coarse masks one by one."""
    total = torch.zeros(*size)
    rows, columns = (torch.arange(edge) for edge in size)
    for trace in backbone.traces:
        stride = STRIDES[trace.name.partition('.')[0]] * trace.granularity
        mask = trace.mask[index, 0].float()
        total += mask[rows // stride][:, columns // stride]
    return total / len(backbone.traces)
