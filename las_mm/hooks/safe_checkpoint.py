"""Checkpoints in plain types, so that torch's safe loading reads them, and never none."""

import numpy as np
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import Runner

PLAIN = (bool, int, float, str, type(None))


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Saves checkpoints that load without unpickling code, and always keeps a whole one.

    The message hub's log histories are saved as tensors and restored after loading: with it
    ``torch.load(path, weights_only=True)`` loads a checkpoint, whereas mmengine's own holds
    ``HistoryBuffer`` objects, which safe loading refuses. As mmengine removes the oldest
    checkpoint before it writes the newest, two are kept where one was asked for.
    """

    # Last before saving, first after loading: other hooks see mmengine's own layout.
    priority = 'LOWEST'

    def before_run(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.max_keep_ckpts == 1:
                hook.max_keep_ckpts = 2

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
        hub['runtime_info'] = {n: value for n, value in info.items() if isinstance(value, PLAIN)}
        checkpoint['message_hub'] = hub

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, history in scalars.items():
            if isinstance(history, list):
                scalars[name] = HistoryBuffer(*(part.cpu().numpy() for part in history))
