"""Optimized networks within torch.export, AOTInductor and torch.compile."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import las_mm
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.native.build import build_library
from las_mm.ops.native.compilation import OPERATORS
from las_mm.ops.native.operators import load_operators

missing = load_operators()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))

DYNAMIC = torch.export.Dim.DYNAMIC
SIZES = {'x': {0: DYNAMIC, 2: DYNAMIC, 3: DYNAMIC}}
IMAGES = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(3, 3, 131, 90, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(0)
    made = TorchLASResNet(18, '2-2-1-1').eval()
    for block in made.blocks:
        nn.init.normal_(block.masker.conv.weight)
        nn.init.zeros_(block.masker.conv.bias)
    return made


def difference(outs, wanted) -> float:
    pairs = zip(outs, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.fixture(scope='module')
def exported():
    with torch.no_grad():
        optimized = las_mm.optimize_for_inference(network(), 'cpu')
        return torch.export.export(optimized, (IMAGES,), dynamic_shapes=SIZES)


@torch.no_grad()
def test_an_export_calls_the_operators_at_any_size(exported):
    called = [str(node.target) for node in exported.graph.nodes if node.op == 'call_function']
    assert called.count('las_mm.stem.default') == 1 and called.count('las_mm.chain.default') == 4
    assert not any('conv' in name for name in called)
    for images in (IMAGES, OTHERS):
        assert difference(exported.module()(images), network()(images)) < 1e-5


@torch.no_grad()
def test_a_saved_package_runs_without_our_python(exported, tmp_path):
    path = str(tmp_path / 'net.pt2')
    torch._inductor.aoti_compile_and_package(exported, package_path=path)
    torch.save([OTHERS, *network()(OTHERS)], tmp_path / 'wanted.pt')
    code = (
        'import sys, torch\n'
        f'torch.ops.load_library({str(build_library(OPERATORS))!r})\n'
        f'net = torch._inductor.aoti_load_package({path!r})\n'
        f'images, *wanted = torch.load({str(tmp_path / "wanted.pt")!r})\n'
        'for out, want in zip(net(images), wanted, strict=True):\n'
        '    assert (out - want).abs().max() < 1e-5 * want.abs().max()\n'
        "assert not any(name.startswith('las_mm') for name in sys.modules)\n"
    )
    command = [sys.executable, '-W', 'ignore', '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_library_needs_nothing_of_python():
    library = Path(build_library(OPERATORS))
    done = subprocess.run(['nm', '-D', '-u', str(library)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'nm cannot read it: {done.stderr}')
    assert not [line for line in done.stdout.splitlines() if line.split()[-1].startswith('Py')]


@torch.no_grad()
def test_a_compiled_model_follows_its_weights():
    model, twin = las_mm.optimize_for_inference(network(), 'cpu'), network()
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    assert difference(compiled(IMAGES), twin(IMAGES)) < 1e-5
    assert model.layer2._chain is not None
    for part in (model, twin):
        part.layer2[0].conv1.weight.mul_(-1)
        part.layer3[0].conv1.weight = nn.Parameter(part.layer3[0].conv1.weight * 2)
    assert difference(compiled(IMAGES), twin(IMAGES)) < 1e-5


def test_with_gradients_it_is_recorded_densely_and_said(caplog):
    from las_mm.ops.reasons import log_once

    log_once.cache_clear()
    optimized = las_mm.optimize_for_inference(network(), 'cpu')
    exported = torch.export.export(optimized, (IMAGES,))
    assert not any('las_mm' in str(node.target) for node in exported.graph.nodes)
    said = [record.getMessage() for record in caplog.records if record.name == 'las_mm']
    reason = 'gradients are wanted; export within torch.no_grad()'
    assert said == [f'export: some stages are recorded densely: {reason}']
    with torch.no_grad():
        assert difference(exported.module()(IMAGES), network()(IMAGES)) < 1e-5


@torch.no_grad()
def test_a_quantized_stage_stays_so_when_compiled_and_is_said_to_be_exported_in_float(caplog):
    from las_mm.ops.reasons import log_once

    log_once.cache_clear()
    model = las_mm.quantize(network(), [IMAGES])
    las_mm.optimize_for_inference(model, 'cpu', precision='int8')
    wanted = model(IMAGES)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    assert difference(compiled(IMAGES), wanted) == 0
    exported = torch.export.export(model, (IMAGES,))
    assert difference(exported.module()(IMAGES), network()(IMAGES)) < 1e-5
    said = [record.getMessage() for record in caplog.records if record.name == 'las_mm']
    assert said.count("export: stages are recorded in fp32, not in the model's precision") == 1
