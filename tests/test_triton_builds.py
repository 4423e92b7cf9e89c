"""Every kernel compiles for GPUs of three generations without one at hand, and as it should."""

import os
from dataclasses import replace

import pytest

triton = pytest.importorskip('triton', reason='Triton is not installed')

if os.environ.get('TRITON_INTERPRET') == '1':
    pytest.skip('TRITON_INTERPRET is set, nothing can be compiled', allow_module_level=True)

KERNELS = {
    'masker_conv1', 'masker', 'index', 'gather_conv', 'shortcut_conv', 'copy_identity',
    'conv_scatter_add', 'gather_patches', 'scatter', 'add_relu', 'sum_active', 'gate_layer',
    'scale_rows',
}  # fmt: skip
STAGE = [1]  # strided with a shortcut, and plain; what the others add is in the full check


@pytest.fixture(scope='module')
def check(load_tool):
    return load_tool('check_triton_builds').check


@pytest.mark.parametrize(
    'arch, dtype', [(80, 'float16'), (90, 'bfloat16'), (90, 'float32'), (120, 'float16')]
)
def test_builds(check, arch, dtype):
    reports = check(arch, dtype, all_tiles=False, stages=STAGE)
    assert {report.name for report in reports} == KERNELS
    faults = [f'{r.name} {r.constants}: {r.faults()}' for r in reports if r.faults()]
    assert not faults


def test_faults_are_seen(check):
    reports = check(90, 'bfloat16', all_tiles=False, stages=STAGE)
    report = next(r for r in reports if r.name == 'gather_conv' and r.constants['KERNEL'] == 3)
    assert replace(report, spilled=8).faults() == ['spills 8 bytes']
    assert replace(report, wgmma=0, mma=4).faults() == ['has no wgmma']
    assert replace(report, cp_async=0).faults() == ['has no 16-byte cp.async']
