"""Configs of a tiny detector and classifier in the styles that users write them in."""

from pathlib import Path

TEXT_DETECTOR = """
root = ROOT
default_scope = 'mmdet'
model = dict(
    type='mmdet.RetinaNet',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor', mean=[123.0] * 3, std=[58.0] * 3, pad_size_divisor=32),
    backbone=dict(type='mmdet.LASResNet', depth=18, base_channels=8, stem_channels=8,
                  granularity='2-2-1-1', norm_eval=False),
    neck=dict(type='mmdet.FPN', in_channels=[8, 16, 32, 64], out_channels=16, start_level=1,
              num_outs=3),
    bbox_head=dict(
        type='mmdet.RetinaHead', num_classes=10, in_channels=16, feat_channels=16,
        stacked_convs=1,
        anchor_generator=dict(type='mmdet.AnchorGenerator', octave_base_scale=4,
                              scales_per_octave=1,
                              ratios=[1.0], strides=[8, 16, 32]),
        bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='mmdet.FocalLoss'), loss_bbox=dict(type='mmdet.L1Loss')),
    test_cfg=dict(score_thr=0.0, nms_pre=50, min_bbox_size=0, max_per_img=5,
                  nms=dict(type='nms', iou_threshold=0.5)))
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
test_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdet.CocoDataset', data_root=root, test_mode=True,
        metainfo=dict(classes=tuple('0123456789')),
        ann_file='annotations/instances_val.json', data_prefix=dict(img='val/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='mmdet.Resize', scale=(96, 96), keep_ratio=True),
            dict(type='mmdet.LoadAnnotations', with_bbox=True),
            dict(type='mmdet.PackDetInputs', meta_keys=keys)]))
test_evaluator = dict(type='mmdet.CocoMetric', ann_file=root + '/annotations/instances_val.json')
test_cfg = dict(type='TestLoop')
custom_hooks = (dict(type='LatencyReportHook', devices=['tx2']),)
"""
TEXT_CLASSIFIER = """
root = ROOT
default_scope = 'mmpretrain'
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[127.0] * 3, std=[64.0] * 3)
model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.LASResNet', depth=18, base_channels=8, stem_channels=8,
                  granularity='2-2-1-1', out_indices=(3,)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64, topk=(1,),
              loss=dict(type='mmpretrain.CrossEntropyLoss')))
test_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.CustomDataset', data_root=root, data_prefix='val',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)),
                  dict(type='mmpretrain.PackInputs')]))
test_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_cfg = dict()
custom_hooks = [dict(type='LatencyReportHook', devices=['tx2'])]
"""
PYTHON_BASE = """
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.runner import TestLoop
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize
from mmdet.evaluation import CocoMetric
from mmcv.transforms import LoadImageFromFile

root = ROOT
test_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    collate_fn=dict(type=pseudo_collate),
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=CocoDataset, data_root=root, test_mode=True,
        metainfo=dict(classes=tuple('0123456789')),
        ann_file='annotations/instances_val.json', data_prefix=dict(img='val/'),
        pipeline=[
            dict(type=LoadImageFromFile),
            dict(type=Resize, scale=(96, 96), keep_ratio=True),
            dict(type=LoadAnnotations, with_bbox=True),
            dict(type=PackDetInputs)]))
test_evaluator = dict(type=CocoMetric, ann_file=root + '/annotations/instances_val.json')
test_cfg = dict(type=TestLoop)
"""
PYTHON_DETECTOR = """
from mmengine.config import read_base

with read_base():
    from .base import *

from mmdet.models import FPN, DetDataPreprocessor, FocalLoss, L1Loss, RetinaHead, RetinaNet
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from las_mm.hooks import LatencyReportHook
from las_mm.models.resnet_mmdet import LASResNet

model = dict(
    type=RetinaNet,
    data_preprocessor=dict(
        type=DetDataPreprocessor, mean=[123.0] * 3, std=[58.0] * 3, pad_size_divisor=32),
    backbone=dict(type=LASResNet, depth=18, base_channels=8, stem_channels=8,
                  granularity='2-2-1-1', norm_eval=False),
    neck=dict(type=FPN, in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, num_outs=3),
    bbox_head=dict(
        type=RetinaHead, num_classes=10, in_channels=16, feat_channels=16, stacked_convs=1,
        anchor_generator=dict(type=AnchorGenerator, octave_base_scale=4, scales_per_octave=1,
                              ratios=[1.0], strides=[8, 16, 32]),
        bbox_coder=dict(type=DeltaXYWHBBoxCoder),
        loss_cls=dict(type=FocalLoss), loss_bbox=dict(type=L1Loss)),
    test_cfg=dict(score_thr=0.0, nms_pre=50, min_bbox_size=0, max_per_img=5,
                  nms=dict(type='nms', iou_threshold=0.5)))
test_dataloader['dataset']['pipeline'][1].update(scale=(64, 64))
custom_hooks = [dict(type=LatencyReportHook, devices=['tx2'])]
"""
OWN_MODULE = """
from las_mm.hooks import LatencyReportHook
from las_mm.models.resnet_mmdet import LASResNet
from mmengine.registry import HOOKS
from mmdet.models import RetinaNet
from mmdet.registry import MODELS

@MODELS.register_module(force=True)
class TailoredNet(LASResNet):
    def __init__(self, width=8, granularity='1-1-1-1', init_cfg=None):
        super().__init__(18, base_channels=width, stem_channels=width, granularity=granularity,
                         norm_eval=False, init_cfg=init_cfg)

@MODELS.register_module(force=True)
class OurDetector(RetinaNet):
    pass

@HOOKS.register_module(force=True)
class OurReportHook(LatencyReportHook):
    pass
"""


