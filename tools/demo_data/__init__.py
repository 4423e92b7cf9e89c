"""Parts of ``tools/make_demo_dataset.py``: sources, composition of images, dataset layouts."""
