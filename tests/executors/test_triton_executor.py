"""What the Triton executor does around its kernels: options, fallback, tiles, packed weights."""

import logging
import pickle
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

from las_mm.executors import find_executor
from las_mm.executors.folding import fold_conv
from las_mm.executors.triton import Options, TritonExecutor, executor
from las_mm.executors.triton.packing import pack_conv
from las_mm.executors.triton.tiles import conv_tiles, masker_conv1_tiles
from las_mm.layers import DynamicBottleneck
from las_mm.ops.reasons import log_once

pytest.importorskip('triton', reason='Triton is not installed')


@torch.no_grad()
def test_falls_back_without_a_gpu_and_says_so_once(caplog):
    log_once.cache_clear()
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.randn(1, 8, 9, 9)
    expected = block(x)
    block.executor = find_executor('triton')
    with caplog.at_level(logging.WARNING, logger='las_mm'):
        for _ in range(2):
            torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    messages = [record.message for record in caplog.records]
    assert messages == [
        "executor: 'torch' instead of 'triton' for some blocks: its input is on cpu, not on a GPU"
    ]


def test_auto_is_triton_on_a_gpu():
    x = torch.empty(1, 8, 9, 9, device='meta')
    on_gpu = SimpleNamespace(device=torch.device('cuda'))
    assert find_executor('auto').on(on_gpu).name == 'triton'
    assert find_executor('auto').on(x) is None


@pytest.mark.parametrize(
    'capability, reason',
    [
        ((7, 5), 'its GPU has compute capability 7.5, not 8.0 or more'),
        ((8, 0), None),
        ((12, 0), None),
    ],
)
def test_gpus_for_which_kernels_are_not_built_fall_back(monkeypatch, capability, reason):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert executor.why_not_machine(torch.device('cuda', 1), torch.float16) == reason


def test_without_triton_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(executor, 'find_spec', lambda name: None)
    reason = executor.why_not_machine(torch.device('cuda'), torch.float32)
    assert reason == 'Triton is not installed'


def test_what_the_kernels_cannot_count_or_index_falls_back():
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.empty(1, 8, 2**15, 2**14, device='meta')
    assert TritonExecutor().why_not(block, x) == 'a feature map has 2147483647 elements or more'
    wide = randomize(DynamicBottleneck(8, 4, 8, granularity=17, stride=2))
    assert (
        TritonExecutor().pack(wide, torch.float32) == 'its patches are 34 pixels wide, more than 32'
    )


def test_options_are_checked_and_pickled():
    executor = TritonExecutor(Options(gather_conv2=False))
    assert pickle.loads(pickle.dumps(executor)).options == Options(gather_conv2=False)
    with pytest.raises(ValueError, match="float32: got 'fp32'; choose one of tf32x3, tf32, ieee"):
        Options(float32='fp32')
    with pytest.raises(ValueError, match='incremental_masker: got True, which excludes'):
        Options(incremental_masker=True, masker_conv1=True)
    with pytest.raises(TypeError):
        Options(fused=True)


@given(st.sampled_from([1, 2, 3, 6, 12]), st.integers(1, 9), st.integers(1, 5))
def test_packed_weights_are_the_same_convolution(groups, group_in, group_out):
    conv = nn.Conv2d(groups * group_in, groups * group_out, 3, padding=1, groups=groups)
    packed = pack_conv(fold_conv(conv, nn.Identity(), torch.float32), torch.float32)
    assert packed.in_channels == conv.in_channels and packed.out_channels == conv.out_channels
    assert packed.groups == 1 or packed.group_in >= 32
    weight = packed.weight.detach().view(packed.out_channels, 3, 3, packed.depth)
    assert not weight[..., packed.group_in :].any()
    weight = weight[..., : packed.group_in].permute(0, 3, 1, 2)
    x = torch.randn(2, conv.in_channels, 5, 4)
    out = nn.functional.conv2d(x, weight, packed.bias, padding=1, groups=packed.groups)
    torch.testing.assert_close(out, conv(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('channels', [1, 16, 48, 512])
@pytest.mark.parametrize('patch_rows', [1, 64, 256])
def test_tiles_fit_the_convolution(dtype, channels, patch_rows):
    fused = masker_conv1_tiles(dtype, channels, 64, patch_rows)
    for tiles in (conv_tiles(dtype, channels, 64), fused):
        assert len(set(tiles)) == len(tiles) > 0
        for tile in tiles:
            assert 16 <= tile.columns <= max(16, 2 * channels)
            assert 64 % tile.depth == 0 and tile.depth >= 16
    assert all(tile.rows % patch_rows == 0 for tile in fused)
