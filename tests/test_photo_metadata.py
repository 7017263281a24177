"""What a photo has beside its pixels: kept by every format that has a place for it, and true of the new pixels."""
from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from photo_files import IPTC, SIZE, WORDS, XMP, camera, encoded, opened, picture, profile, resources, tiff

from basicsr.photos import exif, formats
from basicsr.photos.boxes import box, boxes
from basicsr.photos.photo import Frame, Metadata, Photo
from basicsr.photos.reading import decode_photo
from basicsr.photos.writing import encode_photo, losses
from basicsr.utils import tiff as tags
from basicsr.utils.errors import UserError

TEXT = (('Title', 'a hill'), ('Comment', 'Grüße, 山'))
META = Metadata(exif=camera(), xmp=XMP, icc=profile('p3'), resources=resources((0x0404, IPTC)), resolution=(300., 200.),
                text=TEXT)
KEPT = [row for row in formats.FORMATS if row.writing]


def photo(meta: Metadata = META, **changes) -> Photo:
    pixels = picture()
    return replace(Photo('PNG', [Frame(pixels, meta=meta.of_new_pixels(pixels, True))]), **changes)


@pytest.mark.parametrize('row', KEPT, ids=lambda row: row.name)
def test_every_format_keeps_what_its_row_says(row):
    name = f'out{row.suffixes[0]}'
    found = decode_photo(encode_photo(photo(), name), name).meta
    held = {key for key, there in found.held().items() if there}
    assert held == row.holds & {'profile', 'EXIF', 'XMP', 'IPTC', 'resolution', 'comment', 'text'} | ({
        'resolution'
    } if row in (formats.AVIF, formats.WEBP, formats.HEIC, formats.JPEG_2000) and found.resolution else set())
    if 'EXIF' in held:
        tree = exif.read_tree(found.exif)
        words = {tag: tree[tag].content.rstrip(b'\0').decode() for tag in WORDS}
        assert words == WORDS
        assert tree[0x8769].content[0x9003].content == b'2024:05:01 09:00:00\0'
        assert struct.unpack('<6I', tree[0x8825].content[2].content) == (47, 1, 22, 1, 5, 1)
    if 'XMP' in held:
        assert found.xmp == XMP
    if 'profile' in held:
        assert found.icc == META.icc
    if 'IPTC' in held:
        assert IPTC in found.resources
    if 'resolution' in row.holds:
        assert found.resolution == pytest.approx((300, 200), abs=.1)
    if 'comment' in held:
        assert ('Comment', 'Grüße, 山') in found.text
    if 'text' in held:
        assert ('Title', 'a hill') in found.text


@pytest.mark.parametrize('row', KEPT, ids=lambda row: row.name)
def test_what_is_lost_is_said(row):
    said = losses(photo(), f'folder/out{row.suffixes[0]}')
    words = {
        'EXIF': 'EXIF data', 'XMP': 'XMP', 'IPTC': 'IPTC', 'resolution': 'the resolution', 'comment': 'the comment',
        'text': 'text'
    }
    for key, word in words.items():
        assert (f'{word} ' in said or f'{word},' in said) == (key not in row.holds), said
    assert ('become sRGB' in said) == ('profile' not in row.holds)
    assert not said or (said.startswith(f'out{row.suffixes[0]}: ') and '\n' not in said)


@pytest.mark.parametrize('order', '<>')
def test_exif_is_changed_where_it_stands(order):
    before = camera(6, order)
    after = exif.renewed(before, 200, 100)
    tree, old = exif.read_tree(after), exif.read_tree(before)
    assert tags.orientation(before) == 6 and tags.orientation(after) == 1
    number = {key: struct.unpack(f'{order}I', tree[0x8769].content[key].content)[0] for key in (0xA002, 0xA003)}
    assert number == {0xA002: 100, 0xA003: 200}
    note = tree[0x8769].content[0x927C].content
    assert note == old[0x8769].content[0x927C].content and after.find(note) == before.find(note)
    # no thumbnail: neither its directory nor its bytes
    assert len(tags.directories(before)) == 2 and len(tags.directories(after)) == 1
    assert b'\xff\xd8\xff' in before and b'\xff\xd8\xff' not in after and len(after) < len(before)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_a_turned_photo_is_upright_and_says_so(kind):
    row = next(row for row in formats.FORMATS if row.name.upper() == kind)
    if kind in ('JPEG', 'PNG', 'WEBP', 'AVIF'):
        data = encoded(picture(), kind, exif=b'Exif\0\0' + camera(6),
                       xmp=XMP.replace(b'<rdf', b'<a tiff:Orientation="6"/><rdf'))
    else:
        data = tiff(picture(), extratags=[(274, 3, 1, 6, True)])
    found = decode_photo(data, 'turned')
    assert found.frames[0].pixels.shape == (SIZE[1], SIZE[0], 3)
    again = decode_photo(encode_photo(found, f'out{row.suffixes[0]}'), 'again')
    assert again.frames[0].pixels.shape == (SIZE[1], SIZE[0], 3)
    assert tags.orientation(again.meta.exif) in (0, 1) and b'Orientation="6"' not in again.meta.xmp
    difference = abs(again.frames[0].pixels.astype(int) - np.rot90(picture(), -1))
    assert difference.mean() < 6


