"""Commands ``table1``, ``table2``, ``table3``: the paper's latencies and the predicted ones."""

import argparse

from ..model import LatencyModel
from ..tables import TABLE_2, TABLE_3, cell_errors, detection_table, fusion_table
from . import arguments as args
from .output import Answer, emit


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
    for name, table, says in (
        ('table2', TABLE_2, 'object detection, three devices'),
        ('table3', TABLE_3, 'instance segmentation, three devices'),
    ):
        parser = subparsers.add_parser(name, help=says)
        args.add_output(parser)
        parser.set_defaults(run=run_detection, table=table, title=f'{name}: {says}')


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
