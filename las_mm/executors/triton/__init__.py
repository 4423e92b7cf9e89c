"""Fused GPU kernels in Triton (Sec. 3.4, App. B.1); importing this does not import Triton."""

from .executor import TritonExecutor
from .options import Options

__all__ = ['Options', 'TritonExecutor']
