"""Which logits of a model are distilled: a source for each kind of OpenMMLab model."""

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

FrameworkModel = Any  # an nn.Module, which for a type checker has tensors and modules alike
ALLOWED = (
    'it takes classifiers with a head of class logits, one-stage detectors with a dense bbox_head '
    "of class logits, and two-stage detectors and cascades with mmdet's standard box branch; "
    'leave DistillationHook out'
)


class LogitSource(ABC):
    """Keeps what the student's modules returned in the last forward and asks the teacher for it.

    Attributes:
        sigmoid: Whether classes are independent Bernoulli variables.
    """

    sigmoid = False

    def __init__(self, *modules: nn.Module) -> None:
        self._calls: dict[nn.Module, tuple[tuple, Any, bool]] = {}
        self._handles = [module.register_forward_hook(self._keep) for module in modules]

    @torch.compiler.disable
    def _keep(self, module: nn.Module, args: tuple, output: Any) -> None:
        # The first call of a forward is that of the box branch; a mask branch may share it. A
        # sampler that looks for hard examples calls before that, without gradients.
        grad = torch.is_grad_enabled()
        if module not in self._calls or (grad and not self._calls[module][2]):
            self._calls[module] = args, output, grad

    def start(self) -> None:
        """A forward in training begins: what other forwards left behind, as in validation, goes."""
        self._calls.clear()

    def call(self, module: nn.Module) -> tuple[tuple, Any]:
        """Arguments and output of the module's first call since it was last asked for.

        Raises:
            ValueError: If it was not called.
        """
        if module not in self._calls:
            raise ValueError(f'DistillationHook: no {type(module).__name__} was run; {ALLOWED}')
        return self._calls.pop(module)[:2]

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
        loss = getattr(model.head, 'loss_module', None)
        loss = getattr(loss, 'ce', loss)  # label smoothing has one inside
        self.sigmoid = bool(getattr(loss, 'use_sigmoid', False))

    def teacher_logits(self, teacher: FrameworkModel, inputs: Tensor) -> Tensor:
        return teacher.head(teacher.extract_feat(inputs))

    def student_logits(self) -> Tensor:
        args, logits = self.call(self._head)
        # With the labels for a second argument these have a margin, which the teacher's have not.
        return logits if len(args) == 1 else self._head.forward(args[0])


class ProposalLogits(LogitSource):
    """Class logits of the sampled proposals, for mmdet's two-stage detectors and cascades.

    In a cascade each stage has proposals of its own, which the student's stage before has refined;
    the rows of all stages follow each other.
    """

    def __init__(self, model: FrameworkModel) -> None:
        self._extractors = _stages(model.roi_head.bbox_roi_extractor)
        self._heads = _stages(model.roi_head.bbox_head)
        self.sigmoid = bool(getattr(self._heads[0].loss_cls, 'use_sigmoid', False))
        super().__init__(*self._extractors, *self._heads)

    def teacher_logits(self, teacher: FrameworkModel, inputs: Tensor) -> Tensor:
        features = teacher.extract_feat(inputs)
        rois = [self.call(extractor)[0][1] for extractor in self._extractors]
        box_branch, heads = teacher.roi_head._bbox_forward, teacher.roi_head.bbox_head
        if not isinstance(heads, nn.ModuleList):
            return box_branch(features, rois[0])['cls_score']
        stages = [box_branch(stage, features, r)['cls_score'] for stage, r in enumerate(rois)]
        return torch.cat(stages)

    def student_logits(self) -> Tensor:
        return torch.cat([self.call(head)[1][0] for head in self._heads])


def box_stages(model: FrameworkModel) -> int:
    """How many box heads follow each other in a detector's second stage; 0 without one."""
    return len(_stages(model.roi_head.bbox_head)) if hasattr(model, 'roi_head') else 0


def _stages(modules: nn.Module) -> list[FrameworkModel]:
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


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
        ValueError: If the model is neither a classifier nor a one- or two-stage box detector, or
            one whose logits are not those of classes alone.
    """
    return source_class(model)(model)


def source_class(model: nn.Module) -> type['ClassifierLogits | ProposalLogits | AnchorLogits']:
    """The kind of source that fits ``model``; raises as :func:`logit_source` does."""
    for name, why_not, source in (
        ('roi_head', why_not_proposals, ProposalLogits),
        ('bbox_head', why_not_anchors, AnchorLogits),
        ('head', why_not_classifier, ClassifierLogits),
    ):
        head = getattr(model, name, None)
        if head is not None and hasattr(model, 'extract_feat'):
            reason = why_not(head)
            if reason:
                raise ValueError(
                    f'DistillationHook: got a {type(model).__name__} with a '
                    f'{type(head).__name__}, {reason}; {ALLOWED}'
                )
            return source
    raise ValueError(f'DistillationHook: got a {type(model).__name__}; {ALLOWED}')


def why_not_proposals(roi_head: FrameworkModel) -> str | None:
    """Why a second stage's logits cannot be distilled, None if they can."""
    branch = getattr(roi_head, '_bbox_forward', None)
    needs = list(inspect.signature(branch).parameters) if branch else []
    if needs not in (['x', 'rois'], ['stage', 'x', 'rois']):
        return 'whose box branch needs more than features and boxes'
    for head in _stages(roi_head.bbox_head):
        if not isinstance(getattr(head, 'fc_cls', None), nn.Linear):
            return f'whose {type(head).__name__} has no single layer of class logits'
        if getattr(head, 'custom_cls_channels', False):
            return f'whose {type(head.loss_cls).__name__} has more logits than classes'
    return None


def why_not_anchors(head: FrameworkModel) -> str | None:
    """Why a dense head's logits cannot be distilled, None if they can."""
    if not hasattr(head, 'use_sigmoid_cls'):
        return 'which has no class logits of each anchor or point'
    if hasattr(head, 'cls_prob_module'):
        return 'which returns probabilities in place of logits'
    if hasattr(head, 'loc_filter_thr'):
        return 'which in inference leaves points out'
    if getattr(getattr(head, 'loss_cls', None), 'custom_cls_channels', False):
        return f'whose {type(head.loss_cls).__name__} has more logits than classes'
    return None


def why_not_classifier(head: FrameworkModel) -> str | None:
    """Why a classifier's logits cannot be distilled, None if they can."""
    if not all(hasattr(head, name) for name in ('pre_logits', 'predict', 'loss')):
        return 'which has no class logits'
    return None
