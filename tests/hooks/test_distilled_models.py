"""Which of mmdet's and mmpretrain's models are distilled, and that the others are refused."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mmdet
import pytest
import torch
from detectors import CHANNELS, backbone, batch, build_model, classifier, scope, two_stage
from mmengine.config import Config, ConfigDict
from networks import always, randomize

from las_mm.hooks import DistillationHook
from las_mm.hooks.distilled_logits import (
    AnchorLogits,
    ClassifierLogits,
    ProposalLogits,
    logit_source,
)

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
NARROW = {256: 32, 1024: 32, 2048: 64, 80: 10}
REFUSED = 'DistillationHook: got a '


def narrowed(value):
    """A model's config with an eighth of the channels and ten classes."""
    if isinstance(value, dict):
        for key, item in value.items():
            wide = key.endswith('channels') or key == 'num_classes'
            value[key] = (
                NARROW.get(item, item) if wide and isinstance(item, int) else narrowed(item)
            )
    if isinstance(value, list):
        value[:] = map(narrowed, value)
    return value


def detector(path: str, kind: str = 'LASResNet') -> ConfigDict:
    """A detector of mmdet's configs, narrow and on our backbone, or the static one."""
    model = Config.fromfile(CONFIGS / path).model
    narrowed(model)
    model.backbone = ConfigDict(backbone(kind))
    if 'neck' in model:
        model.neck.in_channels = CHANNELS
    return model


def head(kind: str, **options) -> dict:
    """A head of mmpretrain's."""
    return dict(type=f'mmpretrain.{kind}', **options)


SIZES = dict(num_classes=10, in_channels=64)
LINEAR = head('LinearClsHead', **SIZES)
SIGMOID = dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True)
SMOOTH = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)
CLASSIFIERS = {
    'linear': (LINEAR, False),
    'linear, sigmoid': (dict(LINEAR, loss=SIGMOID), True),
    'label smoothing': (dict(LINEAR, loss=dict(SMOOTH, mode='original')), False),
    'label smoothing, sigmoid': (dict(LINEAR, loss=dict(SMOOTH, mode='multi_label')), True),
    'stacked': (head('StackedLinearClsHead', mid_channels=[32], **SIZES), False),
    'vision transformer': (head('VisionTransformerClsHead', **SIZES), False),
    'ArcFace': (head('ArcFaceClsHead', **SIZES), False),
    'multi-label': (head('MultiLabelLinearClsHead', **SIZES), True),
    'CSRA': (head('CSRAClsHead', num_heads=1, lam=0.1, **SIZES), True),
}


def classifier_with(cls_head: dict, kind: str = 'LASResNet') -> ConfigDict:
    """A classifier with this head."""
    model = classifier(kind)
    model.head = ConfigDict(cls_head)
    if cls_head['type'].endswith('CSRAClsHead'):
        model.neck = None
    return model


