"""Photos' files of every format: pixels, depth, alpha, pages and frames are read as they are."""
from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from photo_files import SIZE, encoded, opened, picture, tiff, tiff_of_few_bits
from PIL import Image, ImageCms

from basicsr.photos import formats
from basicsr.photos.photo import to_float, upright
from basicsr.photos.reading import decode_photo
from basicsr.utils.errors import UserError

IMG, DEEP = picture(), picture(bits=16)
GREY, DEEP_GREY = picture(channels=1), picture(bits=16, channels=1)


def heic(img: np.ndarray, **options) -> bytes:
    import pillow_heif
    file = io.BytesIO()
    mode = ('RGBA' if img.shape[2] == 4 else 'RGB') + (';16' if img.dtype == np.uint16 else '')
    pillow_heif.from_bytes(mode, img.shape[1::-1], img.tobytes()).save(file, quality=-1, chroma=444, **options)
    return file.getvalue()


def only(data: bytes, name: str = 'photo'):
    photo = decode_photo(data, name)
    assert len(photo.frames) == 1
    return photo.frames[0]


LOSSLESS = {
    'PNG': encoded(IMG, 'PNG'),
    'WebP': encoded(IMG, 'WEBP', lossless=True),
    'TIFF': tiff(IMG),
    'BMP': encoded(IMG, 'BMP'),
    'PPM': encoded(IMG, 'PPM'),
    'JPEG 2000': encoded(IMG, 'JPEG2000'),
}


@pytest.mark.parametrize('kind', LOSSLESS)
def test_pixels_of_lossless_formats(kind):
    photo = decode_photo(LOSSLESS[kind], 'a name that says nothing')
    assert photo.format == kind and photo.frames[0].pixels.dtype == np.uint8 and photo.frames[0].alpha is None
    np.testing.assert_array_equal(photo.frames[0].pixels, IMG)


@pytest.mark.parametrize('data', [
    pytest.param(encoded(IMG, 'JPEG', quality=98, subsampling=0), id='JPEG'),
    pytest.param(encoded(IMG, 'AVIF', quality=95, subsampling='4:4:4'), id='AVIF'),
    pytest.param(heic(IMG), id='HEIC'),
    pytest.param(encoded(Image.fromarray(IMG).quantize(256), 'GIF'), id='GIF')
])
def test_pixels_of_lossy_formats_are_close(data):
    found = only(data).pixels.astype(int)
    assert found.shape == (*SIZE, 3) and abs(found - IMG).mean() < 6


DEEP_FILES = {
    'PNG': bytes(imagecodecs.png_encode(DEEP)),
    'TIFF': tiff(DEEP, compression='zlib', predictor=True),
    'planes': tiff(DEEP.transpose(2, 0, 1).copy(), planarconfig='separate'),
    'planes in tiles': tiff(DEEP.transpose(2, 0, 1).copy(), planarconfig='separate', tile=(16, 32), compression='lzw'),
    'big-endian': tiff(DEEP, byteorder='>'),
    'BigTIFF': tiff(DEEP, bigtiff=True),
    'PPM': b'P6\n# words\n64 48\n65535\n' + DEEP.astype('>u2').tobytes(),
    'JPEG 2000': bytes(imagecodecs.jpeg2k_encode(DEEP, level=0, reversible=True, codecformat='jp2')),
    'codestream': bytes(imagecodecs.jpeg2k_encode(DEEP, level=0, reversible=True, codecformat='j2k')),
}


@pytest.mark.parametrize('kind', DEEP_FILES)
def test_sixteen_bits(kind):
    frame = only(DEEP_FILES[kind])
    assert frame.pixels.dtype == np.uint16
    np.testing.assert_array_equal(frame.pixels, DEEP)


@pytest.mark.parametrize('bits', [10, 12])
def test_ten_and_twelve_bits(bits):
    img = DEEP >> (16 - bits)
    photo = decode_photo(bytes(imagecodecs.avif_encode(img, level=100, bitspersample=bits)), 'a.avif')
    assert photo.encoding.bits == bits and photo.frames[0].pixels.dtype == np.uint16
    assert abs(to_float(photo.frames[0].pixels) - img / (2**bits - 1)).max() < 1.6 / 2**bits


