"""Pictures of the mask gallery, as data URIs."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from las_mm.reports.masks import MaskPanel

LONGEST_EDGE = 480


@dataclass(frozen=True)
class Picture:
    """One picture of the page.

    Attributes:
        caption: What it shows.
        uri: The picture as a data URI.
        width, height: In pixels.
    """

    caption: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class GalleryImage:
    """A test image with the predictions, and its masks.

    Attributes:
        name: Of the file.
        painted: The image with the predictions.
        masks: One per stage.
    """

    name: str
    painted: Picture
    masks: tuple[Picture, ...]


def gallery_image(name: str, painted: np.ndarray, masks: Sequence[MaskPanel]) -> GalleryImage:
    """A row of the gallery.

    Args:
        name: Of the image file.
        painted: (H, W, 3) uint8 RGB with the predictions.
        masks: The masks of its stages or blocks.
    """
    return GalleryImage(
        name,
        picture('predictions', painted),
        tuple(picture(panel.title, panel.image) for panel in masks),
    )


def picture(caption: str, image: np.ndarray) -> Picture:
    """A picture (H, W, 3) uint8 as JPEG data URI, no larger than the page shows it."""
    shrunk = Image.fromarray(image)
    shrunk.thumbnail((LONGEST_EDGE, LONGEST_EDGE))
    data = BytesIO()
    shrunk.save(data, 'JPEG', quality=88)
    uri = 'data:image/jpeg;base64,' + base64.b64encode(data.getvalue()).decode()
    return Picture(caption, uri, *shrunk.size)
