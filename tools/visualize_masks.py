"""Draw which patches a dynamic network computes: bright where computed, dim where skipped.

Each image becomes a row: the predictions, then the masks of each stage (averaged over its blocks)
or of each block, with the activation rate r.

Examples:
    python tools/visualize_masks.py CONFIG CHECKPOINT data/demo/val/*.jpg --limit 4
    python tools/visualize_masks.py CONFIG CHECKPOINT photos/ --level block --out blocks.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from las_mm.cli import add_common_arguments, load_config, run_cli
from las_mm.reports.masks import MaskPanel, draw_grid, mask_panels, save_figure
from las_mm.reports.prediction import Predictor, image_files


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('images', nargs='+', help='image files, or folders of them')
    parser.add_argument('--out', help='PNG to write; by default WORK_DIR/masks.png')
    parser.add_argument(
        '--level', choices=['stage', 'block'], default='stage', help='what a mask is of'
    )
    parser.add_argument('--limit', type=int, help='draw the first so many images only')
    parser.add_argument('--columns', type=int, default=6, help='most pictures side by side')
    parser.add_argument('--device', default='cpu', help='where to run, such as cuda:0')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    for field in ('limit', 'columns'):
        if getattr(args, field) is not None and getattr(args, field) < 1:
            raise ValueError(f'--{field}: got {getattr(args, field)}; it must be >= 1')
    predictor = Predictor(cfg, args.checkpoint, args.device)
    rows = []
    for path in image_files(args.images)[: args.limit]:
        prediction = predictor(path)
        masks = mask_panels(
            prediction.image, prediction.traces, args.level, input_size=prediction.input_size
        )
        rows.append([MaskPanel(path.name, prediction.painted), *masks])
    out = Path(args.out or Path(cfg.work_dir) / 'masks.png')
    save_figure(draw_grid(rows, args.columns), out)
    print(f'{len(rows)} images drawn in {out}')


if __name__ == '__main__':
    run_cli(main)
