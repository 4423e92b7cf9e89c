"""All tools take configs in all styles, with all options of a test, or say in one line why not."""

import json
import logging
import pickle
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.visualization import Visualizer
from styles import write_styles

import las_mm  # noqa: F401
from las_mm.cli import run_cli
from las_mm.reports.prediction import Predictor

HARDEST = [
    *("a user's own classes without scope", 'inherited, partly deleted'),
    *('classifier without scope', 'pure Python'),
]
STYLES = ['detector without scope', 'classifier', 'pure Python with a scope', *HARDEST]


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
        preprocessor = {'data_preprocessor': cfg.get('data_preprocessor')}
        model = MODELS.build({**preprocessor, **cfg.model})
        torch.save(dict(state_dict=model.state_dict(), meta={}), path.with_suffix('.pth'))
    return files


@pytest.fixture
def run(repo_root, monkeypatch, tmp_path, capsys):
    """A function that runs a tool from another folder, which must succeed."""

    def run(tool: str, *argv) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(logging, 'raiseExceptions', False)
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, argv)])
        # As in a process of its own.
        DefaultScope._instance_dict.clear()
        Visualizer._instance_dict.clear()
        try:
            run_cli(runpy.run_path(str(repo_root / 'tools' / f'{tool}.py'))['main'])
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
    assert len(pickle.loads(Path('a.pkl').read_bytes())) == (
        10 if style.startswith('classifier') else 4
    )
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


@pytest.mark.parametrize('style', HARDEST)
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


def test_pictures_are_of_what_a_test_computes(configs, run, tmp_path):
    """The images are normalized as by the runner, wherever the config says how."""
    path = configs['classifier']
    checkpoint = path.with_suffix('.pth')
    run('test', path, checkpoint, '--work-dir', 'w', '--out', 'a.pkl')
    tested = {
        Path(sample['img_path']): sample['pred_score']
        for sample in pickle.loads(Path('a.pkl').read_bytes())
    }
    predictor = Predictor(Config.fromfile(path), str(checkpoint))
    for image in list(tested)[:3]:
        torch.testing.assert_close(predictor(image).sample.pred_score, tested[image])


BROKEN = {
    'no Python': ('x = [', "config: 'CONFIG' cannot be read (SyntaxError"),
    'an unknown base': ("_base_ = 'gone.py'", "config: 'CONFIG' cannot be read (FileNotFoundError"),
    'an error of its own': ('x = 1 / 0', "config: 'CONFIG' cannot be read (ZeroDivisionError"),
    'a module that is not there': (
        "custom_imports = dict(imports=['nowhere.parts'])",
        "config: 'CONFIG' cannot be read (ImportError",
    ),
    'no model': ('x = 1', 'model: got None; the config must have one'),
    'no class of that name': ("model = dict(type='Unheard')\n", 'Unheard'),
}


@pytest.mark.parametrize('tool', ['train', 'test', 'visualize_masks', 'search_granularity'])
@pytest.mark.parametrize(('text', 'message'), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_with_a_config_is_one_line(fail, tmp_path, tool, text, message):
    path = tmp_path / 'broken.py'
    rest = 'train_cfg = dict(max_epochs=1)\noptim_wrapper = dict()\n'
    rest += "test_cfg = dict()\ntest_evaluator = dict(type='A')\n"
    rest += ''.join(f'{s}_dataloader = dict(dataset=dict(type="A"))\n' for s in ('train', 'test'))
    path.write_text(f'{text}\n{rest}' if message == 'Unheard' else text)
    (tmp_path / 'a.pth').write_bytes(b'')
    argv = dict(test=[tmp_path / 'a.pth'], visualize_masks=[tmp_path / 'a.pth', 'a.jpg'])
    options = ['--input-size', 64, 64] if tool == 'search_granularity' else []
    line = fail(tool, path, *argv.get(tool, ()), *options)
    if tool == 'search_granularity' and message == 'Unheard':
        message = 'model: the config has no backbone in it'
    assert message.replace('CONFIG', str(path)) in line


def test_errors_that_no_check_foresaw_are_one_line_that_says_where_to_look(capsys, monkeypatch):
    class OtherError(Exception):
        """Of another library."""

    def broken() -> None:
        raise OtherError('not\nlike this')

    monkeypatch.setattr(sys, 'argv', ['tools/test.py'])
    with pytest.raises(SystemExit) as stop:
        run_cli(broken)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count('\n') == 1
    assert said.startswith('test.py: error: OtherError: not like this; where it arose is in ')
    kept = Path(said.split(' is in ')[1].strip())
    assert 'in broken' in kept.read_text()
    kept.unlink()


@pytest.mark.parametrize('option', ['test_dataloader.dataset.pipeline.9.x=1', 'model.type.x=1'])
def test_options_that_have_no_place_are_one_line(fail, configs, option):
    path = configs['detector']
    line = fail('test', path, path.with_suffix('.pth'), '--cfg-options', option)
    assert line.startswith('--cfg-options: got ')
