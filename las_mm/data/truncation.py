"""Whether the end of an image is missing from a file's content, whatever follows it.

Cameras put films behind a photograph, and programs other things behind a PNG; some leave out the
marker at a JPEG's end. So a file is truncated if what is missing could have changed a pixel. What
is neither JPEG nor PNG, or not as these formats say, is left to the decoder.
"""

import re
import zlib

import cv2
import numpy as np

JPEG, PNG_SIGNATURE = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
MARKER = re.compile(rb'\xff+[^\x00\xff]')
START_OF_SCAN, END, INTERVAL = 0xDA, 0xD9, 0xDD
RESTARTS = range(0xD0, 0xD8)
ALONE = (0x01, 0xD8, *RESTARTS)  # markers without a segment
SEQUENTIAL = (0xC0, 0xC1)  # starts of frames that Huffman-coded scans of whole blocks follow
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Going on with bits 0, 1 or both decodes to other pixels, if any are missing.
FILLINGS = (b'\x00', b'\xff\x00', b'\x5a\xc3')
FILLED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks data that its pixels depend on."""
    if content.startswith(JPEG):
        return _is_truncated_jpeg(content)
    return content.startswith(PNG_SIGNATURE) and _is_truncated_png(content)


def _is_truncated_jpeg(content: bytes) -> bool:
    """Go from segment to segment, and in a scan to the next marker: compressed data escape 0xFF."""
    place, components, restarts = 2, 0, False
    while found := MARKER.search(content, place):
        marker, place = found[0][-1], found.end()
        if marker == END:
            return False
        if marker in ALONE:
            continue
        length = int.from_bytes(content[place : place + 2], 'big')
        if length < 2 and place + 2 <= len(content):
            return False  # malformed, but not cut off
        segment = content[place + 2 : place + length]
        place += length
        if marker in FRAMES:
            components = segment[5] if marker in SEQUENTIAL and len(segment) > 5 else 0
        elif marker == INTERVAL:
            restarts = any(segment)
        elif marker == START_OF_SCAN and components and segment[:1] == bytes([components]):
            return _lacks_data(content, place, restarts)
    return True


def _lacks_data(content: bytes, start: int, restarts: bool) -> bool:
    """Whether a JPEG's only scan, whose data begin at ``start``, lacks some of them."""
    stop = len(content)
    for found in MARKER.finditer(content, start):
        if not (restarts and found[0][-1] in RESTARTS):
            stop = found.start()
            break
    if content[stop : stop + 64].lstrip(b'\xff')[:1] == bytes([END]):
        return False
    data = content[:stop]
    if len(data) - len(data.rstrip(b'\x00\xff')) > 2:  # what a download left empty is no data
        kept = data.rstrip(b'\x00\xff')
        data = kept + b'\xff\x00' if data.startswith(b'\xff\x00', len(kept)) else kept
    data = data.removesuffix(b'\xff')
    pictures = [_decoded(data + _filling(filling, restarts)) for filling in FILLINGS]
    first = pictures[0]
    if first is None:
        return False
    return not all(other is not None and np.array_equal(first, other) for other in pictures[1:])


def _filling(filling: bytes, restarts: bool) -> bytes:
    """Data for many blocks, of every restart interval that may follow, and an end."""
    data = filling * 64
    if restarts:
        data += b''.join(bytes([0xFF, marker]) + data for marker in RESTARTS)
    return data + bytes([0xFF, END])


def _decoded(content: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), FILLED)
    except cv2.error:  # such as too many pixels
        return None


def _is_truncated_png(content: bytes) -> bool:
    """Go from chunk to chunk to the end, or see whether the compressed pixels have theirs."""
    place, pixels = len(PNG_SIGNATURE), zlib.decompressobj()
    data = []
    while place + 12 <= len(content):  # length, name and check sum of a chunk
        length = int.from_bytes(content[place : place + 4], 'big')
        name = content[place + 4 : place + 8]
        if name == b'IEND':
            return False
        if name == b'IDAT':
            data.append(content[place + 8 : place + 8 + length])
        place += 12 + length
    try:
        for part in data:
            pixels.decompress(part)
    except zlib.error:
        return False  # broken, but not cut off: the decoder says so
    return not pixels.eof
