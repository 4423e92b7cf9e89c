"""Images are read if, and only if, their decoder gets the pixels that were written."""

import io

import cv2
import mmcv
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from las_mm.data.truncation import is_truncated

JPEG_OPTIONS = st.fixed_dictionaries(
    dict(
        quality=st.sampled_from([30, 75, 100]),
        subsampling=st.sampled_from([0, 1, 2]),
        progressive=st.booleans(),
        optimize=st.booleans(),
        restart_marker_blocks=st.sampled_from([0, 1, 5]),
        mode=st.sampled_from(['RGB', 'L', 'CMYK']),
        orientation=st.sampled_from([0, 1, 6]),
    )
)
EDGES = st.tuples(st.integers(1, 70), st.integers(1, 70))
OTHERS = {
    'png': dict(format='PNG'),
    'palette': dict(format='PNG', mode='P'),
    'grey': dict(format='PNG', mode='L'),
    '16 bits': dict(format='PNG', mode='I;16'),
    'transparent': dict(format='PNG', mode='RGBA'),
    'bmp': dict(format='BMP'),
    'webp': dict(format='WEBP'),
    'webp without loss': dict(format='WEBP', lossless=True),
    'tiff': dict(format='TIFF'),
    'tiff, packed': dict(format='TIFF', compression='tiff_lzw'),
    'ppm': dict(format='PPM'),
    'jpeg 2000': dict(format='JPEG2000'),
    'gif': dict(format='GIF', mode='P'),
    'two photos': dict(format='MPO', save_all=True),
}
# Which of them each decoder of mmcv reads.
READ_BY = {'cv2': OTHERS.keys() - {'gif'}, 'pillow': OTHERS.keys()}


