"""A dynamic block as a sequence of kernels (Figure 2, bottom)."""

from typing import cast

import torch
from torch import Tensor

from .convolving import (
    as_rows,
    run_conv_scatter_add,
    run_gather,
    run_gather_conv,
    run_identity,
    run_scatter_then_add,
)
from .deciding import fusable, run_index, run_masker, run_masker_conv1
from .gating import run_gate
from .margins import Margins
from .options import Options
from .packing import PackedBlock
from .sizes import Lists, Sizes, zero_counts


def run_block(
    packed: PackedBlock,
    x: Tensor,
    options: Options,
    in_place: bool = False,
    margins: Margins | None = None,
    counts: Tensor | None = None,
    decided: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a block; nothing of what it decides comes back to the host.

    Args:
        packed: The block.
        x: (N, C, H, W) on a GPU, or on the CPU where Triton interprets.
        options: Switches.
        in_place: Whether the result may overwrite ``x``. Only has an effect on a block without a
            shortcut convolution, and demands that ``x`` is nowhere negative if a ReLU follows
            its sum.
        counts: (2,) zeros on the device, to be used up; None to make them.
        decided: Mask (N, 1, h, w) to take instead of the own decision, or None.
        margins: Incremental margins of the stage, None where this block decides on its own.

    Returns:
        (N, C', H', W') in channels-last memory, and the mask (N, 1, h, w).
    """
    x = x.contiguous(memory_format=torch.channels_last)
    sizes = Sizes.of(packed, x)
    counts = zero_counts(x.device)[0] if counts is None else counts
    if decided is not None:
        decided = decided.to(x.device, packed.mask_dtype)
        decided = decided.expand(sizes.batch, 1, *sizes.grid).contiguous()
    hidden, lists = _decide_and_conv1(packed, sizes, x, counts, decided, options, margins)
    if in_place and packed.shortcut is None and packed.pool is None:
        out = as_rows(x)
    else:
        out = run_identity(packed, sizes, x, lists, options)
    following = None if margins is None else margins.weights_and_margins()
    _finish(packed, sizes, hidden, out, lists, options, following)
    if margins is not None:
        margins.next_block(out, sizes, options)
    out = out.view(sizes.batch, *sizes.output, -1).permute(0, 3, 1, 2)
    return out, lists.mask


def _decide_and_conv1(
    packed: PackedBlock,
    sizes: Sizes,
    x: Tensor,
    counts: Tensor,
    decided: Tensor | None,
    options: Options,
    margins: Margins | None,
) -> tuple[Tensor, Lists]:
    """The hidden map, at least where it will be read, and what is active."""
    rows = as_rows(x)
    known = following = None
    if margins is not None:
        known, following = margins.own(), margins.margins_and_biases()
    if known is None and options.masker_conv1 is not False and fusable(packed):
        return run_masker_conv1(packed, sizes, rows, counts, decided, options)
    if known is None:
        weight, bias = packed.masker_weight, packed.masker_bias
        known = run_masker(weight, bias, packed.window, sizes, rows, options)[0]
    lists = run_index(packed, sizes, known, counts, decided, following, options)
    first, needed = packed.convs[0], cast(Tensor, lists.needed)  # None only of run_masker_conv1
    hidden = run_gather_conv(
        first, (sizes.input, sizes.hidden), rows, needed, lists.counts[1:], False, options
    )
    return hidden, lists


def _finish(
    packed: PackedBlock,
    sizes: Sizes,
    hidden: Tensor,
    out: Tensor,
    lists: Lists,
    options: Options,
    following: tuple[Tensor, Tensor] | None,
) -> None:
    """The second and, in a bottleneck, third convolution, added to ``out``."""
    source = hidden
    if len(packed.convs) == 3:
        patch = 0 if options.gather_conv2 else packed.granularity
        copies = run_gather(packed, sizes, hidden, lists, options) if patch else hidden
        spatial = (sizes.hidden, sizes.output)
        source = run_gather_conv(
            packed.convs[1], spatial, copies, lists.active, lists.counts, True, options, patch
        )
        if packed.gate is not None:
            run_gate(packed.gate, sizes, source, lists, options)
    if options.scatter_add:
        run_conv_scatter_add(packed, sizes, source, out, lists, options, following)
        return
    branch = torch.empty_like(out)
    run_conv_scatter_add(packed, sizes, source, branch, lists, options)
    run_scatter_then_add(packed, branch, out, lists, options)
