"""The end of a dynamic block computes, and teaches, what the plain expression does."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from las_mm.ops.masked_sum import channel_dot, is_plain, masked_sum_relu, sum_channels

SIZE = (3, 5, 4, 6)


def inputs(dtype: torch.dtype = torch.float64, size=SIZE) -> list[torch.Tensor]:
    """Last convolution's output, mask and identity, some of it zero or negative."""
    x, identity = torch.randn(2, *size, dtype=dtype)
    pixels = (torch.rand(size[0], 1, *size[2:]) > 0.5).to(dtype)
    return [tensor.requires_grad_() for tensor in (3 * x + 2, pixels, identity)]


def batch_norm(channels: int = SIZE[1], **options) -> nn.BatchNorm2d:
    """A batch norm in the middle of its life."""
    norm = nn.BatchNorm2d(channels, **options).double()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    norm.num_batches_tracked.fill_(7)
    return norm


def plain(x, norm, pixels, identity):
    """The same in as many steps as it takes."""
    return torch.relu(norm(x) * pixels + identity)


def results(function, norm, tensors) -> list[torch.Tensor]:
    """Output, gradients and buffers."""
    x, pixels, identity = tensors
    out = function(x, norm, pixels, identity)
    (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
    return [out, *(t.grad for t in (*tensors, *norm.parameters())), *norm.buffers()]


@given(
    size=st.tuples(*[st.integers(2, 5)] * 4),
    training=st.booleans(),
    momentum=st.sampled_from([None, 0.0, 0.1, 1.0]),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_plain_expression(size, training, momentum, channels_last, seed):
    torch.manual_seed(seed)
    norm = batch_norm(size[1], momentum=momentum, eps=1e-3).train(training)
    assert is_plain(norm)
    ours = inputs(size=size)
    if channels_last:
        ours = [x.detach().to(memory_format=torch.channels_last).requires_grad_() for x in ours]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    wanted = results(plain, copy.deepcopy(norm), theirs)
    for tensor, other in zip(results(masked_sum_relu, norm, ours), wanted, strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-9, atol=1e-10)


class End(nn.Module):
    """The function as a module, so that a derivative by the norm's weights can be asked for."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x, pixels, identity):
        return masked_sum_relu(x, self.norm, pixels, identity)


@pytest.mark.parametrize('training', [True, False])
def test_gradients_are_the_slopes(training):
    torch.manual_seed(0)
    end = End(batch_norm(3, momentum=0.0)).train(training)
    tensors = inputs(size=(2, 3, 2, 3))
    weights = [parameter.detach().clone().requires_grad_() for parameter in end.parameters()]

    def function(x, pixels, identity, weight, bias):
        values = {'norm.weight': weight, 'norm.bias': bias}
        return torch.func.functional_call(end, values, (x, pixels, identity))

    assert torch.autograd.gradcheck(function, (*tensors, *weights))


def hooked() -> nn.Module:
    norm = batch_norm()
    norm.register_forward_hook(lambda module, args, out: out + 1)
    return norm


def replaced() -> nn.Module:
    norm = batch_norm()
    norm.forward = lambda x: x.cumsum(1)
    return norm


class Shifted(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1


OTHER_NORMS = {
    'group': lambda: nn.GroupNorm(1, 5),
    'none': nn.Identity,
    'subclass': lambda: Shifted(5),
    'no weights': lambda: nn.BatchNorm2d(5, affine=False),
    'no statistics': lambda: nn.BatchNorm2d(5, track_running_stats=False),
    'hooked': hooked,
    'replaced': replaced,
}


@pytest.mark.parametrize('name', OTHER_NORMS)
def test_any_other_norm_is_called(name):
    torch.manual_seed(0)
    norm = OTHER_NORMS[name]().double()
    assert not is_plain(norm)
    ours = inputs()
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    wanted = results(plain, copy.deepcopy(norm), theirs)
    for tensor, other in zip(results(masked_sum_relu, norm, ours), wanted, strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-12, atol=1e-12)


def test_hooks_on_all_modules_see_the_norm():
    x, pixels, identity = inputs()
    norm, seen = batch_norm(), []
    with register_module_forward_hook(lambda module, args, out: seen.append(module)):
        masked_sum_relu(x, norm, pixels, identity)
    masked_sum_relu(x, norm, pixels, identity)
    assert seen == [norm]


def test_the_norm_may_run_again_before_the_backward():
    """As in a network that sees two images, one after the other, before it learns from both."""
    gradients = []
    for function in (plain, masked_sum_relu):
        torch.manual_seed(0)
        norm = batch_norm()
        outs = [function(x, norm, pixels, identity) for x, pixels, identity in (inputs(), inputs())]
        sum(out.square().sum() for out in outs).backward()
        gradients.append(norm.weight.grad)
    torch.testing.assert_close(*gradients)


def test_one_value_a_channel_is_refused_as_by_the_norm():
    x, pixels, identity = inputs(size=(1, 5, 1, 1))
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        masked_sum_relu(x, batch_norm(), pixels, identity)


@pytest.mark.parametrize('norm', [batch_norm, nn.Identity])
def test_only_wanted_gradients_are_computed(norm):
    x, pixels, identity = inputs()
    masked_sum_relu(x, norm(), pixels.detach(), identity.detach()).sum().backward()
    assert x.grad is not None
    assert pixels.grad is None
    assert identity.grad is None


def test_the_mask_alone_may_learn():
    """As in a frozen stage."""
    norm = batch_norm().requires_grad_(False)
    wanted, ours = inputs()[1], inputs()
    x, pixels, identity = (tensor.detach() for tensor in ours)
    for function, mask in ((plain, wanted), (masked_sum_relu, ours[1])):
        mask.data = pixels
        function(x, norm.eval(), mask, identity).sum().backward()
    torch.testing.assert_close(ours[1].grad, wanted.grad)


@pytest.mark.parametrize('norm', [batch_norm, nn.Identity])
def test_precisions_may_differ(norm):
    torch.manual_seed(0)
    norm = norm().float()
    x, pixels, identity = inputs(torch.float32)
    wanted = plain(x, norm, pixels, identity)
    out = masked_sum_relu(x.to(torch.bfloat16), norm, pixels, identity)
    assert out.dtype == torch.float32
    half = masked_sum_relu(x.to(torch.bfloat16), norm, pixels, identity.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    for rounded in (out, half.float()):
        torch.testing.assert_close(rounded, wanted, rtol=2**-6, atol=2**-4)
    slopes = [torch.autograd.grad(y.sum(), pixels, retain_graph=True)[0] for y in (wanted, half)]
    torch.testing.assert_close(*slopes, rtol=2**-5, atol=2**-3)


@pytest.mark.parametrize('size', [SIZE, (5, 64, 80, 70), (0, 3, 4, 4)])
def test_channel_dot(size):
    a, b = torch.randn(2, *size, dtype=torch.float64)
    scale, shift = torch.randn(2, size[1], dtype=torch.float64)
    torch.testing.assert_close(sum_channels(a, b), (a * b).sum(1, keepdim=True))
    line = b * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    torch.testing.assert_close(channel_dot(a, b, scale, shift), (a * line).sum(1, keepdim=True))
    assert channel_dot(a.mT, b.mT, scale, shift).shape == (size[0], 1, size[3], size[2])
