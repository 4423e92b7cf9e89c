"""What runs encoder layers: equal to the dense forward, packed once, honest about its limits."""

import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from vits import small, undecide

from las_mm.executors.cpu import tokens as cpu_tokens
from las_mm.executors.torch_tokens import fused
from las_mm.ops.native.build import load_native
from las_mm.ops.reasons import log_once

DEVICES = ('cpu', 'cuda', 'mps')


@pytest.mark.parametrize('mode', ['input', 'hidden', 'attention'])
@pytest.mark.parametrize('with_mlp', [True, False])
@pytest.mark.parametrize('executor', ['torch', 'cpu'])
def test_executors_leave_out_what_any_policies_skip(executor, with_mlp, mode):
    torch.manual_seed(3)
    net = undecide(small(head_mode=mode, tokens_with_mlp=with_mlp))
    for images in (torch.randn(5, 3, 64, 64), torch.randn(1, 3, 64, 64)):
        with torch.no_grad():
            net.executor = 'dense'
            dense = net(images)[0]
            wanted = [[d.mask for d in trace.decisions] for trace in net.traces]
            net.executor = executor
            assert torch.allclose(net(images)[0], dense, atol=1e-5)
            found = [[d.mask for d in trace.decisions] for trace in net.traces]
        assert all(map(torch.equal, sum(found, []), sum(wanted, [])))
        assert 0 < torch.cat([m.flatten() for m in sum(wanted, [])]).mean() < 1


def test_heads_and_halves_may_all_be_skipped_or_kept():
    images = torch.randn(2, 3, 64, 64)
    for kept in (0.0, 1.0):
        net = undecide(small())
        for layer in net.blocks:
            for masker in layer.maskers:
                if masker.axis != 'tokens':
                    count = layer.attn.num_heads if masker.axis == 'heads' else 2
                    masker.decided = torch.full((1, count), kept)
        with torch.no_grad():
            dense = net(images)[0]
            net.executor = 'cpu'
            assert torch.allclose(net(images)[0], dense, atol=1e-5)


def test_matrices_are_packed_once_until_they_change(monkeypatch):
    packed = []
    whole = cpu_tokens.pack_layer
    monkeypatch.setattr(cpu_tokens, 'pack_layer', lambda *a: packed.append(a) or whole(*a))
    net = undecide(small())
    net.executor = 'cpu'
    with torch.no_grad():
        for size in (64, 64, 96):
            net(torch.randn(1, 3, size, size))
        assert len(packed) == len(net.blocks)
        images = torch.randn(1, 3, 64, 64)
        net.blocks[1].ffn.layers[1].weight.mul_(3)
        found = net(images)[0]
        assert len(packed) == len(net.blocks) + 1
        net.executor = 'dense'
        assert torch.allclose(found, net(images)[0], atol=1e-5)


def test_what_is_not_native_runs_by_pytorch_and_says_why():
    net = undecide(small()).double()
    net.executor = 'cpu'
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        features = torch.randn(1, 65, 24, dtype=torch.float64)
        net(images)
        run = net.blocks[1].executor.prepare(net.blocks[1], features)
        assert run == 'encoder layers are native in float32, not in torch.float64'
        assert net.blocks[1]._choose(features) is not None


@pytest.mark.skipif(
    os.environ.get('TRITON_INTERPRET') == '1', reason='TRITON_INTERPRET lets kernels run on CPUs'
)
@pytest.mark.parametrize('device, instead', [('cpu', 'torch'), ('meta', 'dense')])
def test_without_a_gpu_one_line_says_who_runs_what_triton_cannot(device, instead, caplog):
    pytest.importorskip('triton', reason='Triton is not installed')
    log_once.cache_clear()
    block = undecide(small(executor='triton')).blocks[1]
    with torch.no_grad():
        run = block._choose(torch.empty(1, 65, 24, device=device))
    assert (run is None) == (instead == 'dense')
    [line] = caplog.messages
    assert line.startswith(f"executor: '{instead}' instead of 'triton'")
    assert line.endswith(f'its input is on {device}, not on a GPU')


def test_auto_has_an_executor_for_each_device():
    net = small(executor='auto')
    assert net.executor == 'auto'
    auto = pickle.loads(pickle.dumps(net.blocks[0].executor))
    on = {device: auto.on(SimpleNamespace(device=torch.device(device))) for device in DEVICES}
    assert [on[device] and on[device].name for device in DEVICES] == ['cpu', 'triton', None]


def test_linear_layers_of_rows_within_larger_ones():
    native, missing = load_native()
    if native is None:
        pytest.skip(missing)
    generator = torch.Generator().manual_seed(0)
    for rows, inputs, outputs in ((1, 8, 1), (5, 16, 24), (13, 64, 100), (70, 24, 384)):
        weight = torch.randn(outputs, inputs, generator=generator)
        bias = torch.randn(outputs, generator=generator)
        x = torch.randn(rows, inputs + 7, generator=generator)[:, 3 : 3 + inputs]
        wide = torch.randn(rows, outputs + 5, generator=generator)
        before, wanted = wide.clone(), torch.nn.functional.linear(x, weight, bias)
        for isa in ('', *native.float32_isas()):
            layer = native.Float32Linear(weight, bias, isa)
            for adds in (False, True):
                wide.copy_(before)
                layer.run(x, wide[:, 2 : 2 + outputs], adds)
                own = before[:, 2 : 2 + outputs] * adds + wanted
                assert torch.allclose(wide[:, 2 : 2 + outputs], own, atol=1e-4)
                assert torch.equal(wide[:, :2], before[:, :2])
                assert torch.equal(wide[:, 2 + outputs :], before[:, 2 + outputs :])
        layer.run(x[:0], wide[:0, :outputs], False)
        with pytest.raises(ValueError, match='x: got'):
            layer.run(x[:, 1:], wide[:, :outputs], False)


def test_attention_of_the_stem_is_fused_with_an_executor_alone():
    net = undecide(small('t2t'))
    attentions = [layer.attn for layer in (net.tokens_to_token.attention1, net.encoder[0])]
    shipped = [attn.scaled_dot_product_attention for attn in attentions]
    images = torch.randn(2, 3, 64, 64)
    q, k, v = torch.randn(3, 1, 2, 9, 8)
    for attention in shipped:
        assert torch.allclose(fused(attention)(q, k, v), attention(q, k, v), atol=1e-6)
    with torch.no_grad():
        dense = net(images)[0]
        net.executor = 'cpu'
        assert attentions[0].scaled_dot_product_attention is not shipped[0]
        assert torch.allclose(net(images)[0], dense, atol=1e-5)
        net.executor = 'dense'
        assert torch.equal(net(images)[0], dense)
    assert fused(torch.nn.functional.scaled_dot_product_attention).__name__ == (
        'scaled_dot_product_attention'
    )
