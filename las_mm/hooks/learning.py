"""Which backbone of a model learns, and from which of its forwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from las_mm.accounting import NetworkCost
from las_mm.layers import BlockTrace
from las_mm.models import DynamicBackbone
from las_mm.models.backbone import dynamic_backbones, find_backbone
from las_mm.models.stem import StemLayer


@dataclass(frozen=True)
class Forward:
    """One forward of a backbone.

    Attributes:
        traces: What its blocks did.
        cost: The network's cost for one image of that forward's size.
        stem_sizes: The layers before the blocks, each with the (H, W) of its output.
    """

    traces: list[BlockTrace]
    cost: NetworkCost
    stem_sizes: list[tuple[StemLayer, tuple[int, int]]]


def learning_backbone(model: nn.Module, name: str | None = None) -> DynamicBackbone:
    """The dynamic backbone that is trained: not one of a teacher or of averaged weights.

    Args:
        model: The model.
        name: Its name in the model, such as ``'rgb.backbone'``, where several are trained.

    Raises:
        ValueError: If there is none, none of that name, or several that learn and no name.
    """
    found = dynamic_backbones(model)
    if name is not None or len(found) == 1:
        return find_backbone(model, name)
    learning = {
        name: backbone
        for name, backbone in found.items()
        if any(parameter.requires_grad for parameter in backbone.parameters())
    }
    students = {name: b for name, b in learning.items() if 'student' in name.split('.')}
    chosen = students or learning or found
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    raise ValueError(
        f'backbone: {type(model).__name__} trains several dynamic backbones; choose one of '
        f"{', '.join(chosen)}, as backbone='{next(iter(chosen))}' of the hook, one hook for each"
    )


def learns(backbone: DynamicBackbone) -> bool:
    """Whether what runs now is a forward to learn from: in training mode, with gradients."""
    return backbone.training and torch.is_grad_enabled()


def check_gradients(backbone: DynamicBackbone, traces: Sequence[BlockTrace]) -> None:
    """Refuse a forward whose masks cannot teach their maskers.

    Raises:
        ValueError: If a masker is trained whose mask is without gradient, as within reentrant
            activation checkpointing.
    """
    for block, trace in zip(backbone.blocks, traces, strict=True):
        trained = any(p.requires_grad for masker in block.maskers for p in masker.parameters())
        learns_all = all(decision.mask.requires_grad for decision in trace.decisions)
        if trained and block.training and not learns_all:
            raise ValueError(
                f'the mask of {trace.name} has no gradient, so that its masker would not learn; '
                'checkpoint activations by with_cp=True of the backbone, or by use_reentrant=False'
            )
