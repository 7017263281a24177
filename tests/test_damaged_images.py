"""Files that are damaged inside, of several pages, or stored as OpenCV misreads them: refused, or named in a warning."""
import io
import os
import subprocess
import sys
import threading

import cv2
import lmdb
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from basicsr import cli
from basicsr.data import build_dataset
from basicsr.data.loader import ImageLoader
from basicsr.data.packing import make_lmdb
from basicsr.data.resident_loader import ResidentLoader
from basicsr.data.samplers import EnlargedSampler
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils.decoder import decode, decoding_in_threads
from basicsr.utils.errors import UserError
from basicsr.utils.image_header import read_header
from basicsr.utils.img import decode_image, imread
from basicsr.utils.notes import collect_notes


def picture(h=120, w=160, seed=0):
    rng = np.random.default_rng(seed)
    waves = np.sin(np.mgrid[:h, :w].sum(0)[..., None] / (5, 7, 9)) * 60 + 128
    return (waves + rng.integers(-20, 20, (h, w, 3))).clip(0, 255).astype(np.uint8)


def encoded(kind, img=None, **settings):
    data = io.BytesIO()
    Image.fromarray(picture() if img is None else img).save(data, kind, **settings)
    return data.getvalue()


def zeroed(data, count=1500, at=0.5):
    start = int(len(data) * at)
    return data[:start] + bytes(count) + data[start + count:]


def tiff(array, **settings):
    data = io.BytesIO()
    tifffile.imwrite(data, array, **settings)
    return data.getvalue()


def notes_of(data):
    with collect_notes() as notes:
        decode_image(data, 'x')
    return notes


# ---------------------------------------------------------------- damaged inside

TOLD = {
    'baseline': (encoded('JPEG', quality=75), {}),
    'progressive': (encoded('JPEG', quality=95, progressive=True), {}),
    'deflate': (encoded('TIFF', compression='tiff_adobe_deflate'), {}),
    'png': (encoded('PNG'), {}),
}
UNKNOWN_TAG = encoded('TIFF', tiffinfo={65000: 'mine'})
if decode(UNKNOWN_TAG, cv2.IMREAD_COLOR)[1]:  # early releases of OpenCV 4 keep what libtiff says to themselves
    TOLD |= {
        'lzw': (encoded('TIFF', compression='tiff_lzw'), {}),
        'jpeg in tiff': (encoded('TIFF', compression='jpeg'), {}),
        'packbits': (encoded('TIFF', compression='packbits'), {}),
    }


@pytest.mark.parametrize('kind', TOLD)
def test_what_the_decoder_tells_is_an_error_that_names_the_file(kind, capfd):
    data, settings = TOLD[kind]
    assert not notes_of(data)
    with pytest.raises(UserError, match=r"^'folder/x' is (damaged inside|not an image that can be read)"):
        decode_image(zeroed(data, **settings), 'folder/x')
    assert capfd.readouterr() == ('', '')  # nothing without a name


def test_every_byte_of_deflate_is_checked():
    data = encoded('TIFF', compression='tiff_adobe_deflate')
    for at in np.linspace(200, len(data) - 200, 23).astype(int):
        with pytest.raises(UserError, match=r"'x' is (damaged|not an image)"):
            decode_image(data[:at] + bytes([data[at] ^ 4]) + data[at + 1:], 'x')


def test_bytes_left_over_are_doubtful():
    data = encoded('JPEG', quality=95)
    padded = data[:-2] + b'\x12' * 40 + data[-2:]
    note, = notes_of(padded)
    assert note.doubtful and note.text.startswith("'x': ") and '35 extraneous bytes' in note.text


@pytest.mark.parametrize('data', [
    encoded('WEBP', quality=90),
    encoded('WEBP', lossless=True),
    encoded('JPEG2000', quality_mode='rates', quality_layers=[5]),
], ids=['webp', 'lossless webp', 'jpeg 2000'])
def test_zeros_amid_pixels_of_formats_without_checksums(data):
    note, = notes_of(zeroed(data, 1000, at=0.4))
    assert note.doubtful and "'x' holds 1000 zero bytes in a row" in note.text
    assert not notes_of(data)


@pytest.mark.parametrize('kind, settings', [('WEBP', {'quality': 90}), ('WEBP', {'lossless': True}), ('JPEG2000', {}),
                                            ('JPEG', {'optimize': True}), ('PNG', {}),
                                            ('TIFF', {'compression': 'tiff_adobe_deflate'})])
@pytest.mark.parametrize('value', [0, 255])
def test_pictures_of_one_colour_are_whole(kind, settings, value):
    assert not notes_of(encoded(kind, np.full((1500, 2000, 3), value, np.uint8), **settings))


