"""Commands that explore: sweep, search, plot, table1 to table3."""

import csv
import io
import json

import pytest

from latency_predictor import LatencyModel, resnet
from latency_predictor.cli import main


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_sweep_csv(capsys):
    code, out, _ = run(capsys, 'sweep', '--device', 'v100,tx2', '--rates', '0.2:1:0.4', '--csv')
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 2 * (7 + 5 + 3 + 1) * 3
    assert {row['r'] for row in rows} == {'0.2', '0.6', '1.0'}


def test_search_json_recommends_a_ranked_choice(capsys):
    code, out, _ = run(capsys, 'search', '--device', 'tx2', '--rate', '0.5', '--top', '3', '--json')
    content = json.loads(out)
    ranks = [row['rank'] for row in content['rows']]
    assert code == 0 and ranks[:3] == [1, 2, 3]
    (knee,) = (row['S_net'] for row in content['rows'] if row['knee'])
    assert knee == content['searches'][0]['recommended']
    assert 'less flexible' in content['notes'][-1]


def test_search_takes_candidates_for_sizes_that_do_not_divide(capsys):
    code, out, _ = run(
        capsys,
        'search',
        '--input-size',
        '800x1344',
        '--candidates',
        '1,4,7',
        '--network',
        'resnet50',
        '--json',
    )
    assert code == 0 and set(json.loads(out)['searches'][0]['stage_ratios'][2]) == {'1', '4', '7'}


@pytest.mark.parametrize(
    ('figure', 'suffix', 'magic'),
    [('rate', '.png', b'\x89PNG'), ('granularity', '.svg', b'<?xml'), ('rate', '.pdf', b'%PDF')],
)
def test_plots(capsys, tmp_path, figure, suffix, magic):
    path = tmp_path / f'figure{suffix}'
    code, out, _ = run(capsys, 'plot', figure, '--network', 'resnet50', '--output', str(path))
    assert code == 0 and str(path) in out and path.read_bytes().startswith(magic)


def test_frontier_plot_from_csv(capsys, tmp_path):
    points = tmp_path / 'points.csv'
    points.write_text('label,latency_ms,accuracy\nstatic,10,76\nLAS,7,76.5\nLAS,5,75\n')
    path = tmp_path / 'frontier.png'
    code, _, _ = run(capsys, 'plot', 'frontier', '--csv', str(points), '--output', str(path))
    assert code == 0 and path.stat().st_size > 1000


@pytest.mark.parametrize(('table', 'rows'), [('table1', 4), ('table2', 24), ('table3', 12)])
def test_tables(capsys, table, rows):
    code, out, _ = run(capsys, table, '--json')
    assert code == 0 and len(json.loads(out)['rows']) == rows
    code, out, _ = run(capsys, table)
    assert code == 0 and 'paper' in out


def test_skipping_modes_of_block(capsys):
    code, out, _ = run(capsys, 'block', '--mode', 'layer', '--rate', '0.5', '--json')
    expected = LatencyModel('v100').skipping_block(resnet(101, 224).blocks[1], 0.5, 'layer')
    assert code == 0 and json.loads(out)['ratio'] == pytest.approx(expected.ratio)


def test_network_file_and_own_device_file(capsys, tmp_path):
    import yaml

    from latency_predictor import load_device

    resnet(18, 160, '4-4-2-1').save(tmp_path / 'net.yaml')
    (tmp_path / 'mine.yaml').write_text(yaml.safe_dump({'mine': load_device('orin').to_dict()}))
    code, out, _ = run(
        capsys,
        'network',
        '--network',
        str(tmp_path / 'net.yaml'),
        '--device',
        str(tmp_path / 'mine.yaml'),
        '--granularity',
        '2-2-1-1',
        '--json',
    )
    assert code == 0 and json.loads(out)['rows'][0]['device'] == 'mine'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['sweep', '--rates', '0.5,x'], "--rates: got '0.5,x'; give numbers like"),
        (['sweep', '--rates', '0:1:-1'], "--rates: got '0:1:-1'"),
        (['sweep', '--rates', '0.5,1.5'], 'activation_rates: got 1.5'),
        (['search', '--candidates', '0,1'], "--candidates: got '0,1'; give integers"),
        (['search', '--top', '0'], '--top: got 0'),
        (['search', '--tolerance', '-1'], '--tolerance: got -1'),
        (['plot', 'frontier', '--output', 'x.png'], '--csv: got nothing'),
        (['plot', 'frontier', '--csv', 'none.csv', '--output', 'x.png'], 'give a file that exists'),
        (['plot', 'rate', '--device', 'all', '--output', 'x.png'], 'a plot shows one device'),
        (
            ['plot', 'rate', '--output', 'x.doc'],
            "'x.doc'; give a name that ends in .png, .pdf, .svg",
        ),
        (['block', '--mode', 'layer', '--dilated-rate', '0.5'], '--dilated-rate'),
    ],
)
def test_user_errors_are_one_line_and_exit_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2 and message in err and err.count('\n') == 1 and out == ''
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('label,latency\na,1\n', "no column 'accuracy'"),
        ('label,latency_ms,accuracy\n', 'got no data'),
        (
            'label,latency_ms,accuracy\na,fast,1\n',
            'line 2: got a,fast,1; give numbers',
        ),
    ],
)
def test_bad_frontier_files(capsys, tmp_path, content, message):
    (tmp_path / 'points.csv').write_text(content)
    code, _, err = run(
        capsys,
        'plot',
        'frontier',
        '--csv',
        str(tmp_path / 'points.csv'),
        '--output',
        str(tmp_path / 'x.png'),
    )
    assert code == 2 and message in err and err.count('\n') == 1
