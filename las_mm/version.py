"""The version of las_mm and latency_predictor, which are released together."""

__version__ = '0.1.0'
