"""The raw material of the demo data, all of it bundled in PyPI wheels: digits and photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from PIL import Image

SPLITS = ('train', 'val')
CLASSES = tuple('0123456789')
TRAIN_SHARE = 0.8  # of the digit images of each class
TRAIN_PHOTO_SHARE = 0.65  # of each photograph, along its longer edge

# Read as files: skimage.data's own functions may download what the wheel does not hold.
# Scans of text, charts and round lone objects that pass for a "0" are left out on purpose.
PHOTOS = (
    ('sklearn.datasets.images', 'china.jpg'),
    ('sklearn.datasets.images', 'flower.jpg'),
    ('skimage.data', 'astronaut.png'),
    ('skimage.data', 'brick.png'),
    ('skimage.data', 'camera.png'),
    ('skimage.data', 'chelsea.png'),
    ('skimage.data', 'coffee.png'),
    ('skimage.data', 'grass.png'),
    ('skimage.data', 'gravel.png'),
    ('skimage.data', 'hubble_deep_field.jpg'),
    ('skimage.data', 'motorcycle_left.png'),
    ('skimage.data', 'rocket.jpg'),
)


@dataclass(frozen=True)
class Digit:
    """One handwritten digit.

    Attributes:
        label: The digit, 0 to 9.
        index: Its row in ``sklearn.datasets.load_digits``.
        pixels: Ink, float64 of shape (8, 8) in [0, 1].
    """

    label: int
    index: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Photo:
    """The part of one photograph that a split may use.

    Attributes:
        name: File name of the photograph.
        image: RGB picture of that part.
        origin: (x, y) in pixels of the part's upper left corner in the whole photograph.
    """

    name: str
    image: Image.Image
    origin: tuple[int, int]


def load_digits(split: str) -> list[list[Digit]]:
    """Return the digits of ``split`` by class; no digit image is in both splits.

    The set lists its samples writer by writer, so each class is cut once, in file order: at most
    one writer's samples of a class lie on both sides.
    """
    from sklearn.datasets import load_digits as load_sklearn_digits

    bundle = load_sklearn_digits()
    pools = []
    for label in range(len(CLASSES)):
        rows = np.flatnonzero(bundle.target == label)
        cut = round(TRAIN_SHARE * len(rows))
        rows = rows[:cut] if split == 'train' else rows[cut:]
        pools.append([Digit(label, int(row), bundle.images[row] / 16) for row in rows])
    return pools


def load_photos(split: str) -> list[Photo]:
    """Return the photographs of ``split``: disjoint parts of the same pictures.

    Raises:
        FileNotFoundError: An installed package does not hold its picture.
    """
    photos = []
    for package, name in PHOTOS:
        with (files(package) / name).open('rb') as stream:
            image = Image.open(stream).convert('RGB')
        width, height = image.size
        if width >= height:
            cut = round(TRAIN_PHOTO_SHARE * width)
            box = (0, 0, cut, height) if split == 'train' else (cut, 0, width, height)
        else:
            cut = round(TRAIN_PHOTO_SHARE * height)
            box = (0, 0, width, cut) if split == 'train' else (0, cut, width, height)
        photos.append(Photo(name, image.crop(box), box[:2]))
    return photos


def balanced(pools: list[list[Digit]], rng: np.random.Generator) -> Iterator[Digit]:
    """Yield digits for ever: every class once in each ten, every sample before any repeats."""
    decks: list[list[Digit]] = [[] for _ in pools]
    while True:
        for label in rng.permutation(len(pools)):
            if not decks[label]:
                decks[label] = [pools[label][i] for i in rng.permutation(len(pools[label]))]
            yield decks[label].pop()
