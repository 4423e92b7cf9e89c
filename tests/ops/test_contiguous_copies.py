"""Features leave channels-last memory as PyTorch's own copy would have them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from las_mm.ops.layout import is_channels_last, to_contiguous
from las_mm.ops.native.build import load_native

SIZES = st.sampled_from([0, 1, 2, 3, 7, 8, 9, 31, 64, 65, 130])
DTYPES = st.sampled_from(
    [torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.float64, torch.uint8]
)
LAST = torch.channels_last


@given(
    images=st.integers(0, 3),
    channels=st.sampled_from([1, 2, 15, 16, 17, 33, 255, 256, 257, 530]),
    height=SIZES,
    width=SIZES,
    dtype=DTYPES,
    seed=st.integers(0, 99),
)
def test_copies_are_equal(images, channels, height, width, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-100, 100, (images, channels, height, width), generator=generator)
    x = x.to(dtype).contiguous(memory_format=LAST)
    out = to_contiguous(x)
    assert out.is_contiguous() and out.dtype == dtype and out.equal(x)
    assert out.data_ptr() != x.data_ptr() or not is_channels_last(x)
    wide = to_contiguous(x, torch.float32)
    assert wide.is_contiguous() and wide.dtype == torch.float32 and wide.equal(x.float())


def last(*shape) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=LAST)


OTHERS = {
    'contiguous': lambda: torch.randn(2, 3, 4, 5),
    'a part': lambda: last(2, 9, 8, 8)[:, 1:, ::2],
    'transposed': lambda: torch.randn(2, 3, 4, 5).transpose(2, 3),
    'three dimensions': lambda: torch.randn(4, 5, 6).transpose(0, 2),
    'a view of the negated': lambda: torch._neg_view(last(2, 3, 4, 5)),
    'a subclass': lambda: torch.nn.Parameter(last(2, 3, 4, 5)),
    'on no device': lambda: last(2, 3, 4, 5).to('meta'),
}


@pytest.mark.parametrize('kind', OTHERS)
def test_other_tensors_go_through_pytorch(kind):
    x = OTHERS[kind]()
    out, wanted = to_contiguous(x), x.contiguous()
    assert out.stride() == wanted.stride() and out.shape == x.shape
    if x.device.type != 'meta':
        assert out.equal(wanted)


def test_gradients_pass():
    x = last(2, 3, 4, 5).requires_grad_()
    to_contiguous(x * 2).sum().backward()
    assert x.grad.eq(2).all()


def test_the_native_copy_refuses_what_it_cannot_read():
    native, reason = load_native()
    assert native is not None, reason
    for x in (torch.randn(2, 3, 4, 5), torch.randn(3, 4), last(2, 3, 4, 5).double()):
        with pytest.raises(ValueError, match='x: must'):
            native.to_contiguous(x)
    with pytest.raises(ValueError, match='x: must be in bfloat16'):
        native.to_contiguous(last(2, 3, 4, 5), widen=True)
