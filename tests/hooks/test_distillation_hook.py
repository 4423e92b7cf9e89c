"""DistillationHook teaches classifiers, one- and two-stage detectors from the static network."""

from types import SimpleNamespace

import pytest
import torch
from detectors import KINDS, batch, build_model, scope
from mmengine.config import Config
from networks import always

from las_mm.hooks import DistillationHook
from las_mm.hooks.distilled_logits import logit_source


@pytest.fixture(params=KINDS)
def kind(request):
    with scope(request.param):
        yield request.param


def static_model(kind: str, path=None) -> torch.nn.Module:
    """The static model, whose weights are also written to ``path``."""
    torch.manual_seed(1)
    model = build_model(KINDS[kind]('ResNet'))
    for block in model.backbone.modules():  # zero-initialised branches would distil nothing
        if isinstance(block, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(block.weight, 0.5, 1.5)
    if path:
        torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model


def student_of(kind: str, keep: bool, **backbone) -> torch.nn.Module:
    """The dynamic model with the static one's weights, and maskers that always say ``keep``."""
    cfg = KINDS[kind]()
    cfg.backbone.update(backbone)
    model = build_model(cfg)
    model.load_state_dict(static_model(kind).state_dict(), strict=False)
    always(model, keep).train()
    return model


def hook_on(model: torch.nn.Module, teacher, path, **options) -> DistillationHook:
    hook = DistillationHook(teacher=teacher, checkpoint=str(path), **options)
    hook.before_train(SimpleNamespace(model=model))
    return hook


def kd_loss(model: torch.nn.Module) -> torch.Tensor:
    torch.manual_seed(2)
    return model(**batch(model), mode='loss')['loss_kd']


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(kind, tmp_path):
    static_model(kind, tmp_path / 'teacher.pth')
    student = student_of(kind, keep=True, norm_eval=True)
    hook = hook_on(student, KINDS[kind]('ResNet'), tmp_path / 'teacher.pth')
    assert kd_loss(student).item() == pytest.approx(0, abs=1e-6)
    hook.after_train(SimpleNamespace(model=student))


def test_gradients_reach_the_student_only(kind, tmp_path):
    static_model(kind, tmp_path / 'teacher.pth')
    student = student_of(kind, keep=False)
    names = set(student.state_dict())
    hook = hook_on(student, KINDS[kind]('ResNet'), tmp_path / 'teacher.pth')
    before = {name: value.clone() for name, value in hook.teacher.state_dict().items()}
    for _ in range(2):  # nothing is left over from one step to the next
        loss = kd_loss(student)
        assert loss.item() > 1e-6
        loss.backward()
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in hook.teacher.parameters())
    assert not any(module.training for module in hook.teacher.modules())
    for name, value in hook.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert set(student.state_dict()) == names
    assert not {id(p) for p in hook.teacher.parameters()} & {id(p) for p in student.parameters()}

    hook.after_train(SimpleNamespace(model=student))
    assert 'loss_kd' not in student(**batch(student), mode='loss')


def test_a_classifier_s_term_by_hand(tmp_path):
    with scope('classifier'):
        static = static_model('classifier', tmp_path / 'teacher.pth')
        student = student_of('classifier', keep=False, norm_eval=True)
        hook_on(student, KINDS['classifier']('ResNet'), tmp_path / 'teacher.pth', beta=0.3,
                temperature=2.0)  # fmt: skip
        data = batch(student)
        loss = student(**data, mode='loss')['loss_kd']
        static.eval()
        p, q = (torch.softmax(model(data['inputs']).double() / 2, 1) for model in (student, static))
        divergence = (q * (q / p).log()).sum(1).mean()
    assert loss.item() == pytest.approx(0.3 * 4 * divergence.item(), rel=1e-4)


def test_the_loss_counts_and_is_logged(tmp_path):
    with scope('two-stage'):
        static_model('two-stage', tmp_path / 'teacher.pth')
        student = student_of('two-stage', keep=False)
        hook_on(student, KINDS['two-stage']('ResNet'), tmp_path / 'teacher.pth')
        losses = student(**batch(student), mode='loss')
        total, logged = student.parse_losses(losses)
        rest, _ = student.parse_losses({k: v for k, v in losses.items() if k != 'loss_kd'})
    assert logged['loss_kd'] > 0
    torch.testing.assert_close(total, rest + losses['loss_kd'])


def test_the_teacher_can_be_a_config_or_its_file(tmp_path):
    with scope('classifier'):
        weights = static_model('classifier', tmp_path / 'teacher.pth').state_dict()
        cfg = Config(dict(model=KINDS['classifier']('ResNet').to_dict()))
        cfg.dump(tmp_path / 'teacher.py')
        for teacher in (cfg, cfg.model, str(tmp_path / 'teacher.py')):
            hook = hook_on(student_of('classifier', True), teacher, tmp_path / 'teacher.pth')
            assert torch.equal(hook.teacher.head.fc.weight, weights['head.fc.weight'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(checkpoint=None), 'checkpoint: got None; a teacher needs trained weights'),
        (dict(checkpoint=''), "checkpoint: got ''; a teacher needs trained weights"),
        (dict(beta=-1), 'beta: got -1; it must be >= 0'),
        (dict(beta='half'), "beta: got 'half'; it must be >= 0"),
        (dict(temperature=0), 'temperature: got 0; it must be > 0'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DistillationHook(**{'teacher': {'type': 'X'}, 'checkpoint': 'x.pth', **options})


def test_a_missing_teacher_is_named(tmp_path):
    with scope('classifier'):
        student = student_of('classifier', True)
        static_model('classifier', tmp_path / 'teacher.pth')
        for teacher, error, message in (
            (str(tmp_path / 'no.py'), FileNotFoundError, 'teacher: no file .*no.py'),
            (dict(depth=50), ValueError, 'teacher: has no model; give a config, its path'),
        ):
            with pytest.raises(error, match=message):
                hook_on(student, teacher, tmp_path / 'teacher.pth')
        with pytest.raises(FileNotFoundError, match='checkpoint: no file .*no.pth'):
            hook_on(student, KINDS['classifier']('ResNet'), tmp_path / 'no.pth')


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    with scope('classifier'):
        student = student_of('classifier', True)
        static_model('classifier', tmp_path / 'teacher.pth')
        deeper, wider = (KINDS['classifier']('ResNet') for _ in range(2))
        deeper.backbone.depth = 34
        wider.head.num_classes = 20
        for teacher in (deeper, wider):
            with pytest.raises(ValueError, match='does not fit the teacher, .*such as') as error:
                hook_on(student, teacher, tmp_path / 'teacher.pth')
            assert '\n' not in str(error.value)


def test_a_model_without_class_logits_is_refused():
    with pytest.raises(ValueError, match='DistillationHook: got a Linear; it takes classifiers'):
        logit_source(torch.nn.Linear(2, 2))
