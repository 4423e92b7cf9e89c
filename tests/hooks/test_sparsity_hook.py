"""SparsityLossHook adds the right terms to the loss of every kind of model."""

from types import SimpleNamespace

import pytest
import torch
from detectors import KINDS, batch, build_model, scope
from mmengine.optim import OptimWrapper
from networks import undecided
from runs import AutocastOptimWrapper, hooked

from las_mm.hooks import SparsityLossHook
from las_mm.losses import bounds_loss, open_bounds
from las_mm.models.backbone import classifier_macs


def build(kind: str, seed: int = 0) -> torch.nn.Module:
    """A model in training whose maskers depend on the image."""
    torch.manual_seed(seed)
    with scope(kind):
        model = build_model(KINDS[kind]())
    undecided(model).train()
    return model


def losses_of(model: torch.nn.Module, seed: int = 0) -> dict:
    torch.manual_seed(seed)
    return model(**batch(model), mode='loss')


def by_hand(model: torch.nn.Module) -> tuple[float, list[float], list[float]]:
    """F_dyn / F_stat, and each block's rate and FLOPs ratio, of the last forward."""
    backbone = model.backbone
    cost = backbone.cost(classifier_macs(model))
    rates, ratios, macs = [], [], cost.fixed
    for block, trace in zip(cost.blocks, backbone.traces, strict=True):
        rate, dilated = trace.activation_rate.mean().item(), trace.dilated_rate.mean().item()
        share = {('sites',): rate, ('dilated',): dilated, (): 1}
        dynamic = sum(work.macs * share[work.runs_at] for work in block.works) + block.maskers
        macs += dynamic
        rates.append(rate)
        ratios.append(dynamic / sum(work.macs for work in block.works))
    return macs / cost.static, rates, ratios


@pytest.mark.parametrize('kind', KINDS)
def test_terms_are_added_to_the_model_s_own_and_summed(kind):
    model = build(kind)
    own = losses_of(model)
    with hooked(SparsityLossHook(target=0.4), model, progress=0.11):
        losses = losses_of(model)
        ratio, rates, _ = by_hand(model)
    stages = {f'activation_rate_{stage}' for stage in (1, 2, 3, 4)}
    logged = {'flops_ratio', 'flops_target', 'activation_rate', *stages}
    assert set(losses) - set(own) == {'loss_flops', 'loss_bounds', *logged}
    assert losses['flops_ratio'].item() == pytest.approx(ratio, rel=1e-5)
    assert losses['activation_rate'].item() == pytest.approx(sum(rates) / len(rates), rel=1e-5)
    assert losses['loss_flops'].item() == pytest.approx(10 * (ratio - 0.4) ** 2, rel=1e-4)
    lower, upper = 0.75 * 0.4, 1 - 0.75 * 0.6
    excess = [max(0, q - upper) ** 2 + max(0, lower - q) ** 2 for q in rates]
    wanted = 10 * sum(excess) / len(excess)
    assert losses['loss_bounds'].item() == pytest.approx(wanted, rel=1e-4)

    total, logged = model.parse_losses(losses)
    alone, _ = model.parse_losses({k: v for k, v in losses.items() if k in own})
    sparsity = losses['loss_flops'] + losses['loss_bounds']
    torch.testing.assert_close(total, alone + sparsity)
    assert {'loss_flops', 'loss_bounds', 'flops_ratio', 'activation_rate'} <= set(logged)


@pytest.mark.parametrize('progress', [0, 1 / 3, 1])
def test_bounds_follow_the_schedule(progress):
    model = build('classifier')
    with hooked(SparsityLossHook(target=0.9), model, progress):
        losses = losses_of(model)
        _, rates, _ = by_hand(model)
    lower, upper = {0: (0.9, 0.9), 1 / 3: (0, 1), 1: (0, 1)}[progress]
    assert open_bounds(progress, 0.9) == pytest.approx((lower, upper), abs=1e-12)
    wanted = 10 * bounds_loss(torch.tensor(rates), lower, upper)
    assert losses['loss_bounds'].item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-9)
    assert (losses['loss_bounds'] > 0) == (progress == 0)


