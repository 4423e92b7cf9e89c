"""Fully sharded training in two processes by mmengine's strategy, with all the hooks."""

import json
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectors import KINDS, build_model
from mmengine.runner import FlexibleRunner
from runs import SCHEDULES, samples

import las_mm  # noqa: F401
from las_mm.hooks.model_loss import unwrapped

# Not mmengine's 'full': on a CPU, torch offloads weights to where they are, and then frees them.
STATE = dict(
    state_dict_type='FULL_STATE_DICT',
    state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
    optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True),
)


def runner_of(folder: str) -> FlexibleRunner:
    """A sharded training of a classifier, and a test of it."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=samples(),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    teacher = dict(
        type='DistillationHook',
        teacher=KINDS['classifier']('ResNet'),
        checkpoint=f'{folder}/teacher.pth',
    )
    # torch shards on a CPU only where it is told to; each block is a unit of its own.
    wrapper = dict(
        type='MMFullyShardedDataParallel',
        device_id=torch.device('cpu'),
        auto_wrap_policy=lambda module, recurse, **_: recurse or hasattr(module, 'masker'),
    )
    return FlexibleRunner(
        model=KINDS['classifier'](),
        strategy=dict(type='FSDPStrategy', model_wrapper=wrapper, state_dict_cfg=STATE),
        work_dir=folder,
        train_dataloader=loader,
        test_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        test_evaluator=dict(type='Accuracy', topk=(1,)),
        test_cfg={},
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1),
        ),
        custom_hooks=[
            *SCHEDULES,
            teacher,
            dict(type='LatencyReportHook', devices=['v100']),
            dict(type='InvalidLossHook'),
        ],
        default_scope='mmpretrain',
        experiment_name='fsdp',
        randomness=dict(seed=0),
        log_level='WARNING',
    )


def work(rank: int, folder: str) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    runner = runner_of(folder)
    runner.train()
    logs = runner.message_hub.log_scalars
    logs = {name: history.data[0].tolist() for name, history in logs.items()}
    masker = unwrapped(runner.model).backbone.layer1[0].masker
    held = sum(parameter.numel() for parameter in runner.model.parameters())
    runner.test()
    torch.save((logs, masker.temperature, held), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason='torch was built without gloo')
def test_hooks_work_while_weights_are_sharded(tmp_path):
    torch.manual_seed(1)
    torch.save(build_model(KINDS['classifier']('ResNet')).state_dict(), tmp_path / 'teacher.pth')
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method='spawn')
    whole = build_model(KINDS['classifier']())
    count = sum(parameter.numel() for parameter in whole.parameters())
    for rank in (0, 1):
        logs, temperature, held = torch.load(tmp_path / f'rank{rank}.pth')
        for name in ('loss', 'loss_flops', 'loss_bounds', 'loss_kd', 'activation_rate'):
            values = torch.tensor(logs[f'train/{name}'])
            assert len(values) == 4
            assert values.isfinite().all(), name
        assert temperature == pytest.approx(5.0 * 0.02 ** (3 / 4))
        assert held < 0.6 * count
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    whole.load_state_dict(saved['state_dict'])
    assert len(saved['message_hub']['log_scalars']['train/loss_kd'][0]) == 4
    report = json.loads((tmp_path / 'latency_report.json').read_text())
    assert report['images'] == 8
