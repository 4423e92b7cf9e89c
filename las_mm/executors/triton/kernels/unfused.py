"""What the fusions of Sec. 3.4 save: the same steps as kernels of their own (Table 1)."""

import triton
import triton.language as tl

from .patches import split_patch
from .tile import activate, wait_for_inputs


@triton.jit(do_not_specialize=['height', 'width', 'down', 'across'])
def gather_patches(
    source,
    mask,
    out,
    height,
    width,
    down,
    across,
    CHANNELS: tl.constexpr,
    EDGE: tl.constexpr,
    STEP: tl.constexpr,
    PADDING: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Copy each active patch with its halo to a dense buffer; zeros from outside of the image.

    Args:
        source: (N·height·width, CHANNELS) rows.
        mask: (patches,), one program column per patch.
        out: (patches, EDGE, EDGE, CHANNELS); what belongs to skipped patches is left as it is.
        STEP: distance of neighbouring patches in the source, S · stride.
    """
    wait_for_inputs(PDL)
    patch = tl.program_id(0)
    if tl.load(mask + patch) == 0:
        return
    image, row, column = split_patch(patch, down, across)
    within = tl.program_id(1) * BM + tl.arange(0, BM)
    y = row * STEP - PADDING + within // EDGE
    x = column * STEP - PADDING + within % EDGE
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (within < EDGE * EDGE)
    pixel = (image * height + y) * width + x
    for start in range(0, CHANNELS, BN):
        columns = start + tl.arange(0, BN)
        valid = (columns < CHANNELS)[None, :]
        value = tl.load(
            source + pixel[:, None] * CHANNELS + columns[None, :],
            mask=inside[:, None] & valid,
            other=0.0,
        )
        target = out + (patch * EDGE * EDGE + within)[:, None] * CHANNELS + columns[None, :]
        tl.store(target, value, mask=(within < EDGE * EDGE)[:, None] & valid)


@triton.jit(do_not_specialize_on_alignment=['count'])
def scatter(
    source,
    out,
    pixels,
    count,
    CHANNELS: tl.constexpr,
    PDL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """out[pixels] = source: (count, CHANNELS) rows to their places in a map of zeros."""
    wait_for_inputs(PDL)
    tiles: tl.constexpr = (CHANNELS + BN - 1) // BN
    program = tl.program_id(0)
    first = program // tiles * BM
    total = tl.load(count)
    if first >= total:
        return
    rows = first + tl.arange(0, BM)
    columns = program % tiles * BN + tl.arange(0, BN)
    valid = (rows < total)[:, None] & (columns < CHANNELS)[None, :]
    pixel = tl.load(pixels + rows, mask=rows < total, other=0)
    value = tl.load(source + rows[:, None] * CHANNELS + columns[None, :], mask=valid, other=0.0)
    tl.store(out + pixel[:, None] * CHANNELS + columns[None, :], value, mask=valid)


@triton.jit(do_not_specialize=['total'])
def add_activate(out, branch, total, LIMIT: tl.constexpr, PDL: tl.constexpr, BLOCK: tl.constexpr):
    """out = activate(out + branch), over ``total`` elements."""
    wait_for_inputs(PDL)
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = offset < total
    value = tl.load(out + offset, mask=valid, other=0.0).to(tl.float32)
    value += tl.load(branch + offset, mask=valid, other=0.0).to(tl.float32)
    tl.store(out + offset, activate(value, LIMIT).to(out.dtype.element_ty), mask=valid)
