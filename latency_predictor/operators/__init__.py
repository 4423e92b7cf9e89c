"""The operators of static and dynamic blocks: what each computes and which data it moves."""

from .attention import elementwise, linear, over_rows, product
from .convolutions import convolution, dynamic_convolution, fully_connected, masker, with_addition
from .copies import add, concatenation, gather, indexing, scatter, scatter_add
from .operator import Count, Move, Size
from .pools import global_pool, pooling, scale

__all__ = [
    'Count',
    'Move',
    'Size',
    'add',
    'concatenation',
    'convolution',
    'dynamic_convolution',
    'elementwise',
    'fully_connected',
    'gather',
    'global_pool',
    'indexing',
    'linear',
    'masker',
    'over_rows',
    'pooling',
    'product',
    'scale',
    'scatter',
    'scatter_add',
    'with_addition',
]
