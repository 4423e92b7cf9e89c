"""Pictures of masks: bright where a patch was computed, dim where it was skipped (Fig. 9, 12)."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from las_mm.files import write_whole
from las_mm.layers import BLOCKS, CHANNELS, HEADS, BlockTrace
from las_mm.ops import WHOLE

from .bars import with_bar, with_parts
from .pixels import computed_pixels

DIMMED = 0.25
LEVELS = ('stage', 'block')


@dataclass(frozen=True)
class MaskPanel:
    """One picture of a grid.

    Attributes:
        title: What it shows, with the activation rate r.
        image: (H, W, 3) uint8 RGB.
    """

    title: str
    image: np.ndarray


def dim_skipped(image: np.ndarray, computed: np.ndarray) -> np.ndarray:
    """Darken an image where little was computed.

    Args:
        image: (H, W, 3) uint8.
        computed: (H, W) share computed, in [0, 1].

    Returns:
        (H, W, 3) uint8: the image at full brightness where all was computed.
    """
    brightness = DIMMED + (1 - DIMMED) * computed[..., None]
    return (image * brightness).round().astype(np.uint8)


def check_level(level: str) -> None:
    """Check what a mask is of.

    Raises:
        ValueError: If it is neither ``'stage'`` nor ``'block'``.
    """
    if level not in LEVELS:
        raise ValueError(f'level: got {level!r}; choose one of {", ".join(LEVELS)}')


def mask_panels(
    image: np.ndarray,
    traces: Sequence[BlockTrace],
    level: str = 'stage',
    index: int = 0,
    input_size: tuple[int, int] | None = None,
) -> list[MaskPanel]:
    """One panel per stage or per block.

    Args:
        image: (H, W, 3) uint8 RGB, the network's input as a picture, or its upper left part.
        traces: The backbone's traces.
        level: ``'stage'`` to average the masks of a stage, or ``'block'``.
            Below the picture are bars: a part for each head, and one for each of attention and MLP.
        index: Which image of the batch.
        input_size: (H, W) of the backbone's input, padding included; by default the image's.

    Raises:
        ValueError: If ``level`` is neither.
    """
    check_level(level)
    height, width = image.shape[:2]
    masks = computed_pixels(traces, input_size or (height, width))
    groups: dict[str, list[tuple[BlockTrace, Tensor]]] = {}
    for trace, mask in zip(traces, masks, strict=True):
        group = trace.name if level == 'block' else trace.name.rpartition('.')[0]
        groups.setdefault(group, []).append((trace, mask[index, :height, :width]))
    return [_panel(image, name, members, index) for name, members in groups.items()]


def _panel(
    image: np.ndarray, name: str, members: list[tuple[BlockTrace, Tensor]], index: int
) -> MaskPanel:
    traces = [trace for trace, _ in members]
    computed = torch.stack([mask for _, mask in members]).mean(0)
    rate = sum(t.activation_rate[index].item() for t in traces) / len(traces)
    shown = dim_skipped(image, computed.cpu().numpy())
    title = name
    if traces[0].spatial is not None:
        title += f', S={traces[0].granularity or WHOLE}, r={rate:.2f}'
    channels = _mean_mask(traces, CHANNELS, index)
    if channels is not None:
        share = float(channels.mean())
        shown, title = with_bar(shown, share), f'{title}, c={share:.2f}'
    heads, halves = (_mean_mask(traces, axis, index) for axis in (HEADS, BLOCKS))
    if heads is not None:
        shown, title = with_parts(shown, heads.tolist()), f'{title}, h={heads.mean():.2f}'
    if halves is not None:
        shown, title = with_parts(shown, halves.tolist()), f'{title}, a={halves[0]:.2g}'
        title += f', m={halves[1]:.2g}'
    return MaskPanel(title, shown)


def _mean_mask(traces: Sequence[BlockTrace], axis: str, index: int) -> Tensor | None:
    """(K,) how often each group of channels, head or half was computed; None without decisions."""
    masks = [d.mask[index].float() for t in traces for d in t.decisions if d.axis == axis]
    return torch.stack(masks).mean(0).cpu() if masks else None


def draw_grid(rows: Sequence[Sequence[MaskPanel]], columns: int = 6, width: float = 2.4) -> Figure:
    """Draw rows of panels, one row per image, wrapped where a row has too many.

    Args:
        rows: Panels of each image.
        columns: Most panels side by side.
        width: Width of a panel in inches.
    """
    lines = [row[start : start + columns] for row in rows for start in range(0, len(row), columns)]
    across = max(map(len, lines))
    ratio = lines[0][0].image.shape[0] / lines[0][0].image.shape[1]
    figure = Figure(figsize=(width * across, (width * ratio + 0.25) * len(lines)))
    axes = figure.subplots(len(lines), across, squeeze=False)
    for ax in axes.flat:
        ax.axis('off')
    for line, line_axes in zip(lines, axes, strict=True):
        for panel, ax in zip(line, line_axes, strict=False):
            ax.imshow(panel.image)
            ax.set_title(panel.title, fontsize=7)
    figure.tight_layout(pad=0.3)
    return figure


def figure_to_rgb(figure: Figure, dpi: int = 120) -> np.ndarray:
    """The figure as an image (H, W, 3) uint8."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure, in the format of the path's suffix, whole or not at all.

    Raises:
        ValueError: If matplotlib does not know that format.
    """
    data = BytesIO()
    figure.savefig(data, dpi=dpi, format=Path(path).suffix[1:].lower() or 'png')
    write_whole(path, data.getvalue())


def holds_picture(path: str | Path, picture: np.ndarray) -> bool:
    """Whether a file is a picture (H, W, 3) uint8 RGB, whole and not an older one."""
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image.convert('RGB')), picture)
    except OSError:
        return False
