"""The best static executions that PyTorch offers, to compare with."""

import copy
from collections.abc import Callable
from math import inf

import torch
from torch import Tensor, nn

from las_mm.executors.folding import FoldedConv, fold_block
from las_mm.inference import optimize_for_inference
from las_mm.inference.folding import FoldedAway, FoldingConv
from las_mm.inference.stage import InferenceStage
from las_mm.inference.stand_ins import put_back
from las_mm.layers import DynamicBlock

VARIANTS = ('eager', 'channels_last', 'onednn', 'compile')


class PlainBlock(nn.Module):
    """A folded static block of plain modules, which every optimizer understands."""

    def __init__(self, block: DynamicBlock) -> None:
        super().__init__()
        folded = fold_block(block, torch.float32)
        self.convs = nn.ModuleList(map(_as_module, folded.convs))
        self.gate = copy.deepcopy(getattr(block, 'se', nn.Identity()))
        self.shortcut = _as_module(folded.shortcut) if folded.shortcut else nn.Identity()
        self.adds = folded.adds
        self.acts = nn.ModuleList(map(_act, folded.limits))

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        out = x
        for conv, act in zip(self.convs[:-1], self.acts, strict=False):
            out = act(conv(out))
        out = self.convs[-1](self.gate(out))
        return self.acts[-1](out.add_(self.shortcut(x)) if self.adds else out)


def _act(limit: float | None) -> nn.Module:
    if limit is None:
        return nn.Identity()
    return nn.ReLU(inplace=True) if limit == inf else nn.Hardtanh(0.0, limit, inplace=True)


def _as_module(folded: FoldedConv) -> nn.Conv2d:
    conv = nn.Conv2d(
        folded.weight.shape[1] * folded.groups,
        folded.weight.shape[0],
        folded.kernel_size,
        folded.stride,
        folded.padding,
        folded.dilation,
        folded.groups,
    )
    conv.weight, conv.bias = nn.Parameter(folded.weight), nn.Parameter(folded.bias)
    return conv


def plain(module: nn.Module) -> nn.Module:
    """A copy with batch norms folded and dynamic blocks replaced by static, plain ones."""
    if isinstance(module, DynamicBlock):
        return PlainBlock(module).eval()
    folded = optimize_for_inference(copy.deepcopy(module), 'dense')
    for stage in [part for part in folded.modules() if isinstance(part, InferenceStage)]:
        put_back(stage)  # a compiler cannot follow its search for chains
    for parent in list(folded.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DynamicBlock):
                setattr(parent, name, PlainBlock(child))
            elif isinstance(child, FoldingConv):
                setattr(parent, name, _as_module(child.fold.folded(torch.float32)))
            elif isinstance(child, FoldedAway):
                setattr(parent, name, nn.Identity())
    return folded.eval()


def static_variants(
    module: nn.Module, x: Tensor, names: list[str]
) -> dict[str, Callable[[], object]]:
    """Ways to run a static block or backbone on x.

    Args:
        module: Without maskers, in eval mode.
        x: Its input.
        names: Some of ``VARIANTS``.
    """
    rows = x.contiguous(memory_format=torch.channels_last)
    nchw = x.contiguous()
    variants: dict[str, Callable[[], object]] = {}
    if 'eager' in names:
        variants['eager'] = lambda: module(nchw)
    if 'channels_last' in names:
        folded = plain(module).to(memory_format=torch.channels_last)
        variants['channels_last'] = lambda: folded(rows)
    if 'onednn' in names:
        traced = torch.jit.trace(plain(module), nchw, check_trace=False)
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        variants['onednn'] = lambda: frozen(nchw)
    if 'compile' in names:
        import torch._inductor.config as inductor

        inductor.freezing = True
        compiled = torch.compile(plain(module).to(memory_format=torch.channels_last))
        variants['compile'] = lambda: compiled(rows)
    return variants
