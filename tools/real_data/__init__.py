"""What tools/prepare_data.py makes of archives and networks that others publish."""
