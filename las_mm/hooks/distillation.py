"""Distillation from the static network (last term of Eq. 2)."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn

from las_mm.checks import check_number
from las_mm.config.shipped import find_config
from las_mm.losses import distillation_loss

from .distilled_logits import LogitSource, box_stages, source_class
from .model_loss import ModelLossHook


@HOOKS.register_module()
class DistillationHook(ModelLossHook):
    """Adds β·T²·KL(teacher ‖ student), the last term of Eq. 2, as ``loss_kd``.

    The teacher is the static counterpart: frozen, in eval mode, never in the student's state
    dict. Classifiers are distilled by their class logits; two-stage detectors by the class logits
    of the student's sampled proposals, for which the teacher pools its own features, in a cascade
    those of every stage; one-stage detectors by the class logits of every anchor. Models without
    such logits (DETR and its kin, HTC, Mask2Former, SOLO, YOLOv3, ...) and semi-supervised
    wrappers are refused.

    Args:
        teacher: The teacher's model as a dict, a config, or the path of a config file, which may be
            one that las_mm ships.
        checkpoint: The teacher's trained weights: a path or URL.
        beta: β.
        temperature: T.
        reverse: Whether to take KL(student ‖ teacher), as Eq. 2 is printed; the authors' code and
            their published numbers have the usual direction, which is the default.

    Raises:
        TypeError, ValueError: If an argument is not one of the allowed ones; before training, if
            the model has no class logits to distil, the teacher is of another kind, or the
            checkpoint does not fit the teacher.

    Example:
        >>> custom_hooks = [
        ...     dict(type='DistillationHook', teacher='configs/my_static_r50.py',
        ...          checkpoint='work_dirs/my_static_r50/epoch_12.pth')]
    """

    def __init__(
        self,
        teacher: str | dict,
        checkpoint: str | None = None,
        beta: float = 0.5,
        temperature: float = 4.0,
        reverse: bool = False,
    ) -> None:
        if not checkpoint:
            raise ValueError(
                f'checkpoint: got {checkpoint!r}; a teacher needs trained weights: a path or URL'
            )
        check_number('beta', beta, lambda b: b >= 0, '>= 0, 0.5 in the paper')
        check_number('temperature', temperature, lambda t: t > 0, '> 0, 4 in the paper')
        self.teacher_config = teacher
        self.checkpoint = checkpoint
        self.beta, self.temperature, self.reverse = beta, temperature, reverse

    def prepare(self, model: nn.Module) -> None:
        kind = source_class(model)
        device = next(model.parameters()).device
        teacher = MODELS.build(_model_config(self.teacher_config))
        if source_class(teacher) is not kind or box_stages(teacher) != box_stages(model):
            raise ValueError(
                f'teacher: got a {type(teacher).__name__} for a {type(model).__name__}; give the '
                'static counterpart, with the same head'
            )
        _load_teacher(teacher, self.checkpoint)
        self.teacher = teacher.to(device).eval().requires_grad_(False)
        self.source: LogitSource = kind(model)

    def start(self) -> None:
        self.source.start()

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.source.remove()

    def extra_losses(self, model: nn.Module, inputs: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self.source.teacher_logits(self.teacher, inputs)
        logits = self.source.student_logits()
        check_same(logits, wanted)
        loss = distillation_loss(
            logits, wanted, self.temperature, self.source.sigmoid, self.reverse
        )
        return {'loss_kd': self.beta * loss}


def check_same(student: Any, teacher: Any) -> None:
    """Refuse logits that do not belong to each other.

    Raises:
        ValueError: If they are no tensors of one shape.
    """
    shapes = [tuple(getattr(x, 'shape', ())) or type(x).__name__ for x in (student, teacher)]
    if not isinstance(student, Tensor) or shapes[0] != shapes[1]:
        raise ValueError(
            f"teacher: its class logits are {shapes[1]}, the student's {shapes[0]}; give the "
            'static counterpart, with the same head'
        )


def _load_teacher(teacher: nn.Module, path: str) -> None:
    """Load trained weights, all of them: a teacher with random ones would teach noise."""
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {name.removeprefix('module.'): weight for name, weight in weights.items()}
    try:
        missing = teacher.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError:  # weights of another shape
        ours = teacher.state_dict()
        missing = [n for n in ours if n in weights and ours[n].shape != weights[n].shape]
    if missing:
        raise ValueError(
            f'checkpoint: {path!r} does not fit the teacher, {len(missing)} of its weights are '
            f'missing or of another shape, such as {missing[0]}; give one of the same model'
        )


def _model_config(teacher: str | Path | dict) -> ConfigDict:
    """The ``model`` of a config file, a config or itself a model's dict; without its init."""
    if isinstance(teacher, str | Path):
        path = str(teacher)
        config = _packaged(path) if '::' in path else Config.fromfile(find_config(path, 'teacher'))
    else:
        config = teacher
    model = ConfigDict(config.get('model', config))
    if 'type' not in model:
        raise ValueError('teacher: has no model; give a config, its path, or a model dict')
    return model


def _packaged(name: str) -> Config:
    """A config that a package ships, such as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``."""
    from mmengine.hub import get_config

    return get_config(name)
