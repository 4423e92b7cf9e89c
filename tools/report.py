"""Make one HTML page of a test run: accuracy, FLOPs, latency, rates, masks with the detections.

Run tools/test.py first: the page shows its latency_report.json. The masks are drawn for a few test
images with the checkpoint that was tested. The page needs no network and no further file.

Examples:
    python tools/report.py CONFIG
    python tools/report.py CONFIG CHECKPOINT --images data/demo/val --limit 8 --out page.html
    python tools/report.py CONFIG --measured measured.json
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config

from las_mm.cli import add_common_arguments, load_config, run_cli
from las_mm.files import read_json, write_whole
from las_mm.reports.html import GalleryImage, gallery_image, render_page
from las_mm.reports.masks import mask_panels
from las_mm.reports.prediction import Predictor, image_files, spread, test_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config that was tested')
    parser.add_argument('checkpoint', nargs='?', help='default: the one that was tested')
    parser.add_argument('--report', help='default: WORK_DIR/latency_report.json')
    parser.add_argument('--measured', help='JSON list of {"device", "static_ms", "dynamic_ms"}')
    parser.add_argument('--images', nargs='+', help='files or folders; default: test images')
    parser.add_argument('--limit', type=int, default=6, help='images in the gallery, 0 for none')
    parser.add_argument('--level', choices=['stage', 'block'], default='stage', help='masks of')
    parser.add_argument('--device', default='cpu', help='where to run, such as cuda:0')
    parser.add_argument('--title', help='of the page; by default the name of the config')
    parser.add_argument('--out', help='HTML file to write; by default WORK_DIR/report.html')
    add_common_arguments(parser)
    return parser.parse_args()


def read_measured(path: str) -> list[dict]:
    """Measured latencies per device.

    Raises:
        FileNotFoundError, ValueError: If the file is missing or is something else.
    """
    rows = read_json('--measured', path)
    keys = ('device', 'static_ms', 'dynamic_ms')
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and set(keys) <= set(row) for row in rows
    ):
        raise ValueError(f'--measured: {path!r} must be a list of objects with {", ".join(keys)}')
    return rows


def make_gallery(cfg: Config, checkpoint: str, args: argparse.Namespace) -> list[GalleryImage]:
    """Predict a few images."""
    files: list = image_files(args.images) if args.images else test_images(cfg)
    predictor = Predictor(cfg, checkpoint, args.device)
    gallery = []
    for path in spread(files, args.limit):
        found = predictor(path)
        masks = mask_panels(found.image, found.traces, args.level, input_size=found.input_size)
        gallery.append(gallery_image(Path(path).name, found.painted, masks))
    return gallery


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.limit < 0:
        raise ValueError(f'--limit: got {args.limit}; it must be >= 0')
    path = Path(args.report or Path(cfg.work_dir) / 'latency_report.json')
    report = read_json('report', path, 'make it with tools/test.py, or name it with --report')
    if args.measured:
        own = report.get('measured')
        report['measured'] = [*([own] if own else []), *read_measured(args.measured)]
    tested = report.get('run', {}).get('checkpoint')
    checkpoint = args.checkpoint or tested
    if args.limit and not checkpoint:
        raise ValueError('checkpoint: the report does not name one; give it after the config')
    gallery = make_gallery(cfg, checkpoint, args) if args.limit else []
    title = args.title or Path(args.config).stem
    out = Path(args.out or Path(cfg.work_dir) / 'report.html')
    write_whole(out, render_page(report, gallery, cfg.pretty_text, title))
    print(f'{out} written: {len(gallery)} images, {out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    run_cli(main)
