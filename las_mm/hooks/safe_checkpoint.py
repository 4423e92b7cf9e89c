"""Checkpoints in plain types, never none, and a training that goes on from them exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook, IterTimerHook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from las_mm.checkpoints.randomness import (
    ITERATION,
    RestOfEpoch,
    SeededBatches,
    SeededItems,
    seed_generators,
    seed_items,
)
from las_mm.checkpoints.resuming import KEY, LoaderRecord, batches_done

PLAIN = (bool, int, float, str, type(None))


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Saves checkpoints that load without unpickling code, keeps a whole one, resumes exactly.

    The message hub's log histories are saved as tensors and restored after loading: with it
    ``torch.load(path, weights_only=True)`` loads a checkpoint, whereas mmengine's own holds
    ``HistoryBuffer`` objects, which safe loading refuses. As mmengine removes the oldest
    checkpoint before it writes the newest, two are kept where one was asked for.

    The random generators are seeded by the training's seed and the iteration before each of them,
    and by the epoch and its place among those drawn before each sample is loaded. So an interrupted
    training takes the decisions, augmentations and losses that it would have taken uninterrupted,
    in every process, and a checkpoint needs no generator's state. With another batch size, data set
    or number of processes it goes on by epoch and samples seen, and the log says how.
    ``docs/robustness.md`` says where that ends.

    Args:
        exact_resume: Whether to seed, and to leave out the batches that an epoch has done already
            where a checkpoint was written in its midst.
    """

    # Last before saving, first after loading: other hooks see mmengine's own layout.
    priority = 'LOWEST'

    def __init__(self, exact_resume: bool = True) -> None:
        self.exact_resume = exact_resume
        self.saved: LoaderRecord | None = None
        self.items: SeededItems | None = None
        self.loader: DataLoader | None = None
        self.batches = 0

    def before_run(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.max_keep_ckpts == 1:
                hook.max_keep_ckpts = 2
        if is_main_process():  # what a killed training was writing
            for path in Path(runner.work_dir).glob('.*.pth.tmp'):
                path.unlink()

    def before_train(self, runner: Runner) -> None:
        if not self.exact_resume:
            return
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            # Its workers run already, seeded by mmengine; it loads the past batches once more.
            loop.dataloader_iterator = SeededBatches(loop.dataloader_iterator, runner.seed)
            return
        self.items = seed_items(loop.dataloader, runner.seed, get_rank())
        now = LoaderRecord.of(loop.dataloader, get_world_size())
        done, line = batches_done(self.saved, now, loop.epoch, loop.iter)
        if line:
            # What counts iterations goes on from what they are with this loader.
            loop._iter = loop.epoch * len(loop.dataloader) + done
            for hook in runner.hooks:
                if isinstance(hook, IterTimerHook):
                    hook.start_iter = loop.iter
            runner.logger.warning('resume: %s; iteration %d of %d', line, loop.iter, loop.max_iters)
        if done:
            self.loader, loop.dataloader = loop.dataloader, RestOfEpoch(loop.dataloader, done)

    def before_train_epoch(self, runner: Runner) -> None:
        if self.items:
            self.items.epoch.fill_(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.batches = batch_idx + 1  # done when this one is
        if self.exact_resume:
            seed_generators(ITERATION, runner.seed, runner.iter)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.loader:
            runner.train_loop.dataloader, self.loader = self.loader, None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        hub = dict(checkpoint['message_hub'])
        hub['log_scalars'] = {
            name: [torch.from_numpy(np.array(part)) for part in history.data]
            for name, history in hub['log_scalars'].items()
        }
        info = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in hub['runtime_info'].items()
        }
        hub['runtime_info'] = {n: value for n, value in info.items() if _is_plain(value)}
        checkpoint['message_hub'] = hub
        loop = runner._train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            ended = checkpoint['meta']['epoch'] > loop.epoch
            loader = self.loader or loop.dataloader
            done = 0 if ended else self.batches
            record = LoaderRecord.of(loader, get_world_size(), done)
            checkpoint[KEY] = record.to_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.saved = LoaderRecord(**checkpoint[KEY]) if KEY in checkpoint else None
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, history in scalars.items():
            if isinstance(history, list):
                scalars[name] = HistoryBuffer(*(part.cpu().numpy() for part in history))


def _is_plain(value: Any) -> bool:
    """Whether it is of a plain type, or a list of such, as the numbers of the kept checkpoints."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(entry, PLAIN) for entry in values)
