"""Latency as a differentiable function of rates: exact at knots, close between them."""

import numpy as np
import pytest
import torch

from las_mm.latency.description import describe_backbone
from las_mm.latency.fit import fit_latency, uniform_shares
from las_mm.models.resnet_torch import TorchLASResNet
from latency_predictor import LatencyModel, NetworkSpec, dense_layer, resnet

DEVICES = ['tx2', 'v100']


@pytest.fixture(scope='module', params=DEVICES)
def fitted(request):
    model, network = LatencyModel(request.param), resnet(50, (96, 160), granularity='4-2-2-1')
    return model, network, fit_latency(model, network, tries=16)


def named(rates, dilated) -> list[dict]:
    return [{'sites': r, 'dilated': d} for r, d in zip(rates, dilated, strict=True)]


def block_us(model, network, rates, dilated) -> list[float]:
    found = model.network(network, {'sites': rates, 'dilated': dilated}).blocks
    return [block.dynamic_us for block in found]


def test_exact_at_knots_and_at_both_ends(fitted):
    """A knot of both tables, so that the faster of them is exact, too."""
    model, network, fit = fitted
    for part in fit.fits:
        index = part.blocks[0]
        ((fused, separate),) = part.options
        shared = [
            [knot for knot in one if knot in other]
            for one, other in [
                (fused.activation, separate.activation), (fused.dilated, separate.dilated)
            ]
        ]  # fmt: skip
        for place in (0, 1, 4, -1):
            rates = torch.zeros(2, len(network.blocks), dtype=torch.float64)
            rates[:, index] = torch.stack([knots[place % len(knots)] for knots in shared])
            wanted = block_us(model, network, *rates.numpy())[index]
            assert fit.blocks_us(named(*rates))[index].item() == pytest.approx(wanted, rel=1e-9)
    for rate in (0, 1):
        wanted = model.network(network, {'sites': float(rate), 'dilated': float(rate)}).ratio
        assert fit.ratio(uniform_shares(network, rate)).item() == pytest.approx(wanted, rel=1e-5)


def test_error_is_measured_and_within_two_percent(fitted):
    _, _, fit = fitted
    assert 0 < fit.error <= 0.02
    assert fit.error <= fit.block_error <= 0.1


def test_error_is_found_where_the_fit_is_wrong(fitted):
    from dataclasses import replace

    from las_mm.latency.fit import RateTable, _errors

    model, network, fit = fitted
    part = fit.fits[0]
    wrong = tuple(RateTable(t.activation, t.dilated, 1.5 * t.latency) for t in part.options[0])
    spoiled = replace(fit, fits=(replace(part, options=(wrong,)), *fit.fits[1:]))
    assert _errors(spoiled, model, network, 16)[1] == pytest.approx(0.5, abs=0.1)


def test_random_rates_of_single_images_are_predicted(fitted):
    """Whole patches, as any one image has them; dilated rates as the predictor counts them."""
    model, network, fit = fitted
    generator = np.random.default_rng(3)
    rates = []
    for block in network.blocks:
        patches = np.prod(block.grid)
        rates.append(generator.integers(patches // 8, patches + 1) / patches)
    wanted = model.network(network, {'sites': rates, 'dilated': 1.0})
    ours = fit.ratio(named(torch.tensor(rates).float(), torch.ones(len(rates))))
    assert ours.item() == pytest.approx(wanted.ratio, rel=0.02)


def test_gradient_is_the_slope(fitted):
    _, network, fit = fitted
    shares = uniform_shares(network, 0.537)
    rates, dilated = (torch.stack([s[n] for s in shares]).double() for n in ('sites', 'dilated'))
    rates.requires_grad_(True)
    fit.ratio(named(rates, dilated)).backward()
    assert rates.grad.isfinite().all()
    step = 1e-4
    for index in (0, 5, 15):
        ends = []
        for sign in (-1, 1):
            moved = rates.detach().clone()
            moved[index] += sign * step
            ends.append(fit.ratio(named(moved, dilated)))
        slope = (ends[1] - ends[0]) / (2 * step)
        assert rates.grad[index].item() == pytest.approx(slope.item(), rel=1e-2, abs=1e-5)


def test_block_ratios_are_against_the_static_block(fitted):
    model, network, fit = fitted
    found = model.network(network, {'sites': 1.0, 'dilated': 1.0}).blocks
    torch.testing.assert_close(
        fit.block_ratios(uniform_shares(network, 1)),
        torch.tensor([b.ratio for b in found]).float(),
        rtol=1e-4,
        atol=0,
    )


def test_basic_blocks_are_fitted():
    model, network = LatencyModel('tx2'), resnet(18, (64, 64), granularity='2-2-1-1')
    fit = fit_latency(model, network, tries=8)
    assert fit.error <= 0.02
    assert fit.ratio(uniform_shares(network, 1)).item() == pytest.approx(
        model.network(network, {'sites': 1.0, 'dilated': 1.0}).ratio, rel=1e-5
    )


def test_blocks_that_run_whole_or_not_at_all_are_fitted_exactly():
    """Their expected latency is a line in the share of images."""
    model, network = LatencyModel('tx2'), resnet(50, (64, 96), granularity='2-all-1-all')
    fit = fit_latency(model, network, tries=4)
    shares = uniform_shares(network, 0.375)
    wanted = model.network(network, 0.375).blocks
    whole = [index for index, block in enumerate(network.blocks) if block.granularity == 'all']
    ours = fit.blocks_us(shares)
    for index in whole:
        assert ours[index].item() == pytest.approx(wanted[index].dynamic_us, rel=1e-6)


def test_dense_layers_are_fitted():
    blocks = tuple(
        dense_layer(f'layer.{i}', 0, 16 + 8 * i, 32, 8, (16, 24), granularity=2) for i in range(2)
    )
    model, network = LatencyModel('tx2'), NetworkSpec('dense', (64, 96), blocks)
    assert fit_latency(model, network, tries=8).error <= 0.02


@pytest.mark.parametrize(
    ('granularity', 'groups'), [(None, 2), ('4-4-2-1', '2-none-2-2'), ('all', 4)], ids=str
)
def test_channels_are_an_axis_of_the_fit(granularity, groups):
    backbone = TorchLASResNet(18, granularity, channel_groups=groups)
    network = describe_backbone(backbone, (64, 64))
    model = LatencyModel('tx2')
    fit = fit_latency(model, network, tries=16)
    assert fit.error < 0.08
    for rate in (0.25, 1.0):
        shares = uniform_shares(network, rate)
        channels = [part['channels'] for part in shares if 'channels' in part]
        for share in channels:  # to a knot, where the fit is the predictor
            share.copy_((16 * share).round() / 16)
        patches = [part for part in shares if 'sites' in part]
        for part in patches:
            part['sites'].fill_(1.0)
            part['dilated'].fill_(1.0)
        given = {'channels': float(channels[0])}
        if granularity is not None:
            given |= {'branch': 1.0} if granularity == 'all' else {'sites': 1.0, 'dilated': 1.0}
        wanted = model.network(network, given)
        assert fit.ratio(shares).item() == pytest.approx(wanted.ratio, rel=1e-5)


def test_latency_teaches_channels():
    backbone = TorchLASResNet(18, None, channel_groups=2)
    network = describe_backbone(backbone, (64, 64))
    fit = fit_latency(LatencyModel('v100'), network, tries=4)
    shares = [{'channels': torch.tensor(0.6, requires_grad=True)} for _ in network.blocks]
    fit.ratio(shares).backward()
    gradients = torch.stack([part['channels'].grad for part in shares])
    assert gradients.isfinite().all()
    assert gradients.sum() > 0
