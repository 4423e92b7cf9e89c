"""Inverted residuals: every executor gives what the dense forward gives, negative outputs too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.layers import InvertedResidual as DetResidual
from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual as ClsResidual
from random_blocks import randomize
from torch import nn

from las_mm.executors import find_executor
from las_mm.executors.cpu.chain import why_not_chain
from las_mm.executors.cpu.packing import pack_block
from las_mm.inference.stage import InferenceStage
from las_mm.inference.stand_ins import stand_in
from las_mm.models import mobilenet_mmdet, mobilenet_mmpretrain
from las_mm.models.mobilenet import InvertedStage
from las_mm.ops.native import build
from las_mm.ops.reasons import log_once

native, why_not = build.load_native()
NARROWEST = dict(max_examples=25, deadline=None)


def residual(
    channels: int, expand: int, granularity: int, act: str = 'ReLU6', framework: str = 'mmpretrain'
) -> nn.Module:
    """An inverted residual of a framework, made dynamic, its norms as after training."""
    act_cfg = dict(type=act)
    if framework == 'mmdet':
        options = dict(with_expand_conv=expand > 1, act_cfg=act_cfg)
        block = DetResidual(channels, channels, channels * expand, **options)
        block.__class__ = mobilenet_mmdet.LASInvertedResidual
    else:
        block = ClsResidual(channels, channels, 1, expand, act_cfg=act_cfg)
        block.__class__ = mobilenet_mmpretrain.LASInvertedResidual
    block.make_dynamic(granularity)
    return block


@st.composite
def residuals(draw: st.DrawFn) -> nn.Module:
    """Of every width, expansion (1 has no expansion convolution), granularity and framework."""
    block = residual(
        draw(st.one_of(st.integers(2, 9), st.sampled_from([16, 24, 40]))),
        draw(st.sampled_from([1, 2, 3, 6])),
        draw(st.sampled_from([1, 2, 3, 4, 7, 'all'])),
        draw(st.sampled_from(['ReLU6', 'ReLU6', 'ReLU'])),
        draw(st.sampled_from(['mmdet', 'mmpretrain'])),
    )
    return randomize(block, draw(st.integers(0, 99)), draw(st.sampled_from([-1e6, 0, 0, 1e6])))


@st.composite
def projections(draw: st.DrawFn) -> nn.Module:
    """Blocks without a shortcut: another width, or another resolution."""
    channels, out = draw(st.integers(2, 17)), draw(st.sampled_from([3, 16, 24, 33]))
    options = channels, out, draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2, 6]))
    block = ClsResidual(*options)
    block.__class__ = mobilenet_mmpretrain.LASInvertedResidual
    block.make_dynamic(None)
    return randomize(block, draw(st.integers(0, 99)))


@st.composite
def features(draw: st.DrawFn, block: nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Batches with values of both signs, large enough to go past 6."""
    edge = getattr(block.spatial_masker, 'granularity', None) or 1  # 1 if it has none
    size = draw(st.integers(edge, 15)), draw(st.integers(edge, 15))
    channels = block.branch.steps[0].op.in_channels
    x = torch.randn(draw(st.integers(1, 3)), channels, *size, dtype=dtype) * 4
    return x.contiguous(memory_format=torch.channels_last) if draw(st.booleans()) else x


