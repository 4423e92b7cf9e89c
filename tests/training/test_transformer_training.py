"""What trainings of vision transformers need works with their policies, and together."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectors import batch, build_model, scope
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from mmpretrain.structures import DataSample
from runs import AutocastOptimWrapper, hooked, runner_of, samples
from torch.utils.data import Dataset
from vits import SIZES, undecide, vit, vit_config

from las_mm.checkpoints.loading import latest_checkpoint
from las_mm.hooks import DistillationHook, SparsityLossHook, UsageLossHook
from las_mm.losses import distillation_loss

MIXED = [dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]
HOOKS = [
    dict(type='GumbelTemperatureHook', start=5.0),
    dict(type='UsageLossHook', tokens=0.5, heads=0.5, blocks=0.5),
    dict(type='SafeCheckpointHook'),
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.3),
]
USES = ('loss_tokens', 'loss_heads', 'loss_blocks')


class Fresh(Dataset):
    """Images that are loaded anew, as from files: mixing changes their labels."""

    def __init__(self) -> None:
        self.samples = samples(8)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return copy.deepcopy(self.samples[index])


def trainer(folder, *hooks: Hook, seed: int = 0, **options):
    """A training by AdaViT's recipe: mixed images, dropped paths, averaged weights, its loss."""
    torch.manual_seed(seed)
    with scope('classifier'):
        model = undecide(build_model(vit_config(augments=MIXED, drop_path_rate=0.2)))
    return runner_of(folder, *hooks, model=model, dataset=Fresh(), custom_hooks=HOOKS, **options)


class Interrupt(Hook):
    """Ends a training after some iterations."""

    priority = 'LOWEST'

    def __init__(self, after: int) -> None:
        self.after = after

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


def test_the_recipe_trains_every_policy_on_mixed_images(tmp_path, monkeypatch):
    runner = trainer(tmp_path, epochs=2)
    scores, head = [], runner.model.head
    own = head.loss
    monkeypatch.setattr(
        head, 'loss', lambda x, samples: scores.append(samples[0].gt_score) or own(x, samples)
    )
    start = copy.deepcopy(runner.model.state_dict())
    model = runner.train()
    assert any(0.01 < score.max() < 0.99 for score in scores)  # of two classes
    assert all(score.sum() == pytest.approx(1) for score in scores)
    logs = runner.message_hub.log_scalars
    for name in (*USES, 'flops_ratio', 'token_rate', 'head_rate', 'block_rate'):
        assert torch.tensor(logs[f'train/{name}'].data[0]).isfinite().all(), name
    (average,) = (hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    averaged, trained = average.ema_model.module.state_dict(), model.state_dict()
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['state_dict']
    maskers = [name for name in start if '_masker.' in name]
    assert len(maskers) == 14  # tokens in three layers, heads and blocks in two
    for name in maskers:
        assert not torch.equal(trained[name], start[name]), name
        assert not torch.equal(averaged[name], trained[name]), name
        assert torch.equal(saved[name], averaged[name]), name


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path):
    whole = trainer(tmp_path / 'whole')
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Interrupt(after=6)).train()
    load = str(latest_checkpoint(tmp_path))
    resumed = trainer(tmp_path, seed=1, resume=True, load_from=load)
    resumed.train()
    for name in ('loss', *USES, 'flops_ratio', 'lr'):
        logs = [r.message_hub.get_scalar(f'train/{name}').data[0] for r in (whole, resumed)]
        assert len(logs[0]) == 12
        assert logs[0].tolist() == logs[1].tolist(), name
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name


def test_dropped_paths_are_those_of_the_static_network():
    """With everything on, and no noise, the same random numbers drop the same paths."""
    model = vit(drop_path_rate=0.5)
    backbone = model.backbone
    backbone.set_temperature(1.0, noise=False)
    for masker in (masker for block in backbone.blocks for masker in block.maskers):
        torch.nn.init.constant_(masker.mlp_head.bias, 99)
    arch = dict(backbone.arch_settings)
    static = VisionTransformer(arch, img_size=32, patch_size=8, drop_path_rate=0.5)
    static.load_state_dict(backbone.state_dict(), strict=False)
    static.train()
    images, outs = torch.randn(8, 3, 32, 32), []
    for network in (backbone, static):
        torch.manual_seed(1)
        outs.append(network(images)[0])
    torch.testing.assert_close(*outs)
    static.eval()
    assert not torch.allclose(static(images)[0], outs[1], atol=1e-3)