def test_ten_bits_of_heic():
    photo = decode_photo(heic(DEEP), 'a.heic')
    assert photo.encoding.bits == 10 and photo.frames[0].pixels.dtype == np.uint16
    assert abs(photo.frames[0].pixels.astype(int) - DEEP).max() < 400


@pytest.mark.parametrize('data', [
    pytest.param(encoded(GREY, 'JPEG', quality=100), id='JPEG'),
    pytest.param(encoded(GREY, 'PNG'), id='PNG'),
    pytest.param(encoded(GREY, 'PPM'), id='PGM'),
    pytest.param(encoded(GREY, 'BMP'), id='BMP'),
    pytest.param(tiff(GREY[..., 0], photometric='minisblack'), id='TIFF'),
    pytest.param(tiff(255 - GREY[..., 0], photometric='miniswhite'), id='white is 0'),
])
def test_grey_is_one_channel(data):
    pixels = only(data).pixels
    assert pixels.shape == (*SIZE, 1) and abs(pixels.astype(int) - GREY).max() <= 2


@pytest.mark.parametrize('data', [
    pytest.param(bytes(imagecodecs.png_encode(DEEP_GREY[..., 0].copy())), id='PNG'),
    pytest.param(tiff(65535 - DEEP_GREY[..., 0], photometric='miniswhite'), id='white is 0'),
])
def test_deep_grey(data):
    np.testing.assert_array_equal(only(data).pixels, DEEP_GREY)


ALPHA = np.tile(np.arange(SIZE[1], dtype=np.uint8) * 4, (SIZE[0], 1))
CLEAR = np.dstack([IMG, ALPHA])


@pytest.mark.parametrize('data', [
    pytest.param(encoded(CLEAR, 'PNG'), id='PNG'),
    pytest.param(encoded(CLEAR, 'WEBP', lossless=True, exact=True), id='WebP'),
    pytest.param(tiff(CLEAR, extrasamples=['unassalpha']), id='TIFF'),
    pytest.param(encoded(CLEAR, 'JPEG2000'), id='JPEG 2000'),
])
def test_alpha_stands_beside_colours(data):
    frame = only(data)
    np.testing.assert_array_equal(frame.alpha, ALPHA)
    np.testing.assert_array_equal(frame.pixels, IMG)


def test_colours_that_are_multiplied_by_alpha():
    multiplied = np.rint(IMG * (ALPHA[..., None] / 255.)).astype(np.uint8)
    frame = only(tiff(np.dstack([multiplied, ALPHA]), extrasamples=['assocalpha']))
    seen = ALPHA > 60
    assert abs(frame.pixels.astype(int) - IMG)[seen].max() <= 3
    np.testing.assert_array_equal(frame.alpha, ALPHA)


def test_alpha_of_palettes_and_of_one_colour():
    image = Image.fromarray(IMG).quantize(16)
    frame = only(encoded(image, 'PNG', transparency=3))
    np.testing.assert_array_equal(frame.pixels, np.asarray(image.convert('RGB')))
    np.testing.assert_array_equal(frame.alpha == 0, np.asarray(image) == 3)
    colour = tuple(map(int, IMG[5, 7]))
    frame = only(encoded(IMG, 'PNG', transparency=colour))
    np.testing.assert_array_equal(frame.alpha == 0, (IMG == colour).all(axis=2))
    deep = decode_photo(_with_clear_colour(DEEP, DEEP[5, 7]), 'deep.png').frames[0]
    np.testing.assert_array_equal(deep.alpha == 0, (DEEP == DEEP[5, 7]).all(axis=2))


def _with_clear_colour(img: np.ndarray, colour: np.ndarray) -> bytes:
    from basicsr.photos.png_file import _chunk
    data = bytes(imagecodecs.png_encode(img))
    return data[:33] + _chunk(b'tRNS', colour.astype('>u2').tobytes()) + data[33:]


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_few_bits_reach_white(bits):
    most = 2**bits - 1
    img = (np.arange(16 * 24).reshape(16, 24) % (most + 1)).astype(np.uint8)
    found = only(tiff_of_few_bits(img, bits))
    np.testing.assert_array_equal(found.pixels[..., 0], np.rint(img * (255 / most)))


