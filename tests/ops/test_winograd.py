"""The native executor's 3×3 convolutions by Winograd's algorithm, which needs whole vectors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blocks import inputs, randomize

from las_mm.executors.cpu.packing import pack_block
from las_mm.layers import DynamicBottleneck
from las_mm.ops.native import build

native, why_not = build.load_native()
if native is None:
    pytest.skip(why_not, allow_module_level=True)

FP32 = torch.float32
SOME_BANDS = [1, 20000, 1 << 20]


@st.composite
def wide_blocks(draw: st.DrawFn) -> DynamicBottleneck:
    """Bottlenecks of which the native executor packs the second convolution for Winograd."""
    granularity, mid = draw(st.integers(1, 8)), draw(st.sampled_from([16, 32, 48]))
    channels, out = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    block = DynamicBottleneck(channels, mid, draw(st.sampled_from([channels, out])), granularity)
    return randomize(block, draw(st.integers(0, 99)), draw(st.sampled_from([-1e6, 0, 0, 0, 1e6])))


def run(packed, x):
    return packed.run(x.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize('isa', native.float32_isas())
@settings(max_examples=30)
@given(data=st.data(), block=wide_blocks(), band_bytes=st.sampled_from(SOME_BANDS))
@torch.no_grad()
def test_the_same_as_dense_execution(isa, data, block, band_bytes):
    x = data.draw(inputs(block))
    block.executor = None
    expected = block(x)
    packed = pack_block(block, FP32, isa)
    packed.band_bytes = band_bytes
    out, mask = run(packed, x)
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    assert torch.equal(mask, block.trace.mask)


@settings(max_examples=30)
@given(data=st.data(), block=wide_blocks(), band_bytes=st.sampled_from(SOME_BANDS))
def test_threads_do_not_change_a_bit(data, block, band_bytes):
    x = data.draw(inputs(block))
    packed = pack_block(block, FP32)
    packed.band_bytes = band_bytes
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = run(packed, x)
        for threads in (2, 3, 5):
            torch.set_num_threads(threads)
            assert all(map(torch.equal, run(packed, x), expected))
    finally:
        torch.set_num_threads(before)


@settings(max_examples=30)
@given(data=st.data(), block=wide_blocks().filter(lambda block: block.masker.granularity > 1))
def test_bands_do_not_change_a_bit(data, block):
    x = data.draw(inputs(block))
    packed = pack_block(block, FP32)
    results = []
    for packed.band_bytes in SOME_BANDS:
        results.append(run(packed, x))
    assert all(torch.equal(out, results[0][0]) for out, _ in results)


@pytest.mark.parametrize('granularity', [1, 2, 3])
@torch.no_grad()
def test_it_is_used_where_it_can_be(granularity):
    """By its rounding, which is not that of the direct algorithm."""
    block = randomize(DynamicBottleneck(16, 64, 16, granularity), masker_bias=1e6)
    x = torch.randn(1, 16, 40, 40)
    winograd, _ = run(pack_block(block, FP32), x)
    direct, _ = run(pack_block(block, FP32, winograd=False), x)
    assert not torch.equal(winograd, direct)
    assert (winograd - direct).abs().max() <= 1e-5 * direct.abs().max()


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'stride': 2}, 'strided'),
        ({'dilation': 2}, 'dilated'),
        ({'groups': 2}, 'grouped'),
        ({'mid_channels': 33}, 'no whole vectors'),
        ({'mid_channels': 8}, 'so narrow that it would not pay'),
    ],
)
def test_other_convolutions_are_direct(options, why):
    sizes = {'in_channels': 8, 'mid_channels': 64, 'out_channels': 8, 'granularity': 2, **options}
    block = randomize(DynamicBottleneck(**sizes), masker_bias=1e6)
    x = torch.randn(1, 8, 20, 20)
    outs = [run(pack_block(block, FP32, winograd=winograd), x)[0] for winograd in (True, False)]
    assert torch.equal(*outs), why


@torch.no_grad()
def test_a_few_single_pixels_are_direct():
    """Patches of a pixel: where most are alone in their quad, Winograd's algorithm is not used."""
    block = randomize(DynamicBottleneck(8, 64, 8, 1))
    block.masker.decided = torch.zeros(1, 1, 40, 40)
    block.masker.decided[:, :, ::4, ::4] = 1
    x = torch.randn(1, 8, 40, 40).contiguous(memory_format=torch.channels_last)
    decided = block.masker.decided
    packed = [pack_block(block, FP32, winograd=winograd) for winograd in (True, False)]
    assert torch.equal(*[block.run(x, None, decided)[0] for block in packed])


@torch.no_grad()
def test_pixels_that_nobody_computed_are_not_read():
    """A quad at the edge of a patch reaches over the dilated set, where anything may lie."""
    block = randomize(DynamicBottleneck(8, 32, 8, 3))
    packed = pack_block(block, FP32)
    x = torch.randn(1, 8, 18, 18).contiguous(memory_format=torch.channels_last)
    decided = torch.zeros(1, 1, 6, 6)
    decided[0, 0, 1, 1] = decided[0, 0, 4, 2] = 1
    expected, _ = packed.run(x, None, decided)
    packed.run(torch.full_like(x, float('nan')), None, torch.ones(1, 1, 6, 6))
    assert torch.equal(packed.run(x, None, decided)[0], expected)
