"""Tiny detectors and classifiers, built from the project's demo configs and mmdet's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 8
CHANNELS = [WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]


@contextmanager
def scope(kind: str) -> Iterator[None]:
    """mmdet's or mmpretrain's registry as the default one, as a config's default_scope does."""
    with DefaultScope.overwrite_default_scope('mmpretrain' if kind == 'classifier' else 'mmdet'):
        yield


def backbone(kind: str = 'LASResNet') -> dict:
    """A ResNet-18 of an eighth of the width, static or dynamic."""
    cfg = dict(type=kind, depth=18, base_channels=WIDTH, stem_channels=WIDTH, norm_eval=False)
    cfg.update(out_indices=(0, 1, 2, 3))
    return dict(cfg, granularity='2-2-1-1') if kind == 'LASResNet' else cfg


def two_stage(kind: str = 'LASResNet') -> ConfigDict:
    """The demo's Faster R-CNN, still narrower."""
    model = Config.fromfile(ROOT / 'configs' / 'faster_rcnn_las_r50_4-4-2-1_demo.py').model
    model.backbone = ConfigDict(backbone(kind))
    model.neck.update(in_channels=CHANNELS, out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32)
    return model


def one_stage(kind: str = 'LASResNet') -> ConfigDict:
    """mmdet's RetinaNet, narrow."""
    import mmdet

    configs = Path(mmdet.__file__).parent / '.mim' / 'configs' / '_base_' / 'models'
    model = Config.fromfile(configs / 'retinanet_r50_fpn.py').model
    model.backbone = ConfigDict(backbone(kind))
    model.neck.update(in_channels=CHANNELS, out_channels=16)
    model.bbox_head.update(num_classes=10, in_channels=16, feat_channels=16, stacked_convs=1)
    return model


def classifier(kind: str = 'LASResNet', classes: int = 10) -> ConfigDict:
    """A narrow image classifier."""
    return ConfigDict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(backbone(kind), type=f'mmpretrain.{kind}', out_indices=(3,)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=classes,
            in_channels=8 * WIDTH,
            loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0),
        ),
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            mean=[127.0] * 3,
            std=[64.0] * 3,
            num_classes=classes,
        ),
    )


def instance(kind: str = 'LASResNet') -> ConfigDict:
    """The Faster R-CNN with a mask branch."""
    model = two_stage(kind)
    layer = dict(type='RoIAlign', output_size=14, sampling_ratio=2)
    model.type = 'MaskRCNN'
    model.roi_head.mask_roi_extractor = dict(model.roi_head.bbox_roi_extractor, roi_layer=layer)
    model.roi_head.mask_head = ConfigDict(
        type='FCNMaskHead',
        num_convs=1,
        in_channels=16,
        conv_out_channels=16,
        num_classes=10,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
    )
    model.train_cfg.rcnn.mask_size = 28
    return model


KINDS = {
    'classifier': classifier,
    'two-stage': two_stage,
    'one-stage': one_stage,
    'masks': instance,
}


def build_model(cfg: ConfigDict) -> torch.nn.Module:
    """The model, with the weights that its configs ask for."""
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch(model: torch.nn.Module, images: int = 2, size: int = 64) -> dict:
    """Random images with one object, or one class, each; as a model's ``forward`` takes them."""
    inputs = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(images)]
    if hasattr(model, 'head'):
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(index % 10) for index in range(images)]
        return model.data_preprocessor(dict(inputs=torch.stack(inputs), data_samples=samples))
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    samples = []
    for index in range(images):
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]]) + index
        masks = BitmapMasks(np.ones((1, size, size), np.uint8), size, size)
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.tensor([index % 10]), masks=masks
        )
        samples.append(sample)
    return model.data_preprocessor(dict(inputs=inputs, data_samples=samples), training=True)
