"""What the headers of image files tell without decoding: sizes, missing ends, bytes too many."""
from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from basicsr.data import reading
from basicsr.data.reading import head_of
from basicsr.utils.errors import UserError
from basicsr.utils.image_header import read_header
from basicsr.utils.img import decode_image
from basicsr.utils.notes import collect_notes

TYPES = {
    'png': {}, 'jpg': {}, 'jpg progressive': {'progressive': True}, 'bmp': {}, 'ppm': {}, 'webp': {},
    'webp lossless': {'lossless': True}, 'tif': {}, 'tif deflate': {'compression': 'tiff_adobe_deflate'},
    'tif lzw': {'compression': 'tiff_lzw'}, 'jp2': {}
}
MODES = ('RGB', 'L', '1', 'P', 'RGBA', 'I;16')


def picture(height: int = 40, width: int = 61, mode: str = 'RGB') -> Image.Image:
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
    if mode == 'I;16':
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


def encoded(kind: str, mode: str = 'RGB', **more) -> bytes:
    data = io.BytesIO()
    formats = {'jpg': 'jpeg', 'tif': 'tiff', 'jp2': 'jpeg2000'}
    suffix = kind.split()[0]
    picture(mode=mode).save(data, formats.get(suffix, suffix), **TYPES[kind], **more)
    return data.getvalue()


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', TYPES)
def test_the_size_is_that_of_the_image(kind, mode):
    try:
        data = encoded(kind, mode)
    except (OSError, ValueError, KeyError):  # this format has no such pixels
        return
    assert read_header(data).size == (40, 61)
    assert not read_header(data).refused and not read_header(data).surplus


@pytest.mark.parametrize(('data', 'refused', 'surplus'), [
    (b'P4\n9 2\n' + bytes(4), False, 0),
    (b'P4\n9 2\n' + bytes(4) + b'\n', False, 0),
    (b'P4 # words\n9 2\n' + bytes(3), True, -1),
    (b'P4\n9 2\n' + bytes(6), False, 2),
    (b'P1\n9 2\n0101', False, 0),
])
def test_bitmaps(data, refused, surplus):
    header = read_header(data)
    assert header.kind == 'grey' and header.size == (2, 9)
    assert bool(header.refused) == refused and header.surplus == surplus


@pytest.mark.parametrize('turned', [1, 3, 5, 6, 8])
@pytest.mark.parametrize('kind', ['png', 'jpg', 'webp', 'webp lossless', 'tif', 'tif deflate'])
def test_the_size_of_a_picture_that_a_tag_turns(kind, turned, tmp_path):
    tag = Image.Exif()
    tag[274] = turned
    (tmp_path / '1').write_bytes(encoded(kind, exif=tag))
    shape = decode_image((tmp_path / '1').read_bytes(), '1').shape[:2]
    assert read_header((tmp_path / '1').read_bytes()).size in (shape, None if turned > 4 and kind != 'jpg' else shape)
    assert reading.ImageReader(None, {'lq': ''}).size(str(tmp_path / '1'), 'lq') == shape


@pytest.mark.parametrize('settings', [{}, {'tile': (16, 16)}, {'bigtiff': True}, {'byteorder': '>'}, {'rowsperstrip': 7}],
                         ids=str)  # yapf: disable
@pytest.mark.parametrize('compression', [None, 'zlib'])
def test_tiff_says_where_its_pixels_are(settings, compression):
    data = io.BytesIO()
    pixels = np.asarray(picture())
    tifffile.imwrite(data, pixels, photometric='rgb', compression=compression, **settings)
    header = read_header(data.getvalue())
    assert header.size == (40, 61) and not header.refused
    assert 'is cut off' in read_header(data.getvalue()[:-40]).refused


@pytest.mark.parametrize('kind', TYPES)
@pytest.mark.parametrize('missing', [1, 40, 0.5])
def test_a_file_that_is_cut_off_is_told_by_its_header(kind, missing):
    """TIFF whose directory is behind the pixels tells nothing; its decoder does."""
    data = encoded(kind)
    data = data[:int(len(data) * missing) if isinstance(missing, float) else -missing]
    told = read_header(data).refused
    assert 'is cut off: the end of the image is missing' in told or (kind.startswith('tif ')
                                                                     and not read_header(data).size)
    with pytest.raises(UserError, match=r"^'x' is (cut off|not an image)"):
        decode_image(data, 'x')


@pytest.mark.parametrize('kind', ['bmp', 'ppm', 'webp', 'webp lossless'])
def test_bytes_too_many_are_doubtful(kind):
    data = encoded(kind)
    middle = len(data) // 2
    with collect_notes() as notes:
        decode_image(data[:middle] + b'0123456789' + data[middle:], 'x')
    note, = notes
    assert note.doubtful and note.text == ("'x' has 10 bytes more than its header says, so a part of the picture may be"
                                           ' wrong')


def test_bytes_too_few_before_what_follows_the_pixels_are_doubtful():
    """A BMP may have a profile behind its pixels, into which a decoder would read on."""
    data = bytearray(encoded('bmp') + bytes(500))
    data[2:6] = len(data).to_bytes(4, 'little')
    assert not read_header(bytes(data)).surplus
    with collect_notes() as notes:
        decode_image(bytes(data[:200] + data[207:]), 'x')
    assert ["'x' has 7 bytes less than its header says" in note.text and note.doubtful for note in notes] == [True]


def test_what_is_harmless_behind_an_image_is_not_told():
    for data in (encoded('ppm') + b'\n', encoded('png') + b'text', encoded('jpg') + b'text', encoded('tif') + b'text'):
        with collect_notes() as notes:
            decode_image(data, 'x')
        assert not notes
    wrong_length = bytearray(encoded('bmp'))  # as some programs write it
    wrong_length[2:6] = bytes(4)
    assert not read_header(bytes(wrong_length)).surplus and not read_header(bytes(wrong_length)).refused


@pytest.mark.parametrize('text', [b'P6 61 40 255\n', b'P6\n# by hand\n61 40\n# twice\n255\n', b'P6\r\n61\t40 255 '])
def test_headers_of_ppm_with_comments(text):
    pixels = np.asarray(picture()).tobytes()
    assert read_header(text + pixels)[-2:] == ((40, 61), 0) and read_header(text + pixels[1:]).refused
    assert np.array_equal(decode_image(text + pixels, 'x')[..., ::-1], np.asarray(picture()))


def test_what_only_begins_like_an_image_has_no_size():
    for data in (b'BMW is a car. ' * 9, b'P6 is the sixth ' * 9, b'RIFF0000WEBP' + bytes(90), b'II*\0' + bytes(90)):
        header = read_header(data)
        assert header.size is None
        with pytest.raises(UserError, match=r"^'x' is (not an image|cut off)"):
            decode_image(data, 'x')


@pytest.mark.parametrize('kind', TYPES)
def test_the_first_and_last_bytes_tell_as_much_as_all(kind, tmp_path, monkeypatch):
    file, data = tmp_path / 'x', encoded(kind)
    for first, last in ((900, 30), (len(data) // 3, len(data) // 3), (len(data) - 1, 1), (len(data), 12)):
        monkeypatch.setattr(reading, '_FIRST', first)
        monkeypatch.setattr(reading, '_LAST', last)
        for part in (data, data[:-1], data[:-100], data + b'0123456789'):
            file.write_bytes(part)
            found, whole = head_of(str(file)), read_header(part)
            assert (found.size, found.refused) == (whole.size, whole.refused)
