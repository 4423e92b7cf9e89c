"""The reference executor: everything is computed, then multiplied by the mask."""

from typing import TYPE_CHECKING

from torch import Tensor

from las_mm.ops.fork import fork
from las_mm.ops.geometry import conv_size, upsample_mask

if TYPE_CHECKING:
    from las_mm.layers import DynamicBlock


def execute_dense(
    block: 'DynamicBlock', x: Tensor, private: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Dense-masked execution, the one used in training: batch norms see dense statistics.

    Args:
        block: The dynamic block.
        x: (N, C, H, W).
        private: Ignored: ``x`` is never written to.

    Returns:
        The output, relu(M ⊙ branch(x) + identity(x)) for a residual block, and the coarse mask,
        None for a static block.
    """
    if not block.is_dynamic:
        return block.run_dense(x), None
    masker = block.masker
    branch, shortcut, pooled = fork(x, masker.window) if masker.training else (x, x, None)
    mask = masker(x, pooled)
    size = conv_size(x.shape[-2:], block.stride_product)
    pixels = upsample_mask(mask, masker.granularity, size)
    return block.run_dense(branch, pixels, shortcut), mask
