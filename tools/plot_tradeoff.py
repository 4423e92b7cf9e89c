"""Draw accuracy over FLOPs and over predicted latency, from the reports of several test runs.

Each test by tools/test.py leaves a latency_report.json with its metrics. Runs with the same label
are joined to a curve; by default the label is S_net.

Examples:
    python tools/plot_tradeoff.py work_dirs/t07 work_dirs/t05 work_dirs/t04 --out tradeoff.png
    python tools/plot_tradeoff.py kd=work_dirs/a plain=work_dirs/b --metric coco/bbox_mAP_50
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from las_mm.cli import run_cli
from las_mm.reports.masks import save_figure
from las_mm.reports.tradeoff import plot_tradeoff, read_run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('reports', nargs='+', help='reports or their folders, or LABEL=REPORT')
    parser.add_argument('--metric', help="the accuracy; by default the test's first metric")
    parser.add_argument('--static', type=float, help='accuracy of the static network')
    parser.add_argument('--out', default='tradeoff.png', help='.png, .pdf or .svg to write')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = []
    for entry in args.reports:
        label, _, path = entry.rpartition('=')
        runs.append(read_run(path, args.metric, label or None))
    save_figure(plot_tradeoff(runs, args.metric or 'accuracy', args.static), args.out)
    print(f'{args.out} written: {len(runs)} runs')


if __name__ == '__main__':
    run_cli(main)
