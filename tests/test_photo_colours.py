"""Colours that a file names by numbers or chunks instead of a profile: worked on in sRGB, and kept by every format."""
from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from photo_files import encoded, opened, picture, profile

from basicsr.inference.photos import restore_photo
from basicsr.photos.named_colours import by_numbers
from basicsr.photos.photo import Frame, Metadata, Photo, to_float
from basicsr.photos.png_file import _chunk
from basicsr.photos.profiles import Colours
from basicsr.photos.reading import decode_photo
from basicsr.photos.writing import encode_photo, losses
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear

IMG = picture()
D65 = (.3127, .3290)
PLACES = {'sRGB': (.64, .33, .30, .60, .15, .06), 'P3': (.68, .32, .265, .69, .15, .06)}


def matrix(places: tuple[float, ...]) -> np.ndarray:
    """Light of red, green and blue to XYZ, by the definition: columns are the primaries, their sum is white."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (places[:2], places[2:4], places[4:6])]).T
    white = np.array((D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]))
    return xyz * np.linalg.solve(xyz, white)


def as_srgb(img: np.ndarray, places: tuple[float, ...], curve=srgb_to_linear) -> np.ndarray:
    light = curve(
        img.astype(np.float64) / np.iinfo(img.dtype).max) @ (np.linalg.inv(matrix(PLACES['sRGB'])) @ matrix(places)).T
    return linear_to_srgb(light.clip(0, None))


def png(*chunks: tuple[bytes, bytes], img: np.ndarray = IMG) -> bytes:
    data = encoded(img, 'PNG')
    return data[:33] + b''.join(_chunk(*one) for one in chunks) + data[33:]


def heic(primaries: int, transfer: int) -> bytes:
    import pillow_heif
    file = io.BytesIO()
    pillow_heif.from_bytes('RGB', IMG.shape[1::-1],
                           IMG.tobytes()).save(file, quality=-1, chroma=444, color_primaries=primaries,
                                               transfer_characteristics=transfer, matrix_coefficients=0,
                                               full_range_flag=1)
    return file.getvalue()


def avif(primaries: int, transfer: int) -> bytes:
    data = bytearray(encoded(IMG, 'AVIF', quality=100, subsampling='4:4:4'))
    struct.pack_into('>HH', data, data.index(b'colrnclx') + 8, primaries, transfer)
    return bytes(data)


def chrm(places: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b'cHRM', struct.pack('>8I', *(round(value * 100000) for value in (*D65, *places)))


GAMMA = (b'gAMA', struct.pack('>I', 45455))
P3_FILES = {
    'a.png': png((b'cICP', bytes((12, 13, 0, 1)))),
    'a.heic': heic(12, 13),
    'a.avif': avif(12, 13),
}


def seen(photo: Photo) -> np.ndarray:
    frame = photo.frames[0]
    return Colours(frame.meta.icc, frame.pixels.shape[2]).to_srgb(to_float(frame.pixels))


@pytest.mark.parametrize('name', P3_FILES)
def test_p3_by_its_number_is_seen_in_srgb_and_comes_back(name):
    photo = decode_photo(P3_FILES[name], name)
    pixels = photo.frames[0].pixels
    np.testing.assert_allclose(seen(photo).clip(0, 1), as_srgb(pixels, PLACES['P3']).clip(0, 1), atol=2e-3)
    assert abs(seen(photo) - pixels / 255.).max() > .02 and photo.remarks == []
    np.testing.assert_array_equal(restore_photo(lambda img: img, photo).frames[0].pixels, pixels)
    for other in ('b.jpg', 'b.png', 'b.webp', 'b.heic', 'b.avif', 'b.tif'):
        assert decode_photo(encode_photo(photo, other), other).meta.icc == photo.meta.icc
    assert 'become sRGB' in losses(photo, 'b.ppm')
    bare = decode_photo(encode_photo(photo, 'b.ppm'), 'b.ppm')
    np.testing.assert_allclose(to_float(bare.frames[0].pixels), seen(photo).clip(0, 1), atol=.6 / 255)


@pytest.mark.parametrize('data', [
    pytest.param(png(GAMMA), id='gamma'),
    pytest.param(png(GAMMA, chrm(PLACES['sRGB'])), id='chrm'),
    pytest.param(png((b'sRGB', b'\0'), (b'gAMA', struct.pack('>I', 100000))), id='the sRGB chunk comes first'),
    pytest.param(png((b'cICP', bytes((1, 13, 0, 1)))), id='number'),
    pytest.param(heic(1, 13), id='HEIC'),
    pytest.param(heic(2, 2), id='unspecified'),
    pytest.param(avif(1, 1), id='AVIF')
])
def test_srgb_by_any_name_has_no_profile(data):
    photo = decode_photo(data, 'a')
    assert photo.meta.icc == b'' and photo.remarks == []


def test_chunks_of_png_that_name_gamma_and_primaries():
    linear = decode_photo(png((b'gAMA', struct.pack('>I', 100000))), 'a.png')
    np.testing.assert_allclose(seen(linear), as_srgb(IMG, PLACES['sRGB'], lambda v: v), atol=2e-3)
    wide = decode_photo(png(GAMMA, chrm(PLACES['P3'])), 'a.png')
    np.testing.assert_allclose(
        seen(wide).clip(0, 1),
        as_srgb(IMG, PLACES['P3'], lambda v: v**2.2).clip(0, 1), atol=4e-3)
    grey = decode_photo(png((b'gAMA', struct.pack('>I', 100000)), img=IMG[..., :1]), 'a.png')
    np.testing.assert_allclose(
        seen(grey)[..., :1],
        as_srgb(IMG[..., :1].repeat(3, 2), PLACES['sRGB'], lambda v: v)[..., :1], atol=2e-3)
    assert grey.meta.icc[16:20] == b'GRAY'


@pytest.mark.parametrize(('chunks', 'said'), [
    ([(b'gAMA', bytes(4))], 'gamma'),
    ([(b'gAMA', struct.pack('>I', 1))], 'gamma'),
    ([(b'cHRM', bytes(32))], 'colours'),
    ([chrm((.3, .3, .3, .3, .3, .3))], 'colours'),
    ([(b'cHRM', struct.pack('>8I', 31270, 0, 64000, 33000, 21000, 71000, 15000, 6000))], 'colours'),
])
def test_nonsense_is_told_and_not_used(chunks, said):
    photo = decode_photo(png(*chunks), 'a.png')
    assert photo.meta.icc == b'' and len(
        photo.remarks) == 1 and f'says of its {said} what cannot be' in photo.remarks[0]


@pytest.mark.parametrize('seed', range(30))
def test_whatever_chunks_say_a_photo_comes_back(seed):
    rng = np.random.RandomState(seed)
    places = rng.randint(0, 10**rng.randint(1, 7), 8).tolist()
    gamma = struct.pack('>I', rng.randint(0, 10**rng.randint(1, 9)))
    photo = decode_photo(png((b'cHRM', struct.pack('>8I', *places)), (b'gAMA', gamma)), 'a.png')
    back = restore_photo(lambda img: img, photo).frames[0].pixels
    assert abs(back.astype(int) - IMG).max() <= 1


def test_numbers_of_png_come_before_its_profile():
    data = encoded(IMG, 'PNG', icc_profile=profile('adobe'))
    for numbers, icc in (((12, 13), decode_photo(P3_FILES['a.png'],
                                                 'a').meta.icc), ((1, 13), b''), ((2, 2), profile('adobe'))):
        photo = decode_photo(data[:33] + _chunk(b'cICP', bytes((*numbers, 0, 1))) + data[33:], 'a.png')
        assert photo.meta.icc == icc and photo.remarks == []


@pytest.mark.parametrize('data', [png((b'cICP', bytes((10, 13, 0, 1)))), heic(9, 17), avif(99, 13)])
def test_numbers_that_are_not_known_are_told(data):
    photo = decode_photo(data, 'a')
    assert photo.meta.icc == b'' and 'numbers that are not known' in photo.remarks[0]


def test_grey_with_numbers_has_a_grey_profile_or_none():
    grey = IMG[..., :1]
    assert decode_photo(png((b'cICP', bytes((12, 13, 0, 1))), img=grey), 'a.png').meta.icc == b''
    photo = decode_photo(png((b'cICP', bytes((12, 8, 0, 1))), img=grey), 'a.png')
    assert photo.meta.icc[16:20] == b'GRAY'
    data = bytearray(imagecodecs.avif_encode(grey[..., 0], level=90))
    struct.pack_into('>HH', data, data.index(b'colrnclx') + 8, 12, 13)
    photo = decode_photo(bytes(data), 'a.avif')
    assert (photo.meta.icc == b'') == photo.frames[0].grey


def test_profiles_that_are_made_are_small():
    icc = decode_photo(P3_FILES['a.png'], 'a.png').meta.icc
    assert len(icc) < 700 and int.from_bytes(icc[:4], 'big') == len(icc)
    from PIL import ImageCms
    assert ImageCms.getOpenProfile(io.BytesIO(icc)).profile.xcolor_space == 'RGB '


def test_a_profile_comes_before_chunks():
    data = encoded(IMG, 'PNG', icc_profile=profile('adobe'))
    photo = decode_photo(data[:33] + _chunk(*GAMMA) + _chunk(*chrm(PLACES['P3'])) + data[33:], 'a.png')
    assert photo.meta.icc == profile('adobe')


@pytest.mark.parametrize('data', [png((b'cICP', bytes((9, 16, 0, 1)))), heic(9, 16), avif(9, 18)])
def test_colours_of_hdr_screens_are_told(data):
    photo = decode_photo(data, 'a')
    assert photo.meta.icc == b'' and photo.remarks == ['is of the colours of HDR screens, which are taken as sRGB']


@pytest.mark.parametrize('primaries', [4, 5, 6, 7, 8, 9, 11, 12, 22])
def test_every_number_of_the_table_keeps_white_and_grey(primaries):
    icc, remark = by_numbers(primaries, 13, grey=False)
    grey = np.linspace(0, 1, 11, dtype=np.float32).repeat(3).reshape(1, 11, 3)
    assert remark == '' and abs(Colours(icc, 3).to_srgb(grey) - grey).max() < 2e-3


@pytest.mark.parametrize('name', ['a.webp', 'a.avif', 'a.heic'])
def test_the_profile_of_grey_does_not_go_into_a_file_of_colours(name):
    photo = Photo('PNG', [Frame(IMG[..., :1], meta=Metadata(icc=profile('grey')))])
    assert 'its colours become sRGB' in losses(photo, name)
    found = decode_photo(encode_photo(photo, name), name)
    assert found.meta.icc[16:20] != b'GRAY'
    assert abs(seen(found) - seen(photo)).mean() < .01


@pytest.mark.parametrize(('channels', 'name'), [(3, 'p3'), (1, 'grey')])
@pytest.mark.parametrize('bits', [8, 16])
def test_the_profile_of_a_jpeg_2000_is_used_once(channels, name, bits):
    deep = picture(bits=bits, channels=channels)
    data = encode_photo(Photo('PNG', [Frame(deep, meta=Metadata(icc=profile(name)))]), 'a.jp2')
    found = decode_photo(data, 'a.jp2')
    np.testing.assert_array_equal(found.frames[0].pixels, deep)
    assert found.meta.icc == profile(name)


@pytest.mark.parametrize('bits', [10, 12])
@pytest.mark.parametrize('kind', ['jp2', 'j2k'])
def test_bits_of_jpeg_2000_stay(bits, kind):
    img = picture(bits=16) >> (16 - bits)
    data = bytes(imagecodecs.jpeg2k_encode(img, level=0, reversible=True, bitspersample=bits, codecformat=kind))
    again = encode_photo(decode_photo(data, 'a.jp2'), f'b.{kind}')
    found = decode_photo(again, f'b.{kind}')
    assert found.encoding.bits == bits
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(again), img)


def test_a_raw_profile_of_png_is_a_profile():
    text = f'\nicc\n{len(profile("p3"))}\n' + profile('p3').hex()
    photo = decode_photo(png((b'tEXt', b'Raw profile type icc\0' + text.encode())), 'a.png')
    assert photo.meta.icc == profile('p3') and photo.meta.text == ()
    assert opened(encode_photo(photo, 'b.jpg')).info['icc_profile'] == profile('p3')