def test_warnings_that_are_not_about_pixels_carry_the_name(capfd):
    wrong_text = encoded('PNG')[:33] + b'\0\0\0\x04tEXta\0bc\0\0\0\0' + encoded('PNG')[33:]
    notes = notes_of(wrong_text) + notes_of(UNKNOWN_TAG)
    assert notes[0].text == "'x': the decoder says: libpng warning: tEXt: CRC error"
    assert all('Unknown field with tag 65000' in note.text for note in notes[1:])
    assert all(note.text.startswith("'x': the decoder says: ") and not note.doubtful for note in notes)
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('value', [0, 9, 255])
def test_a_wrong_orientation_is_no_damage(value):
    data = encoded('TIFF', tiffinfo={274: value})
    assert all(not note.doubtful for note in notes_of(data))
    assert np.array_equal(decode_image(data, 'x')[..., ::-1], picture())


def test_an_offset_beyond_all_files_is_an_error_that_names_the_file():
    data = bytearray(encoded('TIFF', big_tiff=True))
    data[15] ^= 0x80  # the highest byte of the place of the first directory
    with pytest.raises(UserError, match="'x'"):
        decode_image(bytes(data), 'x')


# ---------------------------------------------------------------- pages and planes


@pytest.mark.parametrize('kind, settings', [('TIFF', {}), ('WEBP', {'lossless': True}), ('PNG', {}), ('GIF', {})])
def test_of_several_pages_the_first_is_used_and_that_is_said(kind, settings):
    first = picture() // 64 * 64
    more = [Image.fromarray(255 - first), Image.fromarray(first // 2)]
    data = encoded(kind, first, save_all=True, append_images=more, **settings)
    assert read_header(data).pages == 3
    if cv2.imdecode(np.frombuffer(data, np.uint8),
                    cv2.IMREAD_COLOR) is None:  # animations, in early releases of OpenCV 4
        with pytest.raises(UserError, match=r"^'x' is not an image that can be read"):
            decode_image(data, 'x')
        return
    note, = notes_of(data)
    assert note.text == "'x' has 3 pages or frames; the first is used" and not note.doubtful
    assert read_header(encoded(kind, first, **settings)).pages == 1
    if kind != 'GIF':  # whose encoder changes colours
        assert np.array_equal(decode_image(data, 'x')[..., ::-1], first)


def test_a_thumbnail_is_no_page():
    data = io.BytesIO()
    with tifffile.TiffWriter(data) as writer:
        writer.write(picture(), photometric='rgb')
        writer.write(picture(30, 40), photometric='rgb', subfiletype=1)
    assert not notes_of(data.getvalue())


@pytest.mark.parametrize('compression', [None, 'zlib'])
@pytest.mark.parametrize('tile', [None, (64, 64)])
@pytest.mark.parametrize('order', '<>')
def test_planes_are_read_right_or_refused(compression, tile, order):
    img = picture()
    settings = {'photometric': 'rgb', 'compression': compression, 'tile': tile, 'byteorder': order}
    for planes in (img, img.astype(np.uint16) * 257):
        assert np.array_equal(decode_image(tiff(planes, **settings), 'x')[..., ::-1], planes)
        planar = tiff(np.ascontiguousarray(planes.transpose(2, 0, 1)), planarconfig='separate', **settings)
        if planes.dtype == np.uint8:
            assert np.array_equal(decode_image(planar, 'x')[..., ::-1], planes)
        else:
            with pytest.raises(UserError, match=r"^'x' stores its 16-bit channels in separate planes"):
                decode_image(planar, 'x')


@pytest.mark.parametrize('array, settings, words', [
    (picture().astype(np.int8), {'photometric': 'rgb'}, 'holds int8 values'),
    (picture().astype(np.uint32), {'photometric': 'rgb'}, 'holds uint32 values'),
    (picture()[..., 0].astype(np.uint16), {'photometric': 'miniswhite'}, 'white as 0 in 16 bits'),
])
def test_what_would_be_read_as_other_pixels_is_refused(array, settings, words):
    with pytest.raises(UserError, match=f"^'x' .*{words}"):
        decode_image(tiff(array, **settings), 'x')


def test_big_tiff_and_grey_are_told_as_they_are():
    assert not notes_of(tiff(picture(), photometric='rgb', bigtiff=True))
    header = read_header(tiff(picture()[..., 0].astype(np.uint16), photometric='minisblack', bigtiff=True))
    assert header.remarks() == ['grey, read as three equal channels', '16-bit, read in full depth']
    alpha = np.dstack([picture(), picture()[..., 0]])
    assert read_header(
        tiff(alpha, photometric='rgb',
             extrasamples=['unassalpha'])).remarks() == ['with an alpha channel, by which the colours are multiplied']


# ---------------------------------------------------------------- who is told


def padded_jpeg(file):
    """A picture whose decoder finds bytes too many, and makes the same picture of it."""
    data = encoded('JPEG', quality=95)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data[:-2] + b'\x12' * 40 + data[-2:])


@pytest.mark.parametrize('workers', [0, 2])
def test_a_loader_tells_each_doubt_once(tmp_path, messages, workers, capfd):
    for name in ('a', 'b'):
        padded_jpeg(tmp_path / f'{name}.jpg')
    loader = ImageLoader(SingleImageDataset(str(tmp_path)), {}, num_workers=workers)
    for _ in range(3):
        assert [batch['lq'].shape for batch in loader] == [(1, 3, 120, 160)] * 2
    told = [text for text in messages if 'extraneous' in text]
    assert len(told) == 2 and f"{tmp_path / 'a.jpg'}" in told[0] and f"{tmp_path / 'b.jpg'}" in told[1]
    assert not [line for line in capfd.readouterr().err.splitlines() if line.startswith('Corrupt')]


def test_check_data_names_them_all(tmp_path, capsys):
    for side in ('lq', 'gt'):
        for name in '123':
            (tmp_path / side).mkdir(exist_ok=True)
            (tmp_path / side / f'{name}.tif').write_bytes(encoded('TIFF', compression='tiff_adobe_deflate'))
    (tmp_path / 'lq' / '1.tif').write_bytes(zeroed(encoded('TIFF', compression='tiff_adobe_deflate')))
    (tmp_path / 'lq' / '2.tif').unlink()
    padded_jpeg(tmp_path / 'lq' / '2.jpg')
    more = [Image.fromarray(picture())]
    (tmp_path / 'gt' / '3.tif').write_bytes(encoded('TIFF', save_all=True, append_images=more))
    (tmp_path / 'x.yml').write_text(f'''\
name: check
model_type: SRModel
network_g: {{type: MSRResNet, upscale: 1}}
datasets:
  test_1: {{type: PairedImageDataset, name: two, dataroot_gt: {tmp_path}/gt, dataroot_lq: {tmp_path}/lq}}
''')
    assert cli.main(['check-data', '--opt', str(tmp_path / 'x.yml')]) == 2
    out, err = capsys.readouterr()
    assert '3 samples, 2 mistakes' in out and "3.tif' has 2 pages" in out
    assert "1.tif' is damaged inside" in err and "2.jpg': the decoder says: " in err
    assert err.count('error: ') == 2


def test_many_threads_may_decode_at_once(tmp_path, capfd):
    good, bad = encoded('JPEG', quality=95), zeroed(encoded('JPEG'))
    with decoding_in_threads() as heard:
        threads = [threading.Thread(target=decode_image, args=(good, 'x')) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not heard
    with decoding_in_threads() as heard:
        decode_image(bad, 'x')
    assert 'Corrupt JPEG data' in heard[0]
    os.write(2, b'still there\n')
    assert capfd.readouterr().err == 'still there\n'


def test_without_stderr_images_are_read_all_the_same(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    code = f"import os; os.close(2); from basicsr.utils.img import imread; print(imread({str(tmp_path / 'a.png')!r}).shape)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == '(120, 160, 3)\n'


def test_checksum_of_png(tmp_path):
    data = encoded('PNG')
    at = data.index(b'IDAT') + 400
    (tmp_path / 'a.png').write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
    with pytest.raises(UserError, match=r"a\.png' is not an image that can be read .*: libpng error"):
        imread(tmp_path / 'a.png')


def test_images_in_device_memory_are_told_as_well(tmp_path, messages, capfd):
    for side in ('lq', 'gt'):
        for name in '123':
            padded_jpeg(tmp_path / side / f'{name}.jpg')
    block = {
        'type': 'PairedImageDataset', 'phase': 'train', 'dataroot_gt': str(tmp_path / 'gt'),
        'dataroot_lq': str(tmp_path / 'lq'), 'gt_size': 24, 'scale': 1
    }
    dataset = build_dataset(block)
    ResidentLoader(dataset, block, EnlargedSampler(dataset), 2, torch.device('cpu'))
    told = [text for text in messages if 'extraneous' in text]
    assert len(told) == 6 and all(f"'{tmp_path / side / name}.jpg'" in ''.join(told) for side in ('lq', 'gt')
                                  for name in '123')
    assert not [line for line in capfd.readouterr().err.splitlines() if line.startswith('Corrupt')]
    (tmp_path / 'gt' / '2.jpg').write_bytes(zeroed(encoded('JPEG')))
    with pytest.raises(UserError, match=r"gt/2\.jpg' is damaged inside"):
        ResidentLoader(dataset, block, EnlargedSampler(dataset), 2, torch.device('cpu'))


def test_an_entry_of_a_database_is_named_with_it(tmp_path):
    cv2.imwrite(str(tmp_path / '1.png'), picture())
    make_lmdb(tmp_path, tmp_path / 'a.lmdb')
    with lmdb.open(str(tmp_path / 'a.lmdb')) as env, env.begin(write=True) as transaction:
        transaction.put(b'1', zeroed(encoded('JPEG')))
    with pytest.raises(UserError, match=r"a\.lmdb/1' is damaged inside"):
        SingleImageDataset(str(tmp_path / 'a.lmdb'))[0]


def test_a_sample_with_a_note_is_a_sample_for_those_who_index(tmp_path, messages):
    padded_jpeg(tmp_path / 'a.jpg')
    sample = ImageLoader(SingleImageDataset(str(tmp_path)), {}).dataset[0]
    assert sample['lq'].shape == (3, 120, 160) and 'extraneous' in messages[-1]