def picture(height: int = 61, width: int = 77, seed: int = 0) -> np.ndarray:
    """A soft picture (H, W, 3), as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def encoded(image, format='JPEG', mode='RGB', orientation=0, **options) -> bytes:
    """An image as a file's content."""
    if mode == 'I;16':
        image = Image.fromarray(image[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(image).convert(mode)
    if format == 'MPO':
        options['append_images'] = [image.rotate(180)]
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options['exif'] = exif
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def decoded(content: bytes, backend: str) -> np.ndarray | None:
    """What mmcv alone makes of it; None for an error."""
    try:
        return mmcv.imfrombytes(content, 'color', backend=backend)
    except (OSError, cv2.error):
        return None


def loaded(content: bytes, folder, backend: str) -> np.ndarray | str:
    """What the pipeline's step makes of it; its error's text."""
    path = folder / 'image'
    path.write_bytes(content)
    try:
        return LoadImageFromFile(imdecode_backend=backend)(dict(img_path=str(path)))['img']
    except ValueError as error:
        assert '\n' not in str(error) and str(path) in str(error)
        return str(error)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('image')


@given(options=JPEG_OPTIONS, edges=EDGES, tail=st.binary(max_size=300))
@example(options=dict(quality=75), edges=(40, 30), tail=b'\xff\xd8\xff\xe0\x00\x10JFIF')
@example(options=dict(quality=75), edges=(40, 30), tail=b'\xff\xda\x00\x0c' + bytes(99))
@example(options=dict(quality=75), edges=(40, 30), tail=b'\xff' * 9)
def test_a_jpeg_is_read_whatever_follows_it(folder, options, edges, tail):
    whole = encoded(picture(*edges), **options)
    for backend in ('cv2', 'pillow'):
        expected = decoded(whole, backend)
        np.testing.assert_array_equal(decoded(whole + tail, backend), expected)
        np.testing.assert_array_equal(loaded(whole + tail, folder, backend), expected)


@settings(max_examples=80)
@given(options=JPEG_OPTIONS, share=st.floats(0, 1), padding=st.sampled_from([0, 3, 100, 5000]))
@example(options=dict(quality=75), share=1.0, padding=100)
@example(options=dict(quality=75, restart_marker_blocks=1), share=0.95, padding=100)
def test_a_jpeg_that_is_cut_off_is_refused(folder, options, share, padding):
    """Also where a download has made room for the rest already."""
    whole = encoded(picture(), **options)
    cut = whole[: round(share * (len(whole) - 3))]
    for backend in ('cv2', 'pillow'):
        found = loaded(cut + bytes(padding), folder, backend)
        if isinstance(found, str):
            assert 'is truncated' in found or 'is no image' in found
        else:
            np.testing.assert_array_equal(found, decoded(whole, backend))


@settings(max_examples=80)
@given(options=JPEG_OPTIONS, tail=st.binary(min_size=1, max_size=300))
@example(options=dict(quality=75), tail=bytes(100))
@example(options=dict(quality=75), tail=b'\xff' * 100)
@example(options=dict(quality=75, restart_marker_blocks=1), tail=bytes(100))
def test_a_jpeg_without_the_marker_of_its_end_is_read_where_it_can_be(folder, options, tail):
    whole = encoded(picture(), **options)
    content = whole[:-2] + tail
    for backend in ('cv2', 'pillow'):
        alone, found = decoded(content, backend), loaded(content, folder, backend)
        if alone is not None and np.array_equal(alone, decoded(whole, backend)):
            np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize('restarts', [0, 1, 5])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_no_cut_of_a_jpeg_is_missed(mode, restarts):
    """Not a byte may be missing, nor a whole restart interval, if any pixel changes."""
    whole = encoded(picture(25, 33), mode=mode, restart_marker_blocks=restarts)
    expected = decoded(whole, 'cv2')
    missed = []
    for stop in range(3, len(whole) - 2):
        content = whole[:stop] + bytes(3000)
        found = decoded(content, 'cv2')
        changed = found is not None and not np.array_equal(found, expected)
        if changed and not is_truncated(content):
            missed.append(stop)
    assert missed == []


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('kind', OTHERS)
def test_other_formats_are_read_if_whole_whatever_follows(folder, kind, backend):
    whole = encoded(picture(), **OTHERS[kind])
    expected = decoded(whole, backend)
    assert (expected is not None) == (kind in READ_BY[backend])
    rng = np.random.default_rng(0)
    for size in (0, 1, 10, 1000):
        tail = rng.integers(0, 256, size, np.uint8).tobytes()
        if expected is None:
            assert isinstance(loaded(whole + tail, folder, backend), str)
        elif decoded(whole + tail, backend) is not None:
            np.testing.assert_array_equal(loaded(whole + tail, folder, backend), expected)


@pytest.mark.filterwarnings('ignore::UserWarning:PIL')
@settings(max_examples=80)
@given(kind=st.sampled_from(sorted(OTHERS)), share=st.floats(0, 1))
@example(kind='png', share=1.0)
@example(kind='bmp', share=1.0)
def test_other_formats_are_refused_if_cut_off(folder, kind, share):
    whole = encoded(picture(), **OTHERS[kind])
    cut = whole[: round(share * (len(whole) - 1))]
    for backend in ('cv2', 'pillow'):
        alone, found = decoded(cut, backend), loaded(cut, folder, backend)
        if isinstance(found, str):
            assert alone is None or not np.array_equal(alone, decoded(whole, backend))
        else:
            np.testing.assert_array_equal(found, decoded(whole, backend))


@given(
    front=st.binary(min_size=1, max_size=20), kind=st.sampled_from(['png', 'tiff', 'two photos'])
)
def test_bytes_in_front_are_left_to_the_decoder(folder, front, kind):
    content = front + encoded(picture(), **OTHERS[kind])
    for backend in ('cv2', 'pillow'):
        alone, found = decoded(content, backend), loaded(content, folder, backend)
        if alone is None:
            assert 'image' in found
        else:
            np.testing.assert_array_equal(found, alone)


def test_a_thumbnail_s_end_is_not_taken_for_the_image_s():
    thumbnail, image = encoded(picture(8, 8)), encoded(picture())
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = image[:2] + segment + image[2:]
    assert not is_truncated(whole)
    assert not is_truncated(whole + b'\0' * 100)
    for stop in (-50, 2 + len(segment), 2 + len(segment) // 2):
        assert is_truncated(whole[:stop])


@given(place=st.floats(0, 1), content=st.binary(max_size=200))
def test_comments_between_segments_are_passed_over(folder, place, content):
    whole = encoded(picture())
    places = [2, whole.index(b'\xff\xdb'), whole.index(b'\xff\xda'), len(whole) - 2]
    at = places[min(int(4 * place), 3)]
    comment = b'\xff\xfe' + (len(content) + 2).to_bytes(2, 'big') + content
    spoken = whole[:at] + comment + whole[at:]
    expected = decoded(spoken, 'cv2')
    assume(expected is not None)
    np.testing.assert_array_equal(loaded(spoken, folder, 'cv2'), decoded(whole, 'cv2'))