@pytest.mark.parametrize('kind', SIZES)
def test_recomputed_activations_teach_the_same(kind):
    gradients, losses = [], []
    for with_cp in (False, True):
        model = vit(kind, drop_path_rate=0.2, with_cp=with_cp)
        with hooked(SparsityLossHook(target=0.2), model):
            torch.manual_seed(1)
            terms = model(**batch(model, 4, SIZES[kind]), mode='loss')
            model.parse_losses(terms)[0].backward()
        losses.append({name: value.item() for name, value in terms.items()})
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert losses[0] == pytest.approx(losses[1])
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, msg=name)


def test_recomputing_keeps_fewer_activations():
    kept = []
    for with_cp in (False, True):
        model, sizes = vit(with_cp=with_cp), []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.backbone(torch.randn(4, 3, 32, 32))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


@pytest.mark.parametrize('kind', SIZES)
def test_mixed_precision(kind):
    model = vit(kind)
    optim = AutocastOptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.01))
    maskers = [masker for block in model.backbone.blocks for masker in block.maskers]
    before = [masker.mlp_head.weight.clone() for masker in maskers]
    with hooked(UsageLossHook(tokens=0.1, heads=0.1, blocks=0.1), model):
        logged = model.train_step(batch(model, 4, SIZES[kind]), optim)
    traces = model.backbone.traces
    assert all(d.mask.dtype == torch.float32 for trace in traces for d in trace.decisions)
    tokens = torch.stack([trace.shares['tokens'].mean() for trace in traces]).mean().item()
    assert logged['loss_tokens'].item() == pytest.approx(2 * (tokens - 0.1) ** 2, rel=1e-4)
    for masker, weight in zip(maskers, before, strict=True):
        assert masker.mlp_head.weight.isfinite().all()
        assert not torch.equal(masker.mlp_head.weight, weight)


def step(rank: int | None = None) -> tuple[dict, dict]:
    """Losses and gradients of one step on four images, or on two of them as one of two ranks."""
    torch.rand_like = lambda x: torch.full_like(x, 0.5)  # no noise: batches are split differently
    model = vit()
    torch.manual_seed(1)
    data, wrapped = batch(model, 4, 32), model
    if rank is not None:
        wrapped = MMDistributedDataParallel(model)
        part = slice(2 * rank, 2 * rank + 2)
        data = {name: values[part] for name, values in data.items()}
    with hooked(UsageLossHook(tokens=0.2, heads=0.2, blocks=0.2), wrapped):
        losses = wrapped(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.item() for name, value in losses.items()}, gradients


def work(rank: int, folder: str) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    dist.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    torch.save(step(rank), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
def test_two_processes_train_as_one_does_with_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, 'rand_like', torch.rand_like)  # restored afterwards
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method='spawn')
    losses, gradients = step()
    ranks = [torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1)]
    for rank_losses, rank_gradients in ranks:
        for term in (*USES, 'flops_ratio', 'head_rate', 'block_rate'):  # of both processes
            assert rank_losses[term] == pytest.approx(losses[term], rel=1e-5), term
        assert set(rank_gradients) == set(gradients)
        for name, grad in gradients.items():
            torch.testing.assert_close(rank_gradients[name], grad, rtol=1e-3, atol=1e-6, msg=name)
    assert 0.05 < losses['block_rate'] < 0.95
    assert losses['head_rate'] != pytest.approx(losses['loss_heads'] / 2 + 0.2)  # some are skipped


@pytest.mark.parametrize('kind', SIZES)
def test_the_static_network_teaches_on_mixed_images(kind, tmp_path):
    np.random.seed(0)  # of the mixing
    model = vit(kind, augments=MIXED)
    config = vit_config(kind)
    config.backbone.type = config.backbone.type.replace('LAST2T', 'T2T').replace('LAS', '')
    with scope('classifier'):
        teacher = build_model(config)
    torch.nn.init.normal_(teacher.head.layers.head.weight)
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    images = torch.randint(0, 256, (4, 3, SIZES[kind], SIZES[kind]))
    labels = [DataSample().set_gt_label(label) for label in range(4)]
    data = model.data_preprocessor({'inputs': images, 'data_samples': labels}, training=True)
    assert any(sample.gt_score.max() < 1 for sample in data['data_samples'])
    torch.manual_seed(1)
    student = model(data['inputs'])
    teacher.eval()
    wanted = teacher(data['inputs'])
    with hooked(DistillationHook(config, str(tmp_path / 'teacher.pth')), model):
        torch.manual_seed(1)
        losses = model(**data, mode='loss')
    loss = 0.5 * distillation_loss(student, wanted)
    assert losses['loss_kd'].item() == pytest.approx(loss.item(), rel=1e-4)
    assert loss > 0
    losses['loss_kd'].backward()
    assert model.backbone.cls_token.grad.abs().sum() > 0
