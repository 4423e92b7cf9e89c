"""The command line end to end, in a process of its own and in this one."""

import csv
import io
import json
import subprocess
import sys

import pytest

from latency_predictor import LatencyModel, resnet
from latency_predictor.cli import main


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_module_runs_without_torch():
    code = (
        'import sys; sys.modules["torch"] = sys.modules["las_mm"] = None; '
        'from latency_predictor.cli import main; sys.exit(main(["network", "--json"]))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)['rows'][0]['device'] == 'v100'


@pytest.mark.parametrize(
    'arguments', [['--help'], ['block', '--help'], ['network', '--help'], ['devices', '--help']]
)
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert 'usage: python -m latency_predictor' in capsys.readouterr().out


def test_devices_table_and_one_device(capsys):
    code, out, _ = run(capsys, 'devices')
    assert code == 0 and 'NVIDIA Tesla V100' in out
    code, out, _ = run(capsys, 'devices', 'TX2', '--csv')
    rows = {row['quantity']: row for row in csv.DictReader(io.StringIO(out))}
    assert (rows['offchip_bandwidth']['value'], rows['offchip_bandwidth']['unit']) == (
        '59.7',
        'GB/s',
    )


def test_block_json_equals_the_python_api(capsys):
    code, out, _ = run(
        capsys, 'block', '--device', 'tx2', '--granularity', '4-4-2-1', '--rate', '0.6', '--json'
    )
    expected = LatencyModel('tx2').block(resnet(101, 224, '4-4-2-1').blocks[1], 0.6)
    assert code == 0 and json.loads(out)['ratio'] == expected.ratio


def test_network_solves_for_the_macs_ratio(capsys):
    code, out, _ = run(capsys, 'network', '--macs-ratio', '0.5', '--device', 'v100,tx2', '--json')
    content = json.loads(out)
    assert code == 0 and [row['device'] for row in content['rows']] == ['v100', 'tx2']
    assert content['macs_dynamic'] / content['macs_static'] == pytest.approx(0.5, abs=1e-6)


def test_network_reads_a_latency_report(capsys, tmp_path):
    network = resnet(50, 224, '4-4-2-1')
    report = {
        'network': network.to_dict(),
        'blocks': [
            {'name': b.name, 'stage': b.stage, 'activation_rate': 0.4, 'dilated_rate': 0.5}
            for b in network.blocks
        ],
    }
    path = tmp_path / 'latency_report.json'
    path.write_text(json.dumps(report))
    code, out, _ = run(capsys, 'network', '--rates', str(path), '--per-block', '--json')
    rows = json.loads(out)['rows']
    expected = LatencyModel('v100').network(network, {'sites': 0.4, 'dilated': 0.5})
    assert code == 0 and [r['dynamic us'] for r in rows] == [b.dynamic_us for b in expected.blocks]
    del report['blocks'][2]['activation_rate']
    path.write_text(json.dumps(report))
    code, _, err = run(capsys, 'network', '--rates', str(path))
    assert code == 2 and "no activation_rate of block 'layer1.2'" in err


def test_output_file_is_written_whole_or_not_at_all(capsys, tmp_path):
    path = tmp_path / 'network.csv'
    code, out, _ = run(capsys, 'network', '--csv', '--output', str(path))
    assert code == 0 and str(path) in out and path.read_text().startswith('device,static ms')
    code, _, err = run(capsys, 'network', '--rate', '2', '--output', str(tmp_path / 'bad.csv'))
    assert code == 2 and 'give a number from 0 to 1' in err
    code, _, err = run(capsys, 'network', '--output', str(tmp_path / 'no' / 'such.csv'))
    assert code == 2 and 'create it first' in err
    assert [p.name for p in tmp_path.iterdir()] == ['network.csv']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['network', '--rate', '-0.5'], 'sites: got -0.5; give a number from 0 to 1'),
        (
            ['network', '--granularity', '4-4-15-1'],
            "granularity: got 15; give 'all' or an integer from 1",
        ),
        (['network', '--granularity', '4-4'], 'give 4 integers'),
        (['network', '--network', 'vgg16'], "network: got 'vgg16'; choose one of"),
        (['network', '--device', 'v1'], "device: got 'v1'; choose one of v100"),
        (['network', '--device', ','], '--device: got nothing'),
        (['network', '--device', 'none.yaml'], 'give a file that exists'),
        (['network', '--precision', 'tf32'], "precision: got 'tf32'; choose one of fp32"),
        (['network', '--batch-size', '0'], 'batch_size: got 0'),
        (['network', '--input-size', 'big'], "--input-size: got 'big'; give one like"),
        (['network', '--input-size', '8'], 'input_size: got (8, 8)'),
        (['network', '--macs-ratio', '0'], 'macs_ratio: got 0'),
        (['network', '--rates', 'none.json'], "latency report: got 'none.json'; give"),
        (
            ['block', '--block', 'layer9'],
            "--block: got 'layer9'; choose one of layer1",
        ),
        (['block', '--dilated-rate', '3'], 'dilated: got 3'),
    ],
)
def test_user_errors_are_one_line_and_exit_2(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and message in err and err.count('\n') == 1 and out == ''


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['nonsense'],
        ['network', '--rate', 'half'],
        ['network', '--rate', '0.5', '--macs-ratio', '0.5'],
    ],
)
def test_wrong_usage_exits_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
