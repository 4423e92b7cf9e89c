"""The Gumbel temperature is a function of progress alone."""

from types import SimpleNamespace

import pytest
from detectors import KINDS, build_model
from mmengine.logging import MessageHub

import las_mm  # noqa: F401
from las_mm.hooks import GumbelTemperatureHook


@pytest.fixture(scope='module')
def model():
    return build_model(KINDS['classifier']())


def temperature_at(hook, model, iteration, epoch=0, max_epochs=30):
    """τ of the maskers in an iteration of a run of 30 epochs and 300 iterations."""
    hub = MessageHub.get_instance('temperature')
    runner = SimpleNamespace(
        model=model,
        iter=iteration,
        max_iters=300,
        epoch=epoch,
        max_epochs=max_epochs,
        message_hub=hub,
    )
    hook.before_train_iter(runner, batch_idx=0)
    values = {block.masker.temperature for block in model.backbone.blocks}
    assert len(values) == 1
    assert hub.get_scalar('train/temperature').current() == (value := values.pop())
    return value


def test_it_falls_exponentially_by_iteration(model):
    hook = GumbelTemperatureHook(start=5.0, end=0.1)
    values = [temperature_at(hook, model, iteration) for iteration in (0, 100, 300)]
    assert values == pytest.approx([5.0, 5.0 * 0.02 ** (1 / 3), 0.1], rel=1e-12)
    assert temperature_at(hook, model, 150) == pytest.approx(0.5**0.5, rel=1e-12)


def test_by_epoch_it_stands_still_within_one(model):
    hook = GumbelTemperatureHook(start=5.0, end=0.1, by_epoch=True)
    assert temperature_at(hook, model, 0, epoch=0) == 5.0
    first, last = (temperature_at(hook, model, i, epoch=10) for i in (100, 109))
    assert first == last == pytest.approx(5.0 * 0.02 ** (1 / 3), rel=1e-12)


@pytest.mark.parametrize('iteration', [0, 100, 300])
def test_without_an_end_it_is_constant(model, iteration):
    assert temperature_at(GumbelTemperatureHook(start=0.1), model, iteration) == 0.1


def test_by_epoch_needs_epochs(model):
    hook = GumbelTemperatureHook(by_epoch=True)
    with pytest.raises(ValueError, match='by_epoch: got True, but the training loop counts'):
        temperature_at(hook, model, 0, max_epochs=None)


@pytest.mark.parametrize(('until', 'noisy'), [(1.0, 300), (0.5, 150), (0.0, 0)])
def test_noise_stops_at_a_share_of_training(model, until, noisy):
    hook = GumbelTemperatureHook(noise_until=until)
    for iteration in (0, 149, 150, 299):
        temperature_at(hook, model, iteration)
        noise = {block.masker.noise for block in model.backbone.blocks}
        assert noise == {iteration < noisy}


@pytest.mark.parametrize('value', [-0.1, 1.1, 'half'])
def test_a_wrong_share_is_named(value):
    with pytest.raises((TypeError, ValueError), match=f'noise_until: got {value!r}; .*0, 1'):
        GumbelTemperatureHook(noise_until=value)


@pytest.mark.parametrize('value', [0, -1.0, float('nan'), '5', True])
@pytest.mark.parametrize('field', ['start', 'end'])
def test_wrong_values_are_named(field, value):
    with pytest.raises((TypeError, ValueError), match=f'{field}: got {value!r}; .*> 0'):
        GumbelTemperatureHook(**{field: value})


def test_a_static_model_is_refused():
    static = build_model(KINDS['classifier']('ResNet'))
    with pytest.raises(ValueError, match='ImageClassifier has no dynamic backbone; use backbone='):
        temperature_at(GumbelTemperatureHook(), static, 0)


def test_steps_take_the_place_of_the_schedule():
    hook = GumbelTemperatureHook(start=5.0, steps=[(0.3, 2.5), (0.6, 1.0)])
    found = [hook.temperature(progress) for progress in (0, 0.29, 0.3, 0.59, 0.6, 1)]
    assert found == [5, 5, 2.5, 2.5, 1, 1]
    for wrong in ([(0.6, 1.0), (0.3, 2.0)], [(0.3, 0.0)], [(2, 1.0)], [(0.3, 1.0), (0.3, 2.0)]):
        with pytest.raises(ValueError, match='steps: got'):
            GumbelTemperatureHook(steps=wrong)
    for wrong in ('0.3', [0.3], [(0.3,)], 7):
        with pytest.raises(TypeError, match='steps: got'):
            GumbelTemperatureHook(steps=wrong)
