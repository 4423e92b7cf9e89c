"""Native sparse execution on CPU: a C++ call for a block, a stage, or a stem (Sec. 3.4)."""
