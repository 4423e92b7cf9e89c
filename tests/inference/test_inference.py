"""optimize_for_inference: same outputs, same state dict, nobody's tensor changed, reversible."""

import copy
import pickle

import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmpretrain.registry import MODELS as CLASSIFIERS
from random_blocks import randomize
from sklearn.datasets import load_sample_images
from torch import nn

import las_mm
from las_mm.inference import make_static, measure_backbone
from las_mm.inference.stage import InferenceStage
from las_mm.models.resnet_torch import TorchLASResNet


@pytest.fixture(scope='module')
def photos():
    """Two real photographs, (2, 3, 427, 640), normalised."""
    images = torch.stack([torch.tensor(image) for image in load_sample_images().images])
    return (images.permute(0, 3, 1, 2).float() - 120) / 60


def backbone(depth=50, granularity='4-4-2-1'):
    """With random decisions: maskers of random sign and norms that keep features in range."""
    torch.manual_seed(depth)
    net = TorchLASResNet(depth, granularity)
    for block in net.blocks:
        with torch.no_grad():
            block.masker.conv.weight.normal_()
            block.masker.conv.bias.zero_()
    return net.eval()


def assert_close(outs, expected, bound=1e-5):
    for out, dense in zip(outs, expected, strict=True):
        assert (out - dense).abs().max() <= bound * dense.abs().max()


@pytest.mark.parametrize('depth, granularity', [(50, '4-4-2-1'), (101, '4-4-7-1')])
@torch.no_grad()
def test_whole_networks_on_photographs(depth, granularity, photos):
    net, x = backbone(depth, granularity), photos[:, :, :219, :301]
    dense = net(x)
    masks = [trace.mask for trace in net.traces]
    assert 0.2 < torch.stack([mask.mean() for mask in masks]).mean() < 0.8
    for executor in ('cpu', 'torch'):
        outs = las_mm.optimize_for_inference(net, executor)(x)
        assert_close(outs, dense)
        for trace, mask in zip(net.traces, masks, strict=True):
            assert torch.equal(trace.mask, mask), trace.name


@torch.no_grad()
def test_nobody_elses_tensor_is_overwritten(photos):
    net, x = las_mm.optimize_for_inference(backbone()), photos[:1, :, :96, :128]
    kept = x.clone()
    outs = net(x)
    assert torch.equal(x, kept)
    snapshots = [out.clone() for out in outs]
    second = net(x.flip(-1))
    assert all(map(torch.equal, outs, snapshots)), 'outputs survive the next forward'
    features = [out.clone() for out in second]
    for stage, feature in zip(('layer2', 'layer3', 'layer4'), features, strict=False):
        before = feature.clone()
        getattr(net, stage)(feature)
        assert torch.equal(feature, before), 'a stage leaves its input alone'
    block = net.layer1[1]
    before = features[0].clone()
    block(features[0])
    assert torch.equal(features[0], before), 'so does a block that is called alone'


@torch.no_grad()
def test_hooks_see_what_they_keep(photos):
    net, x = backbone(), photos[:1, :, :96, :128]
    seen, dense_seen = [], []

    def watch(kept):
        def hook(module, args, out):
            kept.append((args[0], args[0].clone(), out, out.clone()))

        return [block.register_forward_hook(hook) for block in net.layer1]

    handles = watch(dense_seen)
    net(x)
    for handle in handles:
        handle.remove()
    las_mm.optimize_for_inference(net)
    watch(seen)
    net(x)
    for (given, given_then, out, out_then), (_, _, _, dense) in zip(seen, dense_seen, strict=True):
        assert torch.equal(given, given_then) and torch.equal(out, out_then)
        assert_close([out], [dense])


