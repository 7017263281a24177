"""Colour profiles: to sRGB and back; unchanged photos keep every value."""
from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from photo_files import SIZE, encoded, picture, profile, tiff
from PIL import Image

from basicsr.inference.photos import restore_photo
from basicsr.photos.photo import Frame, Metadata, Photo, from_float, to_float
from basicsr.photos.profiles import Colours, luma
from basicsr.photos.reading import decode_photo
from basicsr.utils.errors import UserError

NOISE = np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)


def same(img: np.ndarray) -> np.ndarray:
    """A network that changes nothing."""
    assert img.shape[2] == 3 and img.min() >= 0 and img.max() <= 1
    return img


def through(pixels: np.ndarray, icc: bytes = b'', restore=same, alpha: np.ndarray | None = None) -> Frame:
    return restore_photo(restore, Photo('PNG', [Frame(pixels, alpha, meta=Metadata(icc=icc))])).frames[0]


@pytest.mark.parametrize('name', ['', 'srgb', 'p3', 'adobe', 'wide'])
def test_unchanged_photos_keep_every_value_of_eight_bits(name):
    np.testing.assert_array_equal(through(NOISE, profile(name) if name else b'').pixels, NOISE)


@pytest.mark.parametrize('name', ['', 'srgb', 'p3', 'adobe'])
def test_sixteen_bits_are_as_exact_as_the_curves_allow(name):
    img = np.random.RandomState(0).randint(0, 65536, (64, 64, 3), np.uint16)
    difference = abs(through(img, profile(name) if name else b'').pixels.astype(int) - img)
    # next to black, where a plain power is steep, numbers of 32 bits are too coarse
    assert difference.max() <= (0 if name in ('', 'srgb') else 12) and difference.mean() < .1


@pytest.mark.parametrize(('channels', 'name'), [(1, ''), (1, 'grey'), (1, 'p3'), (1, 'srgb')])
def test_unchanged_grey_photos_keep_every_value(channels, name):
    img = NOISE[..., :1]
    frame = through(img, profile(name) if name else b'')
    assert frame.grey
    np.testing.assert_array_equal(frame.pixels, img)


def test_what_the_network_sees_is_srgb():
    seen = []
    through(NOISE, profile('p3'), lambda img: seen.append(img) or img)
    want = imagecodecs.cms_transform(
        NOISE.astype(np.float32) / 255, profile('p3'), profile('srgb'), colorspace='rgb', outcolorspace='rgb')
    np.testing.assert_allclose(seen[0], want.clip(0, 1), atol=1e-5)


def test_a_brighter_answer_is_brighter_in_the_photos_own_colours():
    """Light of double the strength in sRGB is light of double the strength in Adobe RGB."""
    dark = picture() // 4 + 10

    def double(img):
        light = np.where(img <= .04045, img / 12.92, ((img + .055) / 1.055)**2.4) * 2
        return np.where(light <= .0031308, light * 12.92, 1.055 * light**(1 / 2.4) - .055).clip(0, 1).astype(np.float32)

    found = through(dark, profile('adobe'), double).pixels
    want = (dark / 255.) * 2**(1 / 2.2) * 255
    assert abs(found -
               want).max() < 4 and abs(found - want).mean() < .5  # outside sRGB by how much brighter it is around


def test_srgb_under_another_name_is_no_work():
    from PIL import ImageCms
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    assert Colours(other, 3).same and Colours(profile('srgb'), 3).same and not Colours(profile('p3'), 3).same


@pytest.mark.parametrize(('icc', 'channels', 'remark'), [
    (b'no profile at all', 3, 'other colours'),
    (profile('p3')[:200], 3, 'cannot be used'),
    (profile('grey'), 3, 'other colours (GRAY)'),
    (profile('p3')[:16] + b'CMYK' + profile('p3')[20:], 3, 'other colours (CMYK)'),
], ids=['none', 'cut', 'grey', 'CMYK'])  # a profile holds the second in which it was made
def test_a_profile_that_cannot_be_used_is_a_remark(icc, channels, remark):
    colours = Colours(icc, channels)
    assert colours.same and remark in colours.remark and 'taken as sRGB' in colours.remark
    np.testing.assert_array_equal(through(NOISE, icc).pixels, NOISE)


def test_damaged_profiles_are_never_a_traceback():
    rng = np.random.RandomState(0)
    for _ in range(60):
        icc = bytearray(profile('p3'))
        for _ in range(rng.randint(1, 20)):
            icc[rng.randint(len(icc))] = rng.randint(256)
        assert through(NOISE, bytes(icc)).pixels.shape == NOISE.shape


# --- grey


def tinted(img: np.ndarray) -> np.ndarray:
    return (img * np.array([1., .8, .6], np.float32)).astype(np.float32)


def test_grey_comes_back_grey_by_how_bright_it_looks():
    found = through(NOISE[..., :1], restore=tinted).pixels
    want = NOISE[..., :1] * (.299 + .587 * .8 + .114 * .6)
    assert found.shape[2] == 1 and abs(found - want).max() <= .51


