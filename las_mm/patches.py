"""All that las_mm changes in the packages that it plugs into."""

from importlib.util import find_spec


def install() -> None:
    """Change what must be changed in mmengine and mmcv, where they are installed.

    Checkpoints are loaded without executing code they may hold and written whole or not at all;
    broken images are named.
    """
    if find_spec('mmengine'):
        _load_and_write_checkpoints_safely()
        if find_spec('mmcv'):
            _name_broken_images()


def _load_and_write_checkpoints_safely() -> None:
    import mmengine.runner.checkpoint as mmengine_checkpoint
    from mmengine.fileio.backends import register_backend
    from mmengine.runner.checkpoint import CheckpointLoader

    from .checkpoints.loading import AtomicLocalBackend, load_from_http, load_from_local

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
    # torchvision:// and open-mmlab:// resolve to URLs and call this function by its name.
    mmengine_checkpoint.load_from_http = load_from_http
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')


def _name_broken_images() -> None:
    from mmcv.transforms import LoadImageFromFile

    from .data.images import load_image

    LoadImageFromFile.transform = load_image
