"""Blocks and networks: invariants, consistency of the vectorised paths, statements of the paper."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_search import nested_loop_latency

from latency_predictor import (
    Fusion,
    LatencyModel,
    device_names,
    load_device,
    regnet,
    resnet,
    schedule,
)
from latency_predictor.block import dynamic_first_convolution, dynamic_rest, static_operators

RATES = np.linspace(0.05, 1, 20)


def block(stage=0, granularity=4, depth=101, input_size=224):
    blocks = [b for b in resnet(depth, input_size).blocks if b.stage == stage]
    return blocks[1].with_granularity(granularity)


@pytest.mark.parametrize('stage', [0, 2])
@pytest.mark.parametrize('device', ['v100', 'tx2'])
def test_the_search_equals_nested_loops(stage, device):
    """Same latency as plain loops over the four tile dimensions."""
    spec, hardware = block(stage, 2), load_device(device)
    operators = [
        *static_operators(spec),
        *dynamic_first_convolution(spec, 0.4, fused=False),
        *dynamic_first_convolution(spec, 0.4),
        *dynamic_rest(spec, 0.4),
    ]
    for operator in operators[:2] + operators[-4:]:
        found = float(schedule(operator, hardware).total)
        assert found == pytest.approx(nested_loop_latency(operator, hardware), rel=1e-12)


def test_a_sweep_equals_single_predictions():
    model, spec = LatencyModel('v100'), block()
    curve = model.curve(spec, RATES)
    for index in (0, 7, 19):
        single = model.block(spec, float(RATES[index]))
        assert single.dynamic_us == pytest.approx(curve.dynamic_us[index], rel=1e-12)
        assert single.masker_fused == curve.masker_fused[index]
        assert single.static_us == pytest.approx(curve.static_us)


def test_a_network_is_the_sum_of_its_blocks():
    model, network = LatencyModel('gtx1080'), resnet(50, 224, '4-4-2-1', head=True)
    rates = np.linspace(0.2, 0.9, len(network.blocks))
    found = model.network(network, rates)
    assert [b.name for b in found.blocks] == [b.name for b in network.blocks]
    singles = [model.block(b, r) for b, r in zip(network.blocks, rates, strict=True)]
    assert found.dynamic_ms * 1e3 == pytest.approx(
        found.other_us + sum(s.dynamic_us for s in singles)
    )
    assert found.ratio == found.dynamic_ms / found.static_ms
    for latency in found.blocks:
        assert sum(o.total_us for o in latency.operators) == pytest.approx(latency.dynamic_us)
        assert sum(o.total_us for o in latency.static_operators) == pytest.approx(latency.static_us)


def test_static_network_has_ratio_one():
    assert LatencyModel('tx2').network(resnet(18, 224)).ratio == 1


@settings(max_examples=25, deadline=None)
@given(
    device=st.sampled_from(['v100', 'tx2', 'a100']),
    stage=st.integers(0, 3),
    rate=st.floats(0.05, 1),
    factor=st.floats(1.1, 4),
)
def test_latency_falls_with_better_hardware(device, stage, rate, factor):
    hardware, spec = load_device(device), block(stage, 1 if stage == 3 else 2)

    def latency(**changes):
        result = LatencyModel(dataclasses.replace(hardware, **changes)).block(spec, rate)
        return np.array([result.static_us, result.dynamic_us])

    base = latency()
    for name in ('offchip_bandwidth', 'onchip_bandwidth', 'frequency'):
        assert (latency(**{name: getattr(hardware, name) * factor}) < base).all()
    assert (latency(processing_engines=2 * hardware.processing_engines) <= base).all()
    assert (latency(kernel_launch=0.0) < base).all()
    assert (latency(overlap=1.0) < base).all()


@pytest.mark.parametrize('device', device_names())
def test_latency_rises_with_the_activation_rate(device):
    for stage, granularity in ((0, 4), (1, 7), (2, 2), (3, 1)):
        curve = LatencyModel(device).curve(block(stage, granularity), RATES)
        assert (np.diff(curve.dynamic_us) >= -1e-9).all()


@pytest.mark.parametrize('device', ['v100', 'gtx1080', 'tx2', 'nano', 'h100', 'epyc'])
def test_dynamic_at_full_rate_is_not_faster_than_static(device):
    """With the same tile candidates for both; Appendix A's give static maps powers of two only."""
    model = LatencyModel(device, tiles='divisors')
    for stage, granularity in ((0, 1), (0, 4), (0, 8), (1, 4), (1, 7), (2, 2), (2, 7), (3, 1)):
        assert model.block(block(stage, granularity), 1.0).ratio >= 1


