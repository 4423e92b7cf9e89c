"""Blocks that skip channels, and perhaps patches or all of themselves, as a sequence of kernels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from las_mm.executors.folding import FoldedConv, activations, fold_block
from las_mm.layers import DynamicBlock, Masks
from las_mm.ops import conv_size, grid_size

from .convolving import as_rows, run_identity
from .deciding import run_index, run_masker
from .kernels.channel_conv import channel_conv
from .launch import cdiv, common, compiled, launch
from .options import Options
from .packing import WHOLE_PATCH, PackedBlock, pack_block
from .sizes import Sizes, half_list, zero_counts
from .tiles import Tile, incremental_tiles
from .tuning import choose_tile


@dataclass(frozen=True)
class ChannelConv:
    """A convolution some of whose channels are left out.

    Attributes:
        weight: (k², C_in, C_out), or (C_out, k², C_in) if all inputs are there: what is listed goes
            by leaps, what is not lies in a row.
        steps: Distances of outputs, taps and inputs in it.
        bias: (C_out,) in float32.
        taps: (C_in, k²·C_out) weights in float32, for what skipped inputs add.
        carried: (C_in,) what inputs carry where they are skipped, in float32; None if none are.
        inside: (classes, k²) which taps lie inside of the image, for every way not to.
        shape: Kernel size, stride and dilation.
    """

    weight: Tensor
    steps: tuple[int, int, int]
    bias: Tensor
    taps: Tensor
    carried: Tensor | None
    inside: Tensor
    shape: tuple[int, int, int]

    def biases(self, skipped: Tensor) -> Tensor:
        """(classes, C_out): the bias and what inputs add that are skipped, where (C_in,) is 1."""
        if self.carried is None:
            return self.bias[None]
        sums = (self.carried * skipped) @ self.taps
        return self.bias + self.inside @ sums.view(-1, len(self.bias))


@dataclass(frozen=True)
class PackedChannels:
    """A block that skips channels.

    Attributes:
        packed: The block as one that skips none: its shortcut, its masker of patches.
        convs: Its convolutions.
        dtype: Of the masks.
    """

    packed: PackedBlock
    convs: tuple[ChannelConv, ...]
    dtype: torch.dtype


def why_not_channels(block: DynamicBlock) -> str | None:
    """The reason why the kernels cannot skip a block's channels, None if they can."""
    branch = block.branch
    if branch.gate is not None:
        return 'it skips channels and has squeeze-and-excitation'
    if any(step.op.groups > 1 for step in branch.steps):
        return 'it skips channels of a grouped convolution'
    if any(not isinstance(act, nn.ReLU) for act in activations(branch)):
        return 'its kernels for channels end in a ReLU, and the block does not'
    return None


def pack_channels(block: DynamicBlock, dtype: torch.dtype) -> PackedChannels:
    """Fold and lay out a block for which :func:`why_not_channels` is None."""
    folded = fold_block(block, torch.float32)
    convs, carried = [], None
    for conv in folded.convs:
        convs.append(_pack(conv, carried, dtype))
        none = folded.zeroed or conv.skipped is None
        carried = torch.zeros_like(conv.bias) if none else cast(Tensor, conv.skipped).relu()
    return PackedChannels(pack_block(block, dtype), tuple(convs), block.channel_masker.dtype)


def _pack(conv: FoldedConv, carried: Tensor | None, dtype: torch.dtype) -> ChannelConv:
    outputs, inputs, size = conv.weight.shape[:3]
    weight = conv.weight.flatten(2)
    if carried is None:
        packed, steps = weight.transpose(1, 2), (size**2 * inputs, inputs, 1)
    else:
        packed, steps = weight.permute(2, 1, 0), (1, inputs * outputs, outputs)
    return ChannelConv(
        weight=packed.to(dtype).contiguous(),
        steps=steps,
        bias=conv.bias.float(),
        taps=weight.permute(1, 2, 0).flatten(1).float().contiguous(),
        carried=None if carried is None else carried.float(),
        inside=_inside(size).to(conv.weight.device),
        shape=(size, conv.stride, conv.dilation),
    )