@torch.no_grad()
def dense(block: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    block.executor = None
    return block(x), block.trace.mask


def assert_near(out: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (out - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize('name', ['torch', 'cpu', 'auto', 'triton'])
@settings(**NARROWEST)
@given(st.data())
def test_executors_give_the_dense_output_and_the_same_masks(name, data):
    block = data.draw(residuals())
    x = data.draw(features(block))
    kept = x.clone()
    expected, mask = dense(block, x)
    block.executor = find_executor(name)
    with torch.no_grad():
        out = block(x)
        assert torch.equal(x, kept)  # not private
        assert torch.equal(block.trace.mask, mask)
        assert_near(out, expected)
        private = block(x.clone(memory_format=torch.preserve_format), private=True)
    assert_near(private, expected)


@pytest.mark.skipif(native is None, reason=str(why_not))
@pytest.mark.parametrize('isa', native.float32_isas() if native else ())
@settings(**NARROWEST)
@given(st.data())
def test_every_instruction_set_threads_and_bands(isa, data):
    block = data.draw(residuals())
    x = data.draw(features(block))
    expected, mask = dense(block, x)
    packed = pack_block(block, torch.float32, isa)
    x = x.contiguous(memory_format=torch.channels_last)
    before, first = torch.get_num_threads(), None
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            packed.fuse_above = data.draw(st.sampled_from([-1.0, 2.0]))
            packed.band_bytes = data.draw(st.sampled_from([1, 3000, 1 << 20]))
            out, own = packed.run(x)
            assert_near(out, expected)
            assert torch.equal(own, mask)
            assert first is None or torch.equal(out, first)
            first = out
    finally:
        torch.set_num_threads(before)
    again, _ = packed.run(x, in_place=True)
    assert again.data_ptr() == x.data_ptr()
    assert torch.equal(again, first)


@pytest.mark.skipif(native is None or not native.bfloat16_isas(), reason='no bfloat16 kernels here')
@settings(**NARROWEST)
@given(st.data())
def test_bfloat16(data):
    block = data.draw(residuals()).bfloat16()
    x = data.draw(features(block, torch.bfloat16))
    if data.draw(st.booleans()):
        x = torch.zeros_like(x)  # nothing but biases
    exact, _ = dense(block.float(), x.float())
    block.bfloat16().executor = find_executor('cpu')
    with torch.no_grad():
        assert_near(block(x).float(), exact, 0.05)


@torch.no_grad()
def test_what_is_no_number_stays_none_and_spreads_no_further_than_it_should():
    block = randomize(residual(16, 6, 1), masker_bias=1e6)
    x = torch.randn(1, 16, 9, 9)
    x[0, 3, 4, 4] = torch.nan
    block.masker.decided = torch.ones(1, 1, 9, 9)
    expected, _ = dense(block, x)
    for name in ('torch', 'cpu'):
        block.executor = find_executor(name)
        assert torch.equal(block(x).isnan(), expected.isnan()), name


@torch.no_grad()
@pytest.mark.parametrize('name', ['torch', 'cpu'])
def test_settings_that_change_are_seen(name):
    block = randomize(residual(8, 2, 2), masker_bias=1e6)
    x = torch.randn(1, 8, 8, 8) * 4
    block.executor = find_executor(name)
    for limit in (6.0, 0.5, 3.0):
        block.conv[1].activate.max_val = limit
        executor, out = block.executor, block(x)
        assert_near(out, dense(block, x)[0])
        block.executor = executor


@torch.no_grad()
@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda b: setattr(b.conv[0].activate, 'min_val', -1.0), 'begins at -1'),
        (lambda b: setattr(b.conv[0], 'activate', nn.Hardswish()), 'Hardswish is not a plain ReLU'),
        (lambda b: setattr(b.conv[0], 'order', ('conv', 'act', 'norm')), 'its branch is not one'),
        (lambda b: b.conv[1].register_forward_hook(lambda *_: None), 'a hook'),
    ],
)
def test_what_is_not_plain_runs_dense_and_says_so(change, reason, caplog):
    log_once.cache_clear()
    block = randomize(residual(8, 2, 2))
    change(block)
    x = torch.randn(1, 8, 8, 8)
    expected, _ = dense(block, x)
    block.executor = find_executor('cpu')
    assert torch.equal(block(x), expected)
    assert reason in caplog.text


@pytest.mark.parametrize('name', ['torch', 'cpu', 'auto', 'triton'])
@settings(**NARROWEST)
@given(st.data())
def test_blocks_without_a_shortcut_compute_every_pixel(name, data):
    block = data.draw(projections().filter(lambda block: not block.has_shortcut))
    x = data.draw(features(block))
    kept = x.clone()
    with torch.no_grad():
        expected = block(x)
        block.executor = find_executor(name)
        for private in (False, True):
            assert_near(block(x, private=private), expected)
            assert torch.equal(x, kept)
    assert block.maskers == [] and block.trace.decisions == ()


@pytest.mark.skipif(native is None, reason=str(why_not))
@settings(**NARROWEST)
@given(st.data())
def test_blocks_without_a_shortcut_natively(data):
    block = data.draw(projections().filter(lambda block: not block.has_shortcut))
    x = data.draw(features(block)).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = block(x)
    for isa in native.float32_isas():
        packed = pack_block(block, torch.float32, isa)
        packed.band_bytes = data.draw(st.sampled_from([1, 3000, 1 << 20]))
        out, mask = packed.run(x)
        assert_near(out, expected)
        assert mask is None
    with pytest.raises(ValueError, match='neither an identity nor a mask'):
        packed.run(x, identity=out)


@pytest.mark.skipif(native is None, reason=str(why_not))
@torch.no_grad()
def test_a_stage_that_begins_without_a_shortcut_is_one_chain():
    wide = ClsResidual(8, 16, 2, 6)
    wide.__class__ = mobilenet_mmpretrain.LASInvertedResidual
    wide.make_dynamic(None, 'layer.0')
    stage = InvertedStage(randomize(wide), *(randomize(residual(16, 6, 2), n) for n in (1, 2)))
    stage.eval()
    x = torch.randn(2, 8, 18, 14) * 4
    expected = stage(x)
    masks = [block.trace.mask for block in list(stage)[1:]]
    executor = find_executor('cpu')
    for block in stage:
        block.executor = executor
    assert why_not_chain(list(stage), x) is None
    stand_in(stage, InferenceStage)
    assert_near(stage(x), expected)
    for block, mask in zip(list(stage)[1:], masks, strict=True):
        assert torch.equal(block.trace.mask, mask)
