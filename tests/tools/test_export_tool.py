"""tools/export.py: what is exported of which model, and what is refused."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CONFIG = """
custom_imports = dict(imports=['las_mm'])
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='LASResNet', depth=18, base_channels=16, granularity='4-4-2-1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=128),
)
"""


@pytest.fixture
def trained(tmp_path):
    """Paths of a config and of weights that skip about half."""
    config, checkpoint = tmp_path / 'config.py', tmp_path / 'weights.pth'
    config.write_text(CONFIG)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    for block in model.backbone.blocks:
        torch.nn.init.normal_(block.masker.conv.weight)
        torch.nn.init.zeros_(block.masker.conv.bias)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return config, checkpoint, model


def export(load_tool, monkeypatch, *argv):
    tool = load_tool('export')
    monkeypatch.setattr('sys.argv', ['export.py', *map(str, argv)])
    tool.main()
    return tool


@torch.no_grad()
def test_a_package_of_a_classifier_has_its_scores_and_masks(
    load_tool, monkeypatch, trained, tmp_path, capsys
):
    config, checkpoint, model = trained
    out = tmp_path / 'made' / 'network.pt2'
    argv = (config, checkpoint, '--format', 'aoti', '--size', 64, 96, '--with-masks', '--out', out)
    tool = export(load_tool, monkeypatch, *argv)
    assert 'outputs differ by' in capsys.readouterr().out
    assert (out.parent / tool.LIBRARY).is_file()
    model.train(False)
    images = torch.randn(1, 3, 75, 50)
    scores, *masks = torch._inductor.aoti_load_package(str(out))(images)
    torch.testing.assert_close(scores, model(images), rtol=1e-4, atol=1e-5)
    wanted = [trace.mask for trace in model.backbone.traces]
    assert len(masks) == 8 and 0 < sum(float(mask.mean()) for mask in masks) < 8
    assert all(torch.equal(a, b) for a, b in zip(masks, wanted, strict=True))


@torch.no_grad()
def test_an_onnx_file_has_the_same_masks(load_tool, monkeypatch, trained, tmp_path):
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package, reason=f'{package} is missing; ONNX files need it')
    import onnxruntime

    config, checkpoint, model = trained
    out = tmp_path / 'network.onnx'
    argv = (config, checkpoint, '--format', 'onnx', '--size', 64, 96, '--with-masks', '--out', out)
    export(load_tool, monkeypatch, *argv)
    session = onnxruntime.InferenceSession(str(out))
    model.train(False)
    for height, width in ((64, 96), (75, 50)):
        images = torch.randn(1, 3, height, width)
        scores, *masks = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.tensor(scores), model(images), rtol=1e-4, atol=1e-5)
        for mask, trace in zip(masks, model.backbone.traces, strict=True):
            assert torch.equal(torch.tensor(mask), trace.mask)


@pytest.mark.parametrize(
    'argv, line',
    [
        (['--size', '0', '9'], '--size: got 0; it must be >= 1'),
        (['--batch', '0'], '--batch: got 0; it must be >= 1'),
        (['--out', 'a.onnx'], "--out: got 'a.onnx'; --format aoti ends in .pt2"),
    ],
)
def test_mistakes_are_one_line(load_tool, monkeypatch, argv, line):
    with pytest.raises(ValueError) as error:
        export(load_tool, monkeypatch, 'c.py', 'w.pth', '--format', 'aoti', *argv)
    assert str(error.value) == line


def test_a_missing_package_is_named(load_tool, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='onnx needs onnx and onnxscript; install them'):
        export(load_tool, monkeypatch, 'c.py', 'w.pth', '--format', 'onnx')