def pair(config, folder) -> tuple[torch.nn.Module, DistillationHook]:
    """A student that equals its teacher, in training, and the hook on it."""
    torch.manual_seed(1)
    teacher = randomize(build_model(config('ResNet')))
    if hasattr(teacher, 'head'):  # some start from zero
        for weight in teacher.head.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    torch.save(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')
    cfg = config('LASResNet')
    cfg.backbone.norm_eval = True
    student = build_model(cfg)
    student.load_state_dict(teacher.state_dict(), strict=False)
    always(student, True).train()
    for part in student.modules():  # so that student and teacher can be equal
        if isinstance(part, torch.nn.Dropout | torch.nn.modules.batchnorm._BatchNorm):
            part.eval()
    hook = DistillationHook(config('ResNet'), str(folder / 'teacher.pth'))
    hook.before_train(SimpleNamespace(model=student))
    return student, hook


def kd_losses(student, hook, data) -> Iterator[torch.Tensor]:
    """The term of a student that equals its teacher, and of one that does not, skipping all."""
    yield student(**data, mode='loss')['loss_kd']
    always(student, False)
    student.eval()
    with torch.no_grad():  # what validation leaves behind is not taken for the next step's
        student(**data, mode='tensor')
    student.train()
    yield student(**data, mode='loss')['loss_kd']
    hook.after_train(SimpleNamespace(model=student))


def assert_learns(student, hook, data) -> None:
    same, other = kd_losses(student, hook, data)
    assert same.item() == pytest.approx(0, abs=1e-5)
    assert other.item() > same.item()
    other.backward()
    assert student.backbone.layer4[1].conv1.weight.grad is not None


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classifiers_with_every_head_are_distilled(name, tmp_path):
    cls_head, sigmoid = CLASSIFIERS[name]
    with scope('classifier'):
        student, hook = pair(lambda kind: classifier_with(cls_head, kind), tmp_path)
        assert isinstance(hook.source, ClassifierLogits)
        assert hook.source.sigmoid == sigmoid
        data = batch(student)
        if sigmoid and 'smoothing' not in name:
            for sample in data['data_samples']:
                sample.set_gt_score(torch.nn.functional.one_hot(sample.gt_label[0], 10).float())
        assert_learns(student, hook, data)


DISTILLED = {
    'retinanet/retinanet_r50_fpn_1x_coco.py': AnchorLogits,
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': AnchorLogits,
    'atss/atss_r50_fpn_1x_coco.py': AnchorLogits,
    'gfl/gfl_r50_fpn_1x_coco.py': AnchorLogits,
    'rpn/rpn_r50_fpn_1x_coco.py': AnchorLogits,
    'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py': ProposalLogits,
    'double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py': ProposalLogits,
    'dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py': ProposalLogits,
}


@pytest.mark.parametrize('path', DISTILLED)
def test_detectors_of_every_kind_are_distilled(path, tmp_path):
    with scope('two-stage'):
        student, hook = pair(lambda kind: detector(path, kind), tmp_path)
        assert isinstance(hook.source, DISTILLED[path])
        assert_learns(student, hook, batch(student))


def test_proposals_that_a_sampler_tried_are_not_distilled(tmp_path):
    def config(kind='LASResNet'):
        model = two_stage(kind)
        model.train_cfg.rcnn.sampler.type = 'OHEMSampler'
        return model

    with scope('two-stage'):
        student, hook = pair(config, tmp_path)
        assert_learns(student, hook, batch(student))


BASES = sorted(path.name for path in (CONFIGS / '_base_' / 'models').glob('*.py'))


@pytest.mark.parametrize('name', BASES)
def test_every_base_model_of_mmdet_is_distilled(name):
    with scope('two-stage'):
        model = build_model_of(f'_base_/models/{name}')
        source = logit_source(model)
    assert isinstance(source, AnchorLogits | ProposalLogits)


REFUSING = {
    'detr/detr_r50_8xb2-150e_coco.py': 'DETR with a DETRHead, which has no class logits of each',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': 'DeformableDETRHead, which has no',
    'htc/htc-without-semantic_r50_fpn_1x_coco.py': 'whose box branch needs more than features',
    'scnet/scnet_r50_fpn_1x_coco.py': 'whose box branch needs more than features and boxes',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py': 'SparseRCNN with a SparseRoIHead, whose box',
    'crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py': 'has no single layer of class logits',
    'tood/tood_r50_fpn_1x_coco.py': 'returns probabilities in place of logits',
    'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py': 'in inference leaves points out',
    'seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py': 'more logits than classes',
    'yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco.py': 'YOLOV3Head, which has no class logits',
    'centernet/centernet_r18_8xb16-crop512-140e_coco.py': 'CenterNetHead, which has no class',
    'solo/solo_r50_fpn_1x_coco.py': 'SOLO; it takes',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': 'Mask2Former; it takes',
    'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py': 'SoftTeacher; it',
}


def build_model_of(path: str) -> torch.nn.Module:
    """A detector of mmdet's configs, on the meta device: its weights do not matter."""
    from mmdet.registry import MODELS

    with torch.device('meta'):
        return MODELS.build(Config.fromfile(CONFIGS / path).model)


@pytest.mark.parametrize('path', REFUSING)
def test_detectors_without_class_logits_are_refused_in_one_line(path):
    with scope('two-stage'):
        model = build_model_of(path)
        with pytest.raises(ValueError, match=REFUSED) as error:
            logit_source(model)
    assert REFUSING[path] in str(error.value)
    assert '\n' not in str(error.value)


OTHER_HEADS = {
    'several tasks': head('MultiTaskHead', task_heads=dict(a=LINEAR)),
    'contrastive': head('ContrastiveHead', loss=dict(type='mmpretrain.CrossEntropyLoss')),
}


@pytest.mark.parametrize('name', OTHER_HEADS)
def test_heads_without_class_logits_are_refused_in_one_line(name):
    with scope('classifier'):
        model = build_model(classifier_with(OTHER_HEADS[name]))
        with pytest.raises(ValueError, match=REFUSED) as error:
            logit_source(model)
    assert 'which has no class logits; it takes' in str(error.value)


def test_a_teacher_of_another_kind_is_refused(tmp_path):
    cascade = detector('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', 'ResNet')
    retina = detector('retinanet/retinanet_r50_fpn_1x_coco.py', 'ResNet')
    more = two_stage('ResNet')
    more.roi_head.bbox_head.num_classes = 20
    with scope('two-stage'):
        student = build_model(two_stage()).train()
        for teacher, message in (
            (retina, 'teacher: got a RetinaNet for a FasterRCNN; give the static counterpart'),
            (cascade, 'teacher: got a CascadeRCNN for a FasterRCNN; give the static counterpart'),
            (more, r'teacher: its class logits are \(\d+, 21\), the student.s \(\d+, 11\)'),
        ):
            weights = build_model(teacher).state_dict()
            torch.save(dict(state_dict=weights), tmp_path / 'teacher.pth')
            hook = DistillationHook(teacher, str(tmp_path / 'teacher.pth'))
            with pytest.raises(ValueError, match=message):
                hook.before_train(SimpleNamespace(model=student))
                student(**batch(student), mode='loss')
            if hasattr(hook, 'source'):
                hook.after_train(SimpleNamespace(model=student))
