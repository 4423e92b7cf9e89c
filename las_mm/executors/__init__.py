"""Ways to execute a dynamic block: same inputs, same outputs, proven equal.

``dense``, a block's own forward, is the reference and the only one that trains; the others run in
inference without gradients. Each says why it cannot run a block on an input, and who runs instead.
"""

from .choosing import EXECUTORS, check_executor, encoder_executor, find_executor
from .cpu.tokens import CpuTokenExecutor
from .torch_tokens import TokenExecutor
from .triton.tokens import TritonTokenExecutor

__all__ = [
    'EXECUTORS',
    'CpuTokenExecutor',
    'TokenExecutor',
    'TritonTokenExecutor',
    'check_executor',
    'encoder_executor',
    'find_executor',
]
