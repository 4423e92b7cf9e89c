"""Rates of a test run are averages over images, whatever the batches and processes."""

import pytest
import torch
from detectors import build_model, classifier
from networks import undecided

from las_mm.reports.rates import ObjectRateMeter, RateMeter, rate_map


@pytest.fixture(scope='module')
def backbone():
    torch.manual_seed(0)
    model = build_model(classifier())
    return undecided(model.eval()).backbone


def seen(backbone, *batches: torch.Tensor) -> RateMeter:
    meter = RateMeter()
    for images in batches:
        with torch.no_grad():
            backbone(images)
        meter.update(backbone.traces, backbone.cost(), backbone.input_size)
    return meter


def assert_same(a: RateMeter, b: RateMeter) -> None:
    assert (a.images, a.sizes) == (b.images, b.sizes)
    torch.testing.assert_close(a.rates, b.rates)
    torch.testing.assert_close(a.macs, b.macs)
    assert a.fixed_macs == pytest.approx(b.fixed_macs)


def test_batches_and_processes_add_up(backbone):
    images = torch.randn(5, 3, 64, 48)
    whole = seen(backbone, images)
    assert_same(whole, seen(backbone, images[:2], images[2:]))
    merged = seen(backbone, images[:1])
    merged.merge(seen(backbone, images[1:]))
    assert_same(whole, merged)


def test_an_image_counts_as_much_as_another_of_other_size(backbone):
    small, large = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 96, 64)
    both = seen(backbone, small, large)
    parts = [seen(backbone, small), seen(backbone, large)]
    torch.testing.assert_close(both.rates, parts[0].rates + parts[1].rates)
    torch.testing.assert_close(both.macs, parts[0].macs + parts[1].macs)
    assert both.typical_size == (96, 64)
    assert seen(backbone, small, small, large).typical_size == (32, 32)


def test_sums_are_those_of_the_traces(backbone):
    meter = seen(backbone, torch.randn(3, 3, 64, 48))
    cost = backbone.cost()
    for index, (trace, block) in enumerate(zip(backbone.traces, cost.blocks, strict=True)):
        rates = torch.stack([trace.activation_rate, trace.dilated_rate]).double()
        torch.testing.assert_close(meter.rates[index], rates.sum(1))
        shares = {name: share.double() for name, share in trace.shares.items()}
        macs = [3 * block.static, block.dynamic(shares).sum().item()]
        assert meter.macs[index].tolist() == pytest.approx(macs)


def test_rates_inside_and_outside_of_boxes():
    meter, rates = ObjectRateMeter(), torch.zeros(6, 8)
    rates[1:3, 2:6] = 0.8
    rates[5] = 0.3
    meter.update(rates, torch.tensor([[2.0, 1.0, 6.0, 3.0], [2.0, 1.0, 4.0, 3.0]]))
    summary = meter.summary()
    assert summary['inside'] == pytest.approx(0.8)
    assert summary['outside'] == pytest.approx(8 * 0.3 / 40)
    assert summary['ratio'] == pytest.approx(0.8 / 0.06)


def test_boxes_beyond_the_image_are_cut_and_without_boxes_there_is_no_summary():
    meter = ObjectRateMeter()
    meter.update(torch.ones(4, 4), torch.zeros(0, 4))
    assert meter.summary() is None
    meter.update(torch.ones(4, 4), torch.tensor([[-5.0, -5.0, 2.0, 90.0]]))
    assert meter.pixels.tolist() == [8, 24]
    assert meter.summary() == dict(inside=1.0, outside=1.0, ratio=1.0)
    other = ObjectRateMeter()
    other.merge(meter)
    assert other.summary() == meter.summary()


def test_the_rate_map_is_the_share_of_blocks_at_each_pixel(backbone):
    with torch.no_grad():
        backbone(torch.randn(2, 3, 64, 64))
    maps = rate_map(backbone.traces, (64, 64))
    assert maps.shape == (2, 64, 64)
    wanted = torch.stack([trace.activation_rate for trace in backbone.traces]).mean(0)
    torch.testing.assert_close(maps.mean((1, 2)), wanted)
    active = sum(trace.pixel_mask[0, 0, 0, 0].item() for trace in backbone.traces)
    assert maps[0, 0, 0].item() == pytest.approx(active / len(backbone.traces))
