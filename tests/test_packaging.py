"""The wheel holds both packages, their data files, and the configs where OpenMIM looks."""

import shutil
import subprocess
import sys
import zipfile

import pytest

PARTS = ('las_mm', 'latency_predictor', 'configs', 'tools')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml')


@pytest.fixture(scope='module')
def wheel(repo_root, tmp_path_factory):
    """The wheel built from a copy of the checkout, without a network."""
    folder = tmp_path_factory.mktemp('build')
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


def test_configs_and_tools_are_where_mim_looks(wheel, repo_root):
    for folder in ('configs', 'tools'):
        for path in (repo_root / folder).rglob('*.py'):
            assert f'las_mm/.mim/{path.relative_to(repo_root)}' in wheel
    assert not [name for name in wheel if '__pycache__' in name]


def test_version_and_python_are_those_of_the_sources(wheel, repo_root):
    scope: dict = {}
    exec((repo_root / 'las_mm' / 'version.py').read_text(), scope)
    metadata = wheel[f'las_mm-{scope["__version__"]}.dist-info/METADATA']
    assert f'\nVersion: {scope["__version__"]}\n' in metadata
    assert '\nRequires-Python: >=3.10\n' in metadata


def test_tests_are_not_installed(wheel):
    assert not [name for name in wheel if name.startswith('tests/')]
