"""Vision transformers of the authors' simulator, with tokens, heads and blocks skipped (AdaViT).

A batch is part of the shape there: everything below is one operator over all images.
"""

from dataclasses import dataclass
from math import ceil

from .hardware import LAUNCH, Hardware
from .operators import Conv, addition, convolution

TOKENS = 197  # of 224 x 224 pixels, the class token included
CLASSES = 1000
# What a reduction costs: a share of all elements on either bus and of a multiply-accumulate on all
# engines, and elements once. Found by a fit to the simulator's layer norms and softmaxes, which it
# meets to 3 %: the search behind them is not known.
_OFFCHIP, _ONCHIP, _COMPUTED = 1.068, 2.35, 3.857
_OFFCHIP_ONCE, _ONCHIP_ONCE = 40.9e3, 27.3e3


@dataclass(frozen=True)
class Transformer:
    """A vision transformer.

    Attributes:
        width: Channels of a token.
        heads: Of each attention.
        ratio: Inner channels of the perceptron, in widths.
        depth: Blocks.
        tokens_to_token: Whether T2T's stem is counted, with position, last norm and classifier.
    """

    width: int
    heads: int
    ratio: int
    depth: int
    tokens_to_token: bool = False


TRANSFORMERS = {
    'deit_s': Transformer(384, 6, 4, 12),
    'deit_b': Transformer(768, 12, 4, 12),
    't2t_vit_14': Transformer(384, 6, 3, 14, True),
    't2t_vit_19': Transformer(448, 7, 3, 19, True),
}


@dataclass(frozen=True)
class Shares:
    """What runs of a block: shares of its tokens and heads, and the probability that it runs.

    None says that there is no policy for it.
    """

    tokens: float | None = None
    heads: float | None = None
    blocks: float | None = None

    @property
    def first(self) -> 'Shares':
        """What the first block has: no policy of heads and blocks."""
        return Shares(tokens=self.tokens)


def network(hardware: Hardware, net: Transformer, batch: int, shares: Shares) -> float:
    """Seconds of a batch."""
    seconds = stem(hardware, net, batch) if net.tokens_to_token else 0.0
    seconds += block(hardware, net, batch, shares.first)
    return seconds + (net.depth - 1) * block(hardware, net, batch, shares)


def linear(
    hardware: Hardware, rows: int, inputs: int, outputs: int, keeps: tuple = (1.0, 1.0)
) -> float:
    """A product of (rows, inputs) with a matrix: a 1x1 convolution over a map about square."""
    height = max(round(rows**0.5), 1)
    return convolution(
        hardware, Conv(inputs, outputs, height, round(rows / height), keeps=keeps), 1
    )


def elementwise(hardware: Hardware, rows: int, channels: int) -> float:
    """An operator on each element, taken for an addition."""
    return addition(hardware, rows, channels, 1, 1)


def reduction(hardware: Hardware, elements: int) -> float:
    """A sum over some of the elements, taken for the mean of a square map that holds them."""
    count = ceil(elements**0.5) ** 2
    seconds = (count * _OFFCHIP + _OFFCHIP_ONCE) / hardware.offchip
    seconds += (count * _ONCHIP + _ONCHIP_ONCE) / hardware.onchip
    return seconds + count * _COMPUTED / (hardware.rate * hardware.engines) + LAUNCH


def norm(hardware: Hardware, rows: int, channels: int) -> float:
    """A layer norm or a softmax: two reductions and two elementwise operators, launched once."""
    parts = 2 * reduction(hardware, rows * channels) + 2 * elementwise(hardware, rows, channels)
    return parts - 3 * LAUNCH


def block(hardware: Hardware, net: Transformer, batch: int, shares: Shares) -> float:
    """Expected seconds of a block and its policies.

    Quirks: tokens and heads are cut to whole ones; the norms, queries, keys and values are of all
    tokens; a skipped head takes a share of the perceptron's hidden channels, not of its inputs; the
    policies of heads and blocks read a single token.
    """
    width, heads = net.width, net.heads
    rows = batch * TOKENS
    share = 1.0 if shares.heads is None else shares.heads
    alive = int(heads * share + 1e-9)
    kept = int(TOKENS * (1.0 if shares.tokens is None else shares.tokens))
    few = batch * kept
    deciding = 0.0
    if shares.blocks is not None:
        deciding += linear(hardware, batch, width, 2)
    if shares.heads is not None:
        deciding += linear(hardware, batch, width, heads)
    if shares.tokens is not None:
        deciding += linear(hardware, batch * (TOKENS - 1), width, 1, (share, 1.0))
    inner = width // heads
    attention = 3 * linear(hardware, rows, width, width, (1.0, share))
    if alive:
        pairs = few * alive
        attention += linear(hardware, pairs, inner, kept) + norm(hardware, pairs, kept)
        attention += linear(hardware, pairs, kept, inner)
    attention += linear(hardware, few, width, width, (share, share))
    perceptron = linear(hardware, few, width, net.ratio * width, (1.0, share))
    perceptron += elementwise(hardware, few, net.ratio * width)
    perceptron += linear(hardware, few, net.ratio * width, width)
    around = norm(hardware, rows, width) + elementwise(hardware, few, width)
    runs = 1.0 if shares.blocks is None else shares.blocks
    return deciding + runs * (attention + perceptron + 2 * around)


def unfolding(hardware: Hardware, batch: int, channels: int, size: int, outputs: int) -> float:
    """Overlapping windows of a (size, size) map, written one beside the other."""
    inside, outside = batch * channels * size**2, batch * outputs
    return (inside + outside) / hardware.offchip + 2 * outside / hardware.onchip + LAUNCH


def performer(hardware: Hardware, batch: int, tokens: int, inputs: int) -> float:
    """An attention of T2T's stem, linear in the tokens: 64 channels, 32 features of each.

    The simulator's list is not known: without the perceptron behind it the stem is within 1.2 %.
    """
    rows, width, features = batch * tokens, 64, 32
    seconds = norm(hardware, rows, inputs) + linear(hardware, rows, inputs, 3 * width)
    for _ in range(2):  # of keys and queries
        seconds += linear(hardware, rows, width, features) + elementwise(hardware, rows, width)
        seconds += reduction(hardware, rows * width) + 2 * elementwise(hardware, rows, features)
    seconds += reduction(hardware, rows * features) + linear(hardware, rows, features, 1)
    seconds += linear(hardware, batch * width, tokens, features)
    seconds += linear(hardware, rows, features, width) + elementwise(hardware, rows, width)
    seconds += linear(hardware, rows, width, width) + elementwise(hardware, rows, width)
    return seconds + norm(hardware, rows, width)


def stem(hardware: Hardware, net: Transformer, batch: int) -> float:
    """T2T's stem, the position, the last norm and the classifier."""
    seconds = unfolding(hardware, batch, 3, 224, 147 * 3136) + performer(hardware, batch, 3136, 147)
    seconds += unfolding(hardware, batch, 64, 56, 576 * 784) + performer(hardware, batch, 784, 576)
    seconds += unfolding(hardware, batch, 64, 28, 576 * 196)
    seconds += linear(hardware, batch * 196, 576, net.width)
    seconds += elementwise(hardware, batch * TOKENS, net.width)
    seconds += norm(hardware, batch * TOKENS, net.width)
    return seconds + linear(hardware, batch, net.width, CLASSES)
