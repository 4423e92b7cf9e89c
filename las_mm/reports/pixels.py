"""Masks laid over the pixels of the network's input, and that input as a picture."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from las_mm.layers import BlockTrace

Size = tuple[int, int]


def computed_pixels(traces: Sequence[BlockTrace], size: Size) -> Iterator[Tensor]:
    """Which pixels of the input each block computed.

    A block's output pixel i covers the input's pixels [s·i, s·i + s), s being the stride up to
    there, so that an image has the same pixels computed whatever it is padded to.

    Args:
        traces: The backbone's traces, from its first block on.
        size: (H, W) of the backbone's input, padding included.

    Yields:
        (N, H, W) in {0, 1} of each block.
    """
    stride, before = 1, size
    for trace in traces:
        stem = trace is traces[0]
        stride *= stride_between(before, trace.input_size, rounds_up=stem) * trace.branch.stride
        before = trace.size
        rows, columns = (
            (torch.arange(edge, device=trace.mask.device) // stride).clamp(max=cells - 1)
            for edge, cells in zip(size, trace.size, strict=True)
        )
        yield trace.pixel_mask[:, 0].float()[:, rows][:, :, columns]


def stride_between(before: Size, after: Size, rounds_up: bool) -> int:
    """The stride of what lies between two layers; the power of two where several are possible.

    Args:
        before: (H, W) that goes in.
        after: (H, W) that comes out.
        rounds_up: Whether cut steps count, as in a stem, or not, as in a DenseNet's transition.
    """
    if before == after:
        return 1
    edges = list(zip(before, after, strict=True))
    up = [s for s in _up_to(before) if all(-(-b // s) == a for b, a in edges)]
    down = [s for s in _up_to(before) if all(b // s == a for b, a in edges)]
    first, second = (up, down) if rounds_up else (down, up)
    powers = [s for s in (*first, *second) if s & (s - 1) == 0]
    nearest = max(1, round(max(b / max(a, 1) for b, a in edges)))
    return next(iter([*powers, *first, *second]), nearest)


def _up_to(size: Size) -> range:
    return range(2, 2 * max(size) + 1)


def as_picture(image: Tensor) -> np.ndarray:
    """A network's input as a picture, (C, H, W) -> (H, W, 3) uint8 RGB.

    OpenMMLab loads colours as BGR. One channel is shown grey, of more than three the first ones;
    what is in no range of a picture, as after a pipeline's own Normalize, is stretched to it.
    """
    image = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    values = image.detach().permute(1, 2, 0).flip(2).cpu()
    if values.is_floating_point():
        values = values.float()
        low, high = values.min(), values.max()
        if low < 0 or high > 255 or high <= 1:
            values = (values - low) / (high - low).clamp(min=1e-6) * 255
        values = values.round()
    return np.ascontiguousarray(values.to(torch.uint8).numpy())
