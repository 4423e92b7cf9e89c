"""The bridge to the latency predictor: descriptions of backbones, fits, and the search of S_net."""

from .description import describe_backbone, require_description

__all__ = ['describe_backbone', 'require_description']
