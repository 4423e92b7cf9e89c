"""las_mm: latency-aware spatial-wise dynamic networks as an OpenMMLab plugin."""
