"""The executors by the names that configs give them."""

from typing import Any

from torch import Tensor

from las_mm.layers import DynamicBlock, EncoderBlock, Executor, Run

from .cpu.block import CpuExecutor
from .cpu.tokens import CpuTokenExecutor
from .torch_rows import TorchExecutor
from .torch_tokens import TokenExecutor
from .triton import TritonExecutor
from .triton.tokens import TritonTokenExecutor


class AutoExecutor(Executor[DynamicBlock]):
    """The fastest executor on the device of a block's input, dense where there is none."""

    name = 'auto'

    def __init__(self) -> None:
        self._by_device = {'cpu': CpuExecutor(), 'cuda': TritonExecutor()}

    def on(self, x: Tensor) -> Executor[DynamicBlock] | None:
        return self._by_device.get(x.device.type)

    def prepare(self, block: DynamicBlock, x: Tensor) -> Run | str:
        executor = self.on(x)
        return f'no executor is for {x.device}' if executor is None else executor.prepare(block, x)

    def __reduce__(self) -> tuple:
        return type(self), ()


class AutoTokenExecutor(Executor[EncoderBlock]):
    """The same of encoder layers."""

    name = 'auto'

    def __init__(self) -> None:
        self._by_device = {'cpu': CpuTokenExecutor(), 'cuda': TritonTokenExecutor()}

    def on(self, x: Tensor) -> Executor[EncoderBlock] | None:
        return self._by_device.get(x.device.type)

    def prepare(self, block: EncoderBlock, x: Tensor) -> Run | str:
        executor = self.on(x)
        return f'no executor is for {x.device}' if executor is None else executor.prepare(block, x)

    def __reduce__(self) -> tuple:
        return type(self), ()


EXECUTORS: dict[str, type[Executor[DynamicBlock]]] = {
    kind.name: kind for kind in (TorchExecutor, CpuExecutor, TritonExecutor, AutoExecutor)
}
DENSE = 'dense'


def check_executor(name: str) -> str:
    """Return ``name`` if it is that of an executor, ``dense`` or ``auto``.

    Raises:
        ValueError: If it is not.
    """
    allowed = [DENSE, *EXECUTORS]
    if name not in allowed:
        raise ValueError(f'executor: got {name!r}; choose one of {", ".join(allowed)}')
    return name


def find_executor(name: str | Executor[DynamicBlock]) -> Executor[DynamicBlock] | None:
    """A new executor of that name; None for ``dense``, a block's own forward.

    Args:
        name: The name, or an executor, which is returned as it is.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, Executor):
        return name
    return None if check_executor(name) == DENSE else EXECUTORS[name]()


def encoder_executor(executor: Executor[Any]) -> Executor[EncoderBlock]:
    """Who runs encoder layers where ``executor``, of any kind of block, is chosen."""
    if isinstance(executor, TritonExecutor):
        return TritonTokenExecutor(executor.options)
    kinds: dict[type, type[Executor[EncoderBlock]]] = {
        TorchExecutor: TokenExecutor,
        CpuExecutor: CpuTokenExecutor,
        AutoExecutor: AutoTokenExecutor,
    }
    kind = next((kinds[base] for base in kinds if isinstance(executor, base)), None)
    return executor if kind is None else kind()
