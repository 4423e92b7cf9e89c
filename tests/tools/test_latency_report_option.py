"""tools/test.py makes sure that latency is reported, and that it is reported once."""

import pytest
from mmdet.registry import HOOKS as DETECTION_HOOKS
from mmengine.config import Config
from mmengine.registry import HOOKS

from las_mm.hooks import LatencyReportHook


@HOOKS.register_module()
class OwnReport(LatencyReportHook):
    """A user's, registered where ours is."""


@DETECTION_HOOKS.register_module()
class DetectionReport(LatencyReportHook):
    """A user's, registered with mmdet."""


@pytest.mark.parametrize(
    'kind',
    ['LatencyReportHook', 'mmengine.OwnReport', 'OwnReport', 'DetectionReport', OwnReport],
)
def test_a_report_that_is_there_is_changed_and_none_added(load_tool, kind):
    cfg = Config(dict(default_scope='mmdet', custom_hooks=[dict(type='SafeCheckpointHook')]))
    cfg.custom_hooks.append(dict(type=kind))
    load_tool('test').set_latency_report(cfg, 'v100, tx2', True)
    assert len(cfg.custom_hooks) == 2
    assert cfg.custom_hooks[1].devices == ['v100', 'tx2'] and cfg.custom_hooks[1].measure


def test_where_none_is_one_is_added_and_an_object_stays(load_tool):
    tool, cfg = load_tool('test'), Config(dict(default_scope='mmdet'))
    tool.set_latency_report(cfg, None, False)
    assert [hook.type for hook in cfg.custom_hooks] == ['LatencyReportHook']
    hooks = [OwnReport(devices=['v100'])]
    cfg = Config(dict(default_scope='mmdet', custom_hooks=hooks))
    tool.set_latency_report(cfg, None, False)
    assert len(cfg.custom_hooks) == 1
    with pytest.raises(ValueError, match='--devices, --measure: .* OwnReport .*made already'):
        tool.set_latency_report(cfg, 'tx2', False)
