"""What every test relies on: one thread, repeatable examples, tools as modules, tiny real data."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')  # before numpy or torch read it

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# A first example may import torch or compile a kernel: time says nothing about correctness here.
hypothesis.settings.register_profile('las_mm', deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile('las_mm')


@pytest.fixture(autouse=True)
def no_default_scope() -> None:
    """A runner's default scope outlives it; a test must not depend on that of another."""
    if find_spec('mmengine'):
        from mmengine.registry import DefaultScope

        DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """The checkout that the tests run in."""
    return ROOT


@pytest.fixture(scope='session')
def load_tool():
    """A function that imports a tool, wherever below ``tools``; its own imports work, too."""

    def load(name: str) -> ModuleType:
        key = f'las_mm_tools_{name}'
        if key not in sys.modules:
            [path] = (ROOT / 'tools').rglob(f'{name}.py')
            spec = importlib.util.spec_from_file_location(key, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[key] = module
            spec.loader.exec_module(module)
        return sys.modules[key]

    # At the end: tools/test.py must not hide the standard library's test package.
    folders = [ROOT / 'tools' / part for part in ('', 'benchmarks', 'predictor', 'misc')]
    sys.path.extend(map(str, folders))
    yield load
    for folder in folders:
        sys.path.remove(str(folder))


@pytest.fixture
def fail(load_tool, monkeypatch, capsys):
    """A function that runs a tool that must fail with exit code 2; returns what it says."""

    def fail(tool: str, *argv, lines: int = 1) -> str:
        from las_mm.cli import run_cli

        monkeypatch.chdir(ROOT)
        monkeypatch.delenv('LAS_MM_DEBUG', raising=False)
        # Handlers of earlier runs in this process write to streams that pytest has closed.
        monkeypatch.setattr(logging, 'raiseExceptions', False)
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, argv)])
        with pytest.raises(SystemExit) as stop, no_flushing():
            run_cli(load_tool(tool).main)
        assert stop.value.code == 2
        printed = capsys.readouterr()
        assert 'Traceback' not in printed.out + printed.err
        before, mark, message = printed.err.partition(f'{tool}.py: error: ')
        assert mark
        assert before == '' or before.endswith('\n')
        assert message.endswith('\n')
        assert message.count('\n') == lines
        return message.rstrip('\n')

    return fail


@pytest.fixture
def run_tool(load_tool, monkeypatch):
    """A function that runs a tool that must succeed."""

    def run(tool: str, *argv) -> None:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(logging, 'raiseExceptions', False)
        monkeypatch.setattr(sys, 'argv', [f'tools/{tool}.py', *map(str, argv)])
        with no_flushing():
            load_tool(tool).main()

    return run


@contextmanager
def no_flushing() -> Iterator[None]:
    """Undo what a tool sets for its whole process on a CPU: denormal numbers count as zero."""
    import torch

    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@pytest.fixture(scope='session')
def demo_coco(load_tool, tmp_path_factory) -> Path:
    """A tiny COCO-format demo set, 8 + 4 images of 128x128, laid out as ``data/demo``."""
    out = tmp_path_factory.mktemp('data') / 'demo'
    argv = ['--out', str(out), '--train', '8', '--val', '4', '--size', '128']
    assert load_tool('make_demo_dataset').main(argv) == 0
    return out


@pytest.fixture(scope='session')
def demo_classes(load_tool, tmp_path_factory) -> Path:
    """A tiny class-folder demo set, 20 + 10 images of 64x64, laid out as ``data/demo_cls``."""
    out = tmp_path_factory.mktemp('data') / 'demo_cls'
    argv = ['--task', 'classification', '--out', str(out)]
    argv += ['--train', '20', '--val', '10', '--size', '64']
    assert load_tool('make_demo_dataset').main(argv) == 0
    return out
