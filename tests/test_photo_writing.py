"""Photos are written as they were stored: quality, subsampling, compression, layout, depth; what is lost is said before."""
from __future__ import annotations

import io
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from photo_files import SIZE, encoded, opened, picture, profile, tiff
from PIL import Image, JpegImagePlugin

from basicsr.photos import formats
from basicsr.photos.heif_file import writes_deep_avif
from basicsr.photos.photo import Frame, Metadata, Photo, to_float
from basicsr.photos.reading import decode_photo
from basicsr.photos.writing import encode_photo, losses
from basicsr.utils.errors import UserError

IMG, DEEP = picture(), picture(bits=16)
ALPHA = np.tile(np.arange(SIZE[1], dtype=np.uint8) * 4, (SIZE[0], 1))
NOISE = np.random.RandomState(0).randint(0, 256, (*SIZE, 3), np.uint8)


def again(data: bytes, name: str) -> bytes:
    return encode_photo(decode_photo(data, name), name)


def written(name: str, *frames: Frame, **changes) -> Photo:
    return decode_photo(encode_photo(replace(Photo('PNG', list(frames)), **changes), name), name)


# --- as it was


@pytest.mark.parametrize('quality', [35, 90])
@pytest.mark.parametrize('sampling', [0, 1, 2])
@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_keeps_tables_sampling_and_order(quality, sampling, progressive):
    before = encoded(IMG, 'JPEG', quality=quality, subsampling=sampling, progressive=progressive)
    old, new = opened(before), opened(again(before, 'a.jpg'))
    assert new.quantization == old.quantization and JpegImagePlugin.get_sampling(new) == sampling
    assert bool(new.info.get('progressive')) == progressive


@pytest.mark.parametrize('name', ['4:4:0', '4:1:1'])
def test_subsampling_that_cannot_be_written_is_told_and_no_colour_is_lost(name):
    data = bytes(imagecodecs.jpeg8_encode(IMG, level=90, subsampling=name.replace(':', '')))
    photo = decode_photo(data, 'a.jpg')
    assert losses(photo, 'b.jpg') == f'b.jpg: its subsampling {name} becomes 4:4:4' and losses(photo, 'b.png') == ''
    new = opened(encode_photo(photo, 'b.jpg'))
    assert JpegImagePlugin.get_sampling(new) == 0 and new.quantization == opened(data).quantization


@pytest.mark.parametrize(('factors', 'sampling'), [((0x22, 0x22, 0x22), 0), ((0x22, 0x12, 0x12), 1)])
def test_subsampling_by_other_numbers_is_the_same(factors, sampling):
    """By how much light is finer than colours counts, not the numbers for it."""
    data = bytearray(encoded(IMG[:32], 'JPEG', subsampling=sampling))
    at = data.index(b'\xff\xc0') + 11
    data[at:at + 9:3] = bytes(factors)
    from basicsr.photos.jpeg_file import _sampling
    image = Image.open(io.BytesIO(bytes(data)))
    assert JpegImagePlugin.get_sampling(image) == -1 and _sampling(image) == (sampling, '')


@pytest.mark.parametrize('image', [picture(channels=1), Image.fromarray(IMG).convert('CMYK')], ids=['grey', 'inks'])
def test_what_has_no_subsampling_has_none_to_lose(image):
    assert 'subsampling' not in losses(decode_photo(encoded(image, 'JPEG'), 'a.jpg'), 'b.jpg')


def test_what_was_no_jpeg_gets_a_good_one():
    image = opened(encode_photo(decode_photo(encoded(IMG, 'PNG'), 'a.png'), 'a.jpg'))
    assert image.quantization == opened(encoded(IMG, 'JPEG', quality=95)).quantization
    assert JpegImagePlugin.get_sampling(image) == 0


