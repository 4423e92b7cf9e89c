"""The reference executor: everything is computed, then multiplied by the mask."""

from typing import TYPE_CHECKING

from torch import Tensor

from las_mm.ops.geometry import upsample_mask

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
        The output relu(M ⊙ branch(x) + identity(x)) and the coarse mask, None for a static block.
    """
    if not block.is_dynamic:
        return block.relu(block.checkpointed_branch(x) + block.identity(x)), None
    mask = block.masker(x)
    out = block.checkpointed_branch(x)
    pixels = upsample_mask(mask, block.masker.granularity, out.shape[-2:])
    return block.relu(out * pixels.to(out.dtype) + block.identity(x)), mask
