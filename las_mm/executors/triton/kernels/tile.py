"""What the kernels share: one tile of a convolution at listed pixels, and the wait of a launch."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

INFINITY = tl.constexpr(float('inf'))


@triton.jit
def wait_for_inputs(PDL: tl.constexpr):
    """With programmatic dependent launch the programs start while the previous kernel still runs.

    Every program of every kernel must come by here before it touches memory: only then does the
    end of a kernel imply the end of all kernels before it.
    """
    if PDL:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def activate(value, LIMIT: tl.constexpr):
    """A ReLU that ends at LIMIT, which may be infinite; nothing if LIMIT is None."""
    if LIMIT is not None:
        value = tl.maximum(value, 0.0)
        if LIMIT < INFINITY:
            value = tl.minimum(value, LIMIT)
    return value


@triton.jit
def split_pixel(pixel, height, width):
    """Row number of a channels-last map -> image, y, x."""
    image = pixel // (height * width)
    rest = pixel - image * (height * width)
    y = rest // width
    return image, y, rest - y * width


@triton.jit
def conv_tile(
    source,
    weight,
    image,
    y,
    x,
    inside,
    channel_out,
    channel_in,
    height,
    width,
    CHANNELS: tl.constexpr,
    GROUP_IN: tl.constexpr,
    GROUP_OUT: tl.constexpr,
    DEPTH: tl.constexpr,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    PADDING: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """BM pixels × BN channels of a convolution, as an implicit matrix product in float32.

    Args:
        source: (N·height·width, CHANNELS) rows.
        weight: (groups·GROUP_OUT, KERNEL²·DEPTH), DEPTH being GROUP_IN padded with zeros.
        image, y, x: (BM,) sites in the convolution's output.
        inside: (BM,) which of them exist.
        channel_out: first of the BN output channels, counted within the group.
        channel_in: first input channel of the group.
        height, width: size of the source map.
    """
    columns = channel_out + tl.arange(0, BN)
    group = channel_in // GROUP_IN
    k = tl.arange(0, BK)
    weights = weight + (group * GROUP_OUT + columns)[None, :] * (KERNEL * KERNEL * DEPTH)
    top, left = y * STRIDE - PADDING, x * STRIDE - PADDING
    acc = tl.zeros((BM, BN), tl.float32)
    # One flat loop over taps and channels: only the innermost loop is software-pipelined, and the
    # one over the channels alone would often have a single step.
    for step in range(0, KERNEL * KERNEL * (DEPTH // BK)):
        tap = step // (DEPTH // BK)
        channel = (step % (DEPTH // BK)) * BK + k
        row = top + (tap // KERNEL) * DILATION
        column = left + (tap % KERNEL) * DILATION
        valid = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        pixel = (image * height + row) * width + column
        valid_a = valid[:, None]
        if GROUP_IN != DEPTH:
            valid_a = valid_a & (channel < GROUP_IN)[None, :]
        a = tl.load(
            source + pixel[:, None] * CHANNELS + (channel_in + channel)[None, :],
            mask=valid_a,
            other=0.0,
        )
        if GROUP_OUT % BN == 0:
            b = tl.load(weights + (step * BK + k)[:, None])
        else:
            b = tl.load(
                weights + (step * BK + k)[:, None], mask=(columns < GROUP_OUT)[None, :], other=0.0
            )
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc
