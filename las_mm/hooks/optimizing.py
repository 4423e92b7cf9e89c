"""Fast inference in tests."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from las_mm.executors import check_executor
from las_mm.inference import check_precision, optimize_for_inference

from .model_loss import unwrapped


@HOOKS.register_module()
class OptimizeHook(Hook):
    """Makes the model's inference fast before a test, see :func:`las_mm.optimize_for_inference`.

    Args:
        executor: How dynamic blocks run.
        precision: In which they compute: ``'fp32'``, ``'bf16'``, ``'int8'`` or ``'auto'``.

    Raises:
        ValueError: If there is no such executor or precision.

    Example:
        >>> custom_hooks = [dict(type='OptimizeHook', executor='auto')]
    """

    # After hooks that copy the model, such as for averages of its weights.
    priority = 'VERY_LOW'

    def __init__(self, executor: str = 'auto', precision: str = 'fp32') -> None:
        self.executor, self.precision = check_executor(executor), check_precision(precision)

    def before_test(self, runner: Runner) -> None:
        optimize_for_inference(unwrapped(runner.model), self.executor, precision=self.precision)
