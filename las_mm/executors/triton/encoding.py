"""An encoder layer of a transformer as a sequence of kernels that read its decisions on the GPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_mm.executors.torch_tokens import fused
from las_mm.layers import EncoderBlock

from .keeping import Half, run_lists
from .kernels.token_attention import token_attention
from .kernels.token_linear import token_linear, token_norm
from .launch import cdiv, common, compiled, launch, use_pdl
from .options import Options
from .packing import padded_depth
from .tiles import Tile, attention_tiles, conv_tiles, power_of_two
from .tuning import choose_tile

NORMED_AT_A_TIME = 4096  # channels of the tokens of a program
FEWEST_CHANNELS = 16  # of a head, padded: a tensor-core product needs as many


def run_layer(
    block: EncoderBlock,
    x: Tensor,
    normed: Tensor | None,
    masks: dict[str, Tensor],
    grid: tuple[int, int],
    options: Options,
) -> Tensor:
    """The layer's output (N, L, D); nothing that was decided comes back to the host.

    Args:
        block: The layer.
        x: (N, L, D).
        normed: The same after the first norm, where that is known.
        masks: Decisions by policy, see :meth:`~las_mm.layers.EncoderBlock.decide`.
        grid: (h, w) of the patches' tokens.
        options: Switches.
    """
    x = x.contiguous()
    kept = run_lists(block, x, masks, grid, options)
    out, attn = x.clone(), block.attn
    half = Half(0, kept, kept.rows, options)
    by_head = kept.heads is not None and block.head_mode != 'attention'
    if normed is None:
        normed, gather = run_norm(half, block.ln1, x), False
    else:
        normed, gather = normed.contiguous(), kept.rows is not None
    qkv = run_linear(
        half, attn.qkv, normed, gather=gather, some_outputs=kept.heads is not None, parts=3,
        values=block.head_mode == 'attention',
    )  # fmt: skip
    mixed = run_attention(half, block, qkv)
    run_linear(half, attn.proj, mixed, some_inputs=by_head, out=out, scale=attn.gamma1)
    half = Half(1, kept, kept.rows if block.tokens_with_mlp else None, options)
    (first, activation, *_), second, *_ = block.ffn.layers
    skips = block.head_mode if kept.heads is not None else ''
    hidden = run_linear(
        half, first, run_norm(half, block.ln2, out), some_inputs=skips == 'input',
        some_outputs=skips == 'hidden', activation=name_activation(activation),
    )  # fmt: skip
    run_linear(half, second, hidden, some_inputs=skips == 'hidden', out=out, scale=block.ffn.gamma2)
    return out


def name_activation(layer: nn.Module) -> str | None:
    """What the kernels call an activation; None if they do not know it."""
    if type(layer) is nn.ReLU:
        return 'relu'
    if type(layer) is nn.GELU:
        return {'none': 'gelu', 'tanh': 'gelu_tanh'}.get(layer.approximate)
    return None


def score_scale(attention: Any) -> float | None:
    """What scores of an attention are multiplied by; None if the kernels cannot compute them."""
    function: Any = fused(attention.scaled_dot_product_attention)
    options = {}
    if isinstance(function, partial) and not function.args:
        function, options = function.func, dict(function.keywords)
    scale = options.pop('scale', None)
    if function is not F.scaled_dot_product_attention or options:
        return None
    return attention.head_dims**-0.5 if scale is None else scale


def run_norm(half: Half, norm: Any, x: Tensor) -> Tensor:
    """The norm of rows (N, L, D), which then stand first among their image's."""
    images, length, channels = x.shape
    out, wide = torch.empty_like(x), power_of_two(channels)
    rows = max(1, NORMED_AT_A_TIME // wide)
    none = half.lengths
    launch(
        token_norm, (images * cdiv(length, rows),), x, *(none if p is None else p for p in
        (norm.weight, norm.bias)), out, none if half.rows is None else half.rows, half.lengths,
        length, norm.eps,
        CHANNELS=channels, LISTED=half.rows is not None, WEIGHT=norm.weight is not None,
        BIAS=norm.bias is not None, PDL=use_pdl(half.options, x), BM=rows, BC=wide, num_warps=4,
    )  # fmt: skip
    return out


def run_linear(
    half: Half,
    layer: nn.Linear,
    source: Tensor,
    gather: bool = False,
    some_inputs: bool = False,
    some_outputs: bool = False,
    parts: int = 1,
    values: bool = False,
    activation: str | None = None,
    out: Tensor | None = None,
    scale: nn.Module | None = None,
) -> Tensor:
    """A linear layer of the tokens of a half.

    Args:
        half: Which tokens.
        layer: The layer.
        source: (N, L, inputs), an image's tokens first.
        gather: Whether tokens are in ``source`` where they are in the layer's input instead.
        some_inputs: Whether inputs of skipped heads count as zeros.
        some_outputs: Whether outputs of skipped heads are not needed.
        parts: How often heads follow one another in the outputs.
        values: Whether the last of these parts is needed nevertheless.
        activation: See :func:`name_activation`.
        out: What is added to, in place, where the layer's input has its tokens; None for a new
            tensor with an image's tokens first.
        scale: Layer scale of what is added.
    """
    (outputs, inputs), kept = layer.weight.shape, half.kept
    heads = 1 if kept.heads is None else kept.heads.shape[1]
    width = inputs // heads if some_inputs else inputs
    add, gamma = out is not None, getattr(scale, 'weight', None)
    target = source.new_empty(*kept.shape, outputs) if out is None else out
    weight = layer.weight.contiguous()
    listed = half.rows is not None

    def run(tile: Tile, target: Tensor, half: Half) -> None:
        kept, none = half.kept, half.lengths
        optional = layer.bias, gamma
        launch(
            token_linear,
            (kept.shape[0] * cdiv(kept.shape[1], tile.rows) * cdiv(outputs, tile.columns),),
            source, weight, *(none if p is None else p for p in optional), target,
            none if half.rows is None else half.rows, half.lengths,
            none if kept.heads is None else kept.heads, kept.order, kept.head_counts,
            kept.shape[1],
            IN=inputs, OUT=outputs, HEADS=heads, SLICE=width, DEPTH=padded_depth(width),
            PARTS=parts, SOME_INPUTS=some_inputs, SOME_OUTPUTS=some_outputs, VALUES=values,
            GATHER=gather, SCATTER=add and listed, ADD=add, BIAS=layer.bias is not None,
            SCALE=gamma is not None, ACTIVATION=activation, **common(half.options, source),
            **compiled(tile),
        )  # fmt: skip

    def scratch() -> Callable[[Tile], None]:
        return partial(run, target=target.clone(), half=half.halved())

    tiles = conv_tiles(source.dtype, outputs, padded_depth(width))
    key = f'{kept.shape} {inputs} {outputs} {heads} {some_inputs} {some_outputs} {parts} {values} '
    key += f'{gather} {add} {listed} {activation} {source.dtype} {half.options.float32}'
    tile = choose_tile('token_linear', key, source.device, tiles, scratch, half.options.tune)
    run(tile, target, half)
    return target


def run_attention(half: Half, block: EncoderBlock, qkv: Tensor) -> Tensor:
    """Attention (N, L, D) within each image's tokens, of queries, keys and values (N, L, 3·D)."""
    kept, heads, width = half.kept, block.attn.num_heads, block.attn.head_dims
    scale, depth = score_scale(block.attn), max(FEWEST_CHANNELS, power_of_two(width))
    out = qkv.new_empty(*kept.shape, heads * width)
    passing = kept.heads is not None and block.head_mode == 'attention'

    def run(tile: Tile, half: Half) -> None:
        kept, none = half.kept, half.lengths
        launch(
            token_attention,
            (kept.shape[0] * heads * cdiv(kept.shape[1], tile.rows),),
            qkv, out, half.lengths, none if kept.heads is None else kept.heads, kept.shape[1],
            scale,
            HEADS=heads, WIDTH=width, DEPTH=depth, SOME_HEADS=kept.heads is not None,
            PASS=passing, **common(half.options, qkv), BM=tile.rows, BN=tile.columns,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

    def scratch() -> Callable[[Tile], None]:
        return partial(run, half=half.halved())

    tiles = attention_tiles(qkv.dtype)
    key = f'{kept.shape} {heads} {width} {kept.heads is None} {passing} {qkv.dtype} '
    key += half.options.float32
    run(
        choose_tile('token_attention', key, qkv.device, tiles, scratch, half.options.tune),
        half,
    )  # fmt: skip
    return out