def test_the_bounded_quantity_is_a_choice():
    model = build('classifier')
    with hooked(SparsityLossHook(target=0.2, bounded='flops_ratio'), model):
        losses = losses_of(model)
        _, _, ratios = by_hand(model)
    wanted = 10 * bounds_loss(torch.tensor(ratios), 0.2, 0.2)
    assert losses['loss_bounds'].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_flops_alone_with_weight_one():
    model = build('classifier')
    with hooked(SparsityLossHook(target=0.2, alpha=1.0, bounds=False), model):
        losses = losses_of(model)
        ratio, _, _ = by_hand(model)
    assert 'loss_bounds' not in losses
    assert losses['loss_flops'].item() == pytest.approx((ratio - 0.2) ** 2, rel=1e-4)


@pytest.mark.parametrize('kind', ['classifier', 'two-stage'])
def test_every_masker_learns_from_the_sparsity_terms(kind):
    model = build(kind)
    with hooked(SparsityLossHook(target=0.2), model):
        losses = losses_of(model)
        (losses['loss_flops'] + losses['loss_bounds']).backward()
    for block in model.backbone.blocks:
        keep, skip = block.masker.conv.bias.grad.tolist()
        assert keep > 0 > skip, block.name  # too much is computed: keep less


def test_only_the_loss_forward_during_training_is_touched():
    model = build('classifier')
    plain = set(losses_of(model))
    with hooked(SparsityLossHook(), model):
        assert isinstance(model(**batch(model), mode='predict'), list)
        assert isinstance(model(**batch(model), mode='tensor'), torch.Tensor)
    assert set(losses_of(model)) == plain


def test_mixed_precision():
    model = build('classifier')
    optim = AutocastOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = [block.masker.conv.bias.clone() for block in model.backbone.blocks]
    data = batch(model)
    with hooked(SparsityLossHook(target=0.2), model):
        logged = model.train_step(data, optim)
        ratio, _, _ = by_hand(model)
    assert logged['flops_ratio'].item() == pytest.approx(ratio, rel=1e-5)
    assert logged['loss_flops'].item() == pytest.approx(10 * (ratio - 0.2) ** 2, rel=1e-4)
    for block, bias in zip(model.backbone.blocks, before, strict=True):
        assert block.masker.conv.bias.isfinite().all()
        assert not torch.equal(block.masker.conv.bias, bias)


def step(models: list, batches: list, accumulative_counts: int) -> list[dict]:
    """One training step per batch, of SGD with rate 1; returns what each logged."""
    logs = []
    for model in models:
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        optim = OptimWrapper(optimizer, accumulative_counts=accumulative_counts)
        optim.initialize_count_status(model, 0, len(batches))
        with hooked(SparsityLossHook(target=0.2), model):
            for seed, data in enumerate(batches):
                torch.manual_seed(seed)
                logs.append(model.train_step(data, optim))
    return logs


def test_gradient_accumulation_averages_the_steps_and_logs_each():
    batches = [batch(build('classifier')) for _ in range(2)]
    start = [p.detach().clone() for p in build('classifier').parameters()]
    singles, logs = [], []
    for index in (0, 1):
        model = build('classifier')
        optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
        with hooked(SparsityLossHook(target=0.2), model):
            torch.manual_seed(index)
            logs.append(model.train_step(batches[index], optim))
        singles.append([p.detach() for p in model.parameters()])
    together = build('classifier')
    accumulated = step([together], batches, accumulative_counts=2)
    for name in ('loss_flops', 'loss_bounds', 'flops_ratio'):
        for one, other in zip(logs, accumulated, strict=True):
            torch.testing.assert_close(one[name], other[name])
    for old, first, second, new in zip(start, *singles, together.parameters(), strict=True):
        torch.testing.assert_close(new - old, (first - old + second - old) / 2)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        *((dict(target=t), r'in \(0, 1\]') for t in (0, -0.5, 1.5, float('nan'), '0.5', None)),
        *((dict(alpha=a), '>= 0, 10 in the paper') for a in (-1, 'ten')),
        *((dict(duration=d), r'in \(0, 1\]') for d in (0, 2)),
        (dict(bounded='rate'), 'choose one of activation_rate, flops_ratio'),
    ],
)
def test_wrong_options_are_named_with_what_is_allowed(options, message):
    ((field, value),) = options.items()
    with pytest.raises((TypeError, ValueError), match=f'{field}: got {value!r}; .*{message}'):
        SparsityLossHook(**options)


def test_a_static_model_is_refused():
    with pytest.raises(ValueError, match='has no dynamic backbone'):
        SparsityLossHook().before_train(
            SimpleNamespace(model=build_model(KINDS['classifier']('ResNet')))
        )
