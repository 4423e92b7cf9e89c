"""RateMeter: averages over a test run of what every block computed."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor

from las_mm.accounting import NetworkCost
from las_mm.layers import BlockTrace

from .pixels import computed_pixels


@dataclass
class RateMeter:
    """Sums over images; averages are sums divided by :attr:`images`.

    Attributes:
        images: Number of images seen.
        names: The blocks' names, in order.
        stages: The blocks' stages, from 0.
        shares: Sums of each block's shares, by the axes' names.
        macs: (blocks, 2) sums of each block's static and dynamic MACs.
        fixed_macs: Sum of the MACs outside the blocks.
        sizes: How often each input size (H, W) was seen.
    """

    images: int = 0
    names: tuple[str, ...] = ()
    stages: tuple[int, ...] = ()
    shares: tuple[Counter[str], ...] = ()
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
        images = traces[0].images
        shares = [{n: s.double().cpu() for n, s in trace.shares.items()} for trace in traces]
        macs = [
            (images * block.static, float(torch.as_tensor(block.dynamic(s)).expand(images).sum()))
            for block, s in zip(cost.blocks, shares, strict=True)
        ]
        sums = [Counter({name: float(share.sum()) for name, share in s.items()}) for s in shares]
        seen = RateMeter(
            images,
            tuple(trace.name for trace in traces),
            tuple(trace.stage for trace in traces),
            tuple(sums),
            torch.tensor(macs, dtype=torch.float64),
            images * cost.fixed,
            Counter({size: images}),
        )
        self.merge(seen)

    def merge(self, other: 'RateMeter') -> None:
        """Add what another forward, or another process, saw."""
        self.images += other.images
        self.names, self.stages = other.names or self.names, other.stages or self.stages
        nothing: Counter[str] = Counter()
        merged = []
        for mine, others in zip_longest(self.shares, other.shares, fillvalue=nothing):
            names = [*mine, *(name for name in others if name not in mine)]
            merged.append(Counter({name: mine[name] + others[name] for name in names}))
        self.shares = tuple(merged)
        self.macs = self.macs + other.macs
        self.fixed_macs += other.fixed_macs
        self.sizes.update(other.sizes)

    @property
    def rates(self) -> Tensor:
        """(blocks, 2) sums of each block's activation and dilated rate."""
        pairs = []
        for shares in self.shares:
            # A block that decides on no pixels computes all of them.
            found = [shares[axis] for axis in ('sites', 'branch', 'tokens') if axis in shares]
            active = found[0] if found else float(self.images)
            pairs.append((active, shares.get('dilated', active)))
        return torch.tensor(pairs, dtype=torch.float64)

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

    def update(self, rate_map: Tensor, boxes: Tensor, ignored: Tensor | None = None) -> None:
        """Add one image.

        Args:
            rate_map: (H, W) share of blocks that computed each pixel.
            boxes: (n, 4) boxes as x1, y1, x2, y2 in pixels of ``rate_map``.
            ignored: (m, 4) boxes of crowds and the like; what only they cover counts as neither
                inside nor outside.
        """
        inside = pixels_in(boxes, rate_map)
        outside = ~inside if ignored is None else ~inside & ~pixels_in(ignored, rate_map)
        for index, part in enumerate((inside, outside)):
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


def pixels_in(boxes: Tensor, image: Tensor) -> Tensor:
    """(H, W) bool: the pixels of an image (H, W) whose centres lie in one of the boxes (n, 4)."""
    inside = torch.zeros_like(image, dtype=torch.bool)
    height, width = image.shape
    first_covered = (boxes.double() - 0.5).ceil().clamp(0, max(height, width)).long()
    for x1, y1, x2, y2 in first_covered.tolist():
        inside[y1:y2, x1:x2] = True
    return inside


def rate_map(traces: list[BlockTrace], size: tuple[int, int]) -> Tensor:
    """Share of blocks that computed each pixel of the image.

    Args:
        traces: The backbone's traces.
        size: (H, W) of the backbone's input.

    Returns:
        (N, H, W) in [0, 1].
    """
    first, *others = computed_pixels(traces, size)
    return sum(others, first) / len(traces)
