"""What the Triton executor does around its kernels: options, fallback, tiles, packed weights."""

import json
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_blocks import randomize
from torch import nn

from las_mm.layers import DynamicBottleneck
from las_mm.ops import executors
from las_mm.ops.executors.triton.options import Options, current_options, use_options
from las_mm.ops.executors.triton.packing import pack_conv
from las_mm.ops.executors.triton.tiles import conv_tiles, masker_conv1_tiles
from las_mm.ops.folding import fold_conv

tuning = pytest.importorskip(
    'las_mm.ops.executors.triton.tuning', reason='Triton is not installed', exc_type=ImportError
)


@torch.no_grad()
def test_falls_back_without_a_gpu_and_says_so_once(caplog):
    executors._log_once.cache_clear()
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    x = torch.randn(1, 8, 9, 9)
    expected = block(x)
    block.executor = 'triton'
    with caplog.at_level(logging.WARNING, logger='las_mm'):
        for _ in range(2):
            torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
    messages = [record.message for record in caplog.records]
    assert messages == [
        "executor: 'torch' instead of 'triton' for some blocks: its input is on cpu, not on a GPU"
    ]


def test_auto_is_triton_on_a_gpu():
    assert executors.AUTO['cuda'] == 'triton'


def test_options_are_checked_and_restored():
    with use_options(gather_conv2=False):
        assert current_options() == Options(gather_conv2=False)
        with use_options(pdl=True):
            assert current_options() == Options(gather_conv2=False, pdl=True)
    assert current_options() == Options()
    with pytest.raises(ValueError, match="float32: got 'fp32'; choose one of tf32x3, tf32, ieee"):
        Options(float32='fp32')
    with pytest.raises(ValueError, match='incremental_masker: got True, which excludes'):
        Options(incremental_masker=True, masker_conv1=True)
    with pytest.raises(TypeError):
        use_options(fused=True).__enter__()


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


class FakeGPU:
    """Stands for timing on a GPU: the third tile is the fastest."""

    def __init__(self, monkeypatch, folder):
        self.timed = []
        self.tiles = conv_tiles(torch.float16, 256, 256)
        monkeypatch.setenv('LAS_MM_CACHE', str(folder))
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Some GPU')
        monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
        monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
        monkeypatch.setattr(tuning, '_time', self._time)
        self.restart()

    def _time(self, run, tile):
        self.timed.append(tile)
        return abs(self.tiles.index(tile) - 2)

    def restart(self):
        tuning._load.cache_clear()

    def choose(self, shape='a shape'):
        return tuning.choose_tile(
            'kernel', shape, torch.device('cuda'), self.tiles, lambda: lambda tile: None
        )


def test_tiles_are_timed_once_and_kept_on_disk(monkeypatch, tmp_path):
    gpu = FakeGPU(monkeypatch, tmp_path / 'cache')
    with use_options(tune=False):
        assert gpu.choose() == gpu.tiles[0] and not gpu.timed
    assert gpu.choose() == gpu.tiles[2] and gpu.timed == list(gpu.tiles)
    gpu.restart()
    assert gpu.choose() == gpu.tiles[2] and gpu.timed == list(gpu.tiles)
    gpu.choose('another shape')
    assert len(gpu.timed) == 2 * len(gpu.tiles)


def test_choices_of_other_processes_are_kept(monkeypatch, tmp_path):
    gpu = FakeGPU(monkeypatch, tmp_path)
    gpu.choose('mine')
    path = tuning.cache_file(torch.device('cuda'))
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({'theirs': entries['kernel mine']}))
    gpu.choose('mine, too')
    assert {'theirs', 'kernel mine, too'} <= set(json.loads(path.read_text()))


@pytest.mark.parametrize('content', ['{', '[]', '{"kernel a shape": {"rows": 1}}'])
def test_broken_cache_is_left_aside(monkeypatch, tmp_path, caplog, content):
    gpu = FakeGPU(monkeypatch, tmp_path)
    tuning.cache_file(torch.device('cuda')).write_text(content)
    with caplog.at_level(logging.WARNING, logger='las_mm'):
        assert gpu.choose() == gpu.tiles[2]
    assert 'is left aside, tiles are timed anew' in caplog.text
