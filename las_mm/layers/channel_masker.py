"""ChannelMasker: which groups of a block's inner channels are worth computing (LAUDNet, Sec. 3)."""

from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from .decision import CHANNELS, Decision
from .maskers import Masker

KINDS = ('mlp', 'conv_linear')


class ChannelMasker(Masker):
    """Decides for each group of G channels between the convolutions of a block.

    Three variants, with the names and shapes of LAUDNet's parameters; K = channels / G:

    - ``kind='mlp', layers=2``: mean over all pixels, linear to max(K // reduction, 16), ReLU,
      linear to 2·K; the variant of all of its configs.
    - ``kind='mlp', layers=1``: mean over all pixels, linear to 2·K.
    - ``kind='conv_linear'``: 1×1 convolution to C_in // reduction, batch norm, ReLU, mean over all
      pixels, linear to 2·K.

    The first K outputs are the keep logits, the last K the skip logits.

    Args:
        in_channels: C_in, channels of the block's input.
        channels: Channels between the block's convolutions.
        granularity: G, channels of a group; it divides ``channels``.
        kind: ``'mlp'`` or ``'conv_linear'``.
        layers: Linear layers of an MLP, 1 or 2.
        reduction: By how much fewer hidden channels there are.
        keep_bias: Initial bias of the keep logits.
        skip_bias: Initial bias of the skip logits.
    """

    axis = CHANNELS
    granularity: int

    conv: Any
    linear: nn.Linear | None

    def __init__(
        self,
        in_channels: int,
        channels: int,
        granularity: int,
        kind: str = 'mlp',
        layers: int = 2,
        reduction: int = 16,
        keep_bias: float = 2.0,
        skip_bias: float = -2.0,
    ) -> None:
        super().__init__()
        self.channels, self.granularity = channels, granularity
        self.biases = (keep_bias, skip_bias)
        outputs = 2 * (channels // granularity)
        if kind == 'conv_linear':
            hidden = max(in_channels // reduction, 1)
            convolution = nn.Conv2d(in_channels, hidden, 1, bias=False)
            self.conv = nn.Sequential(convolution, nn.BatchNorm2d(hidden), nn.ReLU())
            self.linear = nn.Linear(hidden, outputs)
        else:
            hidden = max(outputs // 2 // reduction, 16)
            self.conv = nn.Linear(in_channels, outputs)
            if layers == 2:
                first, last = nn.Linear(in_channels, hidden), nn.Linear(hidden, outputs)
                self.conv = nn.Sequential(first, nn.ReLU(), last)
            self.linear = None
        self.init_weights()

    @property
    def last(self) -> nn.Linear:
        """The layer whose outputs are the logits."""
        if self.linear is not None:
            return self.linear
        conv = self.conv[-1] if isinstance(self.conv, nn.Sequential) else self.conv
        return cast(nn.Linear, conv)

    @property
    def groups(self) -> int:
        """K, the number of groups."""
        return self.channels // self.granularity

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of an MLP whose last outputs are :meth:`margin`, in double precision.

        Empty where pixels are transformed before their mean.
        """
        if self.linear is not None:
            return []
        parts = [part for part in self.modules() if isinstance(part, nn.Linear)]
        pairs = [(p.weight.detach().double(), p.bias.detach().double()) for p in parts]
        *first, (weight, bias) = pairs
        keep, skip = weight.chunk(2)
        return [*first, (keep - skip, bias[: self.groups] - bias[self.groups :])]

    @property
    def dtype(self) -> torch.dtype:
        return self.last.weight.dtype

    def init_weights(self) -> None:
        for part in self.modules():
            if isinstance(part, (nn.Linear, nn.Conv2d, nn.BatchNorm2d)):
                part.reset_parameters()
        with torch.no_grad():
            for logits, bias in zip(self.last.bias.chunk(2), self.biases, strict=True):
                logits.fill_(bias)

    def logits(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, 2, K); see :meth:`~las_mm.layers.Masker.logits`."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.dtype)
            if self.linear is None:
                out: Tensor = self.conv(x.mean((2, 3)))
            else:
                out = self.linear(self.conv(x).mean((2, 3)))
        return out.unflatten(1, (2, -1))

    def margin(self, x: Tensor) -> Tensor:
        """Keep minus skip logit in double precision: (N, C, H, W) -> (N, 1, K)."""
        with torch.autocast(x.device.type, enabled=False):
            if self.linear is None:
                hidden = x.mean((2, 3), dtype=torch.float64)
                if isinstance(self.conv, nn.Sequential):
                    hidden = _double(cast(nn.Linear, self.conv[0]), hidden).relu_()
            else:
                convolution, norm, _ = self.conv
                weight, bias = _fold(convolution, norm)
                hidden = nn.functional.conv2d(x.double(), weight, bias).relu_().mean((2, 3))
            keep, skip = _double(self.last, hidden).chunk(2, 1)
        return (keep - skip).unsqueeze(1)

    def shape_mask(self, mask: Tensor) -> Tensor:
        """(N, 1, K) -> (N, K)."""
        return mask.squeeze(1)

    def macs(self, input_size: tuple[int, int]) -> int:
        """MACs for one image: the mean reads every pixel once, as a patch masker's does."""
        pixels, layers = prod(input_size), [p for p in self.modules() if isinstance(p, nn.Linear)]
        linear = sum(layer.weight.numel() for layer in layers)
        if self.linear is None:
            return layers[0].in_features * pixels + linear
        convolution = self.conv[0]
        return (convolution.weight.numel() + convolution.out_channels) * pixels + linear

    def decision(self, mask: Tensor, size: tuple[int, int]) -> Decision:
        return Decision(self.axis, mask.to(self.dtype), self.granularity, (self.channels,))

    def extra_repr(self) -> str:
        return f'granularity={self.granularity}'


def _double(layer: nn.Linear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.weight.double(), layer.bias.double())


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a 1×1 convolution and the batch norm after it, in double precision."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight.double() * (variance.double() + norm.eps).rsqrt()
    weight = convolution.weight.double() * scale.view(-1, 1, 1, 1)
    return weight, norm.bias.double() - mean.double() * scale


def check_channel_masker(
    kind: str = 'mlp', layers: int = 2, reduction: int = 16, **biases: float
) -> None:
    """Refuse options that no channel masker has.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If one of the options is not one of the allowed ones.
    """
    if kind not in KINDS:
        raise ValueError(f'channel_masker.kind: got {kind!r}; choose one of {", ".join(KINDS)}')
    if layers not in (1, 2):
        raise ValueError(f'channel_masker.layers: got {layers!r}; choose 1 or 2')
    if isinstance(reduction, bool) or not isinstance(reduction, int) or reduction < 1:
        raise ValueError(f'channel_masker.reduction: got {reduction!r}; give an integer >= 1')
    unknown = set(biases) - {'keep_bias', 'skip_bias'}
    if unknown:
        raise TypeError(
            f'channel_masker: unknown {min(unknown)!r}; allowed are kind, layers, reduction, '
            'keep_bias, skip_bias'
        )