@pytest.mark.parametrize('suffix', ['.heic', '.jp2'])
def test_a_turned_photo_whose_encoder_knows_no_turning(suffix):
    data = encode_photo(photo(frames=[Frame(picture(), meta=Metadata(exif=camera(6)))]), f'a{suffix}')
    frame = decode_photo(data, 'turned').frames[0]
    assert frame.pixels.shape == (SIZE[1], SIZE[0], 3) and tags.orientation(frame.meta.exif) == 1
    assert abs(frame.pixels.astype(int) - np.rot90(picture(), -1)).mean() < 6


def test_photoshops_thumbnails_go_and_iptc_stays():
    shown = resources((0x0404, IPTC), (0x040C, encoded(picture(), 'JPEG')))
    found = photo(Metadata(resources=shown)).meta.resources
    assert found == resources((0x0404, IPTC))
    assert Metadata(resources=b'8BIM\x04').of_new_pixels(picture(), False).resources == b''


def test_xmp_says_the_size_of_the_new_pixels():
    packet = b'<x tiff:ImageWidth="64" tiff:ImageLength=\'48\'><exif:PixelXDimension>64</exif:PixelXDimension></x>'
    assert Metadata(xmp=packet).of_new_pixels(picture(size=(96, 128)), False).xmp == (
        b'<x tiff:ImageWidth="128" tiff:ImageLength=\'96\'><exif:PixelXDimension>128</exif:PixelXDimension></x>')


def test_xmp_loses_thumbnails_and_gain_maps():
    packet = (b'<rdf:Description hdrgm:Version="1.0" dc:x="1"><xmp:Thumbnails><rdf:Alt>AAA</rdf:Alt></xmp:Thumbnails>'
              b'<Container:Directory><rdf:Seq/></Container:Directory></rdf:Description>')
    assert Metadata(xmp=packet).of_new_pixels(picture(), False).xmp == b'<rdf:Description dc:x="1"></rdf:Description>'


def test_a_long_maker_note_is_too_long_for_jpeg_alone():
    long = exif.build({0x010F: exif.Entry(2, 6, b'Maker\0'), 37500: exif.Entry(7, 80000, bytes(80000))}, '<')
    large = photo(Metadata(exif=long))
    assert losses(large, 'a.jpg') == 'a.jpg: EXIF data cannot be kept, JPEG has no place for it'
    assert decode_photo(encode_photo(large, 'a.jpg'), 'a.jpg').meta.exif == b''
    assert losses(large, 'a.png') == '' and decode_photo(encode_photo(large, 'a.png'), 'a.png').meta.exif == long


def test_iptc_of_jpeg_is_found_in_tiff_and_back():
    data = encode_photo(photo(), 'a.jpg')
    assert opened(data).info['photoshop'][0x0404] == IPTC
    from_jpeg = decode_photo(data, 'a.jpg')
    there = encode_photo(from_jpeg, 'a.tif')
    assert opened(there).tag_v2[33723] == IPTC
    assert decode_photo(there, 'a.tif').meta.resources == resources((0x0404, IPTC))
    alone = tiff(picture(), extratags=[(33723, 7, len(IPTC), IPTC, True)])
    assert decode_photo(alone, 'a.tif').meta.resources == resources((0x0404, IPTC))


