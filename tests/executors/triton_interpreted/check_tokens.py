"""Encoder layers by the Triton executor equal dense ones; run by test_triton_interpreter."""

import copy
import pickle

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from vits import ARCH, small, undecide

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.executors.triton.options import DEFAULT
from las_mm.executors.triton.tokens import TritonTokenExecutor
from las_mm.inference.graphed import GraphedBackbone
from las_mm.models.transformer_mmpretrain import LASVisionTransformer

FLOAT32_BOUND = 1e-5
POLICIES = ('tokens', 'heads', 'blocks')
EDGE = 5  # of the grid of tokens


def layer(policies=POLICIES, seed=0, extra=1, **options):
    """An encoder layer with random parameters, in inference."""
    torch.manual_seed(seed)
    kinds = dict(token_patch=1, head_mode='input', tokens_with_mlp=True) | options
    net = LASVisionTransformer(
        ARCH, img_size=8 * EDGE, patch_size=8, policies=policies, keep_layers=0, **kinds
    )
    [block, *_] = undecide(net).eval().layers
    for name, parameter in block.named_parameters():
        if 'ln' in name or 'gamma' in name or name.endswith('bias'):
            nn.init.normal_(parameter, 1.0 if name.endswith('weight') else 0.0, 0.3)
    block.grid, block.extra = (EDGE, EDGE), extra
    return block


