"""All tools take configs in all styles, with all options of a test, or say in one line why not."""

import json
import logging
import pickle
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from styles import write_styles

import las_mm  # noqa: F401
from las_mm.cli import run_cli

STYLES = [
    *('detector', 'detector without scope', "a user's own classes"),
    *("a user's own classes without scope", 'inherited, partly deleted'),
    *('classifier', 'classifier without scope', 'pure Python', 'pure Python with a scope'),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('configs')
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope='module')
def configs(folder, demo_coco, demo_classes) -> dict[str, Path]:
    """A config and a checkpoint of random weights beside it in every style."""
    files = write_styles(folder, demo_coco, demo_classes)
    for path in files.values():
        DefaultScope._instance_dict.clear()
        cfg = Config.fromfile(path)
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        torch.save(dict(state_dict=model.state_dict(), meta={}), path.with_suffix('.pth'))
    return files


@pytest.fixture
def run(load_tool, monkeypatch, tmp_path, capsys):
    """A function that runs a tool from another folder, which must succeed."""

    def run(tool: str, *argv) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(logging, 'raiseExceptions', False)
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, argv)])
        DefaultScope._instance_dict.clear()
        try:
            run_cli(load_tool(tool).main)
        except SystemExit:
            raise AssertionError(capsys.readouterr().err.strip().splitlines()[-1]) from None
        finally:
            torch.set_flush_denormal(False)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize('style', STYLES)
def test_a_test_takes_all_its_options(configs, run, tmp_path, style):
    path = configs[style]
    argv = [path, path.with_suffix('.pth'), '--work-dir', tmp_path / 'w']
    run('test', *argv, '--executor', 'torch', '--out', 'a.pkl', '--show-dir', 'painted')
    assert len(pickle.loads(Path('a.pkl').read_bytes())) == (20 if style[:5] == 'class' else 4)
    assert len(list((tmp_path / 'w').rglob('painted/**/*.*'))) > 0
    report = json.loads((tmp_path / 'w' / 'latency_report.json').read_text())
    assert report['run']['executor'] == 'torch'
    assert [row['device'] for row in report['devices']] == ['tx2']
    options = ['--cfg-options', 'test_dataloader.batch_size=1']
    run('test', *argv, '--tta', '--out', 'b.pkl', '--devices', 'v100', *options)
    report = json.loads((tmp_path / 'w' / 'latency_report.json').read_text())
    assert [row['device'] for row in report['devices']] == ['v100']
    assert report['run']['executor'] == 'dense'
    assert len(pickle.loads(Path('b.pkl').read_bytes())) == len(
        pickle.loads(Path('a.pkl').read_bytes())
    )


@pytest.mark.parametrize('style', STYLES)
def test_masks_are_drawn_reported_and_searched_for(configs, run, tmp_path, style):
    path = configs[style]
    checkpoint = path.with_suffix('.pth')
    dataset = Config.fromfile(path).test_dataloader.dataset
    images = sorted((Path(dataset.data_root) / 'val').rglob('*.jpg'))[:1]
    run('visualize_masks', path, checkpoint, *images, '--out', 'masks.png')
    assert Path('masks.png').stat().st_size > 10_000
    run('test', path, checkpoint, '--work-dir', 'w')
    run('report', path, '--work-dir', 'w', '--limit', 2)
    assert Path('w/report.html').stat().st_size > 10_000
    written = tmp_path / 'deeper' / 'chosen.py'
    written.parent.mkdir()
    run('search_granularity', path, '--device', 'tx2', '--choose', '2-1-2-1', '--write', written)
    assert Config.fromfile(written).model.backbone.granularity == '2-1-2-1'
    run('test', written, checkpoint, '--work-dir', 'w2')
    tested = json.loads(Path('w2/latency_report.json').read_text())
    assert tested['granularity'] == '2-1-2-1'
