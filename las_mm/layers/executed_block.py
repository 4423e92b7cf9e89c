"""A block that an executor runs in inference, where there is one that can."""

from typing import Any

from torch import Tensor

from las_mm.ops.gradients import is_recorded, wants_gradients
from las_mm.ops.reasons import log_once

from .executor import Executor, Masks, Run
from .traced_block import TracedBlock


class ExecutedBlock(TracedBlock):
    """Runs by its executor, or densely where that is wanted, or the only exact way.

    Attributes:
        executor: Who runs the block in inference; None for its own dense forward.
        generation: Counts how often the block was trained, for those who keep what they made of it.
    """

    executor: 'Executor[Any] | None' = None
    generation: int = 0

    def check_granularity(self, input_size: tuple[int, int]) -> None:
        """Refuse patches that are larger than the feature, given (H, W) of the block's input."""
        raise NotImplementedError

    def run_dense(self, x: Tensor) -> tuple[Tensor, Masks]:
        """The reference: (N, C, H, W) -> output (N, C', H', W') and the masks of the maskers."""
        raise NotImplementedError

    def forward(self, x: Tensor, private: bool = False) -> Tensor:
        """Run the block; ``trace`` then says what it did.

        Args:
            x: (N, C, H, W).
            private: Whether ``x`` is another block's output that nobody else will read, so that an
                executor may write over it.

        Returns:
            (N, C', H', W').
        """
        size = x.shape[-2], x.shape[-1]
        self.check_granularity(size)
        run = self._choose(x)
        out, masks = self.run_dense(x) if run is None else run(x, private)
        self.remember(masks, size, x.shape[0])
        return out

    def _choose(self, x: Tensor) -> Run | None:
        """What runs the block on x; None for its own dense forward.

        Training is dense, and nothing made of the parameters before it may survive it.
        """
        executor = self.executor
        if self.training or self._maskers_train:
            self.generation += 1
            return None
        if executor is None or is_recorded():
            return None
        if wants_gradients(self, x):
            self.generation += 1
            log_once(
                f"executor: 'dense' instead of {executor.name!r} while gradients are wanted, which "
                'is slower; call the model within torch.no_grad() or torch.inference_mode()'
            )
            return None
        executor = executor.on(x)
        while executor is not None:
            run = executor.prepare(self, x)
            if not isinstance(run, str):
                return run
            fallback = None if executor.fallback is None else executor.fallback.on(x)
            name = 'dense' if fallback is None else fallback.name
            log_once(f'executor: {name!r} instead of {executor.name!r} for some blocks: {run}')
            executor = fallback
        return None

    @property
    def _maskers_train(self) -> bool:
        modes = [masker.training for masker in self.maskers]  # which torch.compile can follow
        return True in modes
