"""Who runs encoder layers of dynamic transformers on a GPU, and what it cannot run."""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from las_mm.executors.torch_tokens import TokenExecutor, why_not_cut
from las_mm.layers import EncoderBlock, Executor, Masks, Run
from las_mm.layers.numbering import numbered_block
from las_mm.ops.compiling import constant_when_compiled
from las_mm.ops.plain import runs_as_shipped, why_not_plain

from .executor import why_not_machine
from .options import DEFAULT, Options
from .sizes import LARGEST_MAP

WIDEST_HEAD = 128  # channels: those of a head are in the registers of one program
WIDEST_NORM = 8192  # channels: so are those of a token that is normalised


class _OnCpus(TokenExecutor):
    """Who runs the layers where there is no GPU; on one the dense forward does."""

    def on(self, x: Tensor) -> Executor[EncoderBlock] | None:
        return self if x.device.type == 'cpu' else None


class TritonTokenExecutor(Executor[EncoderBlock]):
    """Runs encoder layers without what they skip; the host never waits for a decision.

    Lists of kept tokens and heads are made on the device. Grids are sized for whole layers, and
    programs beyond an image's list, of skipped heads, attention or MLP end at once, so that a
    launch is the same whatever was decided. Maskers run as in the dense forward.

    Args:
        options: Switches; the fusions of convolutions are of no effect.
    """

    name = 'triton'

    def __init__(self, options: Options = DEFAULT) -> None:
        self.options = options
        self.fallback = _OnCpus()

    def prepare(self, block: EncoderBlock, x: Tensor) -> Run | str:
        if not block.maskers:  # and nothing beats the device's own kernels
            return lambda x, private: block.run_dense(x)
        if reason := _why_not_size(block, x):
            return reason
        if torch.compiler.is_compiling():
            reason = _why_not_numbered(block.number, x.device, x.dtype)
            return reason or partial(_run, block, self.options, True)
        return why_not_kernels(block, x) or partial(_run, block, self.options, False)

    def __reduce__(self) -> tuple:
        return type(self), (self.options,)


def _why_not_size(block: EncoderBlock, x: Tensor) -> str | None:
    qkv, _, first, _ = block.linears.values()
    widest = max(qkv.weight.shape[0], first.weight.shape[0])
    if x.shape[0] * x.shape[1] * widest >= LARGEST_MAP:
        return f'a feature map has {LARGEST_MAP} elements or more'
    return None if x.shape[0] else 'it has no images'


def why_not_kernels(block: EncoderBlock, x: Tensor) -> str | None:
    """The reason why the kernels cannot run a layer on x, None if they can."""
    return why_not_machine(x.device, x.dtype) or why_not_cut(block, x) or _why_not_layer(block, x)


def _why_not_layer(block: EncoderBlock, x: Tensor) -> str | None:
    from .encoding import name_activation, score_scale

    activation, width = block.ffn.layers[0][1], block.attn.head_dims
    if name_activation(activation) is None:
        return f'its MLP has a {type(activation).__name__}'
    if width > WIDEST_HEAD:
        return f'its heads have {width} channels, more than {WIDEST_HEAD}'
    if x.shape[2] > WIDEST_NORM:
        return f'its tokens have {x.shape[2]} channels, more than {WIDEST_NORM}'
    if block.head_mode == 'hidden' and block.ffn.layers[0][0].out_features % block.attn.num_heads:
        return 'its heads do not share the hidden units evenly'
    if score_scale(block.attn) is None:
        return 'its attention has scores of its own'
    norms = (why_not_plain(norm, nn.LayerNorm) for norm in (block.ln1, block.ln2))
    scales = (_why_not_scale(layer) for layer in (block.attn.gamma1, block.ffn.gamma2))
    drops = (_why_not_idle(layer) for layer in _dropping(block))
    if reason := next((reason for reason in (*norms, *scales, *drops) if reason), None):
        return reason
    types = {p.dtype for part in _computing(block) for p in part.parameters()}
    return f'its parameters are not {x.dtype}' if types - {x.dtype} else None


