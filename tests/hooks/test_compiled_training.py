"""Training under torch.compile, with and without autocast, takes the same steps as without."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from detectors import batch, build_model, classifier, scope
from networks import undecided

from las_mm.hooks import SparsityLossHook

TEMPERATURES = (5.0, 0.1)


def steps(backend: str | None, autocast: bool) -> list[tuple[torch.Tensor, dict]]:
    """Loss and gradients of a step at each temperature, compiled by a backend if there is one."""
    torch.manual_seed(0)
    config = classifier()
    config.backbone.update(num_stages=2, out_indices=(1,), granularity='2-1')
    config.backbone.update(strides=(1, 2), dilations=(1, 1))  # two stages compile in half the time
    config.head.in_channels = 16
    with scope('classifier'):
        model = undecided(build_model(config)).train()
    data, hook = batch(model), SparsityLossHook(target=0.2)
    runner = SimpleNamespace(model=model, iter=0, max_iters=10, epoch=0, max_epochs=1)
    hook.before_train(runner)

    def step(**data) -> torch.Tensor:
        with torch.autocast('cpu', torch.bfloat16) if autocast else nullcontext():
            return model.parse_losses(model(**data, mode='loss'))[0]

    step = torch.compile(step, backend=backend) if backend else step
    found = []
    for temperature in TEMPERATURES:
        model.backbone.set_temperature(temperature)
        model.zero_grad()
        torch.manual_seed(1)  # of the Gumbel noise
        loss = step(**data)
        loss.backward()
        found.append((loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}))
    return found


@pytest.mark.parametrize('autocast', [False, True])
def test_gradients_of_all_losses_are_those_of_eager_mode_at_every_temperature(autocast):
    wanted, found = steps(None, autocast), steps('aot_eager', autocast)
    for (loss, gradients), (other_loss, others) in zip(wanted, found, strict=True):
        torch.testing.assert_close(other_loss, loss)
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    masked = [name for name in wanted[0][1] if 'masker' in name]
    assert masked and all(wanted[0][1][name].abs().max() > 0 for name in masked)


def test_a_compiled_model_is_found_inside_of_its_wrapper():
    model = build_model(classifier())
    hook = SparsityLossHook()
    hook.before_train(SimpleNamespace(model=torch.compile(model), iter=0, max_iters=10))
    assert hook.target.backbone is model.backbone
