"""The wheel holds both packages, their data files, and the configs where OpenMIM looks."""

import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement

from las_mm.ops.native.build import build_key, load_native

PARTS = ('las_mm', 'latency_predictor', 'configs', 'tools')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml')


@pytest.fixture(scope='module')
def wheel(repo_root, tmp_path_factory):
    """The wheel built from a copy of the checkout, without a network."""
    folder = tmp_path_factory.mktemp('path with é 中文')
    for name in PARTS:
        if (repo_root / name).is_dir():
            shutil.copytree(repo_root / name, folder / 'source' / name)
    for name in FILES:
        if (repo_root / name).is_file():
            shutil.copy(repo_root / name, folder / 'source')
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-build-isolation', '--no-deps']
    command += ['--no-index', '-q', '-w', str(folder), str(folder / 'source')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(next(folder.glob('*.whl'))) as archive:
        return {name: archive.read(name).decode(errors='replace') for name in archive.namelist()}


def test_every_source_and_data_file_is_inside(wheel, repo_root):
    suffixes = {'.py', '.cpp', '.h', '.yaml', '.yml', '.typed'}
    for package in ('las_mm', 'latency_predictor'):
        for path in (repo_root / package).rglob('*'):
            if path.suffix in suffixes or path.name == 'py.typed':
                assert str(path.relative_to(repo_root)) in wheel


def test_the_compiled_extension_of_these_sources_is_inside(wheel):
    native, why_not = load_native()
    if native is None:
        pytest.skip(why_not)
    (library,) = (text for name, text in wheel.items() if name.endswith('.so'))
    assert build_key() in library


def test_configs_and_tools_are_where_mim_looks(wheel, repo_root):
    for folder in ('configs', 'tools'):
        for path in (repo_root / folder).rglob('*.py'):
            inside = f'las_mm/.mim/{path.relative_to(repo_root)}' in wheel
            # What develops las_mm is not for its users.
            own = path.relative_to(repo_root).parts[1] in ('benchmarks', 'predictor', 'misc')
            assert inside != own, path
    assert not [name for name in wheel if '__pycache__' in name]


def test_version_and_python_are_those_of_the_sources(wheel, repo_root):
    scope: dict = {}
    exec((repo_root / 'las_mm' / 'version.py').read_text(), scope)
    metadata = wheel[f'las_mm-{scope["__version__"]}.dist-info/METADATA']
    assert f'\nVersion: {scope["__version__"]}\n' in metadata
    assert '\nRequires-Python: >=3.10\n' in metadata


@pytest.fixture(scope='module')
def needs(wheel):
    """What each extra of the wheel requires, '' being what every installation does."""
    metadata = next(text for name, text in wheel.items() if name.endswith('METADATA'))
    found: dict[str, dict[str, Requirement]] = {}
    for line in re.findall(r'^Requires-Dist: (.*)$', metadata, re.MULTILINE):
        requirement = Requirement(line)
        extra = re.search(r'extra == "(.*)"', str(requirement.marker))
        found.setdefault(extra[1] if extra else '', {})[requirement.name] = requirement
    return found


def test_nothing_that_installs_over_a_fork_is_required(needs):
    base, fork = {'mmengine', 'mmcv', 'setuptools'}, {'onedl-mmengine', 'onedl-mmcv'}
    assert {'torch', 'numpy'} <= set(needs['']) and not [name for name in needs[''] if 'mm' in name]
    assert set(needs['det']) == base | {'mmdet'}
    assert set(needs['pretrain']) == base | {'mmpretrain'}
    assert set(needs['openmmlab']) == base | {'mmdet', 'mmpretrain'} < set(needs['all'])
    assert set(needs['onedl-det']) == fork | {'onedl-mmdetection'}
    assert set(needs['onedl-pretrain']) == fork | {'onedl-mmpretrain'}
    assert set(needs['onedl']) == fork | {'onedl-mmdetection', 'onedl-mmpretrain'}
    assert not fork & set(needs['all'])


@pytest.mark.parametrize('stack', ['openmmlab', 'onedl'])
def test_extras_fit_the_versions_that_are_tested(needs, repo_root, stack):
    lines = (repo_root / 'requirements' / f'{stack}.txt').read_text().splitlines()
    tested = dict(line.split('==') for line in lines if '==' in line)
    assert {name for name in needs[stack] if 'mm' in name} == set(tested)
    for package, version in tested.items():
        assert version in needs[stack][package].specifier


def test_mim_finds_every_config_that_the_index_names(wheel):
    """What its download and search read: a config that is there, and a list of weights."""
    (imported,) = yaml.safe_load(wheel['las_mm/.mim/model-index.yml'])['Import']
    models = yaml.safe_load(wheel[f'las_mm/.mim/{imported}'])['Models']
    for model in models:
        assert f'las_mm/.mim/{model["Config"]}' in wheel
        assert isinstance(model['Weights'], list)
    assert len({model['Name'] for model in models}) == len(models)


def test_both_packages_are_typed(wheel):
    assert {'las_mm/py.typed', 'latency_predictor/py.typed'} <= set(wheel)


def test_tests_are_not_installed(wheel):
    assert not [name for name in wheel if name.startswith('tests/')]
