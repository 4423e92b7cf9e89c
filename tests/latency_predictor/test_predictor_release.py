"""The authors' released simulator, reproduced: operators, networks, and LAUDNet's figure."""

import json
from pathlib import Path

import pytest

from latency_predictor.cli import main
from latency_predictor.release import released_ms
from latency_predictor.release.gates import dynamic_squeeze_excitation, squeeze_excitation
from latency_predictor.release.hardware import Hardware
from latency_predictor.release.networks import BATCHES
from latency_predictor.release.operators import (
    Conv,
    Patches,
    addition,
    average,
    busiest_share,
    convolution,
    copy,
    dynamic_convolution,
    elementwise,
    fully_connected,
    linear,
    scatter_addition,
)
from latency_predictor.release.published import LINES, reproduced_ms
from latency_predictor.release.transformers import TRANSFORMERS, Shares, network, norm

DATA = Path(__file__).with_name('data')
OPERATORS = json.loads((DATA / 'release_operators.json').read_text())
NETWORKS = json.loads((DATA / 'release_networks.json').read_text())

CONVS = {
    'conv 256->64 56x56 k1': Conv(256, 64, 56, 56),
    'conv 64->64 56x56 k3': Conv(64, 64, 56, 56, 3),
    'conv 128->128 56x56 k3 s2': Conv(128, 128, 28, 28, 3, 2),
    'conv 512->1024 28x28 k1 s2': Conv(512, 1024, 14, 14, 1, 2),
    'conv 512->512 7x7 k3': Conv(512, 512, 7, 7, 3),
    'conv 208->208 14x14 k3 g26': Conv(208, 208, 14, 14, 3, 1, 26),
    'masker_conv1 fused (c=1)': Conv(256, 65, 56, 56),
    'masker_conv1 layer mode (density 0)': Conv(256, 65, 56, 56, keeps=(1.0, 0.0)),
}
DRAWN = 'channel conv2 256->256 14x14 k3 c.5 (random, seed 0)'


def operators(hardware: Hardware, batch: int) -> dict[str, float]:
    """Seconds of each operator that a bottleneck or a linear layer needs, by its name."""
    patches = Patches.of(56, 56, 4, 0.5, batch)
    three, one = Conv(64, 64, 56, 56, 3), Conv(64, 256, 56, 56)
    fc = {(i, o): fully_connected(hardware, i, o, batch) for i, o in ((1024, 64), (64, 512))}
    pool = average(hardware, 1024, 14, 14, batch)
    masker = [fully_connected(hardware, *widths, batch) for widths in ((1024, 32), (32, 512))]
    return {
        **{name: convolution(hardware, conv, batch) for name, conv in CONVS.items()},
        'add 256x56x56': addition(hardware, 256, 56, 56, batch),
        'add 2048x7x7': addition(hardware, 2048, 7, 7, batch),
        'avg_pool 1024x14x14->1x1': pool,
        'fc 1024->64': fc[1024, 64],
        'fc 64->512': fc[64, 512],
        'channel masker cin1024 14x14 G2': pool + sum(masker),
        'gather 64x56x56 S4 r.5': copy(hardware, 64, 56, patches),
        'scatter 256x56x56 S4 r.5': copy(hardware, 256, 56, patches),
        'scatter_add 256x56x56 S4 r.5': scatter_addition(hardware, 256, 56, 56, patches, batch),
        'dynconv 64->64 56x56 k3 S4 r.5 indexed': dynamic_convolution(
            hardware, three, patches, batch, indexed=True
        ),
        'dynconv 64->64 56x56 k3 S4 r.5 gathered': dynamic_convolution(
            hardware, three, patches, batch, indexed=False
        ),
        'dynconv 64->256 56x56 k1 S4 r.5 gathered': dynamic_convolution(
            hardware, one, patches, batch, indexed=False
        ),
        'gelu 1x197x1344': elementwise(hardware, 197, 1344, batch),
        'linear 197x448->1344': linear(hardware, 197, 448, 1344, batch),
    }


