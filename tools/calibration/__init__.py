"""Parts of tools/calibrate.py: timing, micro-benchmarks of the machine, fitting a device."""
