"""Devices: the shipped file, one's own file, and what is refused."""

import copy

import pytest
import yaml

from latency_predictor import Device, device_names, load_device, load_devices


def test_shipped_devices_have_the_constants_of_table_4():
    table_4 = {
        'v100': (80, 64, 1500, 700),
        'gtx1080': (20, 64, 1700, 320),
        'tx2': (2, 128, 1300, 59.7),
        'nano': (1, 128, 921, 25.6),
    }
    for name, row in table_4.items():
        device = load_device(name)
        assert (
            device.processing_engines,
            device.lanes['fp32'],
            device.frequency,
            device.offchip_bandwidth,
        ) == row


def test_every_shipped_number_states_its_source():
    for device in load_devices():
        entry = device.to_dict()
        quantities = [
            *entry['lanes'].values(),
            *(q for key, q in entry.items() if key not in ('label', 'lanes')),
        ]
        assert all(
            q['unit'] and len(q['source']) > 5 and q['source'] != 'not stated' for q in quantities
        )


def test_names_ignore_case_and_cover_the_promised_devices():
    assert load_device('V100') == load_device('v100')
    promised = {
        'v100',
        'gtx1080',
        'tx2',
        'nano',
        'rtx3090',
        'rtx3060',
        'a100',
        'h100',
        'h200',
        'rtx4090',
        'orin',
        'epyc',
    }
    assert promised <= set(device_names())


def test_own_device_file_round_trip(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump({'mine': load_device('tx2').to_dict()}))
    mine = load_device(str(path))
    assert isinstance(mine, Device) and mine.name == 'mine'
    assert mine.offchip_bandwidth == load_device('tx2').offchip_bandwidth


def test_peak_is_lanes_times_frequency():
    # 64 lanes at 1500 MHz: 96 G multiply-accumulates per second and engine.
    assert load_device('v100').macs_per_second('fp32') == 96e9


def test_unknown_name_lists_the_allowed_ones():
    with pytest.raises(ValueError, match="device: got 'v99'; choose one of v100, gtx1080"):
        load_device('v99')


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='give a file that exists'):
        load_device(tmp_path / 'none.yaml')


def test_precision_a_device_lacks_is_refused():
    with pytest.raises(
        ValueError, match="precision: got 'tf32'; choose one of fp32, fp16.* on device 'v100'"
    ):
        load_device('v100').macs_per_second('tf32')


def _without_unit(entry):
    del entry['frequency']['unit']


def _wrong_unit(entry):
    entry['frequency']['unit'] = 'GHz'


def _bare_number(entry):
    entry['kernel_launch'] = 8


def _negative(entry):
    entry['offchip_bandwidth']['value'] = -1


def _missing(entry):
    del entry['processing_engines']


def _typo(entry):
    entry['freqency'] = entry.pop('frequency')


def _bad_precision(entry):
    entry['lanes']['fp8'] = entry['lanes']['fp32']


def _overlap(entry):
    entry['overlap'] = {'value': 1.5, 'unit': 'ratio', 'source': 'a test'}


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (_without_unit, "frequency: got no 'unit'"),
        (_wrong_unit, "frequency: got the unit 'GHz'; give it in MHz"),
        (_bare_number, 'kernel_launch: got 8; give {value'),
        (_negative, 'offchip_bandwidth: got -1; give a number >='),
        (_missing, 'processing_engines: got nothing; give it in count'),
        (_typo, "got the key 'freqency'; choose of"),
        (_bad_precision, "got the precision 'fp8'"),
        (_overlap, 'overlap: got 1.5; give a number from 0 to 1'),
    ],
)
def test_faulty_device_files_are_refused_in_one_line(tmp_path, spoil, message):
    entry = copy.deepcopy(load_device('tx2').to_dict())
    spoil(entry)
    path = tmp_path / 'faulty.yaml'
    path.write_text(yaml.safe_dump({'faulty': entry}))
    with pytest.raises(ValueError, match=message) as caught:
        load_device(path)
    assert '\n' not in str(caught.value) and "device 'faulty'" in str(caught.value)


@pytest.mark.parametrize('text', ['{unclosed: [', '', '- 1\n- 2\n'])
def test_files_that_are_no_device_are_refused(tmp_path, text):
    path = tmp_path / 'broken.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match='broken.yaml') as caught:
        load_device(path)
    assert '\n' not in str(caught.value)
