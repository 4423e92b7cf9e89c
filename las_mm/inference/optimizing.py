"""Prepare whole detectors and classifiers for fast inference, and undo it (Sec. 3.4)."""

from typing import TypeVar

import torch
from torch import nn

from las_mm.executors import find_executor
from las_mm.layers import DynamicBlock, Executor
from las_mm.layers.numbering import number_block
from las_mm.models import DynamicBackbone
from las_mm.ops.plain import inherits

from .folding import fold_conv_module, fold_norms, fold_stem
from .precision import find_dtype, stages_that_lead_on
from .quantized_stage import Int8Stage
from .stage import InferenceStage
from .stand_ins import put_back, stand_in
from .weights import check_givable, give_up_weights, has_given_up, refuse

Model = TypeVar('Model', bound=nn.Module)


def optimize_for_inference(
    model: Model,
    executor: str | Executor[DynamicBlock] = 'auto',
    memory_format: torch.memory_format = torch.contiguous_format,
    precision: str = 'fp32',
    keep_weights: bool = True,
) -> Model:
    """Make a model's inference fast; outputs stay the same up to rounding.

    Dynamic backbones run their blocks by ``executor``, each block writing over the output of the
    block before where nobody else can see it, and what comes before the first block in one piece.
    Batch norms everywhere else are folded into the convolutions before them; that is all that
    happens to a static network.

    It is fast within ``torch.no_grad()`` or ``torch.inference_mode()``, or where nothing requires
    gradients; with gradients everything runs as PyTorch would, and the log says so once. So does
    every layer with a hook, a parametrization or a forward of its own, as long as it has it.

    Parameters stay where they are: state dicts keep their names and values, and the model can be
    pickled, copied, traced and even trained on. Changes of parameters are noticed, in whichever way
    they are written on a CPU, if they change more than a few elements of a tensor; writing to a
    parameter itself (``copy_``, optimizers, ``load_state_dict``) is always noticed. On a GPU,
    writing past PyTorch (``.data``) between two forwards is not: optimize again after it.

    Args:
        model: Any module, changed in place and put in eval mode.
        executor: How dynamic blocks run, by name or itself, see :mod:`las_mm.executors`.
        memory_format: ``torch.channels_last`` lets features leave backbones and folded convolutions
            in the layout that they were computed in. It is for models whose further operators read
            strides, which compiled ones of mmcv do not.
        precision: In which the stages of dynamic backbones compute: ``'fp32'``, exact, or rather in
            the type of the images; ``'bf16'``, bfloat16 on a CPU that has it, for models whose
            parameters are in float32: weights are rounded once, sums are in float32, and so are the
            stem, maskers and all that lies outside of the backbone, but hooks on stages see
            bfloat16; ``'int8'``, 8 bits on any CPU, of a model that :func:`~las_mm.quantize` has
            calibrated: stem, maskers, the features between stages and all that lies outside of the
            backbone stay in float32; or ``'auto'``, bfloat16 where it can be had.
        keep_weights: False frees the weights of the blocks of dynamic backbones as soon as they are
            packed for the CPU. Such a model can be run, without gradients, and nothing else: it can
            be neither restored, saved, loaded, copied, trained nor moved, and says so.

    Returns:
        The model itself.

    Raises:
        ValueError: If there is no such executor or precision, or ``'bf16'`` or ``'int8'`` cannot be
            had here, or weights cannot be given up.
        RuntimeError: If the model has given up its weights before.
    """
    found = find_executor(executor)
    dtype = find_dtype(precision, model, found)
    if not keep_weights:
        if dtype is torch.uint8:
            raise ValueError("keep_weights: got False with precision 'int8'; leave one of them out")
        check_givable(model, found)
    restore_after_inference(model).eval()
    for backbone in [part for part in model.modules() if isinstance(part, DynamicBackbone)]:
        before = backbone.hand_out(found)
        backbone.__dict__[BEFORE] = before, backbone.any_layout
        backbone.any_layout, backbone.precision = memory_format is torch.channels_last, dtype
        leading = stages_that_lead_on(backbone)
        for stage, leads_on in zip(backbone.sequences, leading, strict=True):
            if inherits(stage, nn.Sequential):  # not a dense block: it reads all earlier outputs
                low = None if dtype is torch.uint8 else dtype
                kind = Int8Stage if dtype is torch.uint8 else InferenceStage
                own = dict(_dtype=low, _leads_on=leads_on, _number=number_block(stage))
                stand_in(stage, kind, _chain=None, _int8=None, **own)
        if found is not None and found.name in ('auto', 'cpu'):
            fold_stem(backbone)
            for module in backbone.single_convs:
                fold_conv_module(module)
    blocks = [part for part in model.modules() if isinstance(part, DynamicBlock)]
    inside_blocks = {part for block in blocks for part in block.modules()}
    for parent in [part for part in model.modules() if part not in inside_blocks]:
        fold_norms(parent, memory_format)
    if not keep_weights:
        for backbone in [part for part in model.modules() if isinstance(part, DynamicBackbone)]:
            give_up_weights(backbone)
    return model


BEFORE = '_before_inference'  # where a backbone keeps its executor and layout of before


def restore_after_inference(model: Model) -> Model:
    """Undo :func:`optimize_for_inference`, in place; does nothing to any other model.

    Returns:
        The model itself, in the mode it was in.

    Raises:
        RuntimeError: If it was optimized with ``keep_weights=False``.
    """
    if has_given_up(model):
        refuse('to be restored')
    for part in list(model.modules()):
        put_back(part)
        if isinstance(part, DynamicBackbone) and BEFORE in part.__dict__:
            executor, part.any_layout = part.__dict__.pop(BEFORE)
            part.hand_out(executor)
            part.precision = None
    return model
