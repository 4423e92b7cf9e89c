"""S_net and G_net chosen at once."""

import itertools
import json

import pytest

from latency_predictor import LatencyModel, inverted_residual, resnet
from latency_predictor.cli import main
from latency_predictor.joint import search_joint
from latency_predictor.network import NetworkSpec

SHARES = {'sites': 0.6, 'channels': 0.7}


def test_the_choice_is_the_best_of_all_networks():
    model, network = LatencyModel('tx2'), resnet(50, 64)
    sizes, groups = [(2, 4), (2,), (1, 2), (1,)], (1, 8)
    found = search_joint(model, network, SHARES, sizes, groups, tolerance=0)
    s_net, g_net = zip(*found.fastest, strict=True)

    def latency(s, g):
        return model.network(network.with_granularity(s).with_channel_groups(g), SHARES).dynamic_ms

    best = latency(s_net, g_net)
    assert found.recommended == found.fastest and found.dynamic_ms == pytest.approx(best)
    assert found.static_ms == pytest.approx(model.network(network).static_ms)
    every = itertools.product(itertools.product(*sizes), itertools.product(*[groups] * 4))
    assert best <= min(latency(s, g) for s, g in every) + 1e-9


def test_the_recommended_pair_is_the_finest_that_is_good_enough():
    found = search_joint(LatencyModel('tx2'), resnet(50, 224), SHARES)
    for stage, chosen in zip(found.stage_ratios, found.recommended, strict=True):
        enough = [pair for pair, ratio in stage.items() if ratio <= min(stage.values()) + 0.05]
        assert chosen == min(enough)
    assert found.ratio == found.dynamic_ms / found.static_ms


def test_blocks_without_a_shortcut_skip_channels_alone():
    blocks = (
        inverted_residual('a', 0, 16, 24, (32, 32), stride=2),
        inverted_residual('b', 0, 24, 24, (16, 16)),
    )
    model, network = LatencyModel('tx2'), NetworkSpec('mobile', (64, 64), blocks)
    found = search_joint(model, network, SHARES, [(2,)], (4,))
    narrower = model.block(blocks[0].with_channel_group(4), SHARES).dynamic_us
    both = model.block(blocks[1].with_granularity(2).with_channel_group(4), SHARES).dynamic_us
    assert found.dynamic_ms == pytest.approx((narrower + both) * 1e-3)
    assert model.skipping_block(blocks[0], 0.7, 'joint', 4).dynamic_us == pytest.approx(narrower)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'channel_groups': (3,)}, r'channel_groups: got \(3,\); give divisors .* of stage 1'),
        ({'granularities': [(1,)]}, 'granularities: got 1 stages; give the 4 of resnet50'),
        ({'shares': {'sites': 0.5}}, 'channels: got None; give the share'),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        search_joint(LatencyModel('tx2'), resnet(50, 64), **{'shares': SHARES, **options})


def test_joint_search_on_the_command_line(capsys):
    command = ['search', '--mode', 'joint', '--network', 'resnet18', '--device', 'tx2', '--json']
    assert main([*command, '--rate', '0.6', '--channel-rate', '0.7', '--top', '1']) == 0
    content = json.loads(capsys.readouterr().out)
    assert {row['stage'] for row in content['rows']} == {1, 2, 3, 4}
    assert sum(row['knee'] for row in content['rows']) == 4
    assert content['notes'][0].startswith('tx2: S_net ')
    assert main([*command[:2], 'layer']) == 2
    assert 'a search chooses of spatial, joint' in capsys.readouterr().err