def decide(block, images, rates, seed=0):
    """Replay random decisions, each image for itself, at rates by policy; None decides."""
    generator = torch.Generator().manual_seed(seed)
    for masker in block.maskers:
        rate = rates.get(masker.axis)
        if rate is None:
            continue
        edge = -(-EDGE // masker.granularity) if masker.axis == 'tokens' else 0
        heads = block.attn.num_heads
        shape = {'tokens': (images, 1, edge, edge), 'heads': (images, heads), 'blocks': (images, 2)}
        masker.decided = (torch.rand(shape[masker.axis], generator=generator) < rate).float()


def tokens(block, images=2, dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(images, block.extra + EDGE**2, block.attn.embed_dims, dtype=dtype)


@torch.no_grad()
def run(block, x, executor):
    block.executor = executor
    return block(x), block.last[0]


def assert_same(block, x, bound=FLOAT32_BOUND, options=DEFAULT):
    executor = TritonTokenExecutor(options)
    assert executor.why_not(block, x) is None
    expected, masks = run(block, x, None)
    before = x.clone()
    out, found = run(block, x, executor)
    assert all(map(torch.equal, found, masks)) and len(found) == len(masks)
    assert out.shape == expected.shape and out.dtype == expected.dtype
    assert (out - expected).abs().max() <= bound * expected.abs().max().clamp(min=1)
    assert torch.equal(x, before), 'the input belongs to the caller'
    return out


rate = st.sampled_from([None, 0.0, 0.3, 0.7, 1.0])
JOINT = dict(tokens=0.5, heads=0.5, blocks=0.5)


@settings(max_examples=24)
@given(
    policies=st.sets(st.sampled_from(POLICIES), min_size=1),
    rates=st.fixed_dictionaries(dict.fromkeys(POLICIES, rate)),
    images=st.integers(1, 3),
    options=st.fixed_dictionaries(
        dict(
            head_mode=st.sampled_from(['input', 'hidden', 'attention']),
            tokens_with_mlp=st.booleans(),
            token_patch=st.integers(1, 3),
            qkv_bias=st.booleans(),
            layer_scale_init_value=st.sampled_from([0.0, 0.5]),
            seed=st.integers(0, 9),
            extra=st.integers(0, 2),
        )
    ),
)
@example(set(POLICIES), JOINT, 3, dict(token_patch=2, layer_scale_init_value=0.5))
@example(set(POLICIES), JOINT, 3, dict(head_mode='hidden', tokens_with_mlp=False))
@example({'tokens'}, dict(tokens=0.5), 2, dict(tokens_with_mlp=False))
def test_equals_dense(policies, rates, images, options):
    if 'heads' in policies or 'blocks' in policies:
        options['extra'] = max(1, options.get('extra', 1))  # which these read
    block = layer(sorted(policies, key=POLICIES.index), **options)
    decide(block, images, rates, options.get('seed', 0))
    assert_same(block, tokens(block, images))


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
@pytest.mark.parametrize('kept', [0.0, 1.0])
def test_from_nothing_to_everything(mode, kept):
    block = layer(head_mode=mode)
    for policy in POLICIES:
        decide(block, 2, dict.fromkeys(POLICIES, 1.0) | {policy: kept})
        out = assert_same(block, tokens(block))
        if policy == 'blocks' and not kept:
            assert torch.equal(out, tokens(block))


def test_a_skipped_token_keeps_its_value():
    block = layer(['tokens'])
    decide(block, 2, dict(tokens=0.0))
    x = tokens(block)
    out = assert_same(block, x)
    assert torch.equal(out[:, 1:], x[:, 1:]) and not torch.equal(out[:, 0], x[:, 0])


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
def test_half_precision(mode):
    block = layer(head_mode=mode, layer_scale_init_value=0.5).half()
    decide(block, 2, JOINT)
    assert_same(block, tokens(block, dtype=torch.float16), bound=4 * 2**-11)


def test_activations_and_norms_without_parameters():
    for activation in (nn.ReLU(), nn.GELU('tanh'), nn.GELU()):
        block = layer()
        block.ffn.layers[0][1] = activation
        block.ln2 = nn.LayerNorm(block.attn.embed_dims, 1e-3, elementwise_affine=False)
        decide(block, 2, JOINT)
        assert_same(block, tokens(block))


def test_images_larger_than_a_tile():
    """More tokens than a program of any kernel has, a number that no tile divides."""
    block = layer(token_patch=3)
    block.grid = (37, 31)
    torch.manual_seed(0)
    x = torch.randn(2, 1 + 37 * 31, block.attn.embed_dims)
    assert_same(block, x)
    assert 0 < block.last[0][0].mean() < 1


@pytest.mark.parametrize('kind', ['vit', 't2t'])
def test_a_whole_network_at_once(kind):
    net = undecide(small(kind))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(images)[0]
        wanted = [mask for block in net.blocks for mask in block.last[0]]
        net.executor = TritonExecutor(Options(tune=False))
        assert net.executor == 'triton' and not net.blocks[0].executor.options.tune
        assert torch.allclose(net(images)[0], expected, atol=1e-5)
    found = [mask for block in net.blocks for mask in block.last[0]]
    assert all(map(torch.equal, found, wanted))


def test_as_one_graph():
    net = undecide(small())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(images)[0]
    run = GraphedBackbone(net, torch.zeros_like(images), Options(tune=False))
    assert torch.allclose(run(images)[0], expected, atol=1e-5)
    assert isinstance(net.layers[1].executor, TritonTokenExecutor) and not run.plan.stages
    assert [len(trace.decisions) for trace in run.traces] == [1, 3, 3]


def test_layers_that_decide_on_nothing_run_as_they_are():
    net = small(policies=['heads'], keep_layers=2, executor='triton')
    x = tokens(net.layers[0])
    static = net.layers[0]
    assert not static.maskers and static.executor.why_not(static, x) is None
    with torch.no_grad():
        assert torch.equal(static(x), static.run_dense(x)[0])


def test_compiled_as_one_operator_between_the_maskers():
    torch._dynamo.reset()
    net = undecide(small(executor='triton'))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = []

        def backend(graph, inputs):
            found.append(str(graph.graph))
            return graph

        expected = net(images)[0]
        assert torch.allclose(torch.compile(net, backend=backend)(images)[0], expected, atol=1e-6)
    assert sum(text.count('las_mm.triton_encoder') for text in found) == len(net.blocks)
    torch._dynamo.reset()


def test_what_cannot_run_says_why():
    def reason(change, x=None):
        block = layer()
        change(block)
        return TritonTokenExecutor().why_not(block, tokens(block) if x is None else x)

    half = tokens(layer(), dtype=torch.float16)
    assert reason(lambda b: None) is None
    assert reason(lambda b: None, half) == 'its parameters are not torch.float16'
    assert 'multiplies the bits' in reason(lambda b: None, half.bfloat16())
    assert reason(lambda b: None, half.double()) == 'its features are torch.float64'
    assert reason(lambda b: None, half[:0]) == 'it has no images'
    with torch.autocast('cpu'):
        assert reason(lambda b: None) == 'encoder layers run in the precision of autocast'

    def replaced(name, part):
        return reason(lambda block: block.set_submodule(name, part))

    assert replaced('ffn.layers.0.1', nn.SiLU()) == 'its MLP has a SiLU'
    assert replaced('ln2', nn.BatchNorm1d(24).eval()) == 'a BatchNorm1d is not a plain LayerNorm'
    assert replaced('attn.gamma1', nn.Tanh().eval()) == 'a Tanh is not a plain Identity'
    assert replaced('ffn.layers.0.2', nn.Dropout()) == 'its Dropout is in training'
    assert replaced('ffn.layers.2', nn.Tanh()) == 'a Tanh stands where dropout is expected'
    assert 'hook' in reason(lambda b: b.ln2.register_forward_hook(lambda *a: None))

    def scores(block):
        block.attn.scaled_dot_product_attention = lambda q, k, v, **options: v

    assert reason(scores) == 'its attention has scores of its own'


def test_it_follows_parameters_copies_and_pickles():
    block = layer()
    decide(block, 2, JOINT)
    executor = TritonTokenExecutor(Options(float32='ieee'))
    before, _ = run(block, tokens(block), executor)
    with torch.no_grad():
        block.attn.proj.weight.mul_(2)
    assert not torch.equal(assert_same(block, tokens(block)), before)
    assert_same(copy.deepcopy(block), tokens(block))
    assert pickle.loads(pickle.dumps(executor)).options == executor.options
