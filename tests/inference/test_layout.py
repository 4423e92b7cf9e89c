"""What leaves an optimized model has the memory layout that operators behind it expect."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from faults import IMAGES, difference, narrow

import las_mm

ops = pytest.importorskip('mmcv.ops', reason='mmcv is missing')

X = torch.randn(2, 8, 12, 10, generator=torch.Generator().manual_seed(0))
ROIS = torch.tensor([[0, 1.0, 1.0, 9.0, 8.0], [1, 0.0, 2.0, 6.0, 11.0]])
ROTATED = torch.tensor([[0, 5.0, 5.0, 6.0, 4.0, 0.3], [1, 4.0, 6.0, 5.0, 7.0, -0.5]])
OFFSET = torch.randn(2, 18, 12, 10, generator=torch.Generator().manual_seed(1))
MASK = torch.rand(2, 9, 12, 10, generator=torch.Generator().manual_seed(2))


def make(kind, *args, **kwargs):
    torch.manual_seed(3)
    return kind(*args, **kwargs).eval()


# Operators that take feature maps and have a CPU kernel, called on features of some layout.
RUNS = {
    'RoIAlign': lambda x: ops.RoIAlign(3, 1.0, 2)(x, ROIS),
    'roi_align': lambda x: ops.roi_align(x, ROIS, (3, 3), 1.0, 2),
    'RoIAlignRotated': lambda x: ops.RoIAlignRotated((3, 3), 1.0, 2)(x, ROTATED),
    'roi_align_rotated': lambda x: ops.roi_align_rotated(x, ROTATED, (3, 3), 1.0, 2),
    'DeformConv2d': lambda x: make(ops.DeformConv2d, 8, 4, 3, padding=1)(x, OFFSET),
    'deform_conv2d': lambda x: ops.deform_conv2d(
        x, OFFSET, torch.ones(4, 8, 3, 3), 1, 1, 1, 1, 1, False, 2
    ),
    'ModulatedDeformConv2d': lambda x: make(ops.ModulatedDeformConv2d, 8, 4, 3, padding=1)(
        x, OFFSET, MASK
    ),
    'modulated_deform_conv2d': lambda x: ops.modulated_deform_conv2d(
        x, OFFSET, MASK, torch.ones(4, 8, 3, 3), None, 1, 1, 1, 1, 1
    ),
    'DeformConv2dPack': lambda x: make(ops.DeformConv2dPack, 8, 4, 3, padding=1)(x),
    'ModulatedDeformConv2dPack': lambda x: make(ops.ModulatedDeformConv2dPack, 8, 4, 3, padding=1)(
        x
    ),
    'CornerPool': lambda x: ops.CornerPool('top')(x),
    'CrissCrossAttention': lambda x: make(ops.CrissCrossAttention, 8)(x),
    'SAConv2d': lambda x: make(ops.SAConv2d, 8, 4, 3, padding=1)(x),
}
WRONG = {
    *('RoIAlign', 'roi_align', 'RoIAlignRotated', 'roi_align_rotated'),
    *('ModulatedDeformConv2d', 'modulated_deform_conv2d', 'ModulatedDeformConv2dPack'),
}
REFUSED = {'DeformConv2d', 'deform_conv2d', 'DeformConv2dPack'}  # "input must be contiguous"
# What else mmcv.ops offers: no feature maps go in, or there is no kernel for a CPU.
POINTS_AND_BOXES = (
    'BallQuery|Dynamic|Group|Points|QueryAndGroup|RoIAwarePool3d|RoIPointPool3d|Sparse|SubM|Voxel|'
    'ball_query|batched_nms|bbox|box_iou|boxes_|chamfer|contour|convex|diff_iou|dynamic_scatter|'
    'furthest|gather_points|get_|group|knn|line_nms|min_area|nms|pixel_group|points_|rotated|scatter|'
    'soft_nms|sparse|sum_|three_|voxel|fused_bias|bias_act|filter|conv2d|conv_transpose2d|'
    'FusedBias|upfirdn2d|filtered_lrelu|upsample2d|downsample2d'
)
NO_KERNEL = (
    'BorderAlign|border_align|CARAFE|carafe|Correlation|DeformRoIPool|deform_roi_pool|'
    'ModulatedDeformRoIPool|MultiScaleDeformableAttention|PSAMask|PrRoIPool|RiRoIAlignRotated|'
    'RoIPool|roi_pool|SAConv|SigmoidFocalLoss|SoftmaxFocalLoss|sigmoid_focal|softmax_focal|'
    'SyncBatchNorm|TINShift|tin_shift|RotatedFeatureAlign|Conv2d|ConvTranspose2d|ConvTranspose3d|'
    'Conv3d|Linear|MaxPool2d|MaxPool3d|SimpleRoIAlign|masked_conv2d|prroi_pool|riroi_align|'
    'MaskedConv2d|bezier_align|BezierAlign|active_rotated|assign_score|rel_roi|point_sample|stack_'
)


def test_every_operator_of_mmcv_is_tried_or_known_to_take_no_features():
    names = [n for n in dir(ops) if not n.startswith('_') and callable(getattr(ops, n))]
    names = [n for n in names if not inspect.ismodule(getattr(ops, n))]
    known = (*POINTS_AND_BOXES.split('|'), *NO_KERNEL.split('|'))
    unknown = [n for n in names if n not in RUNS and not n.startswith(known)]
    assert not unknown, f'{unknown}: try them on both layouts, or say why not'


@pytest.mark.parametrize('name', RUNS)
@torch.no_grad()
def test_operators_that_read_strides_wrongly_are_these(name):
    contiguous, last = RUNS[name](X), X.contiguous(memory_format=torch.channels_last)
    if name in REFUSED:
        with pytest.raises(RuntimeError, match='contiguous'):
            RUNS[name](last)
        return
    channels_last = RUNS[name](last)
    same = torch.allclose(contiguous, channels_last, atol=1e-4)
    assert same == (name not in WRONG), 'mmcv changed: which heads can take channels-last features?'


def strides(tensor):
    """Those that matter: a dimension of one has any."""
    return [s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def networks():
    yield 'torch', lambda: narrow(18)
    yield 'whole blocks', lambda: narrow(18, 'all')
    if las_mm.models is not None:
        from detectors import backbone, scope
        from mmengine.registry import MODELS

        for kind in ('mmdet.LASResNet', 'mmpretrain.LASResNet'):
            with scope('two-stage'):
                yield kind, lambda kind=kind: MODELS.build(dict(backbone(), type=kind)).eval()


@pytest.mark.parametrize('images', [IMAGES, IMAGES[:1]], ids=['batch', 'one'])
@pytest.mark.parametrize('executor', ['torch', 'cpu', 'auto'])
@torch.no_grad()
def test_features_of_every_backbone_have_the_strides_of_dense_ones(executor, images):
    for name, build in networks():
        network = build()
        wanted = network(images)
        for optimize in (False, True):
            network.executor = executor
            if optimize:
                las_mm.optimize_for_inference(network, executor)
            outs = network(images)
            assert difference(outs, wanted) < 1e-5, name
            assert list(map(strides, outs)) == list(map(strides, wanted)), (name, optimize)


@torch.no_grad()
def test_channels_last_by_request_and_by_the_user_s_own_choice():
    last = SimpleNamespace(memory_format=torch.channels_last)
    network = las_mm.optimize_for_inference(narrow(18), 'cpu', **vars(last))
    assert all(out.is_contiguous(**vars(last)) for out in network(IMAGES)[:3])
    las_mm.restore_after_inference(network)
    assert not network.any_layout
    own = narrow(18).to(**vars(last))
    wanted = own(IMAGES)
    outs = las_mm.optimize_for_inference(own, 'cpu')(IMAGES)
    assert list(map(strides, outs[:3])) == list(map(strides, wanted[:3]))


@pytest.mark.parametrize('config', ['dyhead/atss_r50-caffe_fpn_dyhead_1x_coco.py'])
@torch.no_grad()
def test_a_detector_with_deformable_convolutions_scores_the_same(config):
    import copy
    from pathlib import Path

    mmdet = pytest.importorskip('mmdet', reason='mmdet is missing')
    from detectors import CHANNELS, backbone, scope
    from mmengine.config import Config
    from mmengine.registry import MODELS

    cfg = Config.fromfile(Path(mmdet.__file__).parent / '.mim' / 'configs' / config).model
    cfg.backbone, cfg.neck[0].in_channels = backbone(), CHANNELS
    with scope('one-stage'):
        model = MODELS.build(cfg).eval()
    for name, weight in model.named_parameters():
        if 'offset' in name:  # as after training: they start at zero
            torch.nn.init.normal_(weight, std=0.02)
    fast = las_mm.optimize_for_inference(copy.deepcopy(model), 'cpu')
    images = torch.randn(1, 3, 64, 64)
    wanted = model.bbox_head(model.extract_feat(images))[0]
    assert difference(fast.bbox_head(fast.extract_feat(images))[0], wanted) < 1e-4
