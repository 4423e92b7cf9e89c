"""BlockTrace: what one dynamic block did in one forward."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from las_mm.ops import dilate_mask, upsample_mask


@dataclass(frozen=True)
class BlockTrace:
    """The decision of one block in its last forward, and the rates that follow from it.

    Rates are differentiable in training; they are computed when first asked for, so that plain
    inference does not pay for them.

    Attributes:
        name: The block's name in the backbone, such as ``layer1.0``.
        mask: (N, 1, ceil(H'/S), ceil(W'/S)) coarse mask in {0, 1}.
        granularity: S.
        input_size: (H, W) of the block's input.
        conv1_size: (H, W) of the first convolution's output.
        size: (H', W') of the block's output.
        kernel_size: Edge of the second convolution's kernel.
        stride: Stride of the second convolution.
        dilation: Dilation of the second convolution.
    """

    name: str
    mask: Tensor
    granularity: int
    input_size: tuple[int, int]
    conv1_size: tuple[int, int]
    size: tuple[int, int]
    kernel_size: int
    stride: int
    dilation: int

    @cached_property
    def pixel_mask(self) -> Tensor:
        """(N, 1, H', W'): the output pixels that were computed."""
        return upsample_mask(self.mask, self.granularity, self.size)

    @cached_property
    def activation_rate(self) -> Tensor:
        """(N,) share of the output pixels computed, r of Sec. 3.1."""
        return self.pixel_mask.float().mean((1, 2, 3))

    @cached_property
    def dilated_rate(self) -> Tensor:
        """(N,) share of the first convolution's output pixels that the second one reads."""
        mask = self.pixel_mask.float()
        needed = dilate_mask(mask, self.conv1_size, self.kernel_size, self.stride, self.dilation)
        return needed.mean((1, 2, 3))
