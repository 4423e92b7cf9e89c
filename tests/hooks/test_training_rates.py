"""What a training logs of its rates, and the warning about noise that decides."""

import logging

import pytest
import torch
from detectors import KINDS, build_model
from mmengine.logging import MMLogger
from networks import undecided
from runs import runner_of


def train(folder, bias: float | None, **temperature):
    """A training whose maskers prefer to compute by so much, for all inputs, or as they like."""
    model = build_model(KINDS['classifier']())
    for block in undecided(model).backbone.blocks:
        if bias is not None:
            torch.nn.init.zeros_(block.masker.conv.weight)
            block.masker.conv.bias.data = torch.tensor([bias, 0.0])
    hooks = [
        dict(type='GumbelTemperatureHook', **temperature),
        dict(type='SparsityLossHook', target=0.5),
    ]
    runner = runner_of(folder, model=model, custom_hooks=hooks, masker_lr_mult=0.0, epochs=3)
    logger, heard = MMLogger.get_current_instance(), []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    runner.train()
    logger.removeHandler(handler)
    return runner, [line for line in heard if 'SparsityLossHook' in line]


def test_rates_of_stages_and_the_target_are_logged(tmp_path):
    runner, _ = train(tmp_path, None)
    logs = runner.message_hub.log_scalars

    def last(name: str) -> float:
        return float(logs[f'train/{name}'].data[0][-1])

    rates = [last(f'activation_rate_{stage}') for stage in (1, 2, 3, 4)]
    traces = runner.model.backbone.traces
    for stage, rate in enumerate(rates):
        of_stage = [t.activation_rate.mean().item() for t in traces if t.stage == stage]
        assert rate == pytest.approx(sum(of_stage) / len(of_stage))
    assert last('activation_rate') == pytest.approx(sum(rates) / 4)  # two blocks in each
    assert last('flops_target') == 0.5


def test_sampled_decisions_that_inference_will_not_take_are_warned_about(tmp_path):
    _, heard = train(tmp_path / 'noisy', 0.4)  # inference keeps all, noise about six tenths
    [line] = heard
    assert 'without noise, as in inference, 1.000' in line and 'noise_until' in line
    sampled = float(line.split('training ')[1].split()[0])
    assert sampled == pytest.approx(0.6, abs=0.25)  # of few decisions: two images, small maps


@pytest.mark.parametrize('options', [dict(noise_until=0.8), {}])
def test_nobody_is_warned_where_they_agree(options, tmp_path):
    _, heard = train(tmp_path, 0.4 if options else 9.0, **options)
    assert heard == []
