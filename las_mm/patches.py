"""All that las_mm changes in the packages that it plugs into."""

from .importing import when_imported


def install() -> None:
    """Change what must be changed in mmengine and mmcv, as soon as somebody imports them.

    Checkpoints are loaded without executing code they may hold and written whole or not at all;
    broken images are named; hooks are found by their names before anybody has imported a runner.
    """
    when_imported('mmengine.fileio', _write_files_whole)
    when_imported('mmengine.runner.checkpoint', _load_checkpoints_safely)
    when_imported('mmengine.registry', _find_hooks)
    when_imported('mmcv.transforms', _name_broken_images)


def _write_files_whole() -> None:
    from mmengine.fileio.backends import register_backend

    from .checkpoints.storage import AtomicLocalBackend

    register_backend('local', AtomicLocalBackend, force=True, prefixes='')


def _load_checkpoints_safely() -> None:
    import mmengine.runner.checkpoint as mmengine_checkpoint
    from mmengine.runner.checkpoint import CheckpointLoader

    from .checkpoints.loading import load_from_http, load_from_local

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(('http://', 'https://'), load_from_http, force=True)
    # torchvision:// and open-mmlab:// resolve to URLs and call this function by its name.
    mmengine_checkpoint.load_from_http = load_from_http


def _find_hooks() -> None:
    from mmengine.registry import HOOKS

    # What a registry imports before it looks for a name; registries share the empty list.
    HOOKS._locations = [*HOOKS._locations, 'las_mm.hooks']


def _name_broken_images() -> None:
    from mmcv.transforms import LoadImageFromFile

    from .data.images import load_image

    LoadImageFromFile.transform = load_image
