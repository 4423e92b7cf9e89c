"""Which fusions the Triton executor uses, and how float32 is multiplied."""

from dataclasses import dataclass

PRECISIONS = ('tf32x3', 'tf32', 'ieee')


@dataclass(frozen=True)
class Options:
    """Switches of the Triton executor; the first three are the columns of Table 1.

    Attributes:
        masker_conv1: Whether masker and first convolution share a kernel, which makes the latter
            dense. None: where it pays, which :func:`~las_mm.inference.planning.plan_backbone`
            finds out by r_th or by timing; without a plan wherever the block allows it.
        gather_conv2: Whether the second convolution fetches its patches itself instead of reading
            copies of them.
        scatter_add: Whether the last convolution adds its patches to the identity in place instead
            of storing them for a scatter and an addition.
        incremental_masker: Whether the last convolution keeps the margins of the following blocks
            of its stage up to date, so that those do not read their input densely and their first
            convolution runs at the dilated rate. None: where it pays. It needs a plan, without
            one it has no effect.
        pdl: Programmatic dependent launch: a kernel's programs start while the previous kernel
            ends (compute capability 9.0 and above; ignored below).
        float32: How float32 is multiplied: ``tf32x3`` on tensor cores, three products for the
            accuracy of one in float32; ``tf32`` one product with 10 bits of mantissa; ``ieee``
            without tensor cores.
        tune: Whether tiles that are not in the cache yet are timed; False takes the first one.
    """

    masker_conv1: bool | None = None
    gather_conv2: bool = True
    scatter_add: bool = True
    incremental_masker: bool | None = None
    pdl: bool = False
    float32: str = 'tf32x3'
    tune: bool = True

    def __post_init__(self) -> None:
        if self.float32 not in PRECISIONS:
            raise ValueError(
                f'float32: got {self.float32!r}; choose one of {", ".join(PRECISIONS)}'
            )
        if self.incremental_masker and (self.masker_conv1 or not self.scatter_add):
            raise ValueError(
                'incremental_masker: got True, which excludes masker_conv1=True and needs '
                'scatter_add=True; leave masker_conv1 and scatter_add at their defaults'
            )


DEFAULT = Options()
