"""Which operators of a block share a kernel (Section 3.4)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fusion:
    """Which operators share a kernel; the rows of Table 1.

    Attributes:
        masker_conv1: Compute the mask's logit as one more output channel of conv1, which is then
            dense. None takes whichever is predicted to be faster: fused when r > r_th. A block
            whose first convolution reads other than the block's input cannot fuse them.
        gather_conv2: Fetch patches inside the dynamic convolution instead of copying them first.
        scatter_add: Add the patches to the identity in place of scatter, then add.
        conv3_add: Not in the paper: the last convolution of static and dynamic blocks adds to the
            identity in place as it writes, as CPU libraries do; no add or scatter-add is left.
    """

    masker_conv1: bool | None = None
    gather_conv2: bool = True
    scatter_add: bool = True
    conv3_add: bool = False


DEFAULT_FUSION = Fusion()
