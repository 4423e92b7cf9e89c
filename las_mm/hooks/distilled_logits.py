"""Which logits of a model are distilled: a source for each kind of OpenMMLab model."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

FrameworkModel = Any  # an nn.Module, which for a type checker has tensors and modules alike


class LogitSource(ABC):
    """Keeps what the student's modules returned in the last forward and asks the teacher for it.

    Attributes:
        sigmoid: Whether classes are independent Bernoulli variables.
    """

    sigmoid = False

    def __init__(self, *modules: nn.Module) -> None:
        self._calls: dict[nn.Module, tuple[tuple, Any]] = {}
        self._handles = [module.register_forward_hook(self._keep) for module in modules]

    def _keep(self, module: nn.Module, args: tuple, output: Any) -> None:
        # The first call of a forward is that of the box branch; a mask branch may share it.
        self._calls.setdefault(module, (args, output))

    def call(self, module: nn.Module) -> tuple[tuple, Any]:
        """Arguments and output of the module's first call since it was last asked for."""
        return self._calls.pop(module)

    def remove(self) -> None:
        """Detach from the student."""
        for handle in self._handles:
            handle.remove()

    @abstractmethod
    def teacher_logits(self, teacher: FrameworkModel, inputs: Tensor) -> Tensor:
        """(rows, classes) of the teacher for the student's last forward; called first."""

    @abstractmethod
    def student_logits(self) -> Tensor:
        """(rows, classes) of the student's last forward."""


class ClassifierLogits(LogitSource):
    """Class logits of the images, for mmpretrain's classifiers."""

    def __init__(self, model: FrameworkModel) -> None:
        super().__init__(model.head)
        self._head = model.head

    def teacher_logits(self, teacher: FrameworkModel, inputs: Tensor) -> Tensor:
        return teacher.head(teacher.extract_feat(inputs))

    def student_logits(self) -> Tensor:
        return self.call(self._head)[1]


class ProposalLogits(LogitSource):
    """Class logits of the sampled proposals, for mmdet's two-stage detectors."""

    def __init__(self, model: FrameworkModel) -> None:
        self._extractor = model.roi_head.bbox_roi_extractor
        self._head = model.roi_head.bbox_head
        self.sigmoid = bool(getattr(self._head.loss_cls, 'use_sigmoid', False))
        super().__init__(self._extractor, self._head)

    def teacher_logits(self, teacher: FrameworkModel, inputs: Tensor) -> Tensor:
        (levels, rois, *_), _ = self.call(self._extractor)
        head = teacher.roi_head
        pooled = head.bbox_roi_extractor(teacher.extract_feat(inputs)[: len(levels)], rois)
        if head.with_shared_head:
            pooled = head.shared_head(pooled)
        return head.bbox_head(pooled)[0]

    def student_logits(self) -> Tensor:
        return self.call(self._head)[1][0]


class AnchorLogits(LogitSource):
    """Class logits of every anchor or point, for mmdet's one-stage detectors."""

    def __init__(self, model: FrameworkModel) -> None:
        self._head = model.bbox_head
        self.sigmoid = bool(self._head.use_sigmoid_cls)
        super().__init__(self._head)

    def _rows(self, scores: tuple[Tensor, ...]) -> Tensor:
        classes = self._head.cls_out_channels
        return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, classes) for level in scores])

    def teacher_logits(self, teacher: FrameworkModel, inputs: Tensor) -> Tensor:
        return self._rows(teacher.bbox_head(teacher.extract_feat(inputs))[0])

    def student_logits(self) -> Tensor:
        return self._rows(self.call(self._head)[1][0])


def logit_source(model: nn.Module) -> LogitSource:
    """The source that fits ``model``.

    Raises:
        ValueError: If the model is neither a classifier nor a one- or two-stage box detector.
    """
    if hasattr(getattr(model, 'roi_head', None), 'bbox_roi_extractor'):
        return ProposalLogits(model)
    if hasattr(getattr(model, 'bbox_head', None), 'use_sigmoid_cls'):
        return AnchorLogits(model)
    if hasattr(model, 'head') and hasattr(model, 'extract_feat'):
        return ClassifierLogits(model)
    raise ValueError(
        f'DistillationHook: got a {type(model).__name__}; allowed are classifiers with a head and '
        'detectors with a bbox_head or a roi_head'
    )
