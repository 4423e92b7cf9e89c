"""What the documentation shows works: code runs, files and commands exist with their flags."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import HOOKS
from random_blocks import randomize

from las_mm.models.resnet_torch import TorchLASResNet
from latency_predictor import LatencyModel, resnet
from latency_predictor.cli import main as predictor

ROOT = Path(__file__).resolve().parents[2]
PAGES = ['README.md', 'CONTRIBUTING.md', 'latency_predictor/README.md']
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'docs').glob('*.md'))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding='utf-8')


def blocks(*languages: str) -> list:
    """(page, content) of every fenced block of these languages."""
    found = []
    for page in PAGES:
        fenced = re.findall(r'^```(\w*)\n(.*?)^```', text_of(page), re.DOTALL | re.MULTILINE)
        of_page = [content for language, content in fenced if language in languages]
        found += [pytest.param(page, c, id=f'{page}-{n}') for n, c in enumerate(of_page)]
    return found


def test_the_pages_have_code():
    assert len(blocks('python')) >= 8 and len(blocks('bash')) >= 8


@pytest.fixture
def model() -> TorchLASResNet:
    """What fragments call their model, backbone or images."""
    torch.manual_seed(0)
    return randomize(TorchLASResNet(18, '2-2-2-1'))


@pytest.mark.parametrize(('page', 'code'), blocks('python'))
def test_code_runs(page, code, model, monkeypatch):
    if 'custom_hooks' in code:
        cfg = Config.fromstring(code, '.py')
        wanted = 'LASVisionTransformer' if page == 'docs/transformers.md' else 'LASResNet'
        assert cfg.model.backbone.type == wanted
        assert all(HOOKS.get(hook.type) for hook in cfg.custom_hooks)
        return
    if 'GraphedBackbone' in code:
        monkeypatch.setattr(model, 'cuda', lambda: model)  # runs as the dense executor does
    if page == 'docs/gpu.md':
        pytest.importorskip('triton', reason='Triton is not installed')
    torch.manual_seed(0)
    exec(code, dict(__name__='docs', model=model, backbone=model, images=torch.rand(1, 3, 64, 64)))


def test_examples_of_new_backbones_are_short_and_skip(capsys):
    whole, own = (param.values[1] for param in blocks('python') if 'new_backbone' in param.id)
    assert len([line for line in whole.splitlines() if line.strip()]) <= 40
    torch.manual_seed(0)
    exec(own, {})
    macs, _, rates = capsys.readouterr().out.partition(' ')
    assert int(macs) > 0
    rates = [float(rate) for rate in rates.strip('[] \n').split(',')]
    assert len(rates) == 4 and 0 < sum(rates) < 4


@pytest.mark.parametrize(('page', 'content'), blocks('yaml'))
def test_device_files_are_read(page, content, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(content)
    assert yaml.safe_load(content).keys() == {'mine'}
    assert LatencyModel(str(path)).network(resnet(18, (64, 64), '2-2-2-1'), 0.5).ratio > 0


def commands() -> list[list[str]]:
    """The words of every command in the pages, without comments."""
    found = []
    for param in blocks('bash', ''):
        for line in param.values[1].splitlines():
            found.append(shlex.split(line, comments=True))
    inline = [code for page in PAGES for code in re.findall(r'`([^`\n]+)`', text_of(page))]
    return [*found, *(code.split() for code in inline)]


def test_tools_are_there_and_take_the_flags_that_pages_give_them():
    seen = set()
    for words in commands():
        words = [word for word in words if word not in ('python', '.venv/bin/python')]
        if not words or not re.fullmatch(r'tools/[\w/]+\.(py|sh)', words[0]):
            continue
        path = ROOT / words[0]
        assert path.is_file(), words
        seen.add(path.name)
        parts = [path, ROOT / 'las_mm' / 'cli.py', path.with_name('benchmark_cuda.py')]
        source = ''.join(part.read_text() for part in parts if part.is_file())
        for flag in (word.partition('=')[0] for word in words if word.startswith('--')):
            assert f"'{flag}'" in source, f'{words[0]} has no {flag}'
    assert len(seen) >= 10


def test_make_has_the_targets_that_pages_name():
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    named = {words[1] for words in commands() if words[:1] == ['make'] and len(words) > 1}
    assert {'demo', 'test', 'docs', 'setup'} <= named <= set(targets)


def test_the_predictor_has_the_commands_and_flags_that_pages_give_it(capsys):
    checked = 0
    for words in commands():
        if words[:3] != ['python', '-m', 'latency_predictor'] or len(words) < 4:
            continue
        if not words[3].startswith('-'):
            with pytest.raises(SystemExit) as stop:
                predictor([words[3], '--help'])
            assert stop.value.code == 0, words
            printed = capsys.readouterr().out
            assert not [w for w in words[4:] if w.startswith('--') and w not in printed], words
            checked += 1
    assert checked >= 8


# What stands for a name of one's own, and what only an installed package has.
NO_FILES = ('las_mm/models/NAME_FRAMEWORK.py', 'las_mm/.mim')
FOLDERS = 'las_mm|latency_predictor|tools|configs|tests|docs'


@pytest.mark.parametrize('page', PAGES)
def test_files_that_the_docs_name_exist(page):
    text = re.sub(r'^```.*?^```', '', text_of(page), flags=re.DOTALL | re.MULTILINE)
    for path in re.findall(rf'`((?:{FOLDERS})/[^`\s]*)`', text):
        assert path in NO_FILES or (ROOT / path).exists(), path
    for path in re.findall(r'\]\((?!https:|#)([^)#]+)[^)]*\)', text):
        assert (ROOT / page).parent.joinpath(path).exists(), path
