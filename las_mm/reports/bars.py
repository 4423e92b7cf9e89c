"""Bars at the edge of a picture: how much of channels, heads or halves of blocks was computed."""

from collections.abc import Sequence

import numpy as np

BAR_COMPUTED, BAR_SKIPPED = (255, 200, 60), (40, 40, 40)  # RGB


def with_bar(image: np.ndarray, share: float) -> np.ndarray:
    """The picture with a bar along its lower edge: as much of it is bright as is computed.

    Args:
        image: (H, W, 3) uint8 RGB.
        share: In [0, 1].
    """
    height, width = image.shape[:2]
    image = image.copy()
    rows = slice(height - thickness(image), None)
    image[rows] = BAR_SKIPPED
    image[rows, : round(width * share)] = BAR_COMPUTED
    return image


def with_parts(image: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The picture above a bar of parts side by side, each as bright as often it is computed.

    Args:
        image: (H, W, 3) uint8 RGB.
        shares: Of each part, in [0, 1].

    Returns:
        (H', W, 3) uint8 RGB; nothing of the picture is covered.
    """
    width, high = image.shape[1], thickness(image)
    bar = np.full((high + 2, width, 3), 255, np.uint8)  # white between bars and parts
    edges = np.linspace(0, width, len(shares) + 1).round().astype(int)
    for share, start, end in zip(shares, edges[:-1], edges[1:], strict=True):
        colour = share * np.array(BAR_COMPUTED) + (1 - share) * np.array(BAR_SKIPPED)
        bar[2:, start : max(start + 1, end - (end < width) * 2)] = colour.round()
    return np.concatenate([image, bar])


def thickness(image: np.ndarray) -> int:
    """Rows of a bar: a share of the picture's shorter edge, which bars do not change."""
    return max(2, image.shape[1] // 24)