def test_black_and_white_in_three_channels_gets_no_colours():
    img = np.repeat(NOISE[..., :1], 3, axis=2)
    found = through(img, restore=tinted).pixels
    assert found.shape[2] == 3 and np.ptp(found, axis=2).max() == 0
    coloured = img.copy()
    coloured[0, 1] = 10, 200, 30
    assert np.ptp(through(coloured, restore=tinted).pixels, axis=2).mean() > 10


def warmed(img: np.ndarray, exposure: float = 0.) -> np.ndarray:
    """A network that brings light, and colours to what is grey."""
    return (img * np.float32((2, 1.9, 1.8)) + np.float32(.03)).clip(0, 1)


def of_lossy(kind: str, img: np.ndarray, quality: int = 75) -> Photo:
    if kind == 'HEIC':
        import pillow_heif
        file = io.BytesIO()
        pillow_heif.from_bytes('RGB', img.shape[1::-1], img.tobytes()).save(file, quality=quality)
        return decode_photo(file.getvalue(), 'a.heic')
    return decode_photo(encoded(img, kind, quality=quality), 'a')


def rounded(img: np.ndarray, levels: int = 1) -> np.ndarray:
    """Equal channels as a decoder leaves them that rounds each by itself."""
    return (img.astype(int) + np.random.RandomState(0).randint(0, levels + 1, img.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('quality', [20, 75, 95])
@pytest.mark.parametrize('kind', ['WEBP', 'JPEG', 'AVIF', 'HEIC'])
def test_black_and_white_gets_no_colours_by_a_lossy_file(kind, quality):
    photo = of_lossy(kind, np.repeat(picture(channels=1, size=(192, 256)) // 3, 3, axis=2), quality)
    pixels = photo.frames[0].pixels
    assert pixels.shape[2] == 3 and (kind != 'WEBP' or np.ptp(pixels, axis=2).max() == 1)
    assert np.ptp(restore_photo(warmed, photo).frames[0].pixels, axis=2).max() == 0


@pytest.mark.parametrize(('kind', 'lossless', 'grey'), [('WebP', False, True), ('WebP', True, False),
                                                        ('JPEG', False, True), ('AVIF', False, True),
                                                        ('HEIC', False, True), ('JPEG 2000', False, True),
                                                        ('JPEG 2000', True, False), ('TIFF', False, False),
                                                        ('PNG', False, False)])
def test_only_lossy_files_may_differ_by_a_level(kind, lossless, grey):
    img = rounded(np.repeat(picture(channels=1, size=(192, 256)) // 3, 3, axis=2))
    photo = Photo(kind, [Frame(img)])
    photo.encoding.lossless = lossless
    assert (np.ptp(restore_photo(warmed, photo).frames[0].pixels, axis=2).max() == 0) == grey


@pytest.mark.parametrize('brightest', [12, 40, 255])
@pytest.mark.parametrize('tone', [(1, .95, .85), (1, .985, .96), (.8, 1, .8), (.9, .95, 1)], ids=str)
def test_a_tone_on_purpose_stays(brightest, tone):
    """Also in the dark, where it is a level or two."""
    grey = picture(channels=1, size=(192, 256)).astype(np.float32) / 255 * .5 + .5
    img = np.rint(grey * np.float32(tone) * brightest).astype(np.uint8)
    if (np.ptp(img, axis=2) == 0).mean() > .6:
        pytest.skip('eight bits hold no such tone')
    photo = Photo('JPEG', [Frame(img)])
    assert np.ptp(restore_photo(warmed, photo).frames[0].pixels, axis=2).max() > 0


def test_faint_colours_of_two_things_stay():
    """As much red as blue, each in its own place."""
    img = np.full((96, 128, 3), 9, np.uint8)
    img[:40, :60, 0], img[50:, 60:, 2] = 11, 11
    assert np.ptp(restore_photo(warmed, Photo('WebP', [Frame(img)])).frames[0].pixels, axis=2).max() > 0


def test_grey_networks_give_grey_photos():
    found = through(NOISE, profile('p3'), lambda img: luma(img))
    assert found.pixels.shape[2] == 1


def test_equal_channels_are_their_own_luma():
    img = np.repeat(np.random.RandomState(0).rand(9, 9, 1).astype(np.float32), 3, axis=2)
    np.testing.assert_array_equal(luma(img)[..., 0], img[..., 0])


# --- the rest of a frame


def test_light_above_white_stays():
    img = (picture() / 255. * 3).astype(np.float32)
    np.testing.assert_allclose(through(img).pixels, img, atol=1e-6)


def test_alpha_grows_with_the_picture():
    alpha = np.tile(np.linspace(0, 255, SIZE[1]).astype(np.uint8), (SIZE[0], 1))
    frame = through(picture(), restore=lambda img: img.repeat(2, axis=0).repeat(2, axis=1), alpha=alpha)
    assert frame.alpha.shape == (96, 128) and abs(frame.alpha[::2, ::2].astype(int) - alpha).max() <= 4
    np.testing.assert_array_equal(through(picture(), alpha=alpha).alpha, alpha)


def test_an_answer_that_is_not_finite_is_an_error():
    with pytest.raises(UserError, match='not finite'):
        through(NOISE, restore=lambda img: np.full_like(img, np.nan))


def test_an_answer_far_outside_of_black_and_white_is_told(messages):
    through(NOISE, restore=lambda img: img * 40 - 20)
    assert len(messages) == 1 and '% of the result lie far below black or above white' in messages[0]
    through(NOISE, restore=lambda img: img * 1.4 - .2)
    assert len(messages) == 1


def test_every_page_is_restored():
    photo = Photo('TIFF', [Frame(picture(n)) for n in range(3)])
    for n, frame in enumerate(restore_photo(lambda img: 1 - img, photo).frames):
        np.testing.assert_array_equal(frame.pixels, 255 - picture(n))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_numbers_come_back_from_float(dtype):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    np.testing.assert_array_equal(from_float(to_float(values), dtype), values)


# --- inks


def inks() -> bytes:
    """A profile of CMYK whose colours are (1-c)(1-k), under which black is Lab's 0: a table of its 16 corners."""
    corners = []
    for n in range(16):
        c, m, y, k = n >> 3 & 1, n >> 2 & 1, n >> 1 & 1, n & 1
        light = np.array([(1 - c) * (1 - k), (1 - m) * (1 - k), (1 - y) * (1 - k)], np.float64)
        xyz = np.array(
            ((.4360747, .3850649, .1430804), (.2225045, .7168786, .0606169), (.0139322, .0971045, .7141733))) @ light
        f = np.cbrt(np.maximum(xyz / (.96422, 1, .82521), 0))
        lab = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
        corners += [max(0, round(lab[0] * 652.8)), round((lab[1] + 128) * 256), round((lab[2] + 128) * 256)]
    table = struct.pack('>4sI4B9iHH', b'mft2', 0, 4, 3, 2, 0, *(65536 * (n % 4 == 0) for n in range(9)), 2, 2)
    table += struct.pack('>8H', *(0, 65535) * 4) + struct.pack('>48H', *corners) + struct.pack('>6H', *(0, 65535) * 3)
    words = b'desc' + bytes(4) + struct.pack('>I', 5) + b'inks\0' + bytes(78)
    white = struct.pack('>4sI3i', b'XYZ ', 0, 63190, 65536, 54061)
    parts, at, tags = [words, white, table], 128 + 4 + 36, b''
    for name, part in zip((b'desc', b'wtpt', b'A2B0'), parts):
        tags += struct.pack('>4sII', name, at, len(part))
        at += len(part) + -len(part) % 4
    head = struct.pack('>I4sI4s4s4s12s4s', at, b'lcms', 0x02400000, b'prtr', b'CMYK', b'Lab ', bytes(12), b'acsp')
    head = head.ljust(68, b'\0') + struct.pack('>3i', 63190, 65536, 54061)
    body = b''.join(part + bytes(-len(part) % 4) for part in parts)
    return head.ljust(128, b'\0') + struct.pack('>I', 3) + tags + body


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF', 'deep TIFF'])
def test_inks_by_their_profile(kind):
    image = Image.fromarray(picture()).convert('CMYK')
    corner = np.zeros((*SIZE, 4), np.uint8)
    corner[:, :16], corner[:, 16:32, 3], corner[:, 32:48, 1:3] = 0, 255, 255  # paper, black, red
    corner[:, 48:, 0] = 255  # cyan
    if kind == 'deep TIFF':
        data = tiff(corner.astype(np.uint16) * 257, photometric='separated', iccprofile=inks())
    else:
        data = encoded(Image.fromarray(corner, 'CMYK'), kind, icc_profile=inks(),
                       **({'quality': 100} if kind == 'JPEG' else {}))
    photo = decode_photo(data, 'inks')
    assert photo.remarks == ['is of inks (CMYK) and becomes RGB'] and photo.meta.icc == b''
    pixels = to_float(photo.frames[0].pixels)
    for column, want in ((4, (1, 1, 1)), (24, (0, 0, 0)), (40, (1, 0, 0)), (60, (0, 1, 1))):
        np.testing.assert_allclose(pixels[20, column], want, atol=.03)
    assert image.mode == 'CMYK'


def test_inks_with_a_broken_profile_are_turned_by_their_numbers():
    data = encoded(Image.fromarray(picture()).convert('CMYK'), 'TIFF', icc_profile=inks()[:200])
    photo = decode_photo(data, 'inks')
    assert photo.remarks == ['is of inks (CMYK) and becomes RGB; its colour profile cannot be used']
    assert abs(photo.frames[0].pixels.astype(int) - picture()).mean() < 2