@pytest.mark.parametrize('quality', [30, 60, 75, 90, 100])
def test_webp_keeps_its_quality(quality):
    noisy = (picture(size=(160, 200)) + np.random.RandomState(0).randint(0, 30, (160, 200, 3))).clip(0, 255)
    data = encoded(noisy.astype(np.uint8), 'WEBP', quality=quality)
    found = decode_photo(data, 'a.webp')
    assert abs(found.encoding.quality - quality) <= 2
    assert .7 < len(encode_photo(found, 'b.webp')) / len(data) < 1.3


@pytest.mark.parametrize('quality', [0, 40, 75])
def test_smooth_webp_keep_their_quality_from_pass_to_pass(quality):
    data = encoded(picture(size=(200, 300)), 'WEBP', quality=quality)
    for _ in range(4):
        found = decode_photo(data, 'a.webp')
        assert abs(found.encoding.quality - quality) <= 4
        data = encode_photo(found, 'a.webp')


def test_grey_with_transparency_has_fewer_greys_in_a_gif():
    grey = Photo('PNG', [Frame(picture(channels=1))])
    assert losses(grey, 'a.gif') == ''
    grey.frames[0].alpha = np.full(grey.frames[0].pixels.shape[:2], 128, np.uint8)
    assert 'become 256' in losses(grey, 'a.gif')


def test_a_small_webp_stays_small_and_a_lossless_one_exact():
    large = picture(size=(480, 640))
    large = (large.astype(int) + np.random.RandomState(0).randint(-6, 7, large.shape)).clip(0, 255).astype(np.uint8)
    lossy = encoded(large, 'WEBP', quality=80)
    lossless = encoded(large, 'WEBP', lossless=True)
    assert len(lossless) > 10 * len(lossy)
    assert len(again(lossy, 'a.webp')) < 3 * len(lossy) and b'VP8L' not in again(lossy, 'a.webp')
    assert np.array_equal(decode_photo(again(lossless, 'a.webp'), 'a.webp').frames[0].pixels, large)


@pytest.mark.parametrize(('options', 'number'), [({}, 1), ({'compression': 'lzw'}, 5), ({'compression': 'zlib'}, 8),
                                                 ({'compression': 'packbits'}, 32773),
                                                 ({'compression': 'zstd'}, 50000)])
@pytest.mark.parametrize('planar', [False, True])
@pytest.mark.parametrize('tile', [None, (16, 32)])
def test_tiff_keeps_compression_planes_and_tiles(options, number, planar, tile):
    img = DEEP.transpose(2, 0, 1).copy() if planar else DEEP
    layout = {'tile': tile, 'planarconfig': 'separate' if planar else 'contig', **options}
    with tifffile.TiffFile(io.BytesIO(again(tiff(img, **layout), 'a.tif'))) as file:
        page = file.pages[0]
        assert (page.compression, page.planarconfig) == (number, 2 if planar else 1)
        assert page.is_tiled == bool(tile) and (not tile or (page.tilelength, page.tilewidth) == tile)
        found = page.asarray()
        np.testing.assert_array_equal(found.transpose(1, 2, 0) if planar else found, DEEP)


def test_tiff_keeps_how_alpha_and_numbers_are_stored():
    multiplied = np.rint(IMG * (ALPHA[..., None] / 255.)).astype(np.uint8)
    with tifffile.TiffFile(io.BytesIO(again(tiff(np.dstack([multiplied, ALPHA]), extrasamples=['assocalpha']),
                                            'a.tif'))) as file:
        assert tuple(file.pages[0].extrasamples) == (1, )
        assert abs(file.pages[0].asarray()[..., :3].astype(int) - multiplied).max() <= 1
    for img in (IMG.astype(np.float32) / 255, IMG.astype(np.float16) / 256, DEEP.astype(np.uint32) * 65537):
        with tifffile.TiffFile(io.BytesIO(again(tiff(img), 'a.tif'))) as file:
            assert file.pages[0].dtype == img.dtype
            np.testing.assert_allclose(file.pages[0].asarray().astype(float), img.astype(float), rtol=1e-6)


