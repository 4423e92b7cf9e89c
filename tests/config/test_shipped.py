"""Configs are found by path, and by name among those that las_mm ships."""

import pytest
from mmengine.config import Config

import las_mm
from las_mm.hooks.distillation import _model_config

NAME = 'las_r50_4-4-2-1_t-0.5_imagenet'


@pytest.mark.parametrize('written', [NAME, f'{NAME}.py', f'configs/{NAME}.py'])
def test_a_shipped_config_is_found_from_any_folder(written, repo_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert las_mm.find_config(written) == repo_root / 'configs' / f'{NAME}.py'


def test_a_file_comes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f'{NAME}.py').write_text('mine = True')
    assert Config.fromfile(las_mm.find_config(f'{NAME}.py')).mine


@pytest.mark.parametrize('written', [f'elsewhere/{NAME}.py', '_base_/imagenet.py', 'las_r51.py'])
def test_what_is_not_there_is_named(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f'teacher: no file .*{written}'):
        las_mm.find_config(written, field='teacher')


def test_the_nearest_name_is_suggested():
    with pytest.raises(FileNotFoundError, match='did you mean r50_imagenet'):
        las_mm.find_config('r50_imagnet')


def test_a_wheel_has_them_beside_the_package(tmp_path, monkeypatch):
    folder = tmp_path / '.mim' / 'configs'
    folder.mkdir(parents=True)
    (folder / 'one.py').write_text('')
    monkeypatch.setattr('las_mm.config.shipped.FOLDERS', (folder, tmp_path / 'configs'))
    assert las_mm.find_config('one') == folder / 'one.py'


def test_teachers_of_the_configs_are_found_from_any_folder(repo_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hooks = Config.fromfile(repo_root / 'configs' / f'{NAME}.py').custom_hooks
    (teacher,) = (hook.teacher for hook in hooks if hook.type == 'DistillationHook')
    assert _model_config(teacher).backbone.depth == 50
