"""Loading images: what is missing, truncated or no image is named, never trained on.

:mod:`las_mm.patches` replaces the work of mmcv's ``LoadImageFromFile`` by :func:`load_image`, in
whichever registries frameworks put that class.
"""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import FileClient, get

from .truncation import is_truncated


def load_image(step: LoadImageFromFile, results: dict) -> dict | None:
    """mmcv's loading of an image, with errors of one line that names the file.

    Images with 16 bits a channel become 8 bits, grey ones get three channels, as ever by mmcv's
    ``color_type='color'``. A decoder takes whatever follows a truncated JPEG, such as the empty
    rest of a download, for its pixels and says nothing; here such a file is refused.

    Args:
        step: The step of a pipeline, with its options.
        results: What the pipeline has so far, ``img_path`` among it.

    Returns:
        ``results`` with the image; None for a broken one if the step has ``ignore_empty``.

    Raises:
        FileNotFoundError, OSError: If there is no such file, or its backend cannot read it.
        ValueError: If it is truncated or no image.
    """
    try:
        image = _read(step, results['img_path'])
    except Exception:
        if step.ignore_empty:
            return None
        raise
    results['img'] = image.astype(np.float32) if step.to_float32 else image
    results['img_shape'] = results['ori_shape'] = image.shape[:2]
    return results


def _read(step: LoadImageFromFile, name: str) -> np.ndarray:
    content = _content(step, name)
    if is_truncated(content):
        raise ValueError(f'image: {name!r} is truncated; get the file again')
    try:
        image = mmcv.imfrombytes(content, step.color_type, backend=step.imdecode_backend)
    except (cv2.error, OSError):  # OSError: Pillow's UnidentifiedImageError
        image = None
    except Exception as error:  # each decoder has classes of its own, a missing one among them
        raise ValueError(
            f'image: {name!r} cannot be decoded by {step.imdecode_backend!r} ({error}); choose '
            'another imdecode_backend, or leave the image out'
        ) from None
    if image is None:
        raise ValueError(f'image: {name!r} is no image; get the file again or leave it out')
    return image


def _content(step: LoadImageFromFile, name: str) -> bytes:
    """The file's bytes, from wherever the step's backend has them."""
    try:
        if step.file_client_args is not None:
            client = FileClient.infer_client(step.file_client_args, name)
            return bytes(client.get(name))
        return bytes(get(name, backend_args=step.backend_args))
    except FileNotFoundError:
        raise FileNotFoundError(
            f'image: no file {name!r}; check data_root, data_prefix and the annotations'
        ) from None
    except OSError as error:  # of a class that may not come whole out of a data loader's worker
        raise OSError(f'image: {name!r} cannot be read ({error}); check its backend') from None
