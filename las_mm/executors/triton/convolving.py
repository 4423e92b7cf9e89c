"""Steps that compute: convolutions at listed pixels, the shortcut, and Table 1's unfused steps."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .kernels.conv_scatter_add import conv_scatter_add
from .kernels.depthwise import depthwise_conv
from .kernels.gather_conv import gather_conv
from .kernels.identity import copy_identity, shortcut_conv
from .kernels.unfused import add_activate, gather_patches, scatter
from .launch import cdiv, common, compiled, launch, use_pdl
from .options import Options
from .packing import PackedBlock, PackedConv, padded_depth
from .sizes import LARGEST_MAP, Lists, Sizes, half_list
from .tiles import Tile, conv_tiles, depthwise_tiles, incremental_tiles
from .tuning import choose_tile

COPY = {'BM': 32, 'BN': 128}  # elements that one program of a copying kernel moves at a time
ADD_ELEMENTS = 2048  # of one program of the unfused addition
# What a depthwise convolution is compiled for: it has no groups, and multiplies no matrices.
DEPTHWISE = (
    *('CHANNELS', 'KERNEL', 'STRIDE', 'DILATION', 'PDL', 'BM', 'BN', 'num_warps', 'num_stages'),
)


def run_gather_conv(
    conv: PackedConv,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    source: Tensor,
    pixels: Tensor,
    count: Tensor,
    compact: bool,
    options: Options,
    patch: int = 0,
) -> Tensor:
    """activate(conv(source)) at listed pixels.

    Args:
        conv: The convolution.
        sizes: (H, W) of its input and of its output.
        source: Rows of the input map; with ``patch`` copies of patches, see ``gather_conv``.
        pixels: Rows of the output map to compute.
        count: Their number, (1,).
        compact: Whether the result has a row per listed pixel instead of one per pixel.
        options: Switches.
        patch: S if ``source`` are copies of patches.
    """
    out = source.new_empty(len(pixels), conv.out_channels)
    kernel, make_tiles = gather_conv, conv_tiles
    if conv.depthwise:
        kernel, make_tiles = depthwise_conv, depthwise_tiles

    def run(tile: Tile, pixels: Tensor = pixels, count: Tensor = count) -> None:
        constants = {**conv.constants, **common(options, source), **compiled(tile)}
        if conv.depthwise:
            constants = {name: constants[name] for name in DEPTHWISE}
        launch(
            kernel,
            _grid(conv, len(pixels), tile),
            source, conv.weight, conv.bias, out, pixels, count, *sizes[0], *sizes[1],
            COMPACT=compact, PATCH=patch, LIMIT=conv.limit, **constants,
        )  # fmt: skip

    def scratch() -> Callable[[Tile], None]:
        some, number = half_list(len(pixels), source.device)
        return partial(run, pixels=some, count=number)

    name, shape = kernel.__name__, (sizes, len(pixels), patch)
    run(_tile(name, conv, source, shape, options, scratch, make_tiles))
    return out


def run_conv_scatter_add(
    packed: PackedBlock,
    sizes: Sizes,
    source: Tensor,
    out: Tensor,
    lists: Lists,
    options: Options,
    following: tuple[Tensor, Tensor] | None = None,
) -> None:
    """The last convolution of a block, added to the rows ``out`` of the identity in place.

    Args:
        packed: The block.
        sizes: Its geometry.
        source: Rows in the order of the active list (bottleneck), or of the hidden map.
        out: (N·H'·W', C'); with ``options.scatter_add`` off, rows that receive the products alone.
        lists: What is active.
        options: Switches.
        following: Masker weights (blocks, depth) and margins (blocks, patches) of the following
            blocks, None if they are not kept up to date.
    """
    conv, compact = packed.convs[-1], len(packed.convs) == 3
    weights, margins = following or (packed.masker_weight, packed.masker_weight)
    blocks = 0 if following is None else len(weights)

    def run(tile: Tile, out: Tensor, margins: Tensor, pixels: Tensor, count: Tensor) -> None:
        launch(
            conv_scatter_add,
            _grid(conv, len(pixels), tile),
            source, conv.weight, conv.bias, out, pixels, count, weights, margins,
            *sizes.hidden, *sizes.output, blocks, sizes.patches,
            COMPACT=compact, SCATTER_ADD=options.scatter_add, FOLLOWING=blocks > 0,
            MASKER_DEPTH=padded_depth(conv.out_channels), S=packed.granularity,
            RUN=_shared_rows(packed.granularity, sizes.output, tile.rows), LIMIT=conv.limit,
            **conv.constants,
            **common(options, source), **compiled(tile),
        )  # fmt: skip

    shape = (sizes, packed.granularity, options.scatter_add, blocks > 0)

    def scratch() -> Callable[[Tile], None]:
        some, number = half_list(len(lists.active), out.device)
        return partial(run, out=out.clone(), margins=margins.clone(), pixels=some, count=number)

    make_tiles = incremental_tiles if blocks else conv_tiles
    tile = _tile('conv_scatter_add', conv, source, shape, options, scratch, make_tiles)
    run(tile, out, margins, lists.active, lists.counts)


def run_identity(
    packed: PackedBlock, sizes: Sizes, x: Tensor, lists: Lists, options: Options
) -> Tensor:
    """Rows (N·H'·W', C') of the shortcut of ``x`` (N, C, H, W), activated in skipped patches."""
    conv, limit = packed.shortcut, packed.convs[-1].limit
    if packed.pool is not None:
        x = packed.pool(x)
    rows, size = as_rows(x), tuple(x.shape[-2:])
    if conv is None:
        out = torch.empty_like(rows)
        launch(
            copy_identity,
            (cdiv(len(rows), COPY['BM']) * cdiv(rows.shape[1], COPY['BN']),),
            rows, out, lists.mask, *size, len(rows),
            CHANNELS=rows.shape[1], S=packed.granularity, LIMIT=limit, PDL=use_pdl(options, x),
            **COPY, num_warps=4,
        )  # fmt: skip
        return out
    out = rows.new_empty(sizes.output_pixels, conv.out_channels)

    def run(tile: Tile) -> None:
        launch(
            shortcut_conv,
            _grid(conv, len(out), tile),
            rows, conv.weight, conv.bias, out, lists.mask, *size, *sizes.output, len(out),
            S=packed.granularity, LIMIT=limit, **conv.constants,
            **common(options, rows), **compiled(tile),
        )  # fmt: skip

    run(_tile('shortcut_conv', conv, rows, (size, len(out)), options, lambda: run))
    return out


def run_gather(
    packed: PackedBlock, sizes: Sizes, hidden: Tensor, lists: Lists, options: Options
) -> Tensor:
    """Copies (patches · edge², C) of the active patches and their halos, for the unfused conv2."""
    conv, granularity = packed.convs[1], packed.granularity
    edge = (granularity - 1) * conv.stride + (conv.kernel_size - 1) * conv.dilation + 1
    out = hidden.new_empty(sizes.patches * edge**2, conv.in_channels)
    if out.numel() >= LARGEST_MAP:
        raise ValueError(
            f'gather_conv2: got False, but copies of all patches have {out.numel()} elements, more '
            f'than {LARGEST_MAP}; leave it True, or take a smaller batch'
        )
    launch(
        gather_patches,
        (sizes.patches, cdiv(edge**2, COPY['BM'])),
        hidden, lists.mask, out, *sizes.hidden, *sizes.grid,
        CHANNELS=conv.in_channels, EDGE=edge, STEP=granularity * conv.stride,
        PADDING=conv.dilation * (conv.kernel_size // 2), PDL=use_pdl(options, hidden), **COPY,
        num_warps=4,
    )  # fmt: skip
    return out


def run_scatter_then_add(
    packed: PackedBlock, branch: Tensor, out: Tensor, lists: Lists, options: Options
) -> None:
    """out = activate(out + scattered branch) by a map of zeros, a scatter and an addition."""
    scattered = torch.zeros_like(out)
    launch(
        scatter,
        (cdiv(len(branch), COPY['BM']) * cdiv(branch.shape[1], COPY['BN']),),
        branch, scattered, lists.active, lists.counts,
        CHANNELS=branch.shape[1], PDL=use_pdl(options, out), **COPY, num_warps=4,
    )  # fmt: skip
    launch(
        add_activate, (cdiv(out.numel(), ADD_ELEMENTS),), out, scattered, out.numel(),
        LIMIT=packed.convs[-1].limit, PDL=use_pdl(options, out), BLOCK=ADD_ELEMENTS, num_warps=8,
    )  # fmt: skip


def as_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N·H·W, C); shares memory with a channels-last ``x``."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _grid(conv: PackedConv, rows: int, tile: Tile) -> tuple[int]:
    return (cdiv(rows, tile.rows) * conv.groups * cdiv(conv.group_out, tile.columns),)


def _tile(
    name: str,
    conv: PackedConv,
    source: Tensor,
    shape: object,
    options: Options,
    scratch: Callable,
    make_tiles: Callable = conv_tiles,
) -> Tile:
    tiles = make_tiles(source.dtype, conv.group_out, conv.depth)
    key = f'{conv.constants} {shape} {source.dtype} {options.float32}'
    return choose_tile(name, key, source.device, tiles, scratch, options.tune)


def _shared_rows(granularity: int, size: tuple[int, int], rows: int) -> int:
    """How many neighbours in the active list surely share a patch: a power of two."""
    if size[0] % granularity or size[1] % granularity:
        return 1  # cut patches shift all that follow
    area = granularity**2
    return min(area & -area, rows)