def test_netpbm_of_any_depth_and_as_text():
    np.testing.assert_array_equal(only(b'P2 3 1 # words\n7\n0 3 7').pixels[..., 0], [[0, 109, 255]])
    np.testing.assert_array_equal(only(b'P5\n2 1\n1023\n' + bytes([0, 0, 3, 255])).pixels[..., 0], [[0, 65535]])
    np.testing.assert_array_equal(
        only(b'P4\n9 1\n' + bytes([0b10100000, 0b10000000])).pixels[0, :, 0] == 0,
        np.array([1, 0, 1, 0, 0, 0, 0, 0, 1], bool))
    np.testing.assert_array_equal(only(b'P1\n3 1\n1 0\n1').pixels[..., 0], [[0, 255, 0]])
    with pytest.raises(UserError, match='cut off: 2 of 3 values'):
        decode_photo(b'P2 3 1 7\n0 3', 'a.pgm')


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_float_values_above_white_stay(dtype):
    img = (IMG / 255 * 1.5).astype(dtype)
    frame = only(tiff(img))
    assert frame.pixels.dtype == np.float32
    np.testing.assert_allclose(frame.pixels, img, atol=1e-6)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_the_name(value):
    img = IMG.astype(np.float32) / 255
    img[3, 4, 1] = value
    with pytest.raises(UserError, match=r"'odd.tif' holds values that are not finite"):
        decode_photo(tiff(img), 'odd.tif')


def test_thirty_two_bits():
    img = DEEP.astype(np.uint32) * 65537
    frame = only(tiff(img))
    np.testing.assert_allclose(frame.pixels, img / (2**32 - 1), atol=1e-6)


@pytest.mark.parametrize('options', [{'compression': 'tiff_lzw'}, {'compression': 'packbits'}, {'compression': 'jpeg'},
                                     {'compression': 'tiff_adobe_deflate'}])
def test_compressions_of_tiff(options):
    assert abs(only(encoded(IMG, 'TIFF', **options)).pixels.astype(int) - IMG).mean() < 3


def test_fax_and_palettes_in_tiff():
    image = Image.fromarray(IMG).convert('1')
    np.testing.assert_array_equal(
        only(encoded(image, 'TIFF', compression='group4')).pixels[..., 0],
        np.asarray(image) * 255)
    palette = Image.fromarray(IMG).quantize(16)
    np.testing.assert_array_equal(only(encoded(palette, 'TIFF')).pixels, np.asarray(palette.convert('RGB')))


@pytest.mark.parametrize('kind', ['TIFF', 'JPEG'])
def test_inks_become_colours_and_it_is_said(kind):
    photo = decode_photo(encoded(Image.fromarray(IMG).convert('CMYK'), kind), 'inks')
    assert photo.remarks == ['is of inks (CMYK) and becomes RGB']
    assert abs(photo.frames[0].pixels.astype(int) - IMG).mean() < 2


def test_lab_becomes_colours():
    lab = ImageCms.profileToProfile(Image.fromarray(IMG), ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'),
                                    outputMode='LAB')
    photo = decode_photo(encoded(lab, 'TIFF'), 'lab.tif')
    assert photo.remarks == ['is of Lab colours and becomes RGB'] and photo.frames[0].pixels.dtype == np.uint16
    assert abs(to_float(photo.frames[0].pixels) - IMG / 255.).mean() < .01