def _computing(block: EncoderBlock) -> tuple[nn.Module, ...]:
    """What the kernels take parameters of."""
    scales = block.attn.gamma1, block.ffn.gamma2
    return *block.linears.values(), block.ln1, block.ln2, *scales


def _dropping(block: EncoderBlock) -> tuple[nn.Module, ...]:
    """What drops something in training, and whatever else stands behind the layers."""
    (_, _, *inner), _, *outer = block.ffn.layers
    return *inner, *outer, block.ffn.dropout_layer, block.attn.proj_drop, block.attn.out_drop


def _why_not_idle(layer: nn.Module) -> str | None:
    """The reason why a layer does something to its input in inference, None if it does not."""
    name = type(layer).__name__
    if isinstance(layer, nn.Identity):
        return None
    if name not in ('Dropout', 'DropPath') or not runs_as_shipped(layer, 'forward'):
        return f'a {name} stands where dropout is expected'
    return f'its {name} is in training' if layer.training else None


def _why_not_scale(layer: nn.Module) -> str | None:
    """As :func:`~las_mm.ops.plain.why_not_plain`, of a layer scale or none."""
    if type(layer).__name__ != 'LayerScale':
        return why_not_plain(layer, nn.Identity)
    plain = runs_as_shipped(layer, 'forward') and 'weight' in layer._parameters
    return None if plain else 'its layer scale is one of its own'


def _run(
    block: EncoderBlock, options: Options, compiled: bool, x: Tensor, private: bool = False
) -> tuple[Tensor, Masks]:
    """The block's output, (N, L, D) -> (N, L, D), and the masks of its maskers."""
    # Tokens are decided on by their norms, heads and halves by the first token alone.
    normed = block.ln1(x) if 'token_masker' in block._modules else None
    masks = block.decide(x, x if normed is None else normed)
    if compiled:
        decided = (masks.get(name) for name in ('tokens', 'heads', 'blocks'))
        out = torch.ops.las_mm.triton_encoder(x, normed, *decided, block.number, *block.grid)
    else:
        from .encoding import run_layer

        out = run_layer(block, x, normed, masks, block.grid, options)
    return out, tuple(masks.values())


# torch.compile: maskers are compiled, the rest is one operator that names the layer by its number.


def _numbered(number: int, device: torch.device) -> tuple['TritonTokenExecutor', EncoderBlock]:
    block = cast(EncoderBlock, numbered_block(number))
    executor: Any = block.executor
    return executor.on(torch.empty(0, device=device)), block


@constant_when_compiled
def _why_not_numbered(number: int, device: torch.device, dtype: torch.dtype) -> str | None:
    block = _numbered(number, device)[1]
    return why_not_kernels(
        block, torch.empty(0, 0, block.attn.embed_dims, device=device, dtype=dtype)
    )


@torch.library.custom_op('las_mm::triton_encoder', mutates_args=())
def triton_encoder(
    x: Tensor,
    normed: Tensor | None,
    tokens: Tensor | None,
    heads: Tensor | None,
    blocks: Tensor | None,
    number: int,
    height: int,
    width: int,
) -> Tensor:
    """The layer with this number, run by its executor, given what was decided."""
    from .encoding import run_layer

    executor, block = _numbered(number, x.device)
    named = {'tokens': tokens, 'heads': heads, 'blocks': blocks}
    masks = {name: mask for name, mask in named.items() if mask is not None}
    return run_layer(block, x, normed, masks, (height, width), executor.options)


@triton_encoder.register_fake
def _(
    x: Tensor,
    normed: Tensor | None,
    tokens: Tensor | None,
    heads: Tensor | None,
    blocks: Tensor | None,
    number: int,
    height: int,
    width: int,
) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
