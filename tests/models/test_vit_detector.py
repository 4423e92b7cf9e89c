"""A plain vision transformer that skips tokens in mmdet's detectors, with a simple pyramid."""

from pathlib import Path

import pytest
import torch
from detectors import batch, build_model, instance, scope
from mmengine.config import Config
from vits import ARCH, undecide

from las_mm.inference import optimize_for_inference, restore_after_inference
from las_mm.models.feature_pyramid_mmdet import SimpleFeaturePyramid

CONFIG = 'mask_rcnn_laud_deit-s_tokens_t-0.6_coco.py'


@pytest.fixture
def detector():
    """The config's detector, narrow and of three layers."""
    torch.manual_seed(0)
    cfg = Config.fromfile(Path(__file__).parents[2] / 'configs' / CONFIG)
    model = instance()
    model.backbone = cfg.model.backbone
    model.backbone.update(arch=ARCH, img_size=64, init_cfg=None)
    model.neck = cfg.model.neck
    model.neck.update(in_channels=24, out_channels=16)
    with scope('detector'):
        return undecide(build_model(model))


def test_the_config_s_detector_learns_to_skip(detector):
    detector.train()
    losses = detector(**batch(detector, size=96), mode='loss')
    loss, _ = detector.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    maskers = [m for block in detector.backbone.blocks for m in block.maskers]
    assert len(maskers) == 3
    assert all(m.mlp_head.weight.grad.abs().sum() > 0 for m in maskers)
    levels = [level[-2].weight.grad for level in detector.neck.levels]
    assert all(grad.abs().sum() > 0 for grad in levels)


@pytest.mark.parametrize('size', [(96, 128), (64, 160)])
def test_optimized_inference_finds_the_same_in_images_of_any_size(detector, size):
    detector.eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        dense = detector.extract_feat(images)
        kept = torch.stack([trace.mask for trace in detector.backbone.traces])
        optimize_for_inference(detector)
        sparse = detector.extract_feat(images)
        assert detector.backbone.executor == 'auto'
        assert detector.backbone.blocks[1]._choose(images) is not None
        restore_after_inference(detector)
    assert 0 < kept.mean() < 1
    assert detector.backbone.traces[0].size == (size[0] // 16, size[1] // 16)
    for one, other in zip(dense, sparse, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    # Some token that one layer skipped is back in a later one.
    assert ((kept[:-1] == 0) & (kept[1:] == 1)).any()
    strides = [size[0] // level.shape[-2] for level in dense]
    assert strides[:4] == [4, 8, 16, 32]


def test_the_pyramid_is_checked():
    with pytest.raises(ValueError, match='in_channels: got 18; give a multiple of 4'):
        SimpleFeaturePyramid(18)
    with pytest.raises(ValueError, match='num_outs: got 3'):
        SimpleFeaturePyramid(24, num_outs=3)
    with torch.no_grad():
        assert len(SimpleFeaturePyramid(24, 8, num_outs=6)([torch.rand(1, 24, 8, 8)])) == 6
