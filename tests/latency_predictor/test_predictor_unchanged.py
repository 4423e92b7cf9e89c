"""Predictions that do not change with the code: numbers of before blocks were lists of layers."""

import json
from pathlib import Path

import pytest
import yaml

from latency_predictor import LatencyModel, NetworkSpec, build_network, network_macs

DATA = Path(__file__).with_name('data')
ROWS = json.loads((DATA / 'predictions.json').read_text())
WITH_HEAD = ('resnet50', 'regnety_800mf')


@pytest.mark.parametrize('row', ROWS, ids=lambda row: '-'.join(map(str, row[:5])))
def test_latency_and_macs_are_the_same_to_the_bit(row):
    name, size, granularity, device, dilated, static_ms, dynamic_ms, macs = row
    network = build_network(name, size, granularity, head=name in WITH_HEAD)
    shares = {'sites': 0.5, 'dilated': dilated}
    found = LatencyModel(device).network(network, shares)
    assert (found.static_ms, found.dynamic_ms) == (static_ms, dynamic_ms)
    counted = network_macs(network, shares)
    assert [counted.static, counted.dynamic] == macs


# Microseconds on TX2 at r = 0.5 of the blocks of an older file: bottlenecks, one with the stride in
# its first convolution, one dilated; basic blocks, one with both convolutions dilated; gated ones.
OLDER = [
    149.97102435253188,
    227.10970235794352,
    153.8374539363484,
    157.95403685092126,
    174.25173044710732,
    182.85386934673366,
    234.5334364128334,
    106.60728256667954,
    94.84409225615255,
    78.28701455997938,
]


@pytest.mark.parametrize('suffix', ['.yaml', '.json'])
def test_a_file_of_kinds_of_blocks_is_still_read(tmp_path, suffix):
    network = NetworkSpec.load(DATA / 'network_of_kinds.yaml')
    found = LatencyModel('tx2').network(network, 0.5)
    assert [block.dynamic_us for block in found.blocks] == OLDER
    assert found.static_ms == 2.022723656745265
    macs = network_macs(network, 0.5)
    assert (macs.static, macs.dynamic) == (233648608, 162652608.0)
    path = tmp_path / f'new{suffix}'
    network.save(path)
    assert NetworkSpec.load(path) == network


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'dense'}, r"blocks\[0\], kind: got 'dense'; choose one of bottleneck, basic"),
        ({'colour': 'red'}, r"blocks\[0\]: got the field 'colour'; choose of name, stage"),
        ({'height': '8'}, r"blocks\[0\]: block 'alayer1.2', height: got '8'; give an integer"),
        ({'granularity': 99}, r'granularity: got 99; give'),
    ],
)
def test_an_older_file_with_a_fault_is_refused(changes, message):
    entry = yaml.safe_load((DATA / 'network_of_kinds.yaml').read_text())
    entry['blocks'][0].update(changes)
    with pytest.raises(ValueError, match=message):
        NetworkSpec.from_dict(entry)
