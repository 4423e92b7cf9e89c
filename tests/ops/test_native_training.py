"""The native parts of a training step compute, and teach, what PyTorch does."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.ops import fork as fork_module
from las_mm.ops import masked_sum
from las_mm.ops.native import training as native_training
from las_mm.ops.native.build import load_native

native, why_not = load_native()
if native is None:
    pytest.skip(why_not, allow_module_level=True)

ISAS = native.float32_isas()
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9))
MASKS = {'off': 0.0, 'on': 1.0, 'some': 0.5}


@contextmanager
def by(extension: object) -> Iterator[None]:
    """Train by an extension, or by PyTorch if it is None."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (masked_sum, fork_module):
            patch.setattr(module, 'native_training', lambda *tensors: extension)
        yield


def for_isa(isa: str) -> SimpleNamespace:
    """The extension, as if the CPU had no better instructions."""
    names = ('end_backward', 'fork_forward', 'fork_backward')
    return SimpleNamespace(**{name: partial(getattr(native, name), isa=isa) for name in names})


def batch_norm(channels: int, **options) -> nn.BatchNorm2d:
    """A batch norm in the middle of its life."""
    norm = nn.BatchNorm2d(channels, **options)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    norm.num_batches_tracked.fill_(7)
    return norm


def ends(size: tuple[int, ...], rate: float, offset: float = 0.0) -> list[Tensor]:
    """Last convolution's output, mask with factors as of a dropped path, identity, gradient."""
    x, identity, grad = torch.randn(3, *size)
    pixels = (torch.rand(size[0], 1, *size[2:]) < rate) / torch.rand(size[0], 1, 1, 1).clamp(0.5)
    return [x + offset, pixels, identity, grad]


def learn(end, norm: nn.Module, tensors: list[Tensor]) -> list[Tensor]:
    """Output, gradients and running statistics of the end of a block."""
    *inputs, grad = tensors
    x, pixels, identity = (tensor.clone().requires_grad_() for tensor in inputs)
    out = end(x, norm, pixels, identity)
    out.backward(grad)
    return [out.detach(), x.grad, pixels.grad, identity.grad, *(p.grad for p in norm.parameters())]


def plain(x: Tensor, norm: nn.Module, pixels: Tensor, identity: Tensor) -> Tensor:
    return torch.relu(norm(x) * pixels + identity)


def compare(ours: list[Tensor], exact: list[Tensor], tolerance: float) -> None:
    """By the largest value of each tensor."""
    for tensor, wanted in zip(ours, exact, strict=True):
        error = (tensor - wanted).abs().max()
        assert error <= tolerance * wanted.abs().max().clamp(min=1), (error, wanted.shape)


