"""Ways to execute a dynamic block: same inputs, same outputs, proven equal.

``dense``, a block's own forward, is the reference and the only one that trains; the others run in
inference without gradients. Each says why it cannot run a block on an input, and who runs instead.
"""

from .choosing import EXECUTORS, check_executor, encoder_executor, find_executor

__all__ = ['EXECUTORS', 'check_executor', 'encoder_executor', 'find_executor']
