"""SparsityLossHook(counted='branches') is DynConv's loss on the convolutions that skip."""

import pytest
import torch
from test_sparsity_hook import build, hooked, losses_of

from las_mm.hooks import SparsityLossHook
from las_mm.losses import bounds_loss, flops_loss, open_bounds


@pytest.mark.parametrize('progress', [0.0, 0.1, 0.5])
def test_only_what_can_be_skipped_counts_and_dilated_pixels_pull_at_nothing(progress):
    model = build('classifier')
    options = dict(target=0.4, alpha=3.0, bounded='flops_ratio', counted='branches')
    with hooked(SparsityLossHook(**options), model, progress):
        losses = losses_of(model)
    spent, full = [], []
    for block, trace in zip(model.backbone.blocks, model.backbone.traces, strict=True):
        works = block.branch.works(trace.input_size, ['sites'])
        convs = {work.runs_at: 0 for work in works if work.runs_at}
        for work in works:
            if work.runs_at:
                convs[work.runs_at] += work.macs
        rate, dilated = trace.activation_rate.mean(), trace.dilated_rate.mean().detach()
        spent.append(convs['sites',] * rate + convs['dilated',] * dilated)
        full.append(sum(convs.values()))
    ratios = torch.stack([a / b for a, b in zip(spent, full, strict=True)])
    wanted = 3 * flops_loss(sum(spent) / sum(full), 0.4)
    bounds = 3 * bounds_loss(ratios, *open_bounds(progress, 0.4))
    torch.testing.assert_close(losses['loss_flops'], wanted)
    torch.testing.assert_close(losses['loss_bounds'], bounds)
    torch.testing.assert_close(losses['flops_ratio'], (sum(spent) / sum(full)).detach())
    parameters = [p for block in model.backbone.blocks for p in block.masker.parameters()]
    ours = torch.autograd.grad(losses['loss_flops'], parameters, retain_graph=True)
    theirs = torch.autograd.grad(wanted, parameters)
    assert max(float(grad.abs().max()) for grad in ours) > 0
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="counted: got 'blocks'; choose one of network, branches"):
        SparsityLossHook(counted='blocks')
    with pytest.raises(ValueError, match="counted: got 'branches' with a latency as target"):
        SparsityLossHook(target=dict(latency=0.6, device='tx2'), counted='branches')
