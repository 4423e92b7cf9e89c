"""SparsityLossHook on channels, whole blocks and joint masks, and counting as the authors' code."""

import json
from pathlib import Path

import pytest
import torch
from detectors import KINDS
from test_sparsity_hook import build, hooked, losses_of

from las_mm.hooks import SparsityLossHook
from las_mm.losses import bounds_loss, flops_loss, open_bounds, start_rate
from las_mm.models.backbone import classifier_macs

MODES = {
    'channels': dict(granularity=None, channel_groups=2),
    'whole blocks': dict(granularity='all'),
    'joint': dict(granularity='2-2-1-1', channel_groups='2-none-4-2'),
    'channels of whole blocks': dict(granularity='all', channel_groups=4),
}
RELEASED = Path(__file__).parents[1] / 'layers' / 'released' / 'blocks.json'


def build_mode(kind: str, mode: str) -> torch.nn.Module:
    model = build(kind)
    config = KINDS[kind]()
    options = {**config.backbone, **MODES[mode]}
    options.pop('init_cfg', None)
    framework = 'mmpretrain' if kind == 'classifier' else 'mmdet'
    registry = __import__(f'{framework}.registry', fromlist=['MODELS']).MODELS
    torch.manual_seed(1)
    model.backbone = registry.build(options).train()
    for masker in (m for block in model.backbone.blocks for m in block.maskers):
        for name, parameter in masker.named_parameters():
            zero = name.endswith('bias')
            torch.nn.init.zeros_(parameter) if zero else torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize(
    ('kind', 'mode'), [*(('classifier', mode) for mode in MODES), ('two-stage', 'joint')]
)
def test_terms_are_those_of_the_mode_by_hand(kind, mode):
    model = build_mode(kind, mode)
    with hooked(SparsityLossHook(target=0.4), model, progress=0.11):
        losses = losses_of(model)
    backbone = model.backbone
    cost = backbone.cost(classifier_macs(model))
    shares = [trace.shares for trace in backbone.traces]
    ratio = cost.dynamic(shares).mean() / cost.static
    assert losses['flops_ratio'].item() == pytest.approx(ratio.item(), rel=1e-5)
    assert losses['loss_flops'].item() == pytest.approx(10 * (ratio.item() - 0.4) ** 2, rel=1e-4)
    rates = {
        'sites': [t.activation_rate.mean() for t in backbone.traces if t.spatial],
        'channels': [t.channel_rate.mean() for t in backbone.traces if t.channels],
    }
    used = {axis: torch.stack(found) for axis, found in rates.items() if found}
    wanted = []
    for axis, found in used.items():
        start = 0.4 ** (1 / len(used))
        start = start**0.5 if axis == 'channels' else start
        wanted.append(bounds_loss(found, *open_bounds(0.11, start)))
    bounds = 10 * torch.stack(wanted).mean().item()
    assert losses['loss_bounds'].item() == pytest.approx(bounds, rel=1e-4)
    assert ('channel_rate' in losses) == ('channels' in used)
    assert ('activation_rate' in losses) == ('sites' in used)


@pytest.mark.parametrize('mode', MODES)
def test_every_masker_learns_from_the_sparsity_terms(mode):
    model = build_mode('classifier', mode)
    with hooked(SparsityLossHook(target=0.01), model):
        losses_of(model)['loss_flops'].backward()
    learned = []
    for masker in (m for block in model.backbone.blocks for m in block.maskers):
        last = getattr(masker, 'last', None) or masker.conv
        keep, skip = last.bias.grad.view(2, -1).sum(1).tolist()
        assert keep >= 0 >= skip  # too much is computed: keep less
        learned.append(keep > 0)  # zero where the other axis skips all
    assert sum(learned) > len(learned) / 2


def test_equal_rates_make_the_target():
    assert start_rate(0.5, 'sites', 1) == 0.5
    assert start_rate(0.25, 'channels', 1) == 0.5
    sites, channels = (start_rate(0.36, axis, 2) for axis in ('sites', 'channels'))
    assert sites * channels**2 == pytest.approx(0.36)


@pytest.mark.parametrize('code', ['lasnet', 'laudnet'])
def test_gradients_as_released_leave_out_what_the_authors_masks_do(code):
    model = build_mode('classifier', 'joint')
    with hooked(SparsityLossHook(target=0.2, as_released=code, bounds=False), model):
        loss = losses_of(model)['loss_flops']
    backbone, (head,) = model.backbone, [model.head.fc]
    macs = static = 0.0
    channels = head.in_features
    for block, trace in zip(backbone.blocks, backbone.traces, strict=True):
        last = block.branch.steps[-1].name
        axes = [d.axis for d in trace.decisions]
        for work in block.branch.works(trace.input_size, axes):
            share = 1.0
            for name in work.runs_at:
                mean = trace.shares[name].mean()
                fixed = name == 'dilated' or code == 'laudnet' and work.name != last
                share = share * (mean.detach() if name != 'channels' and fixed else mean)
            macs = macs + work.macs * share
            static += work.macs
        for masker in block.maskers:
            pixels = trace.input_size[0] * trace.input_size[1]
            if masker.axis == 'sites':
                height, width = trace.mask.shape[-2:]
                macs = macs + 4 * masker.conv.in_channels * height * width
            else:
                first, second = masker.conv[0], masker.conv[2]
                macs = macs + pixels * first.in_features
                macs = macs + first.weight.numel() + second.weight.numel()
    stem, pool = backbone.stem_sizes[0][1], backbone.stem_sizes[1][1]
    fixed = 49 * 3 * backbone.conv1.out_channels * stem[0] * stem[1]
    fixed += 9 * backbone.conv1.out_channels * pool[0] * pool[1] + head.weight.numel() + channels
    height, width = backbone.traces[-1].size
    static += fixed + channels * (height * width - 1) + head.out_features
    wanted = 10 * flops_loss((macs + fixed) / static, 0.2)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    parameters = [p for b in backbone.blocks for m in b.maskers for p in m.parameters()]
    ours = torch.autograd.grad(loss, parameters, retain_graph=True)
    theirs = torch.autograd.grad(wanted, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize('value', json.loads(RELEASED.read_text())['sparsity_loss']['values'])
def test_released_losses_have_the_values_of_the_authors_code(value):
    case = json.loads(RELEASED.read_text())['sparsity_loss']
    wanted = case['values'][value]
    _, target, _, epoch, _, epochs = value.split()
    limits = open_bounds(int(epoch) / int(epochs), float(target))
    ratios = torch.tensor(case['block_flops_ratios'])
    loss = flops_loss(torch.tensor(case['flops_over_full']), float(target))
    loss = loss + bounds_loss(ratios, *limits)
    assert loss.item() == pytest.approx(wanted, abs=2e-7)


def test_as_released_bounds_flops_by_the_epoch_unless_told_otherwise():
    hook = SparsityLossHook(as_released=True)
    assert (hook.bounded, hook.by_epoch, hook.target.code) == ('flops_ratio', True, 'laudnet')
    hook = SparsityLossHook(as_released='lasnet', bounded='activation_rate', by_epoch=False)
    assert (hook.bounded, hook.by_epoch, hook.target.code) == ('activation_rate', False, 'lasnet')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(as_released='paper'),
            "as_released: got 'paper'; choose one of False, True, 'lasnet'",
        ),
        (
            dict(as_released=True, target=dict(latency=0.5, device='v100')),
            'as_released: is about FLOPs',
        ),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SparsityLossHook(**options)
