"""Sweeps, granularity search, the paper's tables and its statements."""

import itertools

import numpy as np
import pytest

from latency_predictor import LatencyModel, resnet
from latency_predictor.search import legal_granularities, search_granularity, sweep
from latency_predictor.tables import (
    TABLE_2,
    TABLE_3,
    cell_errors,
    detection_table,
    fusion_table,
    spearman,
)


@pytest.fixture(scope='module')
def cells():
    """Every cell of Tables 2 and 3."""
    return detection_table(TABLE_2) + detection_table(TABLE_3)


def test_legal_granularities_of_section_3_2():
    assert legal_granularities(resnet(101, 224)) == (
        (1, 2, 4, 7, 8, 14, 28),
        (1, 2, 4, 7, 14),
        (1, 2, 7),
        (1,),
    )


def test_legal_granularities_cut_both_edges():
    for sizes, (height, width) in zip(
        legal_granularities(resnet(50, (800, 1344))),
        ((200, 336), (100, 168), (50, 84), (25, 42)),
        strict=True,
    ):
        assert all(height % s == 0 and width % s == 0 for s in sizes) and sizes[0] == 1


def test_sweep_equals_the_networks_own_latencies():
    model, network = LatencyModel('tx2'), resnet(50, 224)
    curves = sweep(model, network, [0.3, 0.6], [(2, 4), (4,), (2,), (1,)])
    found = model.network(network.with_granularity('4-4-2-1'), 0.6)
    for curve in curves:
        mine = [b for b in found.blocks if b.stage == curve.stage]
        column = curve.granularities.index({0: 4, 1: 4, 2: 2, 3: 1}[curve.stage])
        assert curve.dynamic_us[column, 1] == pytest.approx(sum(b.dynamic_us for b in mine))
        assert curve.static_us == pytest.approx(sum(b.static_us for b in mine))


def test_search_ranks_every_choice_and_equals_brute_force():
    model, network = LatencyModel('v100'), resnet(50, 224)
    sizes = [(1, 4, 7), (1, 4), (2, 7), (1,)]
    found = search_granularity(model, network, 0.5, sizes)
    brute = {
        s: model.network(network.with_granularity(s), 0.5).dynamic_ms
        for s in itertools.product(*sizes)
    }
    assert len(found.ranked) == len(brute) == 12
    for candidate in found.ranked:
        assert candidate.dynamic_ms == pytest.approx(brute[candidate.granularity])
    times = [candidate.dynamic_ms for candidate in found.ranked]
    assert times == sorted(times)
    assert found.static_ms == pytest.approx(model.network(network).static_ms)


def test_knee_is_the_smallest_granularity_within_the_tolerance():
    curve = sweep(LatencyModel('v100'), resnet(101, 224), [0.5])[0]
    for tolerance in (0.0, 0.02, 0.05, 1.0):
        knee = curve.knee(0, tolerance)
        ratio = dict(zip(curve.granularities, curve.ratio[:, 0], strict=True))
        later = {s: min(r for t, r in ratio.items() if t >= s) for s in ratio}
        assert knee == min(s for s in ratio if ratio[s] - later[s] <= tolerance)


def test_sweet_spots_of_section_4_2():
    """S = 4, 7 or 8 in stage 1, 4 or 7 in stage 2, 2 or 7 in stage 3, 1 in stage 4."""
    best = search_granularity(LatencyModel('v100'), resnet(101, 224), 0.5).recommended.granularity
    assert best[0] in (4, 7, 8) and best[1] in (4, 7) and best[2] in (2, 7) and best[3] == 1


def test_statements_of_section_4_2():
    curve = sweep(LatencyModel('v100'), resnet(101, 224), [0.5, 0.6])[0]
    ratio = dict(zip(curve.granularities, curve.ratio, strict=True))
    assert ratio[1][1] > 1  # pixel granularity costs time on V100
    assert ratio[4][1] < 0.9  # patches save it
    assert abs(ratio[8][0] - ratio[28][0]) < 0.03  # larger ones add little


def test_tables_2_and_3_are_reproduced(cells):
    static = [c for c in cells if c.row.granularity is None]
    assert max(abs(c.error) for c in static) <= 0.02
    errors = cell_errors(cells)
    assert errors['mape'] <= 0.05 and errors['spearman'] >= 0.98
    dynamic = [c for c in cells if c.row.granularity]
    off = [abs(c.predicted_ratio - c.published_ratio) for c in dynamic]
    assert np.mean(off) <= 0.03


def test_memory_efficiency_is_what_makes_the_tables_fit(cells):
    """Without the effect of S on memory accesses (transactions of one element) they fit worse."""
    import dataclasses

    from latency_predictor import load_device
    from latency_predictor.tables import DEVICES

    flat = {
        name: LatencyModel(dataclasses.replace(load_device(name), transaction=4))
        for name in DEVICES
    }
    without = cell_errors(detection_table(TABLE_2, flat))['mape']
    assert without > 1.5 * cell_errors(detection_table(TABLE_2))['mape']


def test_tx2_is_nearer_to_the_flops_ratio_than_v100(cells):
    def gap(device):
        return np.mean(
            [
                c.predicted_ratio - c.row.gmacs / 141.2
                for c in cells
                if c.device == device and c.row.granularity
            ]
        )

    assert 0 < gap('tx2') < gap('v100')


def test_table_1_order_and_fitted_rows():
    rows = fusion_table(LatencyModel('v100'))
    times = [row.predicted_us for row in rows]
    assert times == sorted(times, reverse=True)
    for row in rows[1:]:
        assert row.predicted_us == pytest.approx(row.published_us, rel=0.06)


def test_spearman():
    assert spearman([1, 2, 3], [10, 20, 30]) == 1
    assert spearman([1, 2, 3], [3, 2, 1]) == -1
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)  # ties share a rank
    assert spearman([5, 5], [1, 2]) == 1


def test_bad_input():
    model, network = LatencyModel('v100'), resnet(50, 224)
    with pytest.raises(ValueError, match='activation_rates: got 1.2'):
        sweep(model, network, [0.5, 1.2])
    with pytest.raises(ValueError, match='granularities: got 2 stages; give the 4 of resnet50'):
        sweep(model, network, [0.5], [(1,), (1,)])
    with pytest.raises(ValueError, match='granularity: got 99'):
        sweep(model, network, [0.5], [(99,), (1,), (1,), (1,)])
