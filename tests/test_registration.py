"""Importing las_mm is light, and registers everything in whichever order packages are imported."""

import subprocess
import sys
from importlib import import_module
from importlib.machinery import SourceFileLoader

import pytest

from las_mm.importing import is_half_imported, lazy_submodules, when_imported

# One process imports what takes long and is not ours, and forks for each case, which must fail by
# an exception. Nobody has imported las_mm, mmengine, mmcv, mmdet or mmpretrain before.
CODE = """
import os, sys, traceback
import cv2, torch, torchvision, torch._dynamo, matplotlib.figure, numpy

HOOKS = ('SparsityLossHook', 'DistillationHook', 'LatencyReportHook', 'GumbelTemperatureHook',
         'MaskVisualizationHook', 'OptimizeHook', 'SafeCheckpointHook', 'InvalidLossHook')
OURS = {
    'mmdet': ('LASResNet', 'LASRegNet', 'SERegNet', 'LASMobileNetV2'),
    'mmpretrain': ('LASResNet', 'LASRegNet', 'SERegNet', 'LASMobileNetV2', 'LASDenseNet',
                   'LASResNetCIFAR', 'ResNetCIFAR', 'LASVisionTransformer', 'LAST2T_ViT'),
}

def hide(*names):
    sys.modules.update(dict.fromkeys(names))

def loaded():
    return [n for n in ('mmengine', 'mmcv', 'mmdet', 'mmpretrain') if sys.modules.get(n)]

def check_backbones(framework):
    from importlib import import_module
    registry = import_module(f'{framework}.registry').MODELS
    for name in OURS[framework]:
        assert registry.get(name).__module__.startswith('las_mm.models.'), name

def check_hooks():
    from mmengine.registry import HOOKS as registry
    for name in HOOKS:
        assert registry.get(name).__module__.startswith('las_mm.hooks.'), name

def check_patches():
    import mmcv.transforms
    import mmengine.runner.checkpoint as checkpoint
    from mmengine.fileio.backends import backends
    load = mmcv.transforms.LoadImageFromFile.transform
    loader = checkpoint.CheckpointLoader._get_checkpoint_loader('some.pth')
    for ours in (load, loader, checkpoint.load_from_http, backends['local']):
        assert ours.__module__.startswith('las_mm.'), ours

def only_torch():
    hide('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'torchvision')
    import las_mm, las_mm.inference, las_mm.layers
    assert las_mm.executors.check_executor('auto') == 'auto'
    from las_mm.layers import DynamicBlock, Executor
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    assert las_mm.optimize_for_inference(model) is model
    try:
        las_mm.hooks
    except ModuleNotFoundError as error:
        assert 'mmengine' in str(error)
    else:
        raise AssertionError('hooks without mmengine')

def frameworks_when_asked_for():
    import las_mm, las_mm.inference, las_mm.layers
    assert not loaded(), loaded()
    parts = ['accounting', 'checkpoints', 'cli', 'config', 'data', 'executors', 'hooks',
             'inference', 'latency', 'layers', 'losses', 'models', 'ops', 'patches', 'reports']
    assert {*parts, *las_mm.__all__} <= set(dir(las_mm))
    assert las_mm.find_config('las_r50_4-4-2-1_demo').is_file()
    assert not loaded(), loaded()
    for name in parts:
        assert getattr(las_mm, name) is sys.modules[f'las_mm.{name}']
    assert {'DynamicBackbone', 'resnet_mmdet'} <= set(dir(las_mm.models))
    assert 'mmdet.models' not in sys.modules and 'mmpretrain.models' not in sys.modules
    assert las_mm.models.resnet_mmdet.LASResNet
    check_backbones('mmdet')
    check_hooks()

def las_mm_first():
    import las_mm
    from mmengine.registry import HOOKS as registry, MODELS
    assert registry.get('SparsityLossHook')
    assert 'mmdet' not in sys.modules
    assert MODELS.get('mmdet.LASResNet') is not MODELS.get('mmpretrain.LASResNet')
    check_hooks(), check_patches(), check_backbones('mmdet'), check_backbones('mmpretrain')

def las_mm_before_a_runner():
    import las_mm
    import mmengine.runner
    from mmengine.registry import HOOKS as registry
    assert set(HOOKS) <= set(registry.module_dict)
    check_patches()

def frameworks_first():
    import mmcv.transforms, mmdet.models, mmpretrain.models
    import las_mm
    from mmdet.registry import MODELS
    from mmpretrain.registry import MODELS as CLASSIFIERS
    from mmengine.registry import HOOKS as registry
    assert set(HOOKS) <= set(registry.module_dict)
    assert set(OURS['mmdet']) <= set(MODELS.module_dict)
    assert set(OURS['mmpretrain']) <= set(CLASSIFIERS.module_dict)
    check_patches()

def custom_imports_of_a_config():
    from mmengine.config import Config
    Config.fromfile('configs/las_r50_4-4-2-1_demo.py')
    from mmengine.registry import HOOKS as registry
    assert set(HOOKS) <= set(registry.module_dict)
    check_backbones('mmpretrain'), check_patches()

def a_backbone_first():
    from las_mm.models.resnet_mmpretrain import LASResLayer
    from mmpretrain.registry import MODELS
    assert set(OURS['mmpretrain']) <= set(MODELS.module_dict)
    import las_mm.hooks
    check_hooks()

def one_framework():
    hide('mmpretrain')
    from las_mm.hooks import SparsityLossHook
    check_hooks(), check_backbones('mmdet'), check_patches()

CASES = [only_torch, frameworks_when_asked_for, las_mm_first, las_mm_before_a_runner,
         frameworks_first, custom_imports_of_a_config, a_backbone_first, one_framework]
children = {}
for case in CASES:
    children[case.__name__] = pid = os.fork()
    if not pid:
        try:
            case()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
failed = [name for name, pid in children.items() if os.waitpid(pid, 0)[1]]
sys.exit(', '.join(failed) or 0)
"""


