#!/usr/bin/env python
"""Make a small, real data set without a network: handwritten digits on photographs.

Digits come from scikit-learn's bundled set, backgrounds from photographs bundled in scikit-learn
and scikit-image. No digit image, and no pixel of a photograph, is in both train and val. The same
options give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

MARKER = 'demo_dataset.json'  # tells a directory of ours from one that must not be overwritten
DEFAULTS = {  # task: (directory, training images, validation images, edge in pixels)
    'detection': ('data/demo', 400, 100, 320),
    'classification': ('data/demo_cls', 2000, 500, 128),
}
MIN_SIZE = 64
EPILOG = """\
examples:
  python tools/make_demo_dataset.py                        COCO layout in data/demo
  python tools/make_demo_dataset.py --task classification  class folders in data/demo_cls
  python tools/make_demo_dataset.py --train 20 --val 10 --size 128 --out /tmp/tiny
"""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit status 2."""

    def error(self, message):
        self.exit(2, f'{self.prog}: error: {message} (see --help)\n')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and fill in the task's defaults."""
    parser = OneLineParser(
        prog='make_demo_dataset',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--task',
        choices=tuple(DEFAULTS),
        default='detection',
        help='detection: COCO boxes and masks; classification: ImageNet-style class folders '
        '(default: detection)',
    )
    parser.add_argument('--out', help='directory to write (default: data/demo or data/demo_cls)')
    parser.add_argument('--seed', type=int, default=0, help='0 or more (default: 0)')
    parser.add_argument('--train', type=int, metavar='N', help='images (default: 400 or 2000)')
    parser.add_argument('--val', type=int, metavar='N', help='images (default: 100 or 500)')
    parser.add_argument(
        '--size', type=int, metavar='PIXELS', help='edge of the square images (default: 320 or 128)'
    )
    parser.add_argument(
        '--force', action='store_true', help='replace --out even if this tool did not make it'
    )
    args = parser.parse_args(argv)
    for name, default in zip(('out', 'train', 'val', 'size'), DEFAULTS[args.task], strict=True):
        if getattr(args, name) is None:
            setattr(args, name, default)
    for name, least in (('seed', 0), ('train', 1), ('val', 1), ('size', MIN_SIZE)):
        if getattr(args, name) < least:
            parser.error(f'--{name} is {getattr(args, name)}, it must be {least} or more')
    return args


def check_target(out: Path, force: bool) -> None:
    """Raise FileExistsError unless ``out`` may be replaced."""
    if Path.cwd().is_relative_to(out):
        raise FileExistsError(f'--out {out} is the current directory or above it; choose another')
    if not out.exists() or force:
        return
    if not out.is_dir():
        raise FileExistsError(f'--out {out} is a file; choose a directory or add --force')
    if any(out.iterdir()) and not (out / MARKER).is_file():
        raise FileExistsError(
            f'--out {out} is not empty and this tool did not make it; '
            'choose another directory or add --force to replace it'
        )


def write_dataset(args: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Write the whole set into the empty ``folder``; return the number of objects by split."""
    from demo_data.layouts import ATTRIBUTION, write_classification, write_detection
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    write = write_detection if args.task == 'detection' else write_classification
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    objects = {}
    with Progress(*columns, TextColumn('{task.fields[unit]}')) as progress:
        for split, count in (('train', args.train), ('val', args.val)):
            bar = progress.add_task(f'{split:5}', total=count, unit='images')

            def tick(bar=bar):
                progress.advance(bar)

            objects[split] = write(folder, split, count, args.size, args.seed, tick)
    settings = {name: getattr(args, name) for name in ('task', 'seed', 'train', 'val', 'size')}
    marker = {**settings, 'objects': objects, 'about': ATTRIBUTION}
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + '\n')
    return objects


def replace_directory(args: argparse.Namespace, out: Path) -> dict[str, int]:
    """Write beside ``out`` and swap at the end, so that ``out`` is old or new, never half."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as scratch:
        fresh = Path(scratch, 'new')
        fresh.mkdir()
        objects = write_dataset(args, fresh)
        if out.exists():
            os.replace(out, Path(scratch, 'old'))
        os.replace(fresh, out)
    return objects


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    args = parse_args(argv)
    out = Path(args.out).resolve()
    start = time.monotonic()
    try:
        check_target(out, args.force)
        objects = replace_directory(args, out)
    except ModuleNotFoundError as error:
        hint = 'install requirements/demo.txt or run "make setup"'
        print(f'make_demo_dataset: error: {error}; {hint}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'make_demo_dataset: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'make_demo_dataset: interrupted, {args.out} is unchanged', file=sys.stderr)
        return 130
    print(
        f'{args.out}: {args.train} + {args.val} images of {args.size}x{args.size} with '
        f'{objects["train"]} + {objects["val"]} digits, in {time.monotonic() - start:.0f} s'
    )
    return 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the scratch folder goes
    sys.exit(main())
