"""Squeeze-and-excitation between the second and the third convolution."""

import torch
from torch import Tensor

from las_mm.executors.folding import FoldedGate

from .kernels.gate import gate_layer, scale_rows, sum_active
from .launch import cdiv, launch, use_pdl
from .options import Options
from .sizes import Lists, Sizes

ROWS = {'BM': 32, 'BN': 64}  # elements of the features that one program handles
LAYER = {'BN': 16, 'BK': 128}  # weights that one program multiplies at a time


def run_gate(gate: FoldedGate, sizes: Sizes, rows: Tensor, lists: Lists, options: Options) -> None:
    """Scale rows by the gate of their image, computed from the mean over its active pixels.

    Args:
        gate: The gate, in float32.
        sizes: Geometry of the block.
        rows: (pixels, C) in the order of the active list; changed in place.
        lists: What is active.
        options: Switches.
    """
    channels, squeezed = rows.shape[1], len(gate.squeeze.bias)
    pdl = use_pdl(options, rows)
    # One column more than channels: the number of pixels.
    sums = rows.new_zeros(sizes.batch, channels + 1, dtype=torch.float64)
    hidden = rows.new_empty(sizes.batch, squeezed, dtype=torch.float32)
    gates = rows.new_empty(sizes.batch, channels, dtype=torch.float32)
    blocks = cdiv(len(rows), ROWS['BM'])
    launch(
        sum_active, (blocks * cdiv(channels + 1, ROWS['BN']),),
        rows, lists.active, lists.counts, sums, *sizes.output,
        CHANNELS=channels, PDL=pdl, **ROWS, num_warps=4,
    )  # fmt: skip
    layers = ((gate.squeeze, sums, hidden), (gate.excite, hidden, gates))
    for conv, source, out in layers:
        launch(
            gate_layer, (cdiv(out.shape[1], LAYER['BN']) * sizes.batch,),
            source, conv.weight, conv.bias, out,
            IN=conv.weight.shape[1], OUT=out.shape[1], SQUEEZE=source is sums, PDL=pdl, **LAYER,
            num_warps=4,
        )  # fmt: skip
    launch(
        scale_rows, (blocks * cdiv(channels, ROWS['BN']),),
        rows, lists.active, lists.counts, gates, *sizes.output,
        CHANNELS=channels, PDL=pdl, **ROWS, num_warps=4,
    )  # fmt: skip
