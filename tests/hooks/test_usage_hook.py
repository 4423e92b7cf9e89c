"""UsageLossHook is AdaViT's loss of the use of tokens, heads and blocks."""

from types import SimpleNamespace

import pytest
import torch
from detectors import KINDS, batch, build_model, scope
from runs import hooked
from vits import vit

from las_mm.hooks import SparsityLossHook, UsageLossHook
from las_mm.hooks.learning import Forward
from las_mm.hooks.rates import mean_rates
from las_mm.hooks.usage import head_usage
from las_mm.layers import BLOCKS, HEADS, TOKENS, BlockTrace, Decision, EncoderBranch
from las_mm.losses import bounds_loss, open_bounds, usage_loss
from las_mm.models.backbone import classifier_macs

POLICIES = ('tokens', 'heads', 'blocks')


def trace(tokens: list, heads: list, blocks: list) -> BlockTrace:
    """What a block of four heads and 2x2 patches decided for two images."""
    masks = {
        TOKENS: torch.tensor(tokens, dtype=torch.float32).view(2, 1, 2, 2),
        HEADS: torch.tensor(heads, dtype=torch.float32),
        BLOCKS: torch.tensor(blocks, dtype=torch.float32),
    }
    decisions = tuple(
        Decision(axis, mask, 1 if axis == TOKENS else None, (2, 2)) for axis, mask in masks.items()
    )
    return BlockTrace('block', 0, decisions, EncoderBranch(()), (2, 2), 2)


# The second image skips the first block as a whole: its heads there do not count.
TRACES = [
    trace([[1, 1, 0, 0], [1, 1, 1, 1]], [[1, 1, 0, 0], [1, 1, 1, 1]], [[1, 0], [0, 0]]),
    trace([[0, 0, 0, 0], [0, 0, 1, 0]], [[0, 0, 0, 0], [1, 1, 1, 0]], [[0, 1], [1, 1]]),
]
FORWARDS = [Forward(TRACES, None, [])]


def test_losses_by_hand():
    hook = UsageLossHook(tokens=0.5, heads=0.5, blocks=0.25)
    hook.forwards = FORWARDS
    losses = hook.rate_losses(mean_rates(FORWARDS))
    # Tokens with the class token: (3/5 + 5/5 + 1/5 + 2/5) / 4 = .55; 2·.05².
    assert losses['loss_tokens'].item() == pytest.approx(0.005, rel=1e-5)
    # Heads where something runs: (.5 + 0 + .75) / 3; 2·|5/12 - 1/2|.
    assert losses['loss_heads'].item() == pytest.approx(1 / 6, rel=1e-5)
    # Four of eight halves: 2·|.5 - .25|.
    assert losses['loss_blocks'].item() == pytest.approx(0.5, rel=1e-6)


def test_which_are_squared_can_be_chosen():
    hook = UsageLossHook(tokens=0.5, heads=0.5, blocks=0.25, alpha=1, squared=('heads', 'blocks'))
    hook.forwards = FORWARDS
    losses = hook.rate_losses(mean_rates(FORWARDS))
    assert losses['loss_tokens'].item() == pytest.approx(0.05, rel=1e-5)
    assert losses['loss_heads'].item() == pytest.approx(1 / 144, rel=1e-5)
    assert losses['loss_blocks'].item() == pytest.approx(1 / 16, rel=1e-6)
    assert usage_loss(torch.tensor(0.3), 0.5).item() == pytest.approx(0.2)


def test_heads_of_blocks_that_never_run_have_no_use():
    still = trace([[1] * 4] * 2, [[1] * 4] * 2, [[0, 0]] * 2)
    assert head_usage([Forward([still], None, [])]).item() == 0


@pytest.mark.parametrize('kind', ['vit', 't2t'])
def test_terms_are_added_and_every_masker_learns(kind):
    model = vit(kind)
    hook = UsageLossHook(**dict.fromkeys(POLICIES, 0.0))
    with hooked(hook, model):
        losses = model(**batch(model, size=64), mode='loss')
    backbone = model.backbone
    cost, shares = backbone.cost(classifier_macs(model)), [t.shares for t in backbone.traces]
    ratio = cost.dynamic(shares).mean() / cost.static
    assert losses['flops_ratio'].item() == pytest.approx(ratio.item(), rel=1e-5)
    blocks = [s['attention'].mean() + s['mlp'].mean() for s in shares if 'mlp' in s]
    assert losses['block_rate'].item() == pytest.approx(sum(blocks).item() / 2 / len(blocks))
    assert losses['loss_blocks'].item() == pytest.approx(2 * losses['block_rate'].item())
    assert losses['loss_tokens'].item() == pytest.approx(2 * losses['token_rate'].item() ** 2)
    sum(losses[f'loss_{policy}'] for policy in POLICIES).backward()
    for masker in (masker for block in backbone.blocks for masker in block.maskers):
        assert (masker.mlp_head.bias.grad >= 0).all()  # all are above 0: keep less
    for name in POLICIES:
        maskers = [m for b in backbone.blocks for m in b.maskers if m.axis == name]
        assert sum(m.mlp_head.bias.grad.sum() for m in maskers) > 0


@pytest.mark.parametrize('policy', POLICIES)
def test_bounds_of_the_flops_target_are_of_the_axis_that_is_decided_on(policy):
    model = vit(policies=(policy,))
    with hooked(SparsityLossHook(target=0.3), model, progress=0.11):
        losses = model(**batch(model), mode='loss')
    shares = [t.shares for t in model.backbone.traces]
    rates = [
        (s['attention'] + s['mlp']).mean() / 2 if policy == 'blocks' else s[policy].mean()
        for s in shares
    ]
    wanted = 10 * bounds_loss(torch.stack(rates), *open_bounds(0.11, 0.3))
    assert losses['loss_bounds'].item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-9)
    name = f'{policy.removesuffix("s")}_rate'
    assert losses[name].item() == pytest.approx(torch.stack(rates).mean().item(), rel=1e-5)
    assert f'{name}_1' in losses


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, "UsageLossHook: got no target; give one to any of 'tokens', 'heads', 'blocks'"),
        (dict(tokens=1.5), 'tokens: got 1.5; it must be a share in'),
        (dict(heads='half'), "heads: got 'half'"),
        (dict(blocks=0.5, alpha=-1), 'alpha: got -1'),
        (dict(blocks=0.5, squared='blocks'), "squared: got 'blocks'; give a list of any of"),
        (dict(blocks=0.5, squared=['layers']), "squared: got .'layers'."),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        UsageLossHook(**options)


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (
            UsageLossHook(tokens=0.5, blocks=0.5),
            'blocks: got 0.5 for a LASVisionTransformer that decides on heads, tokens; leave',
        ),
        (
            SparsityLossHook(as_released=True),
            "as_released: got 'laudnet' for a LASVisionTransformer, and that code counts conv",
        ),
    ],
)
def test_what_does_not_fit_the_backbone_is_refused_before_training(hook, message):
    model = vit(policies=('tokens', 'heads'))
    with pytest.raises(ValueError, match=message):
        hook.before_train(SimpleNamespace(model=model))


def test_convolutions_have_no_use_of_tokens():
    with scope('classifier'):
        model = build_model(KINDS['classifier']())
    with pytest.raises(
        ValueError, match='tokens: got 0.5 for a LAS-ResNet-18 that decides on sites'
    ):
        UsageLossHook(tokens=0.5).before_train(SimpleNamespace(model=model))
