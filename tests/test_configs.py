"""Every config builds a model that learns: one forward and one backward at a small size."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from las_mm.models.backbone import DynamicBackbone

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(path.name for path in (ROOT / 'configs').glob('*.py'))


def inputs_and_samples(cfg, size=112):
    """Two small images with what the model needs to compute its losses."""
    if cfg.default_scope == 'mmpretrain':
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(label) for label in (0, 1)]
        return torch.rand(2, 3, size, size), samples
    from mmdet.testing import demo_mm_inputs

    shapes = [(3, size, size), (3, size, size // 2)]
    packed = demo_mm_inputs(2, shapes, num_items=[1, 2], num_classes=10, with_mask=True)
    return packed['inputs'], packed['data_samples']


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds_and_learns(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = Config.fromfile(f'configs/{name}')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).train()
    images, samples = inputs_and_samples(cfg)
    data = model.data_preprocessor({'inputs': images, 'data_samples': samples}, training=True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    if '_las_' in name or name.startswith('las_'):
        assert isinstance(model.backbone, DynamicBackbone)
        traces = model.backbone.traces
        assert '-'.join(str(t.granularity) for t in traces if t.name.endswith('.0')) in name
