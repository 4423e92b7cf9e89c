"""Timing of convolutions and static blocks, for calibrate.py and the validation."""