@pytest.mark.parametrize('bits', [8, 10, 12])
def test_depth_of_avif_and_heic(bits):
    deep = Frame(IMG if bits == 8 else DEEP)
    for name in ('a.avif', 'a.heic'):
        source = Photo(name[2:].upper(), [deep])
        source.encoding.bits = bits
        found = decode_photo(encode_photo(source, name), name)
        assert found.encoding.bits == (bits if name == 'a.heic' or writes_deep_avif() else 8)
        assert abs(to_float(found.frames[0].pixels) - to_float(deep.pixels)).mean() < .02


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.jp2', '.j2k', '.ppm'])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('bits', [8, 16])
def test_lossless_formats_give_every_pixel_back(suffix, channels, bits):
    img = picture(3, bits, channels)
    found = written(f'a{suffix}', Frame(img)).frames[0].pixels
    assert found.dtype == img.dtype
    np.testing.assert_array_equal(found, np.broadcast_to(img, found.shape))
    assert found.shape[2] == (3 if suffix == '.ppm' else channels)


@pytest.mark.parametrize('row', [row for row in formats.FORMATS if row.writing], ids=lambda row: row.name)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('clear', [False, True])
def test_every_format_takes_every_photo(row, dtype, channels, clear):
    img = picture(1, 16 if dtype == np.uint16 else 8, channels)
    img = (img / 255).astype(dtype) if dtype == np.float32 else img
    alpha = img[..., 0].copy() if clear else None
    name = f'a{row.suffixes[0]}'
    photo = Photo('PNG', [Frame(img, alpha)])
    photo.encoding.bits = {1: 8, 2: 16, 4: 32}[img.dtype.itemsize]
    said, found = losses(photo, name), decode_photo(encode_photo(photo, name), name)
    frame = found.frames[0]
    assert frame.pixels.shape[:2] == SIZE and frame.grey == (channels == 1 and 'grey' in row.holds
                                                             and row not in (formats.NETPBM, formats.GIF))
    assert ('transparency is lost' in said) == (clear and 'alpha' not in row.holds)
    assert (frame.alpha is not None) == (clear and 'alpha' in row.holds)
    most = min(row.bits if row is not formats.AVIF or writes_deep_avif() else 8, photo.encoding.bits)
    assert (f'{photo.encoding.bits} bits become {most}' in said) == (photo.encoding.bits > most)
    assert frame.pixels.dtype.itemsize == (1 if most == 8 else 4 if most == 32 else 2)


# --- pages and frames


@pytest.mark.parametrize('name', ['a.gif', 'a.webp', 'a.png', 'a.avif'])
def test_animations_move_as_before(name):
    frames = [Frame(picture(n), duration=50 + 20 * n) for n in range(3)]
    found = written(name, *frames, animated=True)
    assert found.animated and [frame.duration for frame in found.frames] == [50, 70, 90]
    assert losses(Photo('PNG', frames, animated=True),
                  name) == ('a.gif: its colours become 256' if name == 'a.gif' else '')


@pytest.mark.parametrize(('name', 'animated', 'said', 'count'), [
    ('a.jpg', True, 'of 3 frames the first is taken, JPEG holds one', 1),
    ('a.jpg', False, 'of 3 pages the first is taken, JPEG holds one', 1),
    ('a.png', False, 'of 3 pages the first is taken, PNG holds one', 1),
    ('a.tif', True, 'its frames become pages, without their times', 3),
    ('a.tif', False, '', 3),
    ('a.heic', False, '', 3),
])
def test_what_holds_one_picture_takes_the_first(name, animated, said, count):
    photo = Photo('TIFF', [Frame(picture(n)) for n in range(3)], animated=animated)
    assert losses(photo, name) == (f'{name}: {said}' if said else '')
    found = decode_photo(encode_photo(photo, name), name)
    assert len(found.frames) == count and abs(found.frames[0].pixels.astype(int) - picture(0)).mean() < 3


