"""Reading configs: those that las_mm ships, the frameworks they need, their input size."""

from .shipped import find_config

__all__ = ['find_config']
