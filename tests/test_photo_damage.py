"""Damaged photos are found: cut off, or with a hole in their middle; never a traceback, and never a picture without a word."""
from __future__ import annotations

import contextlib
import io

import imagecodecs
import numpy as np
import pytest
from photo_files import encoded, picture, tiff
from PIL import Image

from basicsr.photos.reading import decode_photo, read_photo
from basicsr.utils.errors import UserError
from basicsr.utils.notes import collect_notes

SIZE = (240, 320)
NOISE = (picture(size=SIZE).astype(int) + np.random.RandomState(0).randint(-20, 21,
                                                                           (*SIZE, 3))).clip(0, 255).astype(np.uint8)
DEEP = NOISE.astype(np.uint16) * 257


def heic(img: np.ndarray) -> bytes:
    import pillow_heif
    file = io.BytesIO()
    pillow_heif.from_bytes('RGB', img.shape[1::-1], img.tobytes()).save(file, quality=90)
    return file.getvalue()


FILES = {
    'a.jpg': encoded(NOISE, 'JPEG', quality=95),
    'progressive.jpg': encoded(NOISE, 'JPEG', quality=95, progressive=True),
    'a.png': encoded(NOISE, 'PNG'),
    'deep.png': bytes(imagecodecs.png_encode(DEEP)),
    'lossless.webp': encoded(NOISE, 'WEBP', lossless=True),
    'a.webp': encoded(NOISE, 'WEBP', quality=90),
    'moving.webp': encoded(NOISE, 'WEBP', quality=90, save_all=True,
                           append_images=[Image.fromarray(NOISE[::-1].copy())]),
    'lzw.tif': encoded(NOISE, 'TIFF', compression='tiff_lzw'),
    'zip.tif': tiff(DEEP, compression='zlib', predictor=True),
    'planes.tif': tiff(DEEP.transpose(2, 0, 1).copy(), planarconfig='separate', compression='zlib'),
    'jpeg.tif': encoded(NOISE, 'TIFF', compression='jpeg'),
    'a.gif': encoded(Image.fromarray(NOISE).quantize(200), 'GIF'),
    'a.jp2': encoded(NOISE, 'JPEG2000'),
    'a.j2k': bytes(imagecodecs.jpeg2k_encode(NOISE, level=0, reversible=True, codecformat='j2k')),
    'a.avif': encoded(NOISE, 'AVIF', quality=90),
    'a.heic': heic(NOISE),
}
PLAIN = {
    'a.bmp': encoded(NOISE, 'BMP'), 'a.ppm': encoded(NOISE, 'PPM'), 'a.tif': tiff(NOISE), 'float.tif': tiff(NOISE / 255)
}


@pytest.mark.parametrize('name', [*FILES, *PLAIN])
@pytest.mark.parametrize('share', [.02, .5, .9])
def test_a_file_that_is_cut_off_is_named(name, share):
    data = {**FILES, **PLAIN}[name]
    with pytest.raises(UserError) as caught:
        decode_photo(data[:int(len(data) * share)], name)
    assert f"'{name}'" in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('name', FILES)
def test_a_hole_in_the_middle_is_found(name):
    data = bytearray(FILES[name])
    middle = len(data) // 2
    data[middle:middle + 1500] = bytes(1500)
    with collect_notes() as notes:
        try:
            decode_photo(bytes(data), name)
        except UserError as error:
            assert f"'{name}'" in str(error)
            return
    assert [note for note in notes if note.doubtful and f"'{name}'" in note.text]


