"""Analytical latency of static and spatial-wise dynamic networks; needs nothing but numpy."""