def test_all_orders_of_imports(repo_root):
    for framework in ('mmdet', 'mmpretrain'):
        pytest.importorskip(framework)
    command = [sys.executable, '-W', 'ignore', '-c', CODE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repo_root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``once_imported`` whose import fails as long as ``broken`` is in its folder."""
    folder = tmp_path / 'once_imported'
    folder.mkdir()
    folder.joinpath('__init__.py').write_text(
        'from pathlib import Path\nif Path(__file__).with_name("broken").exists():\n'
        '    raise RuntimeError("broken")\nfrom . import part\n'
    )
    folder.joinpath('part.py').write_text('value = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in ('once_imported', 'once_imported.part'):
        sys.modules.pop(name, None)


def test_waiting_for_a_module(package):
    seen = []
    when_imported('once_imported', lambda: seen.append('package'))
    when_imported('once_imported.part', lambda: seen.append(is_half_imported('once_imported')))
    package.joinpath('broken').touch()
    with pytest.raises(RuntimeError, match='broken'):
        import_module('once_imported')
    assert not seen and not is_half_imported('once_imported')
    package.joinpath('broken').unlink()
    module = import_module('once_imported')
    assert seen == [True, 'package']
    assert type(module.__spec__.loader) is type(module.__loader__) is SourceFileLoader
    when_imported('once_imported', lambda: seen.append('again'))
    assert seen == [True, 'package', 'again']


def test_what_fails_when_a_module_is_imported_fails_its_import(package):
    when_imported('once_imported', lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_module('once_imported')
    assert import_module('once_imported').part.value == 1


def test_submodules_are_imported_when_asked_for(package):
    import_module('once_imported.part')
    get, names = lazy_submodules('once_imported', [str(package)])
    assert get('part') is sys.modules['once_imported.part']
    assert {'part', '__file__'} <= set(names())
    with pytest.raises(AttributeError, match="module 'once_imported' has no attribute 'nothing'"):
        get('nothing')
