"""The Triton kernels, one file per idea; importing any of them imports Triton.

All of them see features as channels-last rows, one per pixel, and a set of pixels as a list of row
numbers with its length, both of them in device memory. Grids are sized for a full list; programs
beyond its length end at once. So the host never has to know how many pixels are active, and a
launch is the same whatever the mask: it can be captured in a CUDA graph.
"""
