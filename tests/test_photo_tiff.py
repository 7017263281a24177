"""TIFF of colours that are no RGB, and of what tifffile does not decode."""
from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from photo_files import SIZE, encoded, picture, tiff
from PIL import Image, ImageCms

from basicsr.photos.photo import Frame, to_float
from basicsr.photos.reading import decode_photo
from basicsr.utils.errors import UserError
from basicsr.utils.notes import collect_notes

IMG, GREY = picture(), picture(channels=1)
ALPHA = np.tile(np.arange(SIZE[1], dtype=np.uint8) * 4, (SIZE[0], 1))
YCC = np.asarray(Image.fromarray(IMG).convert('YCbCr'))


def only(data: bytes) -> Frame:
    photo = decode_photo(data, 'photo')
    assert len(photo.frames) == 1
    return photo.frames[0]


@pytest.mark.parametrize('compression', ['raw', 'tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg'])
def test_light_and_two_colours_in_tiff(compression):
    found = only(encoded(Image.fromarray(IMG).convert('YCbCr'), 'TIFF', compression=compression)).pixels
    assert abs(found.astype(int) - IMG).mean() < 3


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('planar', [False, True])
def test_the_numbers_of_a_tiff_for_its_light_and_colours(bits, planar):
    """Those of television: other shares of red, green and blue, black at 16 and white at 235."""
    luma = np.array((.2126, .7152, .0722))
    seen = np.stack([np.linspace(a, b, 60).reshape(6, 10) for a, b in ((.1, .9), (.8, .2), (.3, .6))], axis=-1)
    y = seen @ luma
    cb, cr = (seen[..., 2] - y) / (2 - 2 * luma[2]), (seen[..., 0] - y) / (2 - 2 * luma[0])
    scale, half = 2**(bits - 8), (2**(bits - 1) - 1) / (2**bits - 1)
    stored = np.stack([16 + 219 * y, 128 + 112 * cb / half, 128 + 112 * cr / half], axis=-1) * scale
    ends = [value * scale for value in (16, 235, 128, 240, 128, 240)]
    tags = [(529, 5, 3, [2126, 10000, 7152, 10000, 722, 10000], True),
            (532, 5, 6, [number for end in ends for number in (end, 1)], True)]
    stored = np.rint(stored).astype(np.uint8 if bits == 8 else np.uint16)
    img = stored.transpose(2, 0, 1).copy() if planar else stored
    data = tiff(img, photometric='ycbcr', planarconfig='separate' if planar else 'contig', extratags=tags)
    frame = only(data)
    assert frame.pixels.dtype == stored.dtype
    np.testing.assert_allclose(to_float(frame.pixels), seen, atol=2.5 / 255 if bits == 8 else 1e-4)


@pytest.mark.parametrize('tags', [(), ((529, 5, 3, [0, 0] * 3, True), ), ((532, 5, 6, [5, 1] * 6, True), )], ids=str)
def test_numbers_that_cannot_be_used_are_those_of_everybody(tags):
    frame = only(tiff(YCC, photometric='ycbcr', extratags=tags))
    assert abs(frame.pixels.astype(int) - np.asarray(Image.fromarray(YCC, 'YCbCr').convert('RGB'))).max() <= 1