@pytest.mark.parametrize('case', OPERATORS)
def test_every_operator_is_the_simulator_s_to_two_in_a_thousand(case):
    device, _, batch = case.split()
    hardware, wanted = Hardware.of(device), OPERATORS[case]
    for name, seconds in operators(hardware, int(batch)).items():
        assert seconds * 1e6 == pytest.approx(wanted[name], rel=2e-3), name
    drawn = Conv(256, 256, 14, 14, 3, keeps=(0.5, 0.5))
    found = convolution(hardware, drawn, int(batch)) * 1e6
    assert found == pytest.approx(wanted[DRAWN], rel=0.03)  # theirs is one draw


# Theirs is not known to the last rounding for S x S patches: the worst of 48 cells is 1.2 % off.
TRANSFORMER = json.loads((DATA / 'release_t2t_vit19.json').read_text())
TOLERANCE = {'static': 1e-6, 'layer': 2e-4, 'channel': 2e-3, 'spatial': 0.01}
BEYOND = {('rtx3060', 'resnet101', 'spatial', 0.3): 0.013}


@pytest.mark.parametrize(
    'row', [r for r in NETWORKS if 'resnet' in r[1]], ids=lambda row: '-'.join(map(str, row[:4]))
)
def test_networks_are_the_simulator_s(row):
    device, network, mode, grains, cells = row
    for rate, wanted in cells:
        allowed = BEYOND.get((device, network, mode, rate), TOLERANCE[mode])
        found = released_ms(device, network, mode, rate, grains)
        assert found == pytest.approx(wanted, rel=allowed), rate


@pytest.mark.parametrize(
    ('network', 'device', 'wanted'),
    [
        ('regnety_400mf', 'v100', 0.18232),
        ('regnety_400mf', 'rtx3090', 0.18223),
        ('regnety_400mf', 'rtx3060', 0.26135),
        ('regnety_400mf', 'tx2', 3.6467),
        ('regnety_400mf', 'nano', 7.623),
        ('regnety_800mf', 'v100', 0.2871),
        ('regnety_800mf', 'rtx3090', 0.2802),
        ('regnety_800mf', 'rtx3060', 0.4062),
        ('regnety_800mf', 'tx2', 5.413),
        ('regnety_800mf', 'nano', 12.527),
    ],
)
def test_squeeze_and_excitation_in_whole_networks(network, device, wanted):
    assert released_ms(device, network) == pytest.approx(wanted, rel=5e-3)


@pytest.mark.parametrize('case', OPERATORS)
def test_what_stands_on_the_mean_of_a_map_is_theirs_to_a_few_per_cent(case):
    device, _, batch = case.split()
    hardware, images, wanted = Hardware.of(device), int(batch), OPERATORS[case]
    patches = Patches.of(14, 14, 2, 0.5, images)
    found = {
        'se 208x14x14 sq 52': squeeze_excitation(hardware, 208, 52, 14, images),
        'dynamic_se 208x14x14 sq 52 S2 r.5': dynamic_squeeze_excitation(
            hardware, 208, 52, 14, patches, images
        ),
        'softmax 1x7x197x197': norm(hardware, images * 7 * 197, 197),
        'layernorm 1x197x448': norm(hardware, images * 197, 448),
    }
    for name, seconds in found.items():
        assert seconds * 1e6 == pytest.approx(wanted[name], rel=0.04), name


@pytest.mark.parametrize('device', TRANSFORMER)
def test_transformers_are_the_simulator_s_to_half_a_per_cent(device):
    wanted = TRANSFORMER[device]
    modes = {'layer': 'layer', 'token': 'spatial', 'head': 'channel'}
    found = {
        (name, rate): (released_ms(device, 't2t_vit_19', mode, float(rate)), cell)
        for name, mode in modes.items()
        for rate, cell in wanted[name].items()
    }
    found['static'] = released_ms(device, 't2t_vit_19'), wanted['static']
    for name in ('deit_s', 'deit_b'):
        found[name] = released_ms(device, name), wanted[f'{name}_blocks']
    for name, (again, cell) in found.items():
        assert again == pytest.approx(cell, rel=5e-3), name