def test_tags_of_tiff_and_its_exif_directory_are_read_by_others():
    image = opened(encode_photo(photo(), 'a.tif'))
    assert image.tag_v2[271] == 'Maker' and image.info['icc_profile'] == META.icc and image.info['xmp'] == XMP
    assert image.getexif().get_ifd(0x8769)[0x9003] == '2024:05:01 09:00:00'
    assert image.getexif().get_ifd(0x8825)[2] == (47.0, 22.0, 5.0)
    import io

    import tifffile
    with tifffile.TiffFile(io.BytesIO(encode_photo(photo(Metadata(exif=camera(order='>'))), 'a.tif'))) as file:
        assert file.byteorder == '>' and file.pages[0].tags[272].value.strip('\0') == 'Model 1'
        np.testing.assert_array_equal(file.pages[0].asarray(), picture())


def test_pages_keep_their_own_words():
    frames = [
        Frame(picture(n), meta=Metadata(exif=exif.build({270: exif.Entry(2, 2, word)}, '<'), resolution=(n + 72., 90)))
        for n, word in enumerate((b'A\0', b'B\0'))
    ]
    found = decode_photo(encode_photo(photo(frames=frames), 'a.tif'), 'a.tif').frames
    assert [exif.read_tree(frame.meta.exif)[270].content for frame in found] == [b'A\0', b'B\0']
    assert [frame.meta.resolution for frame in found] == [(72, 90), (73, 90)]


def test_the_first_of_two_descriptions_counts():
    import io

    import tifffile
    file = io.BytesIO()
    tifffile.imwrite(file, picture(), photometric='rgb', description='a hill')  # tifffile's own is the second
    assert exif.read_tree(decode_photo(file.getvalue(), 'a.tif').meta.exif)[270].content == b'a hill\0'


def test_text_with_keywords_is_lost_where_there_is_a_comment_alone():
    titled = photo(Metadata(text=TEXT[:1]))
    for name in ('a.jpg', 'a.gif'):
        assert 'text cannot be kept' in losses(titled, name) and decode_photo(encode_photo(titled, name),
                                                                              name).meta.text == ()
        assert losses(photo(Metadata(text=TEXT[1:]), format='GIF'), name) == ''
    assert losses(titled, 'a.png') == ''


def test_a_comment_in_another_encoding_keeps_its_bytes():
    said = 'Grüße'.encode('latin-1')
    data = encoded(picture(), 'JPEG', comment=said)
    data = data[:2] + b'\xff\xfe\0\x07first' + data[2:]  # a second one
    found = decode_photo(data, 'a.jpg')
    assert [body for kind, body in opened(encode_photo(found, 'b.jpg')).applist if kind == 'COM'] == [b'first', said]
    assert opened(encode_photo(found, 'b.gif')).info['comment'] == b'first\n' + said
    written = encode_photo(found, 'b.png')
    assert b'tEXtComment\0first' in written and b'tEXtComment\0' + said in written


def test_a_long_comment():
    long = photo(Metadata(text=(('Comment', 'word ' * 20000), )))
    assert decode_photo(encode_photo(long, 'a.gif'), 'a.gif').meta.text == long.meta.text
    assert b''.join(decode_photo(encode_photo(long, 'a.jpg'), 'a.jpg').meta.comments) == long.meta.comment


@pytest.mark.parametrize('key', ['icc_profile', 'dpi', 'duration', 'transparency', 'comment', 'exif', 'xmp', 'loop'])
def test_text_of_a_png_under_any_keyword_is_text(key):
    from basicsr.photos.png_file import _chunk
    data = encoded(picture(), 'PNG')
    found = decode_photo(data[:33] + _chunk(b'tEXt', key.encode() + b'\0some words') + data[33:], 'a.png')
    assert found.meta.text == ((key, 'some words'), ) and found.frames[0].alpha is None
    assert decode_photo(encode_photo(found, 'b.png'), 'b.png').meta == found.meta


@pytest.mark.parametrize('kind', ['iptc', '8bim'])
def test_iptc_of_a_png_is_kept_and_found(kind):
    from basicsr.photos.png_file import _chunk
    from basicsr.photos.raw_profiles import encoded as raw_profile
    data = encoded(picture(), 'PNG')
    data = data[:33] + _chunk(b'tEXt', raw_profile(kind, resources((0x0404, IPTC)))) + data[33:]
    found = decode_photo(data, 'a.png')
    for name in ('b.png', 'b.jpg', 'b.tif'):
        assert losses(found, name) == '' and IPTC in decode_photo(encode_photo(found, name), name).meta.resources


def test_what_is_no_raw_profile_stays_text():
    from basicsr.photos.png_file import _chunk
    data = encoded(picture(), 'PNG')
    data = data[:33] + _chunk(b'tEXt', b'Raw profile type app12\0\napp12\n 2\n0000') + data[33:]
    assert [key for key, _ in decode_photo(data, 'a.png').meta.text] == ['Raw profile type app12']