@pytest.mark.parametrize('compression', [None, 'zlib'])
@pytest.mark.parametrize(('across', 'down'), [(2, 2), (2, 1)])
def test_colours_of_half_the_resolution(compression, across, down):
    """Each block holds its light, then one of each colour."""
    height, width = SIZE
    blocks = YCC.reshape(height // down, down, width // across, across, 3).transpose(0, 2, 1, 3, 4)
    light = blocks[..., 0].reshape(*blocks.shape[:2], -1)
    colours = np.rint(blocks[..., 1:].reshape(*light.shape, 2).mean(axis=2)).astype(np.uint8)
    packed = np.concatenate([light, colours], axis=2).reshape(1, -1)
    found = only(_subsampled(packed.tobytes(), compression, across, down)).pixels
    assert found.shape == IMG.shape and abs(found.astype(int) - IMG).mean() < 4


def _subsampled(packed: bytes, compression: str | None, across: int, down: int) -> bytes:
    body = imagecodecs.zlib_encode(packed) if compression else packed
    bits, entries = b'\x08\0' * 3, []
    for tag, kind, count, value in ((256, 3, 1, SIZE[1]), (257, 3, 1, SIZE[0]), (258, 3, 3, 8),
                                    (259, 3, 1, 8 if compression else 1), (262, 3, 1, 6), (273, 4, 1, 14), (277, 3, 1,
                                                                                                            3),
                                    (278, 3, 1, SIZE[0]), (279, 4, 1, len(body)), (530, 3, 2, across | down << 16)):
        entries.append(struct.pack('<HHII', tag, kind, count, value))
    place = 14 + len(body) + len(body) % 2
    return (b'II*\0' + struct.pack('<I', place) + bits + body + bytes(len(body) % 2) + struct.pack('<H', len(entries)) +
            b''.join(entries) + bytes(4))


def test_colours_that_a_decoder_may_have_turned_are_refused():
    data = tiff(YCC, photometric='ycbcr', compression='jpeg2000')
    with pytest.raises(UserError,
                       match=r"'a.tif' holds YCbCr colours as JPEG2000, which cannot be read; save it as RGB"):
        decode_photo(data, 'a.tif')


def _modes() -> dict[str, bytes]:
    image = Image.fromarray(IMG)
    lab = ImageCms.profileToProfile(image, ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'),
                                    outputMode='LAB')
    clear = np.dstack([IMG, np.maximum(ALPHA, 9)])
    return {
        'fax': encoded(image.convert('1'), 'TIFF', compression='group4'), 'grey': encoded(GREY, 'TIFF'),
        'white is 0': tiff(GREY[..., 0], photometric='miniswhite'), 'palette': encoded(image.quantize(16), 'TIFF'),
        'alpha': tiff(clear, extrasamples=['unassalpha']), 'multiplied': tiff(clear, extrasamples=['assocalpha']),
        'inks': encoded(image.convert('CMYK'),
                        'TIFF'), 'Lab': encoded(lab,
                                                'TIFF'), 'light and colours': encoded(image.convert('YCbCr'), 'TIFF')
    }


def _refuse(*_, **__):
    raise NotImplementedError('no decoder')


@pytest.mark.parametrize('mode', _modes())
def test_pillow_reads_what_tifffile_does_not_as_the_same_colours(mode, monkeypatch):
    data = _modes()[mode]
    want = decode_photo(data, 'a.tif')
    monkeypatch.setattr(tifffile.TiffPage, 'asarray', _refuse)
    found = decode_photo(data, 'a.tif')
    assert found.remarks == want.remarks
    for one, other in zip((found.frames[0].pixels, found.frames[0].alpha),
                          (want.frames[0].pixels, want.frames[0].alpha)):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape and one.dtype == other.dtype
            np.testing.assert_allclose(to_float(one), to_float(other), atol=1.1 / 255)


def test_pillow_is_asked_for_the_page_that_is_meant(monkeypatch):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(IMG[::4, ::4], photometric='rgb', subfiletype=1)  # a reduced copy comes first
        writer.write(IMG, photometric='rgb')
    monkeypatch.setattr(tifffile.TiffPage, 'asarray', _refuse)
    np.testing.assert_array_equal(only(file.getvalue()).pixels, IMG)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(('peak', 'odd'), [(1, False), (1.5, False), (255, True)])
def test_floating_numbers_far_above_white_are_told_once(dtype, peak, odd):
    pages = np.stack([IMG, IMG]).astype(dtype) / dtype(255) * dtype(peak)
    with collect_notes() as notes:
        decode_photo(tiff(pages), 'a.tif')
    assert [one.text for one in notes] == [
        "'a.tif': 1 is white in images of floating point, and most of this one is far brighter: its numbers should be"
        ' divided by their peak, 255 for instance'
    ] * odd
