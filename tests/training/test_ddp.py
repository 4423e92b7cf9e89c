"""Two processes train as one does with the whole batch."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectors import KINDS, batch, build_model, scope
from mmengine.model import MMDistributedDataParallel
from networks import undecided

from las_mm.hooks import DistillationHook, SparsityLossHook

TERMS = ('loss_flops', 'loss_bounds', 'flops_ratio', 'activation_rate')


def step(teacher: str, rank: int | None = None) -> tuple[dict, dict, set]:
    """Losses and gradients of one step on four images, or on two of them as one of two ranks."""
    torch.rand_like = lambda x: torch.full_like(x, 0.5)  # no noise: batches are split differently
    torch.manual_seed(0)
    cfg = KINDS['classifier']()
    cfg.backbone.norm_eval = True
    with scope('classifier'):
        model = undecided(build_model(cfg)).train()
        data = batch(model, images=4)
        wrapped = model
        if rank is not None:
            wrapped = MMDistributedDataParallel(model)
            part = slice(2 * rank, 2 * rank + 2)
            data = {name: values[part] for name, values in data.items()}
        runner = SimpleNamespace(model=wrapped, iter=0, max_iters=10)
        for hook in (
            SparsityLossHook(target=0.3),
            DistillationHook(KINDS['classifier']('ResNet'), teacher),
        ):
            hook.before_train(runner)
        losses = wrapped(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
    return (
        {name: value.item() for name, value in losses.items()},
        {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        set(wrapped.state_dict()),
    )


def work(rank: int, folder: str) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    dist.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    torch.save(step(f'{folder}/teacher.pth', rank), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
def test_losses_rates_and_gradients_are_those_of_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, 'rand_like', torch.rand_like)  # restored afterwards
    torch.manual_seed(1)
    teacher = build_model(KINDS['classifier']('ResNet'))
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method='spawn')
    losses, grads, _ = step(str(tmp_path / 'teacher.pth'))
    ranks = [torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1)]
    for rank_losses, rank_grads, names in ranks:
        for term in TERMS:  # already those of both processes
            assert rank_losses[term] == pytest.approx(losses[term], rel=1e-5), term
        assert set(rank_grads) == set(grads)
        for name, grad in grads.items():
            torch.testing.assert_close(rank_grads[name], grad, rtol=1e-3, atol=1e-6, msg=name)
        assert not [name for name in names if 'teacher' in name]
    for term in ('loss', 'loss_kd'):  # each process's own share
        mean = sum(rank_losses[term] for rank_losses, _, _ in ranks) / 2
        assert mean == pytest.approx(losses[term], rel=1e-4), term
    assert 0.05 < losses['activation_rate'] < 0.95
    assert losses['loss_kd'] > 0
