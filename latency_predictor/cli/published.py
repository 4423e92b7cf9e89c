"""Commands ``table1`` to ``table3`` and ``figure``: the papers' latencies and ours."""

import argparse
from itertools import zip_longest

from ..model import LatencyModel
from ..network import parse_granularity
from ..plots import check_suffix, plot_laudnet, render
from ..release import released_ms
from ..release.networks import BATCHES, NETWORKS
from ..release.networks import MODES as RELEASED_MODES
from ..release.published import LINES, PANELS, reproduced_ms
from ..tables import TABLE_2, TABLE_3, cell_errors, detection_table, fusion_table
from . import arguments as args
from .output import Answer, emit, write_whole


def add_parsers(subparsers: argparse._SubParsersAction) -> None:
    one = subparsers.add_parser('table1', help='operator fusion, one block of stage 1 on V100')
    one.add_argument(
        '--block',
        default='layer1.0',
        choices=('layer1.0', 'layer1.1'),
        help='first block of the stage (default), or a later one with 4 x its input',
    )
    args.add_output(one)
    one.set_defaults(run=run_table_1)
    _add_figure(subparsers)
    _add_release(subparsers)
    for name, table, says in (
        ('table2', TABLE_2, 'object detection, three devices'),
        ('table3', TABLE_3, 'instance segmentation, three devices'),
    ):
        parser = subparsers.add_parser(name, help=says)
        args.add_output(parser)
        parser.set_defaults(run=run_detection, table=table, title=f'{name}: {says}')


def _add_release(subparsers: argparse._SubParsersAction) -> None:
    release = subparsers.add_parser('release', help="LAUDNet's released simulator, reproduced")
    release.add_argument('--device', default='v100', choices=tuple(BATCHES))
    release.add_argument('--network', default='resnet50', choices=NETWORKS)
    release.add_argument('--mode', default='spatial', choices=RELEASED_MODES)
    release.add_argument('--rates', default='0.3,0.5,0.7,1', metavar='GRID', help='rates to run at')
    release.add_argument(
        '--grains',
        default='4-4-2-1',
        metavar='NET',
        help='S of each stage, or channels per group in mode channel (default: %(default)s)',
    )
    args.add_output(release)
    release.set_defaults(run=run_release)


def run_release(arguments: argparse.Namespace) -> None:
    grains: tuple = parse_granularity(arguments.grains, 4, '--grains')
    run = arguments.device, arguments.network, arguments.mode
    static = released_ms(*run[:2])
    rows = [
        (*run, rate, static, found, found / static)
        for rate in args.numbers(arguments.rates, '--rates')
        for found in [released_ms(*run, rate, grains)]
    ]
    columns = ('device', 'network', 'mode', 'rate', 'static ms', 'ms per image', 'r_l')
    title = f'LAUDNet release, batch {BATCHES[arguments.device]}, convolutional stems left out'
    emit(Answer(title, columns, rows), arguments.form, arguments.output)


def _add_figure(subparsers: argparse._SubParsersAction) -> None:
    figure = subparsers.add_parser('figure', help='accuracy over latency as LAUDNet prints it')
    figure.add_argument('name', choices=('laudnet',), help='which figure')
    args.add_output(figure)
    figure.set_defaults(run=run_figure)


def run_figure(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if output is not None and arguments.form == 'table':
        check_suffix(output)
        write_whole(output, render(plot_laudnet(), output))
        print(f'wrote {output}')
        return
    rows = [
        (line.label, device, top1, printed, again, 100 * (again / printed - 1) if again else None)
        for family, device in PANELS
        for line in LINES
        if line.family == family and device in line.latency_ms
        for top1, printed, again in zip_longest(
            line.top1, line.latency_ms[device], reproduced_ms(line, device)
        )
    ]
    columns = ('network', 'device', 'top-1 %', 'figure ms', 'release ms', 'error %')
    notes = (
        "release: our reproduction of the authors' simulator, at the rate that the MACs imply",
        '--output FILE draws it: .png, .pdf or .svg',
    )
    emit(Answer("LAUDNet's figure", columns, rows, notes), arguments.form, output)


def run_table_1(arguments: argparse.Namespace) -> None:
    rows = [
        (
            *row.fused,
            row.published_us,
            row.predicted_us,
            100 * (row.predicted_us / row.published_us - 1),
        )
        for row in fusion_table(LatencyModel('v100'), arguments.block)
    ]
    emit(
        Answer(
            f'Table 1: operator fusion, {arguments.block} of ResNet-101, S = 4, r = 0.6, V100',
            ('masker-conv1', 'gather-conv2', 'scatter-add', 'paper us', 'predicted us', 'error %'),
            rows,
        ),
        arguments.form,
        arguments.output,
    )


def run_detection(arguments: argparse.Namespace) -> None:
    cells = detection_table(arguments.table)
    rows = [
        (
            c.row.framework,
            c.row.granularity or 'static',
            c.row.target,
            c.row.gmacs,
            c.activation_rate,
            c.device,
            c.published_ms,
            c.predicted_ms,
            100 * c.error,
            c.published_ratio,
            c.predicted_ratio,
        )
        for c in cells
    ]
    errors = cell_errors(cells)
    emit(
        Answer(
            arguments.title,
            (
                'framework',
                'S_net',
                't',
                'G MACs',
                'r',
                'device',
                'paper ms',
                'predicted ms',
                'error %',
                'paper r_l',
                'predicted r_l',
            ),
            rows,
            (
                f'MAPE {100 * errors["mape"]:.2f} %, worst {100 * errors["worst"]:.1f} %, '
                f'worst error of r_l {errors["worst_ratio"]:.3f}, '
                f'rank correlation {errors["spearman"]:.4f}',
            ),
            {'errors': errors},
        ),
        arguments.form,
        arguments.output,
    )
