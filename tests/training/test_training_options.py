"""What large trainings need works with the hooks: each option in a real short training."""

import copy

import detectors
import pytest
import torch
from detectors import batch, build_model, classifier, two_stage
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from networks import always
from runs import SCHEDULES, runner_of

LOGGED = ('loss_flops', 'loss_bounds', 'flops_ratio', 'activation_rate')


def train(tmp_path, monkeypatch, backbone: dict, *hooks: Hook, **options):
    """A trained classifier whose backbone has these options, its start and its runner."""

    def changed(kind: str = 'LASResNet'):
        cfg = classifier(kind)
        cfg.backbone.update(backbone)
        return cfg

    monkeypatch.setitem(detectors.KINDS, 'classifier', changed)
    runner = runner_of(tmp_path, *hooks, epochs=2, checkpoint=dict(interval=2), **options)
    start = copy.deepcopy(runner.model.state_dict())
    model = runner.train()
    logs = runner.message_hub.log_scalars
    for name in LOGGED:
        values = torch.tensor(logs[f'train/{name}'].data[0][-8:])
        assert len(values) == 8
        assert values.isfinite().all(), name
    return model, start, runner


def changed(model, start) -> set[str]:
    """Names of the weights that training moved."""
    parameters = dict(model.named_parameters())
    return {name for name, p in parameters.items() if not torch.equal(p, start[name])}


def test_frozen_stages_keep_their_weights_and_teach_their_maskers(tmp_path, monkeypatch):
    model, start, _ = train(tmp_path, monkeypatch, dict(frozen_stages=1))
    moved = changed(model, start)
    first = {name for name in moved if '.layer1.' in name}
    assert first == {name for name in start if '.layer1.' in name and '.masker.' in name}
    assert not any(name.startswith(('backbone.conv1', 'backbone.bn1')) for name in moved)
    assert {name for name in start if '.layer2.' in name and 'conv' in name} <= moved
    norms = [n for n in start if 'layer1' in n and 'running' in n]
    assert all(torch.equal(model.state_dict()[name], start[name]) for name in norms)


@pytest.mark.parametrize('option', [dict(with_cp=True), dict(norm_cfg=dict(type='SyncBN'))])
def test_training_is_the_same(tmp_path, monkeypatch, option):
    """Recomputing changes nothing, and SyncBN in one process is a batch norm."""
    plain, *_ = train(tmp_path / 'plain', monkeypatch, {})
    other, *_ = train(tmp_path / 'other', monkeypatch, option)
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight, msg=name)


def test_accumulated_gradients_step_once_for_several_batches(tmp_path, monkeypatch):
    class Watch(Hook):
        weights = []

        def after_train_iter(self, runner, *args, **kwargs):
            self.weights.append(runner.model.head.fc.weight.detach().clone())

    watch = Watch()
    train(tmp_path, monkeypatch, {}, watch, optim_wrapper=dict(accumulative_counts=4))
    moved = [not torch.equal(a, b) for a, b in zip(watch.weights, watch.weights[1:], strict=False)]
    assert moved == [False, False, True, False, False, False, True]


def test_averaged_weights_decide_and_are_saved(tmp_path, monkeypatch):
    average = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.3)
    model, start, runner = train(tmp_path, monkeypatch, {}, custom_hooks=[*SCHEDULES, average])
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    twin, name = hook.ema_model.module, 'backbone.layer4.0.masker.conv.bias'
    weights = [network.state_dict()[name] for network in (model, twin)]
    assert not torch.equal(*weights)
    assert not torch.equal(weights[1], start[name])
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    # Saved swapped: the averaged weights are those that testing loads.
    assert torch.equal(saved['state_dict'][name], weights[1])
    twin.eval()
    always(twin, keep=False)
    data = batch(twin)
    with torch.no_grad():
        twin(data['inputs'])
    assert all(trace.activation_rate.max() == 0 for trace in twin.backbone.traces)


def test_every_batch_may_have_its_own_size():
    cfg = two_stage()
    cfg.data_preprocessor.batch_augments = [
        dict(
            type='BatchSyncRandomResize',
            random_size_range=(64, 128),
            size_divisor=32,
            interval=1,
        )
    ]
    torch.manual_seed(0)
    model = build_model(cfg).train()
    sizes = set()
    for step in range(12):
        MessageHub.get_current_instance().update_info('iter', step)
        data = batch(model, size=64)
        losses = model(**data, mode='loss')
        sizes.add(model.backbone.input_size)
        trace = model.backbone.traces[0]
        assert trace.size == tuple(edge // 4 for edge in model.backbone.input_size)
        assert model.parse_losses(losses)[0].isfinite()
    assert len(sizes) > 1