def test_pages_of_several_kinds():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(IMG, photometric='rgb')
        writer.write(DEEP_GREY[:20, :30, 0], photometric='minisblack', compression='zlib')
        writer.write(IMG[::4, ::4], photometric='rgb', subfiletype=1)  # a reduced copy is no page
    photo = decode_photo(file.getvalue(), 'pages.tif')
    assert [frame.pixels.shape for frame in photo.frames] == [(*SIZE, 3), (20, 30, 1)] and not photo.animated
    np.testing.assert_array_equal(photo.frames[1].pixels, DEEP_GREY[:20, :30])


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG', 'AVIF'])
def test_animations(kind):
    frames = [Image.fromarray(picture(n)) for n in range(3)]
    options = {} if kind == 'GIF' else {'lossless': True} if kind == 'WEBP' else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=[50, 70, 90], loop=2, **options)
    photo = decode_photo(data, 'moving')
    assert photo.animated and [frame.duration for frame in photo.frames] == [50, 70, 90]
    assert kind == 'AVIF' or photo.encoding.loop == 2
    for frame, image in zip(photo.frames, frames):
        assert abs(frame.pixels.astype(int) - np.asarray(image)).mean() < 12


def test_several_images_of_heic():
    import pillow_heif
    file = pillow_heif.HeifFile()
    for n in range(2):
        file.add_frombytes('RGB', SIZE[::-1], picture(n).tobytes())
    out = io.BytesIO()
    file.save(out, quality=-1, chroma=444, primary_index=1)
    photo = decode_photo(out.getvalue(), 'burst.heic')
    assert len(photo.frames) == 2 and abs(photo.frames[0].pixels.astype(int) - picture(1)).max() <= 3  # the primary one


@pytest.mark.parametrize('orientation', range(1, 9))
def test_upright_as_pillow_has_it(orientation):
    from PIL import ImageOps
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(IMG, 'PNG', exif=exif)
    want = np.asarray(ImageOps.exif_transpose(opened(data)))
    np.testing.assert_array_equal(only(data).pixels, want)
    np.testing.assert_array_equal(upright(IMG, orientation), want)


@pytest.mark.parametrize('name', ['photo', 'photo.jpg', 'photo.tif', 'photo.txt'])
def test_what_is_there_decides(name):
    np.testing.assert_array_equal(only(LOSSLESS['PNG'], name).pixels, IMG)


@pytest.mark.parametrize(('data', 'message'), [
    (b'', 'is empty'),
    (b'hello, this is a text', 'not an image that can be read'),
    (b'%PDF-1.7 and more', 'not an image that can be read'),
    (b'\xff\xd8\xff', 'cut off'),
    (LOSSLESS['PNG'][:33], 'cut off'),
    (b'II*\0', 'cut off'),
    (b'BM', 'cannot be decoded'),
    (b'GIF89a', 'cannot be decoded'),
    (b'P6', 'not an image'),
    (b'P6\n', 'says no size'),
    (b'\0\0\0\x18ftypavif', 'cannot be decoded'),
    (b'\0\0\0\x18ftypheic', 'cannot be decoded'),
    (b'FUJIFILMCCD-RAW', 'cannot be developed'),
    (b'\xff\x4f\xff\x51', 'damaged'),
])
def test_what_is_no_photo_is_one_sentence(data, message):
    with pytest.raises(UserError, match=message) as caught:
        decode_photo(data, 'some file')
    assert "'some file'" in str(caught.value) and '\n' not in str(caught.value)


def test_a_file_that_would_exhaust_the_memory_is_refused():
    head = b'P6\n40000 40000\n255\n'
    with pytest.raises(UserError, match=r'cut off|40000x40000 pixels'):
        decode_photo(head, 'huge.ppm')
    from basicsr.photos.png_file import _chunk
    data = LOSSLESS['PNG']
    body = (40000).to_bytes(4, 'big') * 2 + data[24:29]
    with pytest.raises(UserError, match='exhaust the memory'):
        decode_photo(data[:8] + _chunk(b'IHDR', body) + data[33:], 'huge.png')


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'JPEG', 'WEBP', 'GIF', 'AVIF', 'JPEG2000', 'PPM'])
def test_a_single_pixel(kind):
    assert only(encoded(np.full((1, 1, 3), 200, np.uint8), kind)).pixels.shape == (1, 1, 3)


def test_every_row_of_the_table_is_read_and_known_by_its_content():
    from basicsr.photos.reading import _READERS
    from basicsr.photos.writing import _WRITERS
    assert set(_READERS) == set(formats.FORMATS)
    assert set(_WRITERS) == {row for row in formats.FORMATS if row.writing}
    assert formats.by_content(heic(IMG)) is formats.HEIC
