"""One choice of precision: fp32 is exact, bf16 is close and leaves as the type of the images."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from random_blocks import randomize

import las_mm
from las_mm.executors.cpu.packing import why_no_kernels
from las_mm.executors.cpu.rounding import round_weights
from las_mm.hooks import OptimizeHook
from las_mm.inference import precision as choice
from las_mm.inference import restore_after_inference
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.reasons import log_once

needs_bf16 = pytest.mark.skipif(
    why_no_kernels(torch.bfloat16) is not None, reason='this CPU has no kernels for bfloat16'
)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return randomize(TorchLASResNet(50, '4-4-2-1')).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def errors(outs, expected):
    pairs = zip(outs, expected, strict=True)
    return [float((a - b).square().mean().sqrt() / b.square().mean().sqrt()) for a, b in pairs]


@needs_bf16
@torch.no_grad()
def test_bf16_is_close_and_fp32_is_exact(backbone, images):
    expected = backbone(images)
    for block in backbone.blocks:  # the same patches in any precision
        block.spatial_masker.decided = block.last[0][0].clone()
    exact = las_mm.optimize_for_inference(backbone)(images)
    assert max(errors(exact, expected)) < 1e-5
    outs = las_mm.optimize_for_inference(backbone, precision='bf16')(images)
    assert all(out.dtype == torch.float32 and out.is_contiguous() for out in outs)
    assert 1e-4 < max(errors(outs, expected)) < 0.03
    cast = las_mm.optimize_for_inference(backbone, precision='auto')(images)
    assert all(map(torch.equal, cast, outs))
    restored = restore_after_inference(backbone)(images)
    assert max(errors(restored, expected)) == 0 and backbone.precision is None
    assert max(errors(copy.deepcopy(backbone)(images), expected)) == 0


@needs_bf16
def test_what_cannot_run_in_bf16_runs_in_fp32(backbone, images, caplog):
    las_mm.optimize_for_inference(backbone, precision='bf16')
    log_once.cache_clear()
    with torch.no_grad():
        before = backbone(images)
        seen = []
        hook = backbone.layer2[1].conv2.register_forward_hook(
            lambda module, args, out: seen.append(out.dtype)
        )
        watched = backbone(images)
        assert set(seen) == {torch.float32}
        assert max(errors(watched, before)) < 0.2
        hook.remove()
        assert all(map(torch.equal, backbone(images), before))
    assert 'precision: some blocks compute in fp32: a hook or another' in caplog.text
    outs = backbone(images)  # with gradients, as PyTorch would
    sum(out.sum() for out in outs).backward()
    assert backbone.layer1[0].conv1.weight.grad.dtype == torch.float32


@needs_bf16
def test_a_test_run_chooses(backbone):
    OptimizeHook(precision='auto').before_test(SimpleNamespace(model=backbone))
    assert (backbone.executor, backbone.precision) == ('auto', torch.bfloat16)
    with pytest.raises(
        ValueError, match="precision: got 'half'; choose one of fp32, bf16, int8, auto"
    ):
        OptimizeHook(precision='half')


@needs_bf16
@torch.no_grad()
def test_the_log_says_what_bf16_brings(backbone, images, caplog):
    log_once.cache_clear()
    with caplog.at_level(logging.WARNING, 'las_mm'):
        las_mm.optimize_for_inference(backbone)(images)
        backbone(images)
    assert caplog.text.count("precision='bf16'") == 1


def test_what_cannot_be_had_is_refused(backbone, monkeypatch):
    with pytest.raises(
        ValueError, match="precision: got 'fp8'; choose one of fp32, bf16, int8, auto"
    ):
        las_mm.optimize_for_inference(backbone, precision='fp8')
    with pytest.raises(ValueError, match="but the executor is 'torch', and only 'auto' and 'cpu'"):
        las_mm.optimize_for_inference(backbone, 'torch', precision='bf16')
    with pytest.raises(ValueError, match="Linear has no dynamic backbone .*choose 'fp32' or"):
        las_mm.optimize_for_inference(torch.nn.Linear(2, 2), precision='bf16')
    with pytest.raises(ValueError, match='not in float32 on a CPU'):
        las_mm.optimize_for_inference(backbone.double(), precision='bf16')
    monkeypatch.setattr(choice, 'why_no_kernels', lambda dtype: 'this CPU has none')
    backbone.float()
    with pytest.raises(ValueError, match="got 'bf16', but this CPU has none; choose 'fp32'"):
        las_mm.optimize_for_inference(backbone, precision='bf16')
    las_mm.optimize_for_inference(backbone, precision='auto')
    assert backbone.precision is None


@pytest.mark.parametrize('shape', [(32, 64, 1, 1), (16, 48, 3, 3), (8, 1, 3, 3), (5, 3, 7, 7)])
def test_errors_of_rounded_weights_cancel(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    weight[0, 0] = 0
    nearest, rounded = weight.bfloat16().float(), round_weights(weight)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert not rounded[0, 0].any()
    unit = 2.0 ** (weight.abs().clamp_min(1e-30).log2().floor() - 7)
    assert ((rounded - weight).abs() <= unit).all()
    before, after = ((w - weight).sum(1).abs().mean() for w in (nearest, rounded))
    assert after < before / 4 if shape[1] >= 48 else after <= before
