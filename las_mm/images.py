"""Loading images: what is missing, truncated or no image is named, never trained on.

Importing this module replaces the work of mmcv's ``LoadImageFromFile`` by :func:`load_image`, in
whichever registries frameworks put that class.
"""

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get

JPEG, PNG = b'\xff\xd8', b'\x89PNG'


def load_image(step: LoadImageFromFile, results: dict) -> dict | None:
    """mmcv's loading of an image, with errors of one line that names the file.

    Images with 16 bits a channel become 8 bits, grey ones get three channels, as ever by mmcv's
    ``color_type='color'``. OpenCV fills what a truncated JPEG lacks with grey and says nothing;
    here such a file is refused.

    Args:
        step: The step of a pipeline, with its options.
        results: What the pipeline has so far, ``img_path`` among it.

    Returns:
        ``results`` with the image; None for a broken one if the step has ``ignore_empty``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or no image.
    """
    try:
        image = _read(step, results['img_path'])
    except (FileNotFoundError, ValueError):
        if step.ignore_empty:
            return None
        raise
    results['img'] = image.astype(np.float32) if step.to_float32 else image
    results['img_shape'] = results['ori_shape'] = image.shape[:2]
    return results


LoadImageFromFile.transform = load_image


def _read(step: LoadImageFromFile, name: str) -> np.ndarray:
    try:
        content = get(name, backend_args=step.backend_args or step.file_client_args)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'image: no file {name!r}; check data_root, data_prefix and the annotations'
        ) from None
    if is_truncated(content):
        raise ValueError(f'image: {name!r} is truncated; get the file again')
    try:
        image = mmcv.imfrombytes(content, step.color_type, backend=step.imdecode_backend)
    except (cv2.error, OSError):  # OSError: Pillow's UnidentifiedImageError
        image = None
    if image is None:
        raise ValueError(f'image: {name!r} is no image; get the file again or leave it out')
    return image


def is_truncated(content: bytes) -> bool:
    """Whether the end of a JPEG's last scan, or of a PNG, is missing from a file's content.

    Compressed data holds no end marker by chance, as JPEG escapes 0xFF in it; those of embedded
    thumbnails come before the last scan.
    """
    if content.startswith(JPEG):
        return content.find(b'\xff\xd9', content.rfind(b'\xff\xda')) < 0
    return content.startswith(PNG) and b'IEND' not in content[-64:]
