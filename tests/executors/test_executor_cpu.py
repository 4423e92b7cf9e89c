"""The native executor: every instruction set, any threads, bands and fusions give the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import blocks, inputs, randomize

from las_mm.executors import find_executor
from las_mm.executors.cpu.packing import pack_block
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.native import build
from las_mm.ops.reasons import log_once

native, why_not = build.load_native()
if native is None:
    pytest.skip(why_not, allow_module_level=True)

FP32 = torch.float32


def run(packed, x, **options):
    return packed.run(x.contiguous(memory_format=torch.channels_last), **options)


@torch.no_grad()
def dense(block, x):
    block.executor = None
    return block(x)


@pytest.mark.parametrize('isa', native.float32_isas())
@settings(max_examples=30)
@given(st.data())
def test_every_instruction_set(isa, data):
    block = data.draw(blocks())
    x, expected = data.draw(inputs(block)), None
    expected = dense(block, x)
    packed = pack_block(block, FP32, isa)
    assert packed.isa == isa
    out, _ = run(packed, x)
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="isa: this CPU has no 'mmx'"):
        pack_block(randomize(DynamicBasicBlock(4, 4, 2)), FP32, 'mmx')


@settings(max_examples=40)
@given(st.data())
def test_bands_threads_and_fusion_do_not_change_a_bit(data):
    block = data.draw(blocks())
    x = data.draw(inputs(block))
    packed = pack_block(block, FP32)
    packed.fuse_above = 2.0  # never
    expected = run(packed, x)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            packed.fuse_above = data.draw(st.sampled_from([-1.0, 2.0]))
            packed.band_bytes = data.draw(st.sampled_from([1, 3000, 1 << 20]))
            assert all(map(torch.equal, run(packed, x), expected))
    finally:
        torch.set_num_threads(before)


@settings(max_examples=30)
@given(st.data())
def test_images_do_not_change_each_other_by_a_bit(data):
    block = data.draw(blocks())
    x = data.draw(inputs(block))
    packed = pack_block(block, FP32)
    out, mask = run(packed, x)
    for index in range(len(x)):
        alone = run(packed, x[index : index + 1])
        assert torch.equal(alone[0], out[index : index + 1])
        assert torch.equal(alone[1], mask[index : index + 1])


@settings(max_examples=30)
@given(st.data(), st.sampled_from([1, 5000, 1 << 20]))
def test_in_place(data, band_bytes):
    block = data.draw(blocks().filter(lambda block: block.downsample is None))
    x = data.draw(inputs(block)).relu_().contiguous(memory_format=torch.channels_last)
    packed = pack_block(block, FP32)
    packed.band_bytes = band_bytes
    expected, mask = run(packed, x)
    out, same_mask = run(packed, x, in_place=True)
    assert out.data_ptr() == x.data_ptr()
    assert torch.equal(out, expected) and torch.equal(mask, same_mask)


@torch.no_grad()
def test_replayed_mask():
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=3))
    x = torch.randn(2, 8, 10, 11)
    block.masker.decided = (torch.rand(1, 1, 4, 4) < 0.5).float()
    expected = dense(block, x)
    block.executor = find_executor('cpu')
    assert (block(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(block.trace.mask, block.masker.decided.expand(2, 1, 4, 4))


def test_wrong_tensors_are_refused():
    packed = pack_block(randomize(DynamicBottleneck(8, 4, 8, granularity=2)), FP32)
    with pytest.raises(ValueError, match='x: must be channels-last'):
        packed.run(torch.randn(1, 8, 6, 6))
    with pytest.raises(ValueError, match=r'x: got \[1, 6, 6, 6\], its size must be \(N, 8, H, W\)'):
        run(packed, torch.randn(1, 6, 6, 6))
    identity = torch.empty(1, 8, 5, 6).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match='identity: got'):
        run(packed, torch.randn(1, 8, 6, 6), identity=identity)
    with pytest.raises(ValueError, match='mask: must be'):
        run(packed, torch.randn(1, 8, 6, 6), decided=torch.ones(1, 1, 2, 2))
    with pytest.raises(RuntimeError, match='Float'):
        run(packed, torch.randn(1, 8, 6, 6, dtype=torch.float64))


@torch.no_grad()
def test_empty_batch():
    block = randomize(DynamicBottleneck(8, 4, 8, granularity=2))
    block.executor = find_executor('cpu')
    assert block(torch.randn(0, 8, 6, 6)).shape == (0, 8, 6, 6)


@torch.no_grad()
def test_without_a_compiler_pytorch_takes_over(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv('CXX', 'false')
    monkeypatch.setenv('LAS_MM_CACHE', str(tmp_path))
    monkeypatch.setattr(build, '_installed', lambda: None)
    missing = build.load_native.__wrapped__()
    assert missing[0] is None and 'install g++ >= 9' in missing[1]
    assert not list(tmp_path.rglob('*.so')), 'nothing half-built is left'

    monkeypatch.setattr('las_mm.executors.cpu.packing.load_native', lambda: missing)
    log_once.cache_clear()
    net = randomize(TorchLASResNet(18, '2-2-2-1'))
    x = torch.randn(1, 3, 64, 64)
    expected = net(x)
    net.executor = 'auto'
    outs = net(x)
    assert (outs[-1] - expected[-1]).abs().max() <= 1e-5 * expected[-1].abs().max()
    assert [
        record.getMessage().split(':')[1]
        for record in caplog.records
        if 'instead' in record.getMessage()
    ] == [" 'torch' instead of 'cpu' for some blocks"]
