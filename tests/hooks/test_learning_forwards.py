"""Losses learn from the forwards that are trained: not from teachers, averages or predictions."""

from types import SimpleNamespace

import pytest
import torch
from detectors import batch, build_model, classifier, scope, two_stage
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmpretrain.models import ImageClassifier
from networks import undecided
from self_supervised import BACKBONE, SELF_SUPERVISED, self_supervised

from las_mm.hooks import GumbelTemperatureHook, LatencyReportHook, SparsityLossHook


class Forwards:
    """Keeps the traces of every forward of a backbone, and whether gradients were wanted."""

    def __init__(self, module) -> None:
        self.kept: list[tuple[bool, list]] = []
        module.register_forward_hook(
            lambda m, args, out: self.kept.append((torch.is_grad_enabled(), m.traces))
        )

    def rates(self) -> torch.Tensor:
        """The mean activation rate over the images of the forwards with gradients."""
        traces = [forward for grad, forward in self.kept if grad]
        return torch.stack(
            [
                torch.cat([t.activation_rate for t in block]).mean()
                for block in zip(*traces, strict=True)
            ]
        )


def hooked(model, **options) -> SparsityLossHook:
    hook = SparsityLossHook(target=0.2, **options)
    runner = SimpleNamespace(model=model, iter=0, max_iters=10, epoch=0, max_epochs=1)
    hook.before_train(runner)
    return hook


def check_learns(losses: dict, student, forwards: Forwards, prefix: str = '') -> None:
    """The terms are those of the forwards with gradients, and every masker learns from them."""
    torch.testing.assert_close(losses[f'{prefix}activation_rate'], forwards.rates().mean())
    student.zero_grad()
    (losses[f'{prefix}loss_flops'] + losses[f'{prefix}loss_bounds']).backward()
    for block in student.blocks:
        assert block.masker.conv.bias.grad.abs().min() > 0, block.name


@pytest.mark.parametrize('name', SELF_SUPERVISED)
def test_self_supervised_models_learn_by_the_trained_encoder(name):
    torch.manual_seed(0)
    model = self_supervised(name)
    forwards = Forwards(model.backbone)
    hooked(model)
    GumbelTemperatureHook(start=2.0).before_train_iter(
        SimpleNamespace(
            model=model, iter=0, max_iters=1, message_hub=SimpleNamespace(update_scalar=print)
        ),
        0,
    )
    losses = model([torch.randn(4, 3, 32, 32) for _ in range(2)], [], mode='loss')
    assert sum(grad for grad, _ in forwards.kept) == SELF_SUPERVISED[name][0]
    check_learns(losses, model.backbone, forwards)
    assert all(block.masker.temperature == 2 for block in model.backbone.blocks)


def soft_teacher(**options):
    """mmdet's semi-supervised detector, and a batch of its three branches."""
    train = dict(freeze_teacher=True, sup_weight=1.0, unsup_weight=4.0, jitter_times=2)
    train |= dict(pseudo_label_initial_score_thr=0.5, rpn_pseudo_thr=0.9, cls_pseudo_thr=0.9)
    train |= dict(reg_pseudo_thr=0.02, jitter_scale=0.06, min_pseudo_bbox_wh=(1e-2, 1e-2))
    inner = dict(type='DetDataPreprocessor', pad_size_divisor=32)
    config = ConfigDict(
        type='SoftTeacher',
        detector=two_stage(),
        data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=inner),
        semi_train_cfg={**train, **options},
        semi_test_cfg=dict(predict_on='teacher'),
    )
    with scope('two-stage'):
        model = MODELS.build(config)
    data = [batch(model.student) for _ in range(3)]
    for sample in (sample for part in data for sample in part['data_samples']):
        sample.set_metainfo(dict(homography_matrix=torch.eye(3).numpy(), scale_factor=(1.0, 1.0)))
    names = ('sup', 'unsup_teacher', 'unsup_student')
    inputs = {name: part['inputs'] for name, part in zip(names, data, strict=True)}
    samples = {name: part['data_samples'] for name, part in zip(names, data, strict=True)}
    return undecided(model).train(), inputs, samples