@pytest.mark.parametrize('name', ['a.heic', 'a.avif'])
def test_a_gain_map_beside_the_photo_is_told(name):
    data = encode_photo(photo(Metadata()), name)
    assert decode_photo(data, name).remarks == []
    named = box(b'free', b'urn:com:apple:photo:2020:aux:hdrgainmap\0')
    behind = data.index(b'mdat') - 4

    def with_name(kind: bytes, body: bytes) -> bytes:
        if kind != b'meta':
            return box(kind, body)
        at = body.index(b'iloc') + 4
        places = range(at, at + int.from_bytes(body[at - 8:at - 4], 'big') - 8)
        place = next(i for i in places if behind <= int.from_bytes(body[i:i + 4], 'big') < len(data))
        moved = int.from_bytes(body[place:place + 4], 'big') + len(named)
        return box(kind, body[:place] + moved.to_bytes(4, 'big') + body[place + 4:] + named)

    found = decode_photo(b''.join(with_name(*one) for one in boxes(data)), name)
    assert found.remarks == ['has a gain map for bright screens, which is lost']
    assert abs(found.frames[0].pixels.astype(int) - picture()).mean() < 6


def test_how_programs_lay_out_their_pixels_is_no_description():
    import io

    import tifffile
    file = io.BytesIO()
    tifffile.imwrite(file, picture(), photometric='rgb')  # {"shape": [48, 64, 3]}
    assert 270 not in exif.read_tree(decode_photo(file.getvalue(), 'a.tif').meta.exif)


def test_old_raw_profiles_of_png_are_exif():
    from basicsr.photos.png_file import _chunk
    words = camera(6)
    text = f'\nexif\n{len(words) + 6}\n' + (b'Exif\0\0' + words).hex()
    data = encoded(picture(), 'PNG')
    data = data[:33] + _chunk(b'tEXt', b'Raw profile type exif\0' + text.encode()) + data[33:]
    found = decode_photo(data, 'a.png')
    assert found.frames[0].pixels.shape[:2] == SIZE[::-1] and found.meta.text == ()
    assert opened(encode_photo(found, 'a.png')).getexif()[271] == 'Maker'


def test_chunks_of_colour_are_kept():
    from basicsr.photos.png_file import _chunk, chunks
    said = [(b'gAMA', (45455).to_bytes(4, 'big')), (b'cHRM', bytes(range(32)))]
    data = encoded(picture(), 'PNG')
    data = data[:33] + b''.join(_chunk(*one) for one in said) + data[33:]
    written = encode_photo(decode_photo(data, 'a.png'), 'b.png')
    assert [one for one in chunks(written) if one in said] == said


@pytest.mark.parametrize('seed', range(40))
def test_damaged_exif_is_no_reason_to_fail(seed):
    """Any bytes may stand there: nothing is raised, and what is read can be written."""
    rng = np.random.RandomState(seed)
    data = bytearray(camera(6, '<>'[seed % 2]))
    for _ in range(rng.randint(1, 30)):
        data[rng.randint(4, len(data))] = rng.randint(256)
    data = data[:rng.randint(9, len(data))] if seed % 3 == 0 else data
    tree = exif.read_tree(exif.renewed(bytes(data), 10, 20))
    exif.says_something(bytes(data))
    exif.build(tree, '<')
    for name in ('a.jpg', 'a.png', 'a.tif', 'a.webp'):
        found = decode_photo(encode_photo(photo(Metadata(exif=bytes(data))), name), name)
        assert found.frames[0].pixels.shape[2] == 3


def test_an_exif_directory_that_contains_itself_ends():
    data = camera()
    at = data.find(struct.pack('<HHI', 0x8769, 4, 1)) + 8
    looped = data[:at] + struct.pack('<I', 8) + data[at + 4:]
    assert exif.read_tree(looped) and exif.renewed(looped, 5, 5)


@pytest.mark.parametrize(('suffix', 'size'), [('.webp', 16384), ('.jpg', 65536)])
def test_what_is_too_large_for_a_format_is_told_before(suffix, size):
    long = Photo('PNG', [Frame(np.zeros((1, size, 3), np.uint8))])
    with pytest.raises(UserError, match=f'holds at most {size - 1} pixels a side'):
        losses(long, f'a{suffix}')
