"""Camera RAW: developed by the camera's white balance and black level, not brightened, with the camera's words."""
from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from photo_files import encoded, picture

from basicsr.photos import exif, formats
from basicsr.photos.photo import to_float
from basicsr.photos.reading import decode_photo
from basicsr.photos.writing import encode_photo, losses
from basicsr.utils.errors import UserError

SIZE = (96, 128)
BLACK, WHITE = 512, 16383
NEUTRAL = (.5, 1., .625)  # what the sensor says of grey under this light
# the sensor sees the primaries of sRGB: XYZ to them, under D65
MATRIX = (3.2406, -1.5372, -.4986, -.9689, 1.8758, .0415, .0557, -.2040, 1.0570)


def rational(values, scale: int = 10000) -> tuple[int, ...]:
    return tuple(part for value in values for part in (round(value * scale), scale))


def dng(light: np.ndarray, orientation: int = 1) -> bytes:
    """A DNG of a sensor with Bayer's pattern; `light`: (H, W, 3), linear, of sRGB's primaries."""
    seen = light * NEUTRAL
    mosaic = seen[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = seen[::2, ::2, 0], seen[1::2, 1::2, 2]
    values = np.rint(BLACK + mosaic.clip(0, 1) * (WHITE - BLACK)).astype(np.uint16)
    tags = [(33421, 'H', 2, (2, 2), True), (33422, 'B', 4, bytes([0, 1, 1, 2]), True),
            (50706, 'B', 4, bytes([1, 4, 0, 0]), True), (50707, 'B', 4, bytes([1, 1, 0, 0]), True),
            (50708, 's', 0, 'Made-up camera', True), (50714, 'H', 1, BLACK, True), (50717, 'I', 1, WHITE, True),
            (50721, '2i', 9, rational(MATRIX), True), (50728, '2I', 3, rational(NEUTRAL), True),
            (50778, 'H', 1, 21, True), (271, 's', 0, 'Maker', True), (272, 's', 0, 'Model 1', True),
            (274, 'H', 1, orientation, True)]
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric='cfa', metadata=None, extratags=tags, software=False)
    return file.getvalue()


def curve(light: float) -> float:
    return 1.055 * light**(1 / 2.4) - .055


@pytest.mark.parametrize('light', [.02, .18, .7])
def test_grey_light_is_grey_and_as_bright_as_it_was(light):
    photo = decode_photo(dng(np.full((*SIZE, 3), light)), 'a.dng')
    pixels = to_float(photo.frames[0].pixels)
    assert photo.format == 'camera RAW' and photo.encoding.bits == 16 and photo.frames[0].pixels.dtype == np.uint16
    np.testing.assert_allclose(pixels[20:-20, 20:-20].mean(axis=(0, 1)), curve(light), atol=.01)


def test_colours_are_those_of_the_scene():
    light = np.zeros((*SIZE, 3))
    light[:, :64], light[:, 64:] = (.5, .1, .1), (.1, .2, .5)
    pixels = to_float(decode_photo(dng(light), 'a.dng').frames[0].pixels)
    for area, want in ((np.s_[20:-20, 20:44], (.5, .1, .1)), (np.s_[20:-20, 84:-20], (.1, .2, .5))):
        np.testing.assert_allclose(pixels[area].mean(axis=(0, 1)), [curve(value) for value in want], atol=.03)


def test_black_is_black():
    assert to_float(decode_photo(dng(np.zeros((*SIZE, 3))), 'a.dng').frames[0].pixels).max() < .01


def test_upright_with_the_cameras_words():
    photo = decode_photo(dng(np.full((*SIZE, 3), .3), orientation=6), 'a.dng')
    height, width = photo.frames[0].pixels.shape[:2]
    assert height > width
    tree = exif.read_tree(photo.meta.exif)
    assert tree[271].content == b'Maker\0' and tree[272].content.startswith(
        b'Model 1') and not tree.keys() & {50706, 33421, 274}
    found = decode_photo(encode_photo(photo, 'a.png'), 'a.png')
    np.testing.assert_array_equal(found.frames[0].pixels, photo.frames[0].pixels)
    assert exif.read_tree(found.meta.exif)[271].content == b'Maker\0' and losses(photo, 'a.png') == ''


def test_the_content_tells_whatever_the_name():
    data = dng(np.full((*SIZE, 3), .3))
    assert formats.by_content(data) is formats.RAW
    assert decode_photo(data, 'a.tif').format == 'camera RAW'
    assert decode_photo(encoded(picture(), 'JPEG'), 'a.nef').format == 'JPEG'


@pytest.mark.parametrize('data', [b'II*\0' + bytes(200), dng(np.full((*SIZE, 3), .3))[:300], b'nothing of a camera'])
def test_what_cannot_be_developed_is_one_sentence(data):
    with pytest.raises(UserError, match=r"'a.nef' cannot be developed"):
        decode_photo(data, 'a.nef')


def test_a_cut_off_file_is_named():
    data = dng(np.full((*SIZE, 3), .3))
    with pytest.raises(UserError, match=r"'a.dng'"):
        decode_photo(data[:len(data) // 2], 'a.dng')


def test_what_libraw_complains_of_is_damage(capfd):
    data = dng(np.full((*SIZE, 3), .3))
    with pytest.raises(UserError, match="'a"):
        decode_photo(data[:-3000], 'a.dng')
    assert capfd.readouterr().err == ''  # not without the name of the file