@pytest.mark.parametrize('size', [64, 200, 512])
@pytest.mark.parametrize('optimize', [False, True])
def test_a_small_hole_in_a_jpeg(size, optimize):
    data = bytearray(encoded(NOISE, 'JPEG', quality=92, optimize=optimize))
    data[len(data) // 2:len(data) // 2 + size] = bytes(size)
    with collect_notes() as notes, contextlib.suppress(UserError):
        decode_photo(bytes(data), 'a.jpg')
        assert [note for note in notes if note.doubtful and 'zero bytes in a row' in note.text]


@pytest.mark.parametrize('level', [0, 127, 255])
@pytest.mark.parametrize('options', [{}, {'optimize': True}, {'progressive': True}, {'subsampling': 0}])
def test_even_areas_are_no_hole(level, options):
    half = np.where(np.arange(SIZE[1])[None, :, None] < 200, np.uint8(level), NOISE)
    for img in (half, half[..., 0], np.full((600, 800, 3), level, np.uint8)):
        with collect_notes() as notes:
            decode_photo(encoded(Image.fromarray(img), 'JPEG', quality=90, **options), 'a.jpg')
        assert notes == []


@pytest.mark.parametrize('width', [1020, 1024, 2048])
@pytest.mark.parametrize('channels', [1, 3])
def test_ramps_are_no_hole(width, channels):
    ramp = np.tile(np.linspace(255, 0, width).astype(np.uint8)[None, :, None], (64, 1, channels))
    with collect_notes() as notes:
        for quality in (50, 75, 90):
            decode_photo(encoded(ramp, 'JPEG', quality=quality, optimize=True, subsampling=0), 'a.jpg')
    assert notes == []


def test_what_follows_a_jpeg_is_none_of_its_pixels():
    jpeg = FILES['a.jpg']
    even = encoded(np.full(SIZE, 128, np.uint8)[..., None], 'JPEG', optimize=True)
    for more in (bytes(2000), even, bytes(100) + jpeg, b'\0\0\0\x18ftypmp42' + bytes(500)):
        with collect_notes() as notes:
            decode_photo(jpeg + more, 'a.jpg')
        assert notes == []


def test_transparency_of_a_moving_webp_is_no_hole():
    clear = np.dstack([NOISE, np.where(np.arange(SIZE[1]) % 320 < 160, 0, 255).repeat(SIZE[0]).reshape(SIZE[::-1]).T])
    frames = [Image.fromarray(np.tile(img.astype(np.uint8), (4, 4, 1))) for img in (clear, clear[::-1])]
    data = encoded(frames[0], 'WEBP', quality=90, save_all=True, append_images=frames[1:], alpha_quality=100)
    assert b'ALPH' in data
    with collect_notes() as notes:
        decode_photo(data, 'a.webp')
    assert notes == []


@pytest.mark.parametrize('kind', ['jpeg2000', 'jpegxr', 'png'])
def test_a_tiff_whose_compression_opencv_does_not_know_is_whole(kind):
    frame = decode_photo(tiff(NOISE, compression=kind), 'a.tif').frames[0]
    assert abs(frame.pixels.astype(int) - NOISE).mean() < 3


@pytest.mark.parametrize('name', FILES)
def test_whole_files_cause_no_word(name):
    with collect_notes() as notes:
        decode_photo(FILES[name], name)
    assert notes == []


@pytest.mark.parametrize('kind', ['tiff_lzw', 'jpeg', 'tiff_adobe_deflate'])
def test_damage_in_a_later_page(kind):
    pages = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1].copy())]
    data = bytearray(encoded(pages[0], 'TIFF', compression=kind, save_all=True, append_images=pages[1:]))
    assert len(decode_photo(bytes(data), 'a.tif').frames) == 2
    at = len(data) * 3 // 4
    data[at:at + 1500] = bytes(1500)
    with pytest.raises(UserError, match=r"'a.tif'"):
        decode_photo(bytes(data), 'a.tif')


def test_a_page_that_is_missing():
    data = tiff(np.stack([NOISE, NOISE, NOISE]))
    assert len(decode_photo(data, 'a.tif').frames) == 3
    import tifffile
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        last = file.pages[2].offset
    with pytest.raises(UserError, match='next page is missing'):
        decode_photo(data[:last] + b'', 'a.tif')


@pytest.mark.parametrize('seed', range(30))
def test_any_bytes_give_a_photo_or_one_sentence(seed):
    rng = np.random.RandomState(seed)
    for name, whole in {**FILES, **PLAIN}.items():
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randint(len(data)) if seed % 2 else rng.randint(min(400, len(data)))
            data[at] = rng.randint(256)
        with collect_notes():
            try:
                photo = decode_photo(bytes(data), name)
            except UserError as error:
                assert f"'{name}'" in str(error)
            else:
                assert photo.frames


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    for path in (tmp_path, tmp_path / 'no.jpg'):
        with pytest.raises(OSError) as caught:
            read_photo(path)
        assert caught.value.filename == str(path)