@pytest.mark.parametrize('rate', [0.1, 0.6, 1.0])
def test_fusing_never_costs(rate):
    model = LatencyModel('v100')
    for stage, granularity in ((0, 4), (1, 4), (2, 7)):
        spec = block(stage, granularity)
        chosen = model.block(spec, rate)
        for masker in (True, False):
            assert (
                chosen.dynamic_us
                <= model.block(spec, rate, fusion=Fusion(masker_conv1=masker)).dynamic_us
            )
        for fusion in (Fusion(gather_conv2=False), Fusion(scatter_add=False)):
            assert chosen.dynamic_us < model.block(spec, rate, fusion=fusion).dynamic_us


def test_masker_is_fused_above_a_threshold_rate():
    """Section 3.4: fused when r > r_th, and r_th lies inside (0, 1)."""
    fused = LatencyModel('tx2').curve(block(1, 4), RATES).masker_fused
    assert not fused[0] and fused[-1] and (np.diff(fused.astype(int)) >= 0).all()


def test_a_smaller_dilated_rate_makes_separate_conv1_cheaper():
    model, apart = LatencyModel('tx2'), Fusion(masker_conv1=False)
    gathered = model.block(block(), 0.5, fusion=apart).dynamic_us
    assert model.block(block(), {'sites': 0.5, 'dilated': 0.6}, apart).dynamic_us < gathered
    # The halo's own share is what None means: r ((S + 2) / S)^2.
    assert model.block(
        block(), {'sites': 0.4, 'dilated': 0.4 * 36 / 16}, apart
    ).dynamic_us == pytest.approx(model.block(block(), 0.4, fusion=apart).dynamic_us, rel=0.01)


def test_granularity_changes_the_efficiency_of_memory_accesses():
    """Appendix A: the smaller S, the slower the data movement at the same rate."""
    model = LatencyModel('v100')

    def data(granularity):
        latency = model.block(block(0, granularity), 0.5, fusion=Fusion(masker_conv1=True))
        return {o.name: o.data_us for o in latency.operators}

    one, two, eight = data(1), data(2), data(8)
    for name in ('gather_conv2', 'scatter_add'):
        assert one[name] > two[name] > eight[name]


def test_every_network_precision_and_batch_runs():
    for spec in (
        resnet(18, 224, '4-4-2-1'),
        resnet(152, 224, '8-4-7-1'),
        regnet('400mf', 224, '4-4-2-1'),
        regnet('800mf', (256, 320), '4-4-7-1'),
    ):
        for precision in ('fp32', 'tf32', 'fp16', 'bf16'):
            one = LatencyModel('a100', precision).network(spec, 0.5)
            four = LatencyModel('a100', precision, batch_size=4).network(spec, 0.5)
            assert one.dynamic_ms < four.dynamic_ms < 4 * one.dynamic_ms * 1.05
    assert (
        LatencyModel('a100', 'fp16').network(spec, 0.5).static_ms
        < LatencyModel('a100', 'fp32').network(spec, 0.5).static_ms
    )


def test_squeeze_and_excitation_appears_in_both_breakdowns():
    network = regnet('400mf', 224, '4-4-2-1')
    latency = LatencyModel('tx2').block(network.blocks[1], 0.5)
    for breakdown in (latency.operators, latency.static_operators):
        assert {'se_pool', 'se_reduce', 'se_expand', 'se_scale'} <= {o.name for o in breakdown}


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda m: m.block(block(), -0.1), r'sites: got -0.1; give a number from 0 to 1'),
        (lambda m: m.block(block(), 1.1), r'sites: got 1.1'),
        (lambda m: m.block(block(), float('nan')), r'sites: got nan'),
        (lambda m: m.block(block(), 'half'), r"sites: got 'half'"),
        (lambda m: m.block(block()), r"block 'layer1.1', sites: got None; give"),
        (lambda m: m.block(block(), {'sites': 0.5, 'dilated': 2}), r'dilated: got 2; give'),
        (
            lambda m: m.network(resnet(50, 224, '4-4-2-1'), [0.5, 0.5]),
            r'shares: got 2 values; give one, or',
        ),
        (
            lambda m: LatencyModel('v100', 'tf32'),
            r"precision: got 'tf32'; choose one of fp32.* on device 'v100'",
        ),
        (lambda m: LatencyModel('v100', batch_size=0), r'batch_size: got 0; give an integer >= 1'),
        (
            lambda m: LatencyModel('v100', tiles='all'),
            r"tiles: got 'all'; choose one of paper, divis",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(LatencyModel('v100'))
    assert '\n' not in str(caught.value)
