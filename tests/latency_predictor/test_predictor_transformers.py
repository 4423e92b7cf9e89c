"""Vision transformers in the paper-style model: operators, shares, networks by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from latency_predictor import (
    NETWORK_NAMES,
    EncoderSpec,
    LatencyModel,
    NetworkSpec,
    build_network,
    network_macs,
    rate_for_macs_ratio,
)
from latency_predictor.cli import main
from latency_predictor.encoder import operators_of
from latency_predictor.joint import search_joint
from latency_predictor.search import search_granularity
from latency_predictor.transformers import TRANSFORMER_NAMES
from latency_predictor.validation_transformers import TRANSFORMER_COLUMNS, transformer_rows

DATA = Path(__file__).parent / 'data'
ALL = ('tokens', 'heads', 'blocks')
LAYER = EncoderSpec('layer', 0, 384, 6, 1536, (14, 14), policies=ALL)


@pytest.mark.parametrize(
    ('name', 'gmacs'),
    # DeiT's and T2T-ViT's papers; plain attention in T2T's stem adds 2 * 64 * 3136^2.
    [('deit_t', 1.25), ('deit_s', 4.6), ('deit_b', 17.6), ('vit_b', 17.6), ('t2t_vit_14', 6.1)],
)
def test_networks_have_the_macs_of_their_papers(name, gmacs):
    assert name in NETWORK_NAMES
    assert network_macs(build_network(name, head=True)).static / 1e9 == pytest.approx(
        gmacs, rel=0.01
    )


@pytest.mark.parametrize('name', TRANSFORMER_NAMES)
def test_networks_are_written_and_read(name, tmp_path):
    network = build_network(name, (224, 320), '2').with_policies(ALL, 2)
    assert network.blocks[0].policies == ('tokens',) and network.blocks[1].policies == ALL
    network.save(tmp_path / 'network.yaml')
    assert NetworkSpec.load(tmp_path / 'network.yaml') == network


@pytest.mark.parametrize('device', ['v100', 'rtx3060', 'tx2'])
@pytest.mark.parametrize('name', ['deit_s', 'deit_b'])
def test_static_blocks_are_near_the_authors_simulator(device, name):
    """Two models of one machine; none is a measurement."""
    wanted = json.loads((DATA / 'release_t2t_vit19.json').read_text())[device][f'{name}_blocks']
    batch = 1 if device == 'tx2' else 128
    found = LatencyModel(device, batch_size=batch, tiles='divisors').network(build_network(name))
    blocks = found.static_ms - found.other_us * 1e-3
    assert blocks / batch == pytest.approx(wanted, rel=0.2)


@pytest.mark.parametrize('axis', ['tokens', 'heads', 'attention', 'mlp'])
def test_each_share_shortens_the_layer(axis):
    model = LatencyModel('tx2')
    shares = dict.fromkeys(('tokens', 'heads', 'attention', 'mlp'), np.ones(4))
    shares[axis] = np.array([0.25, 0.5, 0.75, 1.0])
    times = model.curve(LAYER, shares).dynamic_us
    assert (np.diff(times) > 0).all()
    one = model.block(LAYER, {name: share[1] for name, share in shares.items()})
    assert one.dynamic_us == pytest.approx(times[1])
    assert sum(o.total_us for o in one.operators) == pytest.approx(one.dynamic_us)


def test_all_shares_of_one_cost_the_static_layer_and_what_decides():
    model = LatencyModel('v100')
    static = model.block(LAYER.static())
    assert static.static_us == static.dynamic_us
    names = {operator.name for operator in static.operators}
    assert names >= {'norm1', 'qkv', 'scores', 'softmax', 'context', 'proj', 'fc1', 'gelu', 'fc2'}
    dynamic = model.block(LAYER, 1.0)
    extra = [o for o in dynamic.operators if 'policy' in o.name or 'gather' in o.name]
    extra += [o for o in dynamic.operators if o.name == 'indexing']
    assert len(extra) == 6
    assert dynamic.dynamic_us == pytest.approx(
        static.static_us + sum(o.total_us for o in extra), rel=1e-6
    )


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
def test_operators_compute_the_macs_that_are_counted(mode):
    layer = EncoderSpec('layer', 0, 96, 4, 192, (5, 6), policies=ALL, head_mode=mode)
    kept, heads = 13, 3
    shares = {'tokens': kept / layer.tokens, 'heads': heads / 4}
    counted = sum(
        macs * np.prod([shares.get(name, 1.0) for name in at]) for macs, at in layer.works
    )
    parts = operators_of(layer, kept, heads, 1)
    products = {'qkv', 'scores', 'context', 'proj', 'fc1', 'fc2'}
    computed = sum(
        o.patches * o.channels * o.height * o.width * o.macs_per_output
        for o in parts.attention + parts.mlp
        if o.name in products
    )
    assert computed == pytest.approx(counted)


def test_no_heads_leave_no_empty_products():
    names = [o.name for o in operators_of(LAYER, 10, 0, 2).attention]
    assert not {'qkv', 'scores', 'softmax', 'context', 'proj'} & set(names)
    assert LatencyModel('v100').block(LAYER, 0.0).dynamic_us > 0


def test_a_rate_is_solved_from_the_macs():
    network = build_network('deit_s').with_policies(ALL)
    rate = rate_for_macs_ratio(network, 0.5)
    assert network_macs(network, rate).ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(heads=5), 'heads: got 5; give a divisor'),
        (dict(policies=('pixels',)), "policies: got 'pixels'; choose one of tokens, heads, blocks"),
        (dict(head_mode='all'), 'head_mode: got'),
        (dict(grid=(0, 3)), 'grid: got'),
        (dict(hidden=0), 'hidden: got 0'),
    ],
)
def test_layers_are_checked(changes, words):
    options = dict(name='a', stage=0, width=24, heads=3, hidden=48, grid=(4, 4)) | changes
    with pytest.raises(ValueError, match=words):
        EncoderSpec(**options)


def test_what_has_no_meaning_is_refused():
    network, model = build_network('deit_t'), LatencyModel('v100')
    with pytest.raises(ValueError, match="'deit_t', a transformer; choose one of convolutions"):
        search_granularity(model, network)
    with pytest.raises(ValueError, match='a transformer'):
        search_joint(model, network, {'sites': 0.5, 'channels': 0.5})
    with pytest.raises(ValueError, match='heads are decided on one by one'):
        network.with_channel_groups(2)
    with pytest.raises(ValueError, match='give S in tokens'):
        network.with_granularity('all')
    with pytest.raises(ValueError, match='not a transformer'):
        build_network('resnet50').with_policies(ALL)


@pytest.mark.parametrize('mode', ['spatial', 'layer', 'channel', 'joint'])
def test_commands_take_transformers(mode, capsys):
    common = ['--network', 't2t_vit_14', '--mode', mode, '--json']
    assert main(['network', *common, '--shares', 'tokens=.6,mlp=.9']) == 0
    assert json.loads(capsys.readouterr().out)['macs_dynamic'] > 0
    assert main(['block', *common, '--block', 'encoder.1', '--rate', '0.6']) == 0
    shown = json.loads(capsys.readouterr().out)['block']
    assert shown['dynamic_us'] < shown['static_us']
    assert main(['network', *common, '--macs-ratio', '.8']) == 0


@pytest.mark.parametrize('command', ['search', 'sweep'])
def test_searches_refuse_transformers_in_one_line(command, capsys):
    assert main([command, '--network', 'deit_s']) != 0
    assert 'a transformer; choose one of convolutions' in capsys.readouterr().err


def test_shares_are_checked(capsys):
    assert main(['network', '--network', 'deit_s', '--shares', 'token=.5']) != 0
    assert '--shares' in capsys.readouterr().err
    assert main(['network', '--shares', 'sites=.5', '--macs-ratio', '.5']) != 0
    assert 'give one of them' in capsys.readouterr().err


def test_validation_puts_both_models_beside_each_other():
    rows = transformer_rows()
    assert len(rows) == 27 and all(len(row) == len(TRANSFORMER_COLUMNS) for row in rows)
    for name, policy, device, wanted, ours, _, *_ in rows:
        assert ours == pytest.approx(wanted, rel=0.2), (name, device)
        if policy == 'tokens' and device != 'tx2' and name == 't2t_vit_19':
            printed = json.loads((DATA / 'release_t2t_vit19.json').read_text())[device]['static']
            assert 0.85 < wanted / printed < 1  # its stem is the rest