@torch.no_grad()
def test_state_dict_and_restoring(photos):
    net, x = backbone(), photos[:1, :, :64, :64]
    names, modules = list(net.state_dict()), [type(part) for part in net.modules()]
    dense = net(x)
    las_mm.optimize_for_inference(las_mm.optimize_for_inference(net))  # twice is once
    assert isinstance(net.layer1, InferenceStage) and list(net.state_dict()) == names
    assert net.executor == 'auto'
    las_mm.restore_after_inference(net)
    assert [type(part) for part in net.modules()] == modules and net.executor == 'dense'
    assert all(map(torch.equal, net(x), dense))


@torch.no_grad()
def test_loading_other_weights_is_noticed(photos):
    net, other, x = backbone(50), randomize(backbone(50), seed=5), photos[:1, :, :64, :64]
    las_mm.optimize_for_inference(net)(x)
    net.load_state_dict(other.state_dict())
    assert_close(net(x), other(x))


@torch.no_grad()
def test_copies_and_pickles(photos):
    net, x = las_mm.optimize_for_inference(backbone()), photos[:1, :, :64, :64]
    expected = net(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(map(torch.equal, twin(x), expected))
        twin.conv1.weight.neg_()
        assert not torch.equal(twin(x)[0], expected[0])
        assert all(map(torch.equal, net(x), expected))
        las_mm.restore_after_inference(twin)


def test_training_goes_on(photos):
    plain, x = backbone(18, '4-4-2-1').train(), photos[:2, :, :64, :64]
    for block in plain.blocks:
        block.masker.noise = False
    optimized = las_mm.optimize_for_inference(copy.deepcopy(plain)).train()
    for net in (plain, optimized):
        sum(out.sum() for out in net(x)).backward()
    grads = {name: p.grad for name, p in plain.named_parameters() if not name.startswith('fc')}
    for name, parameter in optimized.named_parameters():
        assert name not in grads or torch.equal(parameter.grad, grads[name]), name
    assert torch.equal(plain.bn1.running_mean, optimized.bn1.running_mean)


DETECTOR = dict(
    type='RetinaNet',
    backbone=dict(type='LASResNet', depth=50, base_channels=8, granularity='4-4-2-1'),
    neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=16, num_outs=5),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
    test_cfg=dict(
        nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5)
    ),
)
CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='LASResNet', depth=50, granularity='4-4-2-1', base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=4, in_channels=256),
)


@pytest.mark.parametrize('registry, config', [(DETECTORS, DETECTOR), (CLASSIFIERS, CLASSIFIER)])
@torch.no_grad()
def test_detectors_and_classifiers(registry, config, photos):
    model = randomize(registry.build(config))
    x = photos[:, :, :128, :160]
    dense = nested(model(x, mode='tensor'))
    las_mm.optimize_for_inference(model)
    assert model.backbone.executor == 'auto'
    assert_close(nested(model(x, mode='tensor')), dense, bound=1e-4)
    assert nn.BatchNorm2d not in {type(part) for part in model.backbone.children()}


def nested(outs):
    """All tensors of nested tuples, in order."""
    return [outs] if isinstance(outs, torch.Tensor) else [t for out in outs for t in nested(out)]


@torch.no_grad()
def test_static_network(photos):
    net, x = backbone(18, '4-4-2-1'), photos[:1, :, :64, :64]
    static = make_static(net)
    assert all(block.is_dynamic for block in net.blocks), 'the network itself stays dynamic'
    expected = static(x)
    assert_close(las_mm.optimize_for_inference(static)(x), expected)


def test_measured_latencies(photos):
    net = backbone(18, '4-4-2-1')
    static, dynamic = measure_backbone(net, photos[:1, :, :64, :64], rounds=2)
    assert static > 0 and dynamic > 0
    assert net.executor == 'dense' and not isinstance(net.layer1, InferenceStage)
    with pytest.raises(ValueError, match='rounds: got 0; give at least 1'):
        measure_backbone(net, photos[:1], rounds=0)


def test_unknown_executor_changes_nothing():
    net = backbone(18, '4-4-2-1')
    with pytest.raises(ValueError, match="executor: got 'cuda'"):
        las_mm.optimize_for_inference(net, 'cuda')
    assert not isinstance(net.layer1, InferenceStage)
