"""Loading images: what is missing, truncated or no image is named, never trained on.

:mod:`las_mm.patches` replaces the work of mmcv's ``LoadImageFromFile`` by :func:`load_image`, in
whichever registries frameworks put that class.
"""

import re

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import FileClient, get

JPEG, PNG_SIGNATURE = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
MARKER = re.compile(rb'\xff+[^\x00\xff]')
END, ALONE = 0xD9, (0x01, *range(0xD0, 0xD9))  # of an image; markers without a segment


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


def is_truncated(content: bytes) -> bool:
    """Whether the end of a JPEG or PNG is missing from a file's content, whatever follows it.

    Cameras put films behind a photograph, and programs other things behind a PNG. What is neither,
    or not as these formats say, is left to the decoder.
    """
    if content.startswith(JPEG):
        return _misses_end_of_jpeg(content)
    return content.startswith(PNG_SIGNATURE) and _misses_end_of_png(content)


def _misses_end_of_jpeg(content: bytes) -> bool:
    """Go from segment to segment, and in a scan to the next marker: compressed data escape 0xFF."""
    place = 2
    while found := MARKER.search(content, place):
        marker = found[0][-1]
        if marker == END:
            return False
        place = found.end()
        if marker in ALONE:
            continue
        length = int.from_bytes(content[place : place + 2], 'big')
        if length < 2:
            return False  # malformed, but not cut off
        place += length
    return True


def _misses_end_of_png(content: bytes) -> bool:
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(content):  # length, name and check sum of a chunk
        if content[place + 4 : place + 8] == b'IEND':
            return False
        place += 12 + int.from_bytes(content[place : place + 4], 'big')
    return True
