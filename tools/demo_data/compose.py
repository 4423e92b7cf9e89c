"""Draw handwritten digits on photographs: one image and its label map."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from .sources import Digit, Photo

# Shares are of the image's edge or area, so that any --size gives the same kind of scene.
DETECTION_EDGES = (0.11, 0.46)  # of a window; its digit then measures 32 to 140 pixels at 320
DETECTION_COVERAGE = (0.14, 0.40)  # of the image by windows; boxes cover a good half of it
MAX_OBJECTS = 6
CLASSIFICATION_EDGES = (0.60, 0.95)
MAX_ANGLE = 25.0  # degrees: more would make a 6 of a 9
MIN_CROP = 120  # pixels of the photograph, so that no background is all blur
MIN_CONTRAST = 0.30  # of luminance in [0, 1], digit against the photograph under it
INK_LEVEL = 0.42  # of full ink, where a stroke ends: lower fills holes, higher breaks thin strokes
MARGIN = 2  # pixels between windows of digits
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass
class Scene:
    """One composed image.

    Attributes:
        image: uint8 RGB, shape (size, size, 3).
        owner: int16, shape (size, size): 0 for background, k for a pixel of ``digits[k - 1]``.
        digits: The digits drawn.
        photo: Name of the photograph behind them.
        crop: (x, y, edge) in pixels of the photograph, the square that became the background.
    """

    image: np.ndarray
    owner: np.ndarray
    digits: list[Digit]
    photo: str
    crop: tuple[int, int, int]


def render_digit(digit: Digit, edge: int, rng: np.random.Generator) -> np.ndarray:
    """Return the digit's opacity, float64 of shape (edge, edge) in [0, 1].

    The 8x8 ink is read as samples of a smooth surface (cubic B-spline), turned, sheared and
    scaled so that the stroke just fits the window, and cut sharply at ``INK_LEVEL``.
    """
    angle = np.deg2rad(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.0], [rng.uniform(-0.2, 0.2), 1.0]])
    squeeze = np.diag([1.0, rng.uniform(0.8, 1.1)])
    forward = turn @ shear @ squeeze  # (row, column) of the 8x8 grid -> window, but for scale

    ink = np.pad(digit.pixels, 2)
    points = forward @ np.argwhere(ink > INK_LEVEL).T
    low, high = points.min(1), points.max(1)
    scale = (edge - 2) / (high - low + 1.2).max()  # 1.2: ink reaches over the outermost samples
    backward = np.linalg.inv(scale * forward)
    middle = np.linalg.inv(forward) @ ((low + high) / 2)
    offset = middle - backward @ np.full(2, (edge - 1) / 2)
    surface = ndimage.affine_transform(ink, backward, offset, (edge, edge), order=3)
    softness = 1.5 / scale  # the rim takes about one pixel at any size
    return np.clip((surface - INK_LEVEL) / softness + 0.5, 0.0, 1.0)


def contrasting_colour(under: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an RGB colour in [0, 1] that stands out from ``under``, RGB pixels of shape (n, 3)."""
    luma = float((under @ LUMA).mean())
    best, best_contrast = np.zeros(3), -1.0
    for _ in range(12):
        hue, saturation, value = rng.uniform([0, 0.35, 0.15], [1, 1.0, 1.0])
        colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
        contrast = abs(float(colour @ LUMA) - luma)
        if contrast >= MIN_CONTRAST:
            return colour
        if contrast > best_contrast:
            best, best_contrast = colour, contrast
    return best


def crop_background(photo: Photo, size: int, rng: np.random.Generator):
    """Return a random square of ``photo`` as RGB in [0, 1], (size, size, 3), and its place."""
    limit = min(photo.image.size)
    edge = int(rng.integers(min(MIN_CROP, limit), limit + 1))
    x, y = (int(rng.integers(0, length - edge + 1)) for length in photo.image.size)
    square = photo.image.crop((x, y, x + edge, y + edge))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)) / 255.0
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    gain, shift = rng.uniform(0.75, 1.1), rng.uniform(-0.05, 0.1)
    place = (x + photo.origin[0], y + photo.origin[1], edge)
    return np.clip(pixels * gain + shift, 0.0, 1.0), place


def paste(canvas: np.ndarray, opacity: np.ndarray, rng: np.random.Generator) -> None:
    """Blend a digit of a contrasting, slightly shaded colour into ``canvas`` in place.

    Args:
        canvas: RGB in [0, 1], shape (edge, edge, 3).
        opacity: Of the digit, shape (edge, edge), in [0, 1].
    """
    stroke = opacity >= 0.5
    colour = contrasting_colour(canvas[stroke], rng)
    edge = len(opacity)
    rows, columns = np.mgrid[0:edge, 0:edge] / edge - 0.5
    direction = rng.uniform(0, 2 * np.pi)
    shade = 1 + 0.2 * (rows * np.sin(direction) + columns * np.cos(direction))
    ink = np.clip(colour * shade[..., None], 0.0, 1.0)
    # A faint halo of the opposite tone keeps the rim legible where the photograph is busy.
    halo = ndimage.gaussian_filter(opacity, max(1.0, edge / 30))[..., None] * 0.45
    tone = 0.0 if colour @ LUMA > 0.5 else 1.0
    canvas[:] = canvas * (1 - halo) + tone * halo
    canvas[:] = canvas * (1 - opacity[..., None]) + ink * opacity[..., None]


def plan_windows(size: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return disjoint square windows (x, y, edge) of 1 to MAX_OBJECTS digits to detect."""
    smallest, largest = (round(share * size) for share in DETECTION_EDGES)
    wanted = rng.uniform(*DETECTION_COVERAGE) * size**2
    windows: list[tuple[int, int, int]] = []
    for _ in range(60):
        covered = sum(edge**2 for _, _, edge in windows)
        room = int(np.sqrt(max(0.0, 1.15 * wanted - covered)))
        if len(windows) == MAX_OBJECTS or covered >= 0.9 * wanted or room < smallest:
            break
        edge = int(rng.integers(smallest, min(largest, room) + 1))
        x, y = (int(v) for v in rng.integers(0, size - edge + 1, 2))
        if all(
            x + edge + MARGIN <= u
            or u + e + MARGIN <= x
            or y + edge + MARGIN <= v
            or v + e + MARGIN <= y
            for u, v, e in windows
        ):
            windows.append((x, y, edge))
    return windows


def one_window(size: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return the one large window (x, y, edge) of a digit to classify."""
    smallest, largest = (round(share * size) for share in CLASSIFICATION_EDGES)
    edge = int(rng.integers(smallest, largest + 1))
    x, y = (int(v) for v in rng.integers(0, size - edge + 1, 2))
    return [(x, y, edge)]


def compose_scene(
    photo: Photo,
    digits: Iterator[Digit],
    windows: list[tuple[int, int, int]],
    size: int,
    rng: np.random.Generator,
) -> Scene:
    """Draw one of ``digits`` into each of ``windows`` on a random square of ``photo``."""
    canvas, place = crop_background(photo, size, rng)
    owner = np.zeros((size, size), np.int16)
    drawn = []
    for x, y, edge in windows:
        digit = next(digits)
        opacity = render_digit(digit, edge, rng)
        where = np.s_[y : y + edge, x : x + edge]
        paste(canvas[where], opacity, rng)
        drawn.append(digit)
        owner[where][opacity >= 0.5] = len(drawn)
    image = np.rint(canvas * 255).astype(np.uint8)
    return Scene(image, owner, drawn, photo.name, place)
