"""Geometry of S×S patches: granularity, grid, upsampling and dilation of masks (Sec. 3.2)."""

from collections.abc import Sequence
from math import ceil

import torch.nn.functional as F
from torch import Tensor

WHOLE = 'all'  # the granularity of blocks that are computed whole or not at all
NOTHING = 'none'  # where a stage skips no pixels or no channels, in the notation with dashes
Entry = int | str | None
Granularity = tuple[Entry, ...]


def parse_granularity(
    value: Entry | Sequence[Entry],
    num_stages: int = 4,
    field: str = 'granularity',
    words: tuple[str, ...] = (WHOLE,),
) -> Granularity:
    """Read S_net, the granularity S of each stage, or the channels G of a group in each stage.

    Args:
        value: The paper's notation ``'4-4-7-1'`` or a sequence, with ``'all'`` in the place of a
            stage whose blocks are computed whole or not at all, and None (``'none'`` between
            dashes) where nothing is skipped; one entry alone is for each stage.
        num_stages: Number of stages of the backbone.
        field: The option's name, for messages.
        words: Which words may take a number's place.

    Returns:
        One entry per stage: the edge of a patch in pixels of the block's output, ``'all'`` or None.

    Raises:
        TypeError: If an entry is none of these.
        ValueError: If there is not one entry per stage, or one is smaller than 1.
    """
    example = '-'.join('4471'[:num_stages] + '1' * (num_stages - 4))
    others = ''.join(f', {word!r}' for word in words)
    hint = f"give {num_stages} integers >= 1{others} or None, one per stage, such as '{example}'"
    entries = _entries(value, words, num_stages)
    if not isinstance(entries, Sequence):
        raise TypeError(f'{field}: got {value!r}; {hint}')
    numbers = [entry for entry in entries if entry is not None and entry not in words]
    if any(isinstance(number, bool) or not isinstance(number, int) for number in numbers):
        raise TypeError(f'{field}: got {value!r}; {hint}')
    if len(entries) != num_stages or any(int(number) < 1 for number in numbers):
        raise ValueError(f'{field}: got {value!r}; {hint}')
    return tuple(entries)


def format_granularity(granularity: Sequence[Entry]) -> str:
    """The paper's notation of S_net, ``'4-4-7-1'``."""
    return '-'.join(NOTHING if entry is None else str(entry) for entry in granularity)


def _entries(value: object, words: tuple[str, ...], num_stages: int) -> object:
    """The entries of '4-4-none-all', none if there is anything else between the dashes; any other
    value as it is, but one entry alone as often as there are stages."""
    if value is None or isinstance(value, int) and not isinstance(value, bool):
        return (value,) * num_stages
    if not isinstance(value, str):
        return value
    parts = value.split('-')
    if not all(part.isdecimal() or part in (*words, NOTHING) for part in parts):
        return ()
    entries = [int(p) if p.isdecimal() else None if p == NOTHING else p for p in parts]
    return entries * num_stages if len(entries) == 1 else entries


def conv_size(size: Sequence[int], stride: int) -> tuple[int, int]:
    """Output (H, W) of a "same"-padded convolution of the given stride on an (H, W) input."""
    return ceil(size[0] / stride), ceil(size[1] / stride)


def grid_size(size: tuple[int, int], granularity: int) -> tuple[int, int]:
    """Number of S×S patches down and across an (H, W) feature; the last ones may be cut."""
    return conv_size(size, granularity)


def upsample_mask(mask: Tensor, granularity: int, size: tuple[int, int]) -> Tensor:
    """Spread a coarse mask over the pixels of the feature (nearest neighbour, last patches cut).

    Args:
        mask: (N, 1, ceil(H/S), ceil(W/S)).
        granularity: S.
        size: (H, W) of the feature.

    Returns:
        (N, 1, H, W), same dtype.
    """
    if granularity == 1:
        return mask
    fine = mask.repeat_interleave(granularity, -2).repeat_interleave(granularity, -1)
    return fine[..., : size[0], : size[1]]


def dilate_mask(
    mask: Tensor, input_size: tuple[int, int], kernel_size: int, stride: int = 1, dilation: int = 1
) -> Tensor:
    """Mark the input pixels which a convolution reads to compute the masked output pixels.

    A max-pooling, so that the gradient of the first convolution's cost reaches the mask.

    Args:
        mask: (N, 1, H', W') float mask of the convolution's output.
        input_size: (H, W) of the convolution's input, with (H', W') = ceil((H, W) / stride).
        kernel_size: Odd edge of the kernel; the padding is "same".
        stride: Stride of the convolution.
        dilation: Dilation of the convolution.

    Returns:
        (N, 1, H, W) float mask: 1 exactly where some masked output has a tap.
    """
    if stride > 1:
        spread = mask.new_zeros(*mask.shape[:2], *input_size)
        spread[..., ::stride, ::stride] = mask
        mask = spread
    padding = dilation * (kernel_size // 2)
    # Padded by hand: max_pool2d refuses the padding that a dilation needs.
    padded = F.pad(mask, [padding] * 4, value=float('-inf'))
    return F.max_pool2d(padded, kernel_size, stride=1, dilation=dilation)