def write_styles(folder: Path, coco: Path, classes: Path) -> dict[str, Path]:
    """Config files by the names of their styles."""
    detector = TEXT_DETECTOR.replace('ROOT', repr(str(coco)))
    classifier = TEXT_CLASSIFIER.replace('ROOT', repr(str(classes)))
    own = "custom_imports = dict(imports=['tailored_parts'])\n"
    own += "model['backbone'] = dict(type='mmdet.TailoredNet', width=8, granularity='2-2-1-1')\n"
    own += "model['type'] = 'mmdet.OurDetector'\n"
    own += "custom_hooks = [dict(type='OurReportHook', devices=['tx2'])]\n"
    deleted = "_base_ = './detector.py'\n"
    deleted += "model = dict(backbone=dict(_delete_=True, type='LASResNet', depth=18, "
    deleted += 'base_channels=8, stem_channels=8, norm_eval=False, '
    deleted += 'granularity=[2, 2, 1, 1]))\n'
    texts = {
        'detector': detector,
        'detector without scope': detector.replace("default_scope = 'mmdet'\n", ''),
        "a user's own classes": detector + own,
        "a user's own classes without scope": detector.replace("default_scope = 'mmdet'\n", '')
        + own,
        'inherited, partly deleted': deleted,
        'classifier': classifier,
        'classifier without scope': classifier.replace(
            "default_scope = 'mmpretrain'\n", ''
        ).replace('topk=(1,))\ntest_cfg', "topk=(1,), prefix='own')\ntest_cfg"),
        'pure Python': PYTHON_DETECTOR,
        'pure Python with a scope': PYTHON_DETECTOR + "default_scope = 'mmdet'\n",
    }
    (folder / 'base.py').write_text(PYTHON_BASE.replace('ROOT', repr(str(coco))))
    (folder / 'tailored_parts.py').write_text(OWN_MODULE)
    files = {}
    for name, text in texts.items():
        path = folder / f'{name.replace(" ", "_").replace(",", "").replace(chr(39), "")}.py'
        path.write_text(text)
        files[name] = path
    return files