@pytest.mark.parametrize('isa', ISAS)
@given(
    size=SIZES.filter(lambda size: size[0] * size[2] * size[3] > 1),
    mask=st.sampled_from(list(MASKS)),
    training=st.booleans(),
    momentum=st.sampled_from([None, 0.0, 0.1, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_the_end_of_a_block(isa, size, mask, training, momentum, seed):
    """Against the written formula in double precision; PyTorch's own route comes as close."""
    torch.manual_seed(seed)
    norm = batch_norm(size[1], momentum=momentum, eps=0.1).train(training)
    tensors = ends(size, MASKS[mask])
    x, pixels, identity, grad = (tensor.double() for tensor in tensors)
    exact = copy.deepcopy(norm).double()
    near = (copy.deepcopy(exact)(x) * pixels + identity).abs() < 1e-4
    grad[near] = tensors[-1][near] = 0  # where a rounding decides what ReLU lets pass
    wanted = learn(plain, exact, [x, pixels, identity, grad])
    for extension in (for_isa(isa), None):
        ours = copy.deepcopy(norm)
        with by(extension):
            results = learn(masked_sum.masked_sum_relu, ours, tensors)
        compare(results, wanted, 2e-5)


@pytest.mark.parametrize('isa', ISAS)
def test_values_far_from_zero_and_long_sums(isa):
    torch.manual_seed(0)
    norm = batch_norm(9)
    tensors = ends((2, 9, 120, 130), 0.5, offset=300)
    exact = copy.deepcopy(norm).double()
    wanted = learn(plain, exact, [tensor.double() for tensor in tensors])
    with by(for_isa(isa)):
        results = learn(masked_sum.masked_sum_relu, norm, tensors)
    for ours, theirs in zip(results, wanted, strict=True):  # x itself has no more digits
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize('isa', ISAS)
@given(size=SIZES, window=st.integers(2, 10), seed=st.integers(0, 2**31))
def test_a_fork(isa, size, window, seed):
    torch.manual_seed(seed)
    x = torch.randn(size)
    first, second = x.double().requires_grad_(), x.clone().requires_grad_()
    exact = first, first, F.avg_pool2d(first, window, ceil_mode=True, count_include_pad=False)
    with by(for_isa(isa)):
        ours = fork_module.fork(second, window)
    grads = [torch.randn(tensor.shape) for tensor in ours]
    torch.autograd.backward(exact, [grad.double() for grad in grads])
    torch.autograd.backward(ours, grads)
    assert torch.equal(ours[0], x)
    assert torch.equal(ours[1], x)
    compare([ours[2], second.grad], [exact[2], first.grad], 1e-6)


def test_a_fork_of_which_not_all_is_used():
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    for index, output in enumerate(fork_module.fork(x, 2)):
        (grad,) = torch.autograd.grad(output.sum(), x)
        assert grad.sum().item() == pytest.approx(x.numel() if index < 2 else 2 * 3 * 3 * 3)


def test_threads_do_not_change_a_bit():
    torch.manual_seed(0)
    tensors = ends((3, 150, 13, 11), 0.5)
    start = batch_norm(150)

    def run(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        norm = copy.deepcopy(start)
        results = learn(masked_sum.masked_sum_relu, norm, tensors)
        x = tensors[0].clone().requires_grad_()
        forked = fork_module.fork(x, 4)
        torch.autograd.backward(forked, [tensor.detach().sin() for tensor in forked])
        return [*results, forked[2].detach(), x.grad]

    before = torch.get_num_threads()
    try:
        wanted = run(1)
        for threads in (2, 3, 5):
            assert all(map(torch.equal, run(threads), wanted))
    finally:
        torch.set_num_threads(before)


BLOCKS = {
    'bottleneck': partial(DynamicBottleneck, 12, 5),
    'basic block': partial(DynamicBasicBlock, 12),
}


def stage(kind: str, granularity: int, with_cp: bool = False) -> nn.Module:
    """Two blocks, the first one with a stride and a shortcut of its own."""
    torch.manual_seed(0)
    blocks = nn.Sequential(*(BLOCKS[kind](12, granularity, stride) for stride in (2, 1)))
    for block in blocks:
        block.with_cp = with_cp
    return blocks.train()


def step(blocks: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradients and running statistics of one step, as of the same random numbers."""
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    out = blocks(x)
    out.square().mean().backward()
    grads = [parameter.grad for parameter in blocks.parameters()]
    return [out.detach(), x.grad, *grads, *(buffer.clone() for buffer in blocks.buffers())]


@pytest.mark.parametrize('kind', BLOCKS)
@pytest.mark.parametrize('granularity', [1, 2, 3])
@pytest.mark.parametrize('with_cp', [False, True])
def test_blocks_learn_the_same(kind, granularity, with_cp):
    x = torch.randn(2, 12, 17, 14)
    with by(None):
        wanted = step(stage(kind, granularity), x)
    with by(native):
        compare(step(stage(kind, granularity, with_cp), x), wanted, 1e-5)


def test_plain_contiguous_single_precision_goes_to_the_extension():
    x = torch.randn(2, 3, 4, 5)
    others = [
        x.to(memory_format=torch.channels_last),
        x.double(),
        x.bfloat16(),
        x.to('meta'),
        x.as_subclass(type('Other', (Tensor,), {})),
    ]
    suits = native_training.native_training
    assert suits(x) is native
    assert suits(x, nn.Parameter(x)) is native
    assert [suits(x, other) for other in others] == [None] * len(others)


def test_without_the_extension_pytorch_trains_and_the_log_says_so_once(monkeypatch, caplog):
    x = torch.randn(2, 12, 9, 9)
    with by(native):
        wanted = step(stage('basic block', 2), x)
    monkeypatch.setattr(native_training, 'load_native', lambda: (None, 'there is no compiler'))
    native_training.find_extension.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, 'las_mm'):
            compare(step(stage('basic block', 2), x), wanted, 1e-5)
    finally:
        native_training.find_extension.cache_clear()
    (record,) = caplog.records
    assert 'there is no compiler' in record.getMessage()


def test_derivatives_of_gradients_are_refused():
    x, pixels, identity, _ = (tensor.requires_grad_() for tensor in ends((2, 3, 4, 5), 0.5))
    for out in (
        masked_sum.masked_sum_relu(x, batch_norm(3), pixels, identity),
        fork_module.fork(x, 2)[2],
    ):
        (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match='once_differentiable'):
            grad.sum().backward()


def test_only_wanted_gradients_are_computed():
    x, pixels, identity, _ = ends((2, 3, 4, 5), 0.5)
    norm = batch_norm(3).requires_grad_(False).eval()
    pixels.requires_grad_()
    with by(native):
        masked_sum.masked_sum_relu(x, norm, pixels, identity).sum().backward()
    assert pixels.grad is not None
    assert x.grad is None
    assert identity.grad is None
    assert norm.weight.grad is None


@pytest.mark.parametrize('index', [0, 1, 2])
def test_gradients_of_another_size_are_refused(index):
    sizes = [(2, 3, 5, 5), (2, 3, 5, 5), (2, 3, 3, 3)]
    sizes[index] = (2, 3, 4, 5)
    with pytest.raises(ValueError, match='must be contiguous, single precision'):
        native.fork_backward(*map(torch.zeros, sizes), 2)
