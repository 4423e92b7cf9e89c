"""The dynamic block against its static formula, in every variant."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import always, basic_block, bottleneck, decide, undecided

from las_mm.ops import conv_size, grid_size, upsample_mask

geometry = given(
    build=st.sampled_from([bottleneck, basic_block]),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    granularity=st.integers(1, 5),
    stride=st.sampled_from([1, 2, 3]),
    dilation=st.sampled_from([1, 2]),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)


def make(build, size, granularity, stride, dilation, batch, seed):
    torch.manual_seed(seed)
    granularity = min(granularity, max(conv_size(size, stride)))
    x = torch.randn(batch, 4, *size, dtype=torch.float64)
    return build(granularity, stride, dilation), x


def static_branch(block, x):
    """conv–norm–relu–…–conv–norm, written out."""
    out = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    return block.bn3(block.conv3(out.relu())) if hasattr(block, 'conv3') else out


@geometry
def test_with_every_patch_on_it_is_the_static_block_exactly(**case):
    block, x = make(**case)
    static = (static_branch(block, x) + block.downsample(x)).relu()
    assert torch.equal(always(block, keep=True)(x), static)
    assert block.trace.activation_rate.tolist() == [1] * len(x)


@geometry
def test_with_every_patch_off_only_the_shortcut_is_left(**case):
    block, x = make(**case)
    assert torch.equal(always(block, keep=False)(x), block.downsample(x).relu())
    assert block.trace.activation_rate.tolist() == [0] * len(x)
    assert block.trace.dilated_rate.tolist() == [0] * len(x)


@geometry
def test_every_pixel_is_static_or_shortcut_as_its_patch_decides(**case):
    block, x = make(**case)
    output = conv_size(x.shape[-2:], block.stride_product)
    mask = (torch.rand(len(x), 1, *grid_size(output, block.masker.granularity)) < 0.5).double()
    out = decide(block, mask)(x)
    pixels = upsample_mask(mask, block.masker.granularity, output).bool()
    shortcut = block.downsample(x)
    wanted = torch.where(pixels, static_branch(block, x) + shortcut, shortcut).relu()
    assert torch.equal(out, wanted)
    assert torch.equal(block.trace.mask, mask)


def test_samples_of_a_batch_decide_for_themselves():
    torch.manual_seed(0)
    block = undecided(bottleneck())
    x = torch.randn(4, 4, 9, 7, dtype=torch.float64)
    together, rates = block(x), block.trace.activation_rate
    for index in range(4):
        torch.testing.assert_close(block(x[index : index + 1])[0], together[index])
        assert block.trace.activation_rate.item() == rates[index]
    assert len(rates.unique()) > 1


def test_without_shortcut_convolution_the_input_passes():
    torch.manual_seed(0)
    block, x = bottleneck(), torch.randn(1, 6, 5, 5, dtype=torch.float64)
    block.downsample, block.conv1 = None, torch.nn.Conv2d(6, 3, 1).double()
    block.make_dynamic(2)
    assert torch.equal(always(block.double(), keep=False)(x), x.relu())


def test_training_multiplies_the_branch_alone_and_norms_see_dense_statistics():
    torch.manual_seed(0)
    block = always(bottleneck(), keep=False).train()
    static, x = copy.deepcopy(block), torch.randn(2, 4, 6, 6, dtype=torch.float64)
    block(x)
    static_branch(static, x), static.downsample(x)
    for name, buffer in static.named_buffers():
        assert torch.equal(block.get_buffer(name), buffer), name


def test_gradients_reach_the_masker_through_the_task_loss():
    """By hand: d out / d mask is the branch where the sum is positive; times the decision's."""
    torch.manual_seed(0)
    block = undecided(bottleneck(granularity=6)).train()
    block.requires_grad_(False)
    block.masker.requires_grad_(True).temperature = 2.0
    for norm in (block.bn1, block.bn2, block.bn3, block.downsample[1]):
        norm.eval()
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    torch.manual_seed(3)
    block(x).sum().backward()
    torch.manual_seed(3)
    noise = torch.logit(torch.rand(1, 1, 1, 1, dtype=torch.float64))
    keep, skip = block.masker.logits(x)[0, :, 0, 0].detach()
    soft = torch.sigmoid((keep - skip + noise.item()) / 2.0)
    branch, mask = static_branch(block, x), block.trace.mask.detach()
    slope = (branch * (branch * mask + block.downsample(x) > 0)).sum()
    wanted = (slope * soft * (1 - soft) / 2.0).item()
    grad = block.masker.conv.bias.grad
    assert grad.tolist() == pytest.approx([wanted, -wanted], rel=1e-9)


@pytest.mark.parametrize('build', [bottleneck, basic_block])
@pytest.mark.parametrize('training', [True, False])
def test_recomputing_changes_neither_gradients_nor_running_statistics(build, training):
    torch.manual_seed(0)
    plain = undecided(build()).train(training)
    frugal = copy.deepcopy(plain)
    frugal.with_cp = True
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    outs = []
    for block in (plain, frugal):
        torch.manual_seed(1)
        inputs = x.clone().requires_grad_()
        out = block(inputs)
        out.square().sum().backward()
        outs.append((out, inputs.grad, block.trace.mask))
    for a, b in zip(*outs, strict=True):
        assert torch.equal(a, b)
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        # In evaluation a decision has no gradient.
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert all(step.norm.momentum == 0.1 for step in frugal.branch.steps)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_under_autocast_dtypes_are_those_of_the_static_block(dtype):
    torch.manual_seed(0)
    block, x = always(bottleneck().float(), keep=True), torch.randn(2, 4, 8, 8)
    with torch.autocast('cpu', dtype):
        out = block(x)
        static = (static_branch(block, x) + block.downsample(x)).relu()
    assert out.dtype == static.dtype
    assert torch.equal(out, static)
    assert block.trace.activation_rate.dtype == torch.float32


def test_autocast_trains():
    torch.manual_seed(0)
    block, x = undecided(bottleneck().float()).train(), torch.randn(2, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        loss = block(x).sum() + block.trace.dilated_rate.mean()
    loss.backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_a_patch_larger_than_the_feature_map_is_refused():
    with pytest.raises(ValueError, match=r'granularity: block \S* ?has S=7, larger.* 3x2 feature'):
        bottleneck(granularity=7, stride=2)(torch.zeros(1, 4, 5, 4, dtype=torch.float64))


def test_there_is_no_trace_before_the_first_forward():
    assert bottleneck().trace is None
