"""RateMeter: averages over a test run of what every block computed."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from las_mm.accounting import NetworkCost
from las_mm.layers import BlockTrace


@dataclass
class RateMeter:
    """Sums over images; averages are sums divided by :attr:`images`.

    Attributes:
        images: Number of images seen.
        names: The blocks' names, in order.
        rates: (blocks, 2) sums of each block's activation and dilated rate.
        macs: (blocks, 2) sums of each block's static and dynamic MACs.
        fixed_macs: Sum of the MACs outside the blocks.
        sizes: How often each input size (H, W) was seen.
    """

    images: int = 0
    names: tuple[str, ...] = ()
    rates: Tensor = field(default_factory=partial(torch.zeros, ()))
    macs: Tensor = field(default_factory=partial(torch.zeros, ()))
    fixed_macs: float = 0.0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def update(self, traces: list[BlockTrace], cost: NetworkCost, size: tuple[int, int]) -> None:
        """Add one forward.

        Args:
            traces: The backbone's traces of that forward.
            cost: The network's cost for one image of that forward.
            size: (H, W) of the images.
        """
        rates = torch.stack(
            [torch.stack([t.activation_rate, t.dilated_rate]) for t in traces]
        ).double()
        images = rates.shape[-1]
        macs = [
            (images * block.static, block.dynamic(r, dilated).sum().item())
            for block, (r, dilated) in zip(cost.blocks, rates.cpu(), strict=True)
        ]
        self.images += images
        self.names = tuple(trace.name for trace in traces)
        self.rates = self.rates + rates.sum(-1).cpu()
        self.macs = self.macs + torch.tensor(macs, dtype=torch.float64)
        self.fixed_macs += images * cost.fixed
        self.sizes[size] += images

    def merge(self, other: 'RateMeter') -> None:
        """Add what another process saw."""
        self.images += other.images
        self.names = other.names or self.names
        self.rates = self.rates + other.rates
        self.macs = self.macs + other.macs
        self.fixed_macs += other.fixed_macs
        self.sizes.update(other.sizes)

    @property
    def typical_size(self) -> tuple[int, int]:
        """The input size (H, W) seen most often; of equally frequent ones the largest."""
        return max(self.sizes, key=lambda size: (self.sizes[size], size[0] * size[1]))


@dataclass
class ObjectRateMeter:
    """Mean activation rate, over blocks and pixels, inside and outside of ground-truth boxes.

    Attributes:
        sums: Summed rate of the pixels inside and outside.
        pixels: Number of pixels inside and outside.
    """

    sums: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    pixels: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))

    def update(self, rate_map: Tensor, boxes: Tensor) -> None:
        """Add one image.

        Args:
            rate_map: (H, W) share of blocks that computed each pixel.
            boxes: (n, 4) boxes as x1, y1, x2, y2 in pixels of ``rate_map``.
        """
        inside = torch.zeros_like(rate_map, dtype=torch.bool)
        for x1, y1, x2, y2 in boxes.round().long().clamp(min=0).tolist():
            inside[y1:y2, x1:x2] = True
        for index, part in enumerate((inside, ~inside)):
            self.sums[index] += rate_map[part].sum().item()
            self.pixels[index] += part.sum().item()

    def merge(self, other: 'ObjectRateMeter') -> None:
        """Add what another process saw."""
        self.sums += other.sums
        self.pixels += other.pixels

    def summary(self) -> dict[str, float] | None:
        """Rates inside and outside and their ratio; None unless both were seen and computed."""
        if not self.pixels.min() > 0 or not self.sums.min() > 0:
            return None
        inside, outside = (self.sums / self.pixels).tolist()
        return {'inside': inside, 'outside': outside, 'ratio': inside / outside}


def rate_map(traces: list[BlockTrace], size: tuple[int, int]) -> Tensor:
    """Share of blocks that computed each pixel of the image.

    Args:
        traces: The backbone's traces.
        size: (H, W) of the images.

    Returns:
        (N, H, W) in [0, 1].
    """
    maps = [
        torch.nn.functional.interpolate(trace.pixel_mask.float(), size=size) for trace in traces
    ]
    return torch.stack(maps).mean(0)[:, 0]
