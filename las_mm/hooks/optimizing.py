"""Fast inference in tests."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from las_mm.executors import check_executor
from las_mm.inference import optimize_for_inference

from .model_loss import unwrapped


@HOOKS.register_module()
class OptimizeHook(Hook):
    """Makes the model's inference fast before a test, see :func:`las_mm.optimize_for_inference`.

    Args:
        executor: How dynamic blocks run.

    Raises:
        ValueError: If there is no such executor.

    Example:
        >>> custom_hooks = [dict(type='OptimizeHook', executor='auto')]
    """

    # After hooks that copy the model, such as for averages of its weights.
    priority = 'VERY_LOW'

    def __init__(self, executor: str = 'auto') -> None:
        self.executor = check_executor(executor)

    def before_test(self, runner: Runner) -> None:
        optimize_for_inference(unwrapped(runner.model), self.executor)
