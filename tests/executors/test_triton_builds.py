"""Every kernel compiles for GPUs of three generations without one at hand, and as it should."""

import os
from dataclasses import replace

import pytest
import torch

triton = pytest.importorskip('triton', reason='Triton is not installed')

if os.environ.get('TRITON_INTERPRET') == '1':
    pytest.skip('TRITON_INTERPRET is set, nothing can be compiled', allow_module_level=True)

KERNELS = {
    'masker_conv1', 'masker', 'index', 'gather_conv', 'shortcut_conv', 'copy_identity',
    'conv_scatter_add', 'gather_patches', 'scatter', 'add_activate', 'sum_active', 'gate_layer',
    'scale_rows', 'depthwise_conv', 'channel_conv', 'list_kept', 'token_norm',
    'token_linear', 'token_attention',
}  # fmt: skip
STAGE = [1]  # strided with a shortcut, and plain; what the others add is in the full check
LAYER = [0]  # of a transformer, with all policies


@pytest.fixture(scope='module')
def check(load_tool):
    return load_tool('check_triton_builds').check


@pytest.mark.parametrize(
    'arch, dtype',
    [(80, 'float16'), (90, 'bfloat16'), (90, 'float32'), (80, 'tf32'), (120, 'float16')],
)
def test_builds(check, arch, dtype):
    reports = check(arch, dtype, all_tiles=False, stages=STAGE, layers=LAYER)
    assert {report.name for report in reports} == KERNELS
    faults = [f'{r.name} {r.constants}: {r.faults()}' for r in reports if r.faults()]
    assert not faults


def test_faults_are_seen(check):
    reports = check(90, 'bfloat16', all_tiles=False, stages=STAGE, layers=[])
    report = next(r for r in reports if r.name == 'gather_conv' and r.constants['KERNEL'] == 3)
    assert replace(report, spilled=8).faults() == ['spills 8 bytes']
    assert replace(report, wgmma=0, mma=4).faults() == ['has no wgmma']
    assert replace(report, cp_async=0).faults() == ['has no 16-byte cp.async']
    large = replace(report, shared=300_000)
    assert large.faults() == ['needs 300000 bytes of shared memory, more than there are']
    [fault] = replace(report, hasty=3).faults()
    assert fault == 'has 3 accesses to memory before its inputs are ready'


def test_kernels_that_do_not_wait_for_the_previous_one_are_seen(check, load_tool):
    """With programmatic dependent launch they would read what is still being written."""
    tool = load_tool('check_triton_builds')
    with tool.offline_target(90), torch.no_grad(), tool.compile_only() as builds:
        for block, x in tool.gallery(torch.float16, STAGE):
            tool.run_block(tool.pack_block(block, x.dtype), x, tool.Options(tune=False))
        for block, x in tool.encoders(torch.float16, LAYER):
            tool.compile_layer(block, x, tool.Options(tune=False))
    for build in builds:
        assert tool.read_report(build, 90).hasty == 0
        promised = replace(build, constants={**build.constants, 'PDL': True})
        assert tool.read_report(promised, 90).hasty > 0
