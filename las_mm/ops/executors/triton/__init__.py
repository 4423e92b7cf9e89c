"""Fused GPU kernels in Triton (Sec. 3.4, App. B.1); importing this does not import Triton."""

from .executor import execute_triton, why_not_triton

__all__ = ['execute_triton', 'why_not_triton']