def _inside(size: int) -> Tensor:
    """(classes, k²); a class is how many taps lie outside above and below, left and right."""
    sides, taps = torch.arange(size // 2 + 1), torch.arange(size)
    line = (taps >= sides[:, None, None]) & (taps < size - sides[:, None])  # before, behind, tap
    line = line.flatten(0, 1).float()
    return torch.einsum('ak,bl->abkl', line, line).flatten(2).flatten(0, 1)


def run_channels(
    block: DynamicBlock,
    prepared: PackedChannels,
    options: Options,
    x: Tensor,
    private: bool = False,
) -> tuple[Tensor, Masks]:
    """Image by image, as each has channels of its own; nothing decided comes back to the host.

    Args:
        block: The block.
        prepared: The same for the kernels.
        options: Switches.
        x: (N, C, H, W).
        private: Whether ``x`` may be written over, if it is nowhere negative.

    Returns:
        The output in channels-last memory, and the masks of the block.
    """
    packed = prepared.packed
    x = x.contiguous(memory_format=torch.channels_last)
    groups = block.channel_masker(x).to(x.device, prepared.dtype).expand(len(x), -1)
    whole, decided = _decided(block, packed, x)
    outs, masks, counts = [], [], zero_counts(x.device, len(x))
    for image in range(len(x)):
        own = None if decided is None else decided[image % len(decided)][None].contiguous()
        one = x[image : image + 1]
        out, mask = _run_image(prepared, one, groups[image], own, counts[image], private, options)
        outs.append(out)
        masks.append(mask)
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    out = out.contiguous(memory_format=torch.channels_last)
    if block.spatial_masker is None:
        return out, (groups,)
    return out, (torch.cat(masks) if whole is None else whole, groups)


def _decided(
    block: DynamicBlock, packed: PackedBlock, x: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The mask of whole blocks, and the one of patches for the kernels to take, if any."""
    masker = block.spatial_masker
    if masker is not None and masker.granularity is not None:
        decided = masker.decided
        return None, None if decided is None else decided.to(x.device, packed.mask_dtype)
    grid = grid_size(conv_size(x.shape[-2:], packed.stride), WHOLE_PATCH)
    if masker is None:
        return None, torch.ones(1, 1, *grid, device=x.device, dtype=packed.mask_dtype)
    whole = masker(x)
    return whole, whole.to(packed.mask_dtype).expand(-1, -1, *grid)


def _run_image(
    prepared: PackedChannels,
    x: Tensor,
    groups: Tensor,
    decided: Tensor | None,
    counts: Tensor,
    private: bool,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """One image by its active groups (K,), and its mask of patches."""
    packed, convs = prepared.packed, prepared.convs
    sizes, rows = Sizes.of(packed, x), as_rows(x)
    margins = run_masker(
        packed.masker_weight, packed.masker_bias, packed.window, sizes, rows, options
    )[0]
    lists = run_index(packed, sizes, margins, counts, decided, None, options)
    channels = len(convs[0].bias)
    mask = groups.repeat_interleave(channels // len(groups)) > 0
    order = mask.int().argsort(descending=True, stable=True)
    active = Active(order.int(), mask.sum(dtype=torch.int32))
    biases = [conv.biases((~mask).float()) for conv in convs]
    needed = cast(Tensor, lists.needed)
    spatial = [(sizes.input, sizes.hidden), (sizes.hidden, sizes.output), (sizes.output,) * 2]
    hidden = rows.new_empty(sizes.hidden_pixels, channels)
    run = partial(run_channel_conv, active=active, options=options)
    run(convs[0], spatial[0], rows, hidden, (needed, lists.counts[1:]), biases[0], step=0)
    source, pixels = hidden, (lists.active, lists.counts)
    if len(convs) == 3:
        source = rows.new_empty(sizes.output_pixels, channels)
        run(convs[1], spatial[1], hidden, source, pixels, biases[1], step=1)
    if private and packed.shortcut is None and packed.pool is None:
        out = rows
    else:
        out = run_identity(packed, sizes, x, lists, options)
    run(convs[-1], spatial[len(convs) - 1], source, out, pixels, biases[-1], step=2)
    out = out.view(1, *sizes.output, -1).permute(0, 3, 1, 2)
    return out, lists.mask


@dataclass(frozen=True)
class Active:
    """The active channels of an image: (C,) their numbers, then the others, and how many ()."""

    numbers: Tensor
    count: Tensor


def run_channel_conv(
    conv: ChannelConv,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    source: Tensor,
    out: Tensor,
    pixels: tuple[Tensor, Tensor],
    biases: Tensor,
    active: Active,
    options: Options,
    step: int,
) -> None:
    """One convolution of a block into ``out``.

    Args:
        conv: The convolution.
        sizes: (H, W) of its input and of its output.
        source: Rows of its input.
        out: Rows that it writes; those of the last one hold the identity.
        pixels: The list of pixels, and its length.
        biases: See :meth:`ChannelConv.biases`.
        active: The channels between the convolutions.
        options: Switches.
        step: 0 for the first, 1 for the second of three, 2 for the last convolution.
    """
    (size, stride, dilation), outputs = conv.shape, len(conv.bias)
    listed = step == 2 and size == 1

    def run(tile: Tile, out: Tensor, pixels: tuple[Tensor, Tensor], active: Active) -> None:
        lists = (active.numbers, active.count)
        launch(
            channel_conv,
            (cdiv(len(pixels[0]), tile.rows) * cdiv(outputs, tile.columns),),
            source, conv.weight, biases, out, *pixels, *lists, *lists, *sizes[0], *sizes[1],
            CHANNELS=source.shape[1], OUT=outputs, OUT_STEP=conv.steps[0], TAP_STEP=conv.steps[1],
            IN_STEP=conv.steps[2], KERNEL=size, STRIDE=stride, DILATION=dilation,
            SOME_INPUTS=step > 0, SOME_OUTPUTS=step < 2, EDGES=len(biases) > 1, LISTED=listed,
            COMPACT=step == 1, ADD=step == 2, **common(options, source), **compiled(tile),
        )  # fmt: skip

    def scratch() -> Callable[[Tile], None]:
        half = replace(active, count=torch.full_like(active.count, (len(active.numbers) + 1) // 2))
        some = half_list(len(pixels[0]), out.device)
        return partial(run, out=out.clone(), pixels=some, active=half)

    tiles = incremental_tiles(source.dtype, outputs, 64)  # its lists take registers, too
    key = f'{conv.shape} {source.shape} {outputs} {step} {sizes} {source.dtype} {options.float32}'
    run(
        choose_tile('channel_conv', key, source.device, tiles, scratch, options.tune),
        out, pixels, active,
    )  # fmt: skip
