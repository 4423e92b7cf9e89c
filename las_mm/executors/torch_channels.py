"""A block without its skipped channels, for one image (LAUDNet's channel skipping)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .folding import FoldedBlock, FoldedConv, activate


@dataclass(frozen=True)
class NarrowBlock:
    """The convolutions of a block cut to the active channels of an image.

    A skipped channel carries a constant c, zero or relu(norm(0)), at every pixel. What it adds to a
    convolution, Σ_j W[:, j]·c_j, depends on the taps that lie inside of the image alone.

    Attributes:
        convs: The convolutions.
        adds: (k², C_out) for each convolution what its skipped inputs add through each tap inside
            of the image; None where there are none.
        active: (a,) numbers of the active channels.
        skipped: Numbers of the skipped channels.
        constants: What they carry between the last two convolutions.
        hidden: (C,) constants that the first convolution's output starts from, of which it writes
            ``columns``; None to start from nothing, with all columns written.
        columns: As above.
        chosen: Columns of the second convolution's output that are active; None for all.
    """

    convs: tuple[FoldedConv, ...]
    adds: tuple[Tensor | None, ...]
    active: Tensor
    skipped: Tensor
    constants: Tensor
    hidden: Tensor | None = None
    columns: Tensor | None = None
    chosen: Tensor | None = None


def narrow(folded: FoldedBlock, mask: Tensor) -> NarrowBlock:
    """Cut a block to the channels that are on.

    Args:
        folded: The block.
        mask: (C,) of the channels between its convolutions.
    """
    active, skipped = mask.nonzero()[:, 0], (mask == 0).nonzero()[:, 0]
    constants = [_constants(folded, i)[skipped] for i in range(len(folded.convs) - 1)]
    first, *middle, last = folded.convs
    if middle and middle[0].groups > 1:
        return _narrow_groups(folded, active, skipped)
    convs = [_cut(first, active, None)]
    adds: list[Tensor | None] = [None]
    for conv, outputs, carried in zip(
        folded.convs[1:], [active] * len(middle) + [None], constants, strict=True
    ):
        convs.append(_cut(conv, outputs, active))
        adds.append(_added(_cut(conv, outputs, skipped), carried))
    return NarrowBlock(tuple(convs), tuple(adds), active, skipped, constants[-1])


def _narrow_groups(folded: FoldedBlock, active: Tensor, skipped: Tensor) -> NarrowBlock:
    """Of a grouped convolution the groups with an active output are computed, all of each."""
    first, grouped, last = folded.convs
    width = len(first.bias)
    each = width // grouped.groups
    kept = torch.unique(active // each)  # in order
    columns = (kept[:, None] * each + torch.arange(each, device=kept.device)).flatten()
    place = torch.empty(width, dtype=torch.long, device=kept.device)
    place[columns] = torch.arange(len(columns), device=kept.device)
    inner = replace(
        grouped,
        weight=grouped.weight[columns] if len(kept) else grouped.weight[:0, :0],
        bias=grouped.bias[columns],
        groups=max(len(kept), 1),
    )
    constants = _constants(folded, 1)[skipped]
    convs = _cut(first, active, None), inner, _cut(last, None, active)
    return NarrowBlock(
        convs,
        (None, None, _added(_cut(last, None, skipped), constants)),
        active,
        skipped,
        constants,
        hidden=_constants(folded, 0)[columns],
        columns=place[active],
        chosen=place[active],
    )


def _constants(folded: FoldedBlock, index: int) -> Tensor:
    """(C_out,) what the channels of a convolution carry where they are skipped."""
    conv = folded.convs[index]
    if folded.zeroed or conv.skipped is None:
        return torch.zeros_like(conv.bias)
    return activate(conv.skipped.clone(), folded.limits[index])


def _cut(conv: FoldedConv, outputs: Tensor | None, inputs: Tensor | None) -> FoldedConv:
    """Some outputs of a convolution, and some of its inputs; None for all."""
    weight, bias = conv.weight, conv.bias
    if outputs is not None:
        weight, bias = weight[outputs], bias[outputs]
    return replace(conv, weight=weight if inputs is None else weight[:, inputs], bias=bias)


def _added(conv: FoldedConv, constants: Tensor) -> Tensor:
    """(k², C_out): what inputs that are constants add through each tap."""
    return torch.einsum('oikl,i->klo', conv.weight, constants).flatten(0, 1)
