"""Steps that decide what to compute: masker, index lists, and the masker fused with conv1."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .kernels.index import index
from .kernels.masker import masker
from .kernels.masker_conv1 import masker_conv1
from .launch import cdiv, common, compiled, launch, use_pdl
from .options import Options
from .packing import PackedBlock, padded_depth
from .sizes import Lists, Sizes
from .tiles import Tile, masker_conv1_tiles, power_of_two
from .tuning import choose_tile

LARGEST_WINDOW = 256  # pixels of a patch that one tile of masker_conv1 can hold
MASKER_ROWS = 64  # pixels that one program of the masker reads at a time
INDEX_PIXELS = 256  # that one program of index looks at, if a patch has not more


def fusable(packed: PackedBlock) -> bool:
    """Whether masker and first convolution can share a kernel: both must see every pixel once."""
    first = packed.convs[0]
    plain = first.kernel_size == first.stride == first.groups == 1 and not first.depthwise
    return plain and power_of_two(packed.window**2) <= LARGEST_WINDOW


def run_masker_conv1(
    packed: PackedBlock,
    sizes: Sizes,
    x: Tensor,
    counts: Tensor,
    decided: Tensor | None,
    options: Options,
) -> tuple[Tensor, Lists]:
    """Hidden map, mask and active list of rows ``x`` (N·H·W, C), in one kernel.

    ``counts`` are (2,) zeros, to become the lengths of the lists; ``decided`` is a mask to take
    instead of the own decision, or None.
    """
    conv, area = packed.convs[0], power_of_two(packed.window**2)
    lists = Lists.empty(packed, sizes, counts, dense=True)
    hidden = x.new_empty(sizes.hidden_pixels, conv.out_channels)

    def run(tile: Tile, counts: Tensor) -> None:
        launch(
            masker_conv1,
            (cdiv(sizes.patches, tile.rows // area) * cdiv(conv.out_channels, tile.columns),),
            x, conv.weight, conv.bias, packed.masker_weight, packed.masker_bias, hidden,
            lists.mask, _or(decided, lists.mask), lists.active, counts,
            *sizes.input, *sizes.output, *sizes.grid, sizes.patches,
            CHANNELS=conv.in_channels, OUT=conv.out_channels, DEPTH=conv.depth,
            WINDOW=packed.window, WINDOW_AREA=area,
            S=packed.granularity, AREA=power_of_two(packed.granularity**2),
            DECIDED=decided is not None, LIMIT=conv.limit,
            **common(options, x), **compiled(tile),
        )  # fmt: skip

    def run_again(tile: Tile, counts: Tensor) -> None:
        counts.zero_()  # or the list would grow with each repetition
        run(tile, counts)

    def scratch() -> Callable[[Tile], None]:
        return partial(run_again, counts=torch.zeros_like(lists.counts))

    tiles = masker_conv1_tiles(x.dtype, conv.out_channels, conv.depth, area)
    shape = f'{conv.constants} {packed.window} {sizes} {x.dtype} {options.float32}'
    tile = choose_tile('masker_conv1', shape, x.device, tiles, scratch, options.tune)
    run(tile, lists.counts)
    return hidden, lists


def run_masker(
    weight: Tensor, bias: Tensor, window: int, sizes: Sizes, x: Tensor, options: Options
) -> Tensor:
    """Margins (blocks, patches) of maskers with weights (blocks, depth) on rows ``x``."""
    blocks, pixels = len(weight), min(MASKER_ROWS, power_of_two(window**2))
    margins = torch.empty(blocks, sizes.patches, device=x.device, dtype=torch.float64)
    depth = padded_depth(x.shape[1])
    launch(
        masker,
        (cdiv(sizes.patches, MASKER_ROWS // pixels),),
        x, weight, bias, margins, *sizes.input, *sizes.grid, sizes.patches, blocks,
        CHANNELS=x.shape[1], DEPTH=depth, WINDOW=window, BLOCKS=power_of_two(blocks),
        PDL=use_pdl(options, x), BP=MASKER_ROWS // pixels, BW=pixels,
        BK=min(128 // x.element_size(), depth), num_warps=8,
    )  # fmt: skip
    return margins


def run_index(
    packed: PackedBlock,
    sizes: Sizes,
    margins: Tensor,
    counts: Tensor,
    decided: Tensor | None,
    following: tuple[Tensor, Tensor] | None,
    options: Options,
) -> Lists:
    """Mask and both lists from margins (patches,).

    Args:
        packed: The block.
        sizes: Its geometry.
        margins: Its margins.
        counts: (2,) zeros, to become the lengths of the lists.
        decided: Mask to take instead of that of the margins, or None.
        following: Margins (blocks, patches) and biases (blocks,) of the following blocks, to be
            set to their bias where this block computes; None if they are not kept up to date.
        options: Switches.
    """
    second = packed.convs[1]
    lists = Lists.empty(packed, sizes, counts, dense=False)
    window = packed.granularity * second.stride
    area = power_of_two(window**2)
    others, biases = following or (margins[:0], margins[:0])
    per_program = max(1, INDEX_PIXELS // area)
    launch(
        index,
        (cdiv(sizes.patches, per_program),),
        margins, lists.mask, _or(decided, lists.mask), lists.active, lists.needed, lists.counts,
        others, biases,
        *sizes.hidden, *sizes.output, *sizes.grid, sizes.patches, len(biases),
        KERNEL=second.kernel_size, STRIDE=second.stride, DILATION=second.dilation,
        S=packed.granularity, AREA=power_of_two(packed.granularity**2),
        WINDOW=window, WINDOW_AREA=area, DECIDED=decided is not None,
        PDL=use_pdl(options, margins), BP=per_program, num_warps=4,
    )  # fmt: skip
    return lists


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """What to pass for an argument that a kernel will not read."""
    return other if tensor is None else tensor