@pytest.mark.parametrize('frozen', [True, False])
def test_semi_supervised_detectors_learn_by_the_student(frozen):
    torch.manual_seed(0)
    model, inputs, samples = soft_teacher(freeze_teacher=frozen)
    forwards = Forwards(model.student.backbone)
    hooked(model)
    losses = model(inputs, samples, mode='loss')
    assert len(forwards.kept) == 2
    check_learns(losses, model.student.backbone, forwards)
    assert all(block.masker.conv.bias.grad is None for block in model.teacher.backbone.blocks)


class Streams(ImageClassifier):
    """A classifier of two backbones, one of which runs on a smaller picture, too."""

    def __init__(self, data_preprocessor=None, **options) -> None:
        super().__init__(**options)
        self.other = MODELS.build(BACKBONE)

    def extract_feat(self, inputs, stage='neck', **kwargs):
        with torch.no_grad():
            self.other(inputs)
        small = torch.nn.functional.avg_pool2d(inputs, 2)
        features = self.backbone(inputs)[-1] + self.other(inputs)[-1]
        return self.neck((features + self.other(small)[-1].mean((2, 3), keepdim=True),))


def streams():
    torch.manual_seed(0)
    config = classifier()
    config.pop('type')
    with scope('classifier'):
        return undecided(Streams(**config)).train()


def test_of_several_backbones_each_has_a_hook_and_losses_of_its_own():
    model = streams()
    with pytest.raises(ValueError, match='backbone: Streams trains several .* backbone, other'):
        hooked(model)
    forwards = {name: Forwards(getattr(model, name)) for name in ('backbone', 'other')}
    for name in forwards:
        hooked(model, backbone=name)
    images = torch.randn(2, 3, 64, 64)
    losses = model(images, batch(model)['data_samples'], mode='loss')
    assert [sum(grad for grad, _ in f.kept) for f in forwards.values()] == [1, 2]
    for name, kept in forwards.items():
        total, logged = model.parse_losses({k: v for k, v in losses.items() if name in k})
        assert total.requires_grad and f'{name}.flops_ratio' in logged
        check_learns(losses, getattr(model, name), kept, f'{name}.')


def test_flops_of_each_forward_are_those_of_its_own_size():
    model = streams()
    hook = hooked(model, backbone='other')
    model(torch.randn(2, 3, 64, 64), batch(model)['data_samples'], mode='loss')
    costs = [forward.cost.static for forward in hook.forwards]
    for size, cost in zip((64, 32), costs, strict=True):
        model.other(torch.randn(2, 3, size, size))
        assert model.other.cost(hook.extra_macs).static == cost


def test_two_hooks_for_one_backbone_are_refused():
    model = build_model(classifier()).train()
    hooked(model), hooked(model)
    with pytest.raises(ValueError, match='SparsityLossHook: loss_flops is among the losses'):
        model(**batch(model), mode='loss')


@pytest.mark.parametrize('modules', ['backbone', 'backbone.layer2'])
def test_masks_without_gradient_are_refused_in_one_line(modules):
    model = build_model(classifier()).train()
    turn_on_activation_checkpointing(model, modules)
    hooked(model)
    with pytest.raises(ValueError, match='the mask of layer[12].0 has no gradient.* with_cp=True'):
        model(**batch(model), mode='loss')


def test_recomputed_activations_teach_the_same():
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        config = classifier()
        config.backbone.with_cp = with_cp
        model = undecided(build_model(config)).train()
        forwards = Forwards(model.backbone)
        hooked(model)
        data = batch(model)
        check_learns(model(**data, mode='loss'), model.backbone, forwards)
        gradients.append(torch.cat([b.masker.conv.bias.grad for b in model.backbone.blocks]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('how', ['eval', 'no_grad'])
def test_a_step_without_a_forward_that_learns_is_refused_in_one_line(how):
    model = build_model(classifier()).train()
    hooked(model)
    if how == 'eval':
        model.backbone.eval()
    refused = pytest.raises(ValueError, match='ran in no forward to learn from')
    with refused, torch.set_grad_enabled(how == 'eval'):
        model(**batch(model), mode='loss')


def test_the_report_of_a_semi_supervised_detector_is_of_what_predicts():
    model, _, _ = soft_teacher()
    hook = LatencyReportHook(devices=['v100'])
    loader = SimpleNamespace(dataset=None)
    logger = SimpleNamespace(info=lambda *args: None)
    hook.before_test(SimpleNamespace(model=model, test_dataloader=loader, logger=logger))
    assert hook.backbone is model.teacher.backbone
    hook.detach()
