"""The masker alone: margins of one or of many blocks from one dense read of their input."""

import triton
import triton.language as tl

from .patches import split_patch
from .tile import wait_for_inputs


@triton.jit(do_not_specialize=['height', 'width', 'down', 'across', 'patches', 'blocks'])
def masker(
    x,
    weight,
    bias,
    margins,
    height,
    width,
    down,
    across,
    patches,
    blocks,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCKS: tl.constexpr,
    PDL: tl.constexpr,
    BP: tl.constexpr,
    BW: tl.constexpr,
    BK: tl.constexpr,
):
    """margins[b, p] = sum over the pixels of patch p of (x · weight[b] + bias[b]), in double.

    That is keep minus skip logit times the number of pixels; its sign decides (Eq. 3).

    Args:
        x: (N·height·width, CHANNELS) rows.
        weight: (blocks, DEPTH) differences of the two weight rows, in double, zero-padded.
        bias: (blocks,) differences of the two biases, in double.
        margins: (blocks, patches) in double.
        WINDOW: edge of a patch in x.
        BLOCKS: ``blocks`` rounded up to a power of two.
        BP, BW, BK: patches of a program, and pixels and channels it reads at a time.
    """
    wait_for_inputs(PDL)
    rows = tl.arange(0, BP * BW)
    patch = tl.program_id(0) * BP + rows // BW
    image, row, column = split_patch(patch, down, across)
    k, numbers = tl.arange(0, BK), tl.arange(0, BLOCKS)
    acc = tl.zeros((BP * BW, BLOCKS), tl.float64)
    for first in range(0, WINDOW * WINDOW, BW):
        within = first + rows % BW
        py = row * WINDOW + within // WINDOW
        px = column * WINDOW + within % WINDOW
        inside = (patch < patches) & (within < WINDOW * WINDOW) & (py < height) & (px < width)
        pixel = (image * height + py) * width + px
        for start in range(0, DEPTH, BK):
            valid = inside[:, None] & (start + k < CHANNELS)[None, :]
            a = tl.load(x + pixel[:, None] * CHANNELS + (start + k)[None, :], mask=valid, other=0.0)
            exact = a.to(tl.float32).to(tl.float64)
            for block in range(0, blocks):
                share = tl.sum(exact * tl.load(weight + block * DEPTH + start + k)[None, :], 1)
                acc += tl.where(numbers[None, :] == block, share[:, None], 0.0)
        biases = tl.load(bias + numbers, mask=numbers < blocks, other=0.0)
        acc += tl.where(inside[:, None], biases[None, :], 0.0)
    pooled = tl.sum(tl.reshape(acc, (BP, BW, BLOCKS)), 1)
    patch = tl.program_id(0) * BP + tl.arange(0, BP)
    tl.store(
        margins + numbers[None, :] * patches + patch[:, None],
        pooled,
        mask=(patch < patches)[:, None] & (numbers < blocks)[None, :],
    )