def test_transparency_of_gif_is_full_or_none():
    found = written('a.gif', Frame(IMG, ALPHA)).frames[0]
    np.testing.assert_array_equal(found.alpha > 0, ALPHA >= 128)


def of_colours(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.RandomState(seed)
    palette = rng.permutation(2**24)[:count]
    return np.stack([palette >> 16, palette >> 8 & 255, palette & 255],
                    axis=-1).astype(np.uint8)[rng.permutation(np.arange(SIZE[0] * SIZE[1]) % count).reshape(SIZE)]


def lattice(offset: int = 0) -> np.ndarray:
    """Alpha that is 0 in every fifth column."""
    return np.tile(np.where((np.arange(SIZE[1]) + offset) % 5, 255, 0).astype(np.uint8), (SIZE[0], 1))


@pytest.mark.parametrize(('count', 'clear'), [(1, True), (64, True), (255, True), (256, False)])
def test_a_gif_of_as_many_colours_as_it_holds_is_exact(count, clear):
    img, alpha = of_colours(count), lattice() if clear else None
    data = encode_photo(Photo('PNG', [Frame(img, alpha)]), 'a.gif')
    for _ in range(2):  # from GIF to GIF as well
        photo = decode_photo(data, 'a.gif')
        frame = photo.frames[0]
        seen = np.ones(SIZE, bool) if alpha is None else alpha > 0
        np.testing.assert_array_equal(frame.pixels[seen], img[seen])
        assert (frame.alpha is None) == (alpha is None)
        np.testing.assert_array_equal(np.ones(SIZE, bool) if frame.alpha is None else frame.alpha > 0, seen)
        data = encode_photo(photo, 'a.gif')


def test_a_gif_with_transparency_has_as_good_colours_as_one_without():
    img = picture(size=(120, 160)).astype(int) + np.random.RandomState(0).randint(-20, 20, (120, 160, 3))
    img = img.clip(0, 255).astype(np.uint8)
    alpha = np.where(np.arange(160) < 20, 0, 255).astype(np.uint8)[None].repeat(120, 0)
    found = written('a.gif', Frame(img, alpha)).frames[0].pixels
    without = np.asarray(Image.fromarray(img).quantize(255).convert('RGB'))
    seen = alpha > 0
    assert abs(found.astype(int) - img)[seen].mean() < 1.02 * abs(without.astype(int) - img)[seen].mean()
    assert len(np.unique(found[seen], axis=0)) > 200


@pytest.mark.parametrize('clear', ['0123', '1', '02', '3'], ids='clear in {}'.format)
def test_frames_of_a_gif_with_transparency_are_exact(clear):
    frames = [Frame(of_colours(200, n), lattice(n) if str(n) in clear else None, duration=50) for n in range(4)]
    found = written('a.gif', *frames, animated=True).frames
    assert len(found) == 4
    for one, other in zip(frames, found):
        seen, there = (np.ones(SIZE, bool) if frame.alpha is None else frame.alpha > 0 for frame in (one, other))
        np.testing.assert_array_equal(there, seen)
        np.testing.assert_array_equal(other.pixels[seen], one.pixels[seen])


def test_a_gif_of_which_nothing_is_seen():
    assert (written('a.gif', Frame(IMG, np.zeros(SIZE, np.uint8))).frames[0].alpha == 0).all()


# --- what is said


def test_the_sentence_of_the_documentation():
    photo = Photo('PNG', [Frame(DEEP, DEEP[..., 0])])
    photo.encoding.bits = 16
    assert losses(photo, 'x/out.jpg') == 'out.jpg: transparency is lost, JPEG holds none; 16 bits become 8'


@pytest.mark.parametrize(('img', 'name', 'said'), [
    (IMG / 255., 'a.tif', 'a.tif: 64 bits become 32'),
    (IMG / 255., 'a.png', 'a.png: 64 bits become 16'),
    (DEEP.astype(np.uint64), 'a.tif', 'a.tif: 64 bits become 32'),
    ((IMG / 255).astype(np.float32), 'a.tif', ''),
    ((IMG / 255).astype(np.float16), 'a.tif', ''),
    (DEEP.astype(np.uint32), 'a.tif', ''),
], ids=lambda value: str(getattr(value, 'dtype', value)))
def test_more_bits_than_are_worked_on_are_told(img, name, said):
    photo = decode_photo(tiff(img), 'in.tif')
    assert losses(photo, name) == said
    assert decode_photo(encode_photo(photo, name),
                        name).encoding.bits == (16 if name == 'a.png' else min(img.dtype.itemsize * 8, 32))


def test_without_a_place_for_a_profile_colours_become_srgb():
    photo = Photo('PNG', [Frame(IMG, meta=Metadata(icc=profile('p3')))])
    assert losses(photo, 'a.ppm') == 'a.ppm: its colours become sRGB, as there is no place for its profile'
    found = decode_photo(encode_photo(photo, 'a.ppm'), 'a.ppm').frames[0]
    want = imagecodecs.cms_transform(
        IMG.astype(np.float32) / 255, profile('p3'), profile('srgb'), colorspace='rgb', outcolorspace='rgb')
    assert abs(to_float(found.pixels) - np.clip(want, 0, 1)).max() < .6 / 255 and abs(found.pixels.astype(int) -
                                                                                      IMG).max() > 3
    assert losses(Photo('PNG', [Frame(IMG, meta=Metadata(icc=profile('srgb')))]), 'a.ppm') == ''


def test_pgm_is_grey_or_an_error():
    assert encode_photo(Photo('PPM', [Frame(picture(channels=1))]), 'a.pgm').startswith(b'P5\n')
    with pytest.raises(UserError, match=r"cannot write 'a.pgm': .pgm holds grey images; choose .ppm or .png"):
        losses(Photo('PPM', [Frame(IMG)]), 'a.pgm')


@pytest.mark.parametrize(('name', 'message'), [
    ('a.xyz', "unknown image type '.xyz'; one of: .jpg, .jpeg"),
    ('a.jpgg', "Did you mean '.jpg'"),
    ('a', "unknown image type ''"),
    ('a.nef', 'camera RAW files are only read; choose .png or .tif'),
])
def test_other_suffixes_are_refused(name, message):
    with pytest.raises(UserError, match=r"cannot write 'a") as caught:
        formats.of_output(name, name[1:])
    assert message in str(caught.value)


@pytest.mark.parametrize(('suffix', 'extra', 'module'), [('.heic', 'heic', 'pillow_heif'), ('.dng', 'raw', 'rawpy')])
def test_what_needs_a_package_names_it(suffix, extra, module, monkeypatch):
    import importlib.util
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError) as caught:
        formats.needs(formats.by_suffix(suffix), f'a{suffix}')
    assert f"pip install 'retinexmamba[{extra}]'" in str(caught.value)
    formats.needs(formats.PNG, 'a.png')


def test_the_table_is_the_one_of_the_documentation():
    from conftest import ROOT
    text = (ROOT / 'docs' / 'enhancing.md').read_text(encoding='utf-8')
    assert f'<!-- formats -->\n{formats.markdown()}\n<!-- end -->' in text


def test_suffixes_are_of_one_format_each():
    suffixes = [suffix for row in formats.FORMATS for suffix in row.suffixes]
    assert len(set(suffixes)) == len(suffixes) and all(suffix == suffix.lower() for suffix in suffixes)


def test_pillow_may_be_told_to_load_truncated_files_by_others(monkeypatch):
    from PIL import ImageFile
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    data = encoded(Image.fromarray(NOISE), 'GIF')
    with pytest.raises(UserError, match=r"'a.gif'"):
        decode_photo(data[:len(data) // 2], 'a.gif')
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