@pytest.mark.parametrize('device', TRANSFORMER)
def test_all_policies_of_a_transformer_at_once(device):
    """In their numbers five of seven heads are alive whatever the rate of tokens and blocks."""
    hardware, batch, net = Hardware.of(device), BATCHES[device], TRANSFORMERS['t2t_vit_19']
    for rate, cell in TRANSFORMER[device]['all_'].items():
        shares = Shares(tokens=float(rate), heads=5 / 7, blocks=float(rate))
        found = 1e3 * network(hardware, net, batch, shares) / batch
        assert found == pytest.approx(cell, rel=0.011), rate


def test_the_busiest_tile_is_the_expected_maximum_of_draws():
    import numpy as np

    generator = np.random.default_rng(0)
    active = generator.random((20000, 16, 8)) < 0.3  # 16 tiles of 8 channels
    drawn = active.mean(2).max(1).mean()
    assert busiest_share(128, 8, 0.3) == pytest.approx(drawn, abs=0.005)
    assert busiest_share(128, 128, 0.3) == pytest.approx(0.3)
    assert busiest_share(128, 1, 1.0) == 1 and busiest_share(128, 1, 0.0) == 0


def test_the_figure_is_reproduced_from_the_macs_of_its_points():
    """The figure is read to half a percent, and one rate for all blocks stands for many."""
    errors, patches = [], []
    for line in LINES:
        for device, times in line.latency_ms.items():
            found = [a / b - 1 for a, b in zip(reproduced_ms(line, device), times, strict=False)]
            independent = line.run and line.run[1] == 'spatial' and not line.rates
            (patches if independent else errors).extend(found)
    assert len(errors) == 42 + 4 + 26 + 3 + 12 and len(patches) == 18
    assert max(map(abs, errors)) < 0.038 and sum(map(abs, errors)) / len(errors) < 0.011
    # Independent patches have more neighbours: fewer of them make the same MACs.
    assert all(-0.13 < error < 0 for error in patches)


def test_the_figure_is_drawn_and_listed(capsys, tmp_path):
    path = tmp_path / 'laudnet.png'
    assert main(['figure', 'laudnet', '--output', str(path)]) == 0
    assert path.read_bytes().startswith(b'\x89PNG')
    capsys.readouterr()
    assert main(['figure', 'laudnet', '--json']) == 0
    rows = json.loads(capsys.readouterr().out)['rows']
    assert len(rows) == sum(len(times) for line in LINES for times in line.latency_ms.values())
    assert rows[0]['network'] == 'ResNet-50' and abs(rows[0]['error %']) < 0.1


def test_the_release_on_the_command_line(capsys):
    command = ['release', '--device', 'tx2', '--mode', 'channel', '--grains', '2-2-2-2', '--json']
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)['rows']
    assert rows[1]['ms per image'] == pytest.approx(9.2269, rel=1e-3)
    assert main([*command[:-2], '8-2-2-2']) == 2
    assert 'grains: got' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('tx3', 'resnet50'), "device: got 'tx3'; choose one of v100"),
        (('tx2', 'resnet34'), "network: got 'resnet34'; choose one of resnet50"),
        (('tx2', 'resnet50', 'joint'), "mode: got 'joint'; choose one of static, spatial"),
        (('tx2', 'resnet50', 'layer', 2), 'rate: got 2; give a number from 0 to 1'),
        (('tx2', 'resnet50', 'layer', 1, (1, 1)), r'grains: got \(1, 1\); give one for each'),
    ],
)
def test_what_the_release_does_not_know_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        released_ms(*arguments)
