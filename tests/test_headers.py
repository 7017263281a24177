"""What the headers of image files tell without decoding: sizes, missing ends, bytes too many; before a run starts."""
from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from basicsr.cli import main as basicsr
from basicsr.data import build_dataset, reading
from basicsr.data.protocol import about
from basicsr.data.reading import head_of
from basicsr.registry import DATASET_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.image_header import read_header
from basicsr.utils.img import decode_image, imwrite
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


# ------------------------------------------------------------------------------------------------ what a header tells


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


# ------------------------------------------------------------------------------------------------ before a start


@pytest.fixture
def many(tmp_path):
    """Twelve pairs of one size; gives the folder, and options of a data set."""
    for name in map(str, range(1, 13)):
        for side in ('lq', 'gt'):
            imwrite(np.asarray(picture(24, 28)), tmp_path / 'many' / side / f'{name}.png')
    return tmp_path / 'many', {'dataroot_lq': str(tmp_path / 'many/lq'), 'dataroot_gt': str(tmp_path / 'many/gt')}


def refused(capsys, tmp_path: Path, *argv: str | Path) -> str:
    """What is said; nothing has changed."""
    before = sorted(tmp_path.rglob('*'))
    assert basicsr(list(map(str, argv))) == 2
    said = capsys.readouterr().err
    assert said.count('error: ') == 1 and 'Traceback' not in said and sorted(tmp_path.rglob('*')) == before
    return said.partition('error: ')[2]


def damage(file: Path, how: str) -> str:
    """Returns the words that are said of it."""
    data = file.read_bytes()
    if how == 'another size':
        imwrite(np.asarray(picture(30, 40)), file)
        return "but its input is" if file.parent.name == 'lq' else "is 40x30, but its input is 28x24; at scale 1"
    file.write_bytes({'empty': b'', 'cut off': data[:-30], 'no image': b'<html>not found</html>'}[how])
    return {'empty': 'is empty', 'cut off': 'is cut off', 'no image': 'is not an image'}[how]


@pytest.mark.parametrize('how', ['another size', 'empty', 'cut off', 'no image'])
@pytest.mark.parametrize('side', ['lq', 'gt'])
@pytest.mark.parametrize('block', ['train', 'val'])
def test_files_that_cannot_be_used_end_no_run_late(tiny_options, tmp_path, many, capsys, block, side, how):
    words = damage(many[0] / side / '7.png', how)
    said = refused(capsys, tmp_path, 'train', '--opt', tiny_options(datasets={block: many[1]}))
    assert said.startswith(f"datasets.{block}: '{many[0]}") and words in said and '7.png' in said
    assert said.count('\n') == 1


def test_of_many_the_first_are_named_and_all_counted(tiny_options, tmp_path, many, capsys):
    for name in (2, 4, 5, 7, 8, 10, 11):
        damage(many[0] / 'gt' / f'{name}.png', 'another size' if name % 2 else 'cut off')
    options = tiny_options(datasets={'val': many[1]})
    said = refused(capsys, tmp_path, 'train', '--opt', options).splitlines()
    assert said[0] == 'datasets.val: 7 of 12 samples cannot be used:' and said[-1].startswith(
        "  and 2 more; basicsr check-data names them all; all of them are in '")
    assert [Path(line.split("'")[1]).stem for line in said[1:-1]] == ['2', '4', '5', '7', '8']
    assert basicsr(['check-data', '--opt', str(options)]) == 2
    assert capsys.readouterr().err.count('gt/') == 7


def test_all_are_counted_although_the_first_is_one_of_them(tiny_options, tmp_path, many, capsys):
    assert basicsr(['train', '--opt', str(tiny_options())]) == 0
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    for file in (many[0] / 'gt').iterdir():
        damage(file, 'another size')
    capsys.readouterr()
    for block in ('train', 'val'):
        said = refused(capsys, tmp_path, 'train', '--opt', tiny_options(datasets={block: many[1]}))
        assert said.startswith(f'datasets.{block}: 12 of 12 samples cannot be used:\n  ') and 'and 7 more' in said
    said = refused(capsys, tmp_path, 'evaluate', '--weights', weights, '--degraded_dir', many[0] / 'lq', '--clean_dir',
                   many[0] / 'gt', '--output_dir', tmp_path / 'out')
    assert said.startswith('12 of 12 samples cannot be used:\n  ') and "  and 7 more; all of them are in '" in said


def test_every_command_says_it(tiny_options, tmp_path, many, capsys):
    pytest.importorskip('optuna')
    assert basicsr(['train', '--opt', str(tiny_options())]) == 0
    weights = tmp_path / 'experiments' / 'tiny' / 'models' / 'net_g_latest.pth'
    damage(many[0] / 'gt' / '7.png', 'another size')
    options = tiny_options(datasets={'val': many[1]})
    space = tmp_path / 'space.yml'
    space.write_text('space:\n  train.optim_g.lr: {low: 1e-4, high: 1e-3}\n')
    capsys.readouterr()
    folders = ['--degraded_dir', many[0] / 'lq', '--clean_dir', many[0] / 'gt', '--output_dir', tmp_path / 'out']
    for argv in (['test', '--opt', options, f'path.pretrain_network_g={weights}'],
                 ['search', '--opt', options, '--space', space, '--trials',
                  '1'], ['evaluate', '--opt', options, '--weights', weights, '--output_dir',
                         tmp_path / 'out'], ['evaluate', '--weights', weights, *folders]):
        assert "gt/7.png' is 40x30, but its input is 28x24" in refused(capsys, tmp_path, *argv), argv


@pytest.mark.parametrize('block', ['train', 'val'])
def test_what_a_later_stage_needs_is_tried_first(tiny_options, tmp_path, pairs, many, capsys, block):
    damage(many[0] / 'gt' / '7.png', 'cut off')
    damage(many[0] / 'gt' / '9.png', 'cut off')
    good = {'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')}
    kind = {'type': 'PairedImageDataset', 'name': 'toy'}
    second = {'train': {**kind, **good, 'gt_size': 16, 'batch_size_per_gpu': 2}, 'val': {**kind, **good}}
    second[block] |= many[1]
    stages = [{'name': 'a'}, {'name': 'b', 'datasets': second}]
    said = refused(capsys, tmp_path, 'train', '--opt', tiny_options(stages=stages))
    assert f"stage 'tiny_b': datasets.{block}: 2 of 12 samples" in said and '7.png' in said and '9.png' in said


def test_what_a_division_leaves_over_may_be_there(tiny_options, tmp_path, many, capsys):
    """DIV2K's ground truths have up to three rows and columns more than four times those of their inputs."""
    for name in map(str, range(1, 13)):
        imwrite(np.asarray(picture(24 * 4, 28 * 4)), many[0] / 'gt' / f'{name}.png')
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 4}
    options = tiny_options(scale=4, network_g=network, datasets={'train': {**many[1], 'gt_size': 16}, 'val': many[1]})
    imwrite(np.asarray(picture(24 * 4 + 3, 28 * 4 + 1)), many[0] / 'gt' / '5.png')
    assert basicsr(['train', '--opt', str(options)]) == 0
    for height, width in ((24 * 4 + 4, 28 * 4), (24 * 4, 28 * 4 - 1)):
        imwrite(np.asarray(picture(height, width)), many[0] / 'gt' / '5.png')
        capsys.readouterr()
        said = refused(capsys, tmp_path, 'train', '--opt', options, 'datasets.train.pair_range=:4')
        assert f"is {width}x{height}, but its input is 28x24; at scale 4 it should be 112x96" in said


def test_pictures_that_are_turned_or_resized_go_together(tiny_options, many):
    tag = Image.Exif()
    tag[274] = 6
    for side in ('lq', 'gt'):
        (many[0] / side / '7.png').unlink()
    picture(24, 28).save(many[0] / 'lq' / '7.jpg')
    picture(28, 24).save(many[0] / 'gt' / '7.jpg', exif=tag)
    assert basicsr(['train', '--opt', str(tiny_options(datasets={'val': many[1], 'train': many[1]}))]) == 0
    damage(many[0] / 'gt' / '3.png', 'another size')
    resized = {**many[1], 'resize': [24, 24]}
    assert basicsr(['train', '--opt', str(tiny_options(datasets={'val': resized, 'train': resized}))]) == 0


def test_a_data_set_of_others_may_make_what_it_needs(tiny_options, tmp_path, many, monkeypatch):
    for name, value in (('_extra', []), ('_index', None), ('_objects', dict(DATASET_REGISTRY._objects))):
        monkeypatch.setattr(DATASET_REGISTRY, name, value)  # the other tests do not know it
    (tmp_path / 'fitting_dataset.py').write_text("""
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.registry import DATASET_REGISTRY

@DATASET_REGISTRY.register()
class FittingDataset(PairedImageDataset):
    def read_pair(self, index):
        lq, gt = super().read_pair(index)
        return lq, gt[:lq.shape[0], :lq.shape[1]]
""")
    damage(many[0] / 'gt' / '7.png', 'another size')
    options = tiny_options(dataset_files=[str(tmp_path / 'fitting_dataset.py')],
                           datasets={'val': {**many[1], 'type': 'FittingDataset'}})
    assert basicsr(['train', '--opt', str(options)]) == 0


TREE = {'dataroot_lq': 'lq', 'dataroot_gt': 'gt'}
VIEWS = {'dataroot_lqL': 'lq', 'dataroot_lqR': 'right', 'dataroot_gt': 'gt'}


@pytest.mark.parametrize('block, file', [
    ({'type': 'PairedImageDataset', **TREE, 'dataroot_sem': 'maps', 'sem_classes': 4}, 'maps/b.npy'),
    ({'type': 'SingleImageDataset', 'dataroot_lq': 'lq', 'dataroot_sem': 'maps', 'sem_classes': 4}, 'maps/b.npy'),
    ({'type': 'PairedImageDataset', **TREE, 'dataroot_sem': 'maps', 'sem_classes': 4}, 'maps/c.png'),
    ({'type': 'DualPixelDefocusDataset', **VIEWS}, 'right/b.png'),
    ({'type': 'DualPixelDefocusDataset', **VIEWS}, 'gt/b.png'),
    ({'type': 'GaussianDenoisingDataset', 'dataroot_gt': ['right', 'gt']}, 'gt/b.png'),
    ({'type': 'StagedImageDataset', 'dataroot': '.', 'stage': 'valid'}, '2_valid/two/high/b.png'),
    ({'type': 'CDD11Dataset', 'dataroot': '.', 'subset': 'haze'}, 'test/clear/b.png'),
    ({'type': 'AllInOneDataset', 'dataroot': '.', 'de_type': ['synllie', 'denoise_15']}, 'llie/LOLv1/Test/target/b.png'),
    ({'type': 'SIDDataset', 'dataroot_lq': 'clips/in', 'dataroot_gt': 'clips/out', 'train_size': None},
     'clips/out/1b/1.npy'),
    ({'type': 'SIDDataset', 'dataroot_lq': 'clips/in', 'dataroot_gt': 'clips/out'}, 'clips/in/1b/1.npy'),
], ids=lambda value: value if isinstance(value, str) else value['type'])  # yapf: disable
def test_every_data_set_looks_at_all_files_of_an_item(tmp_path, monkeypatch, block, file):
    monkeypatch.chdir(tmp_path)
    pixels = np.asarray(picture(20, 34))
    for name in 'abc':
        for folder in ('lq', 'gt', 'right', '2_valid/one/low', '2_valid/one/high', '2_valid/two/low',
                       '2_valid/two/high', 'test/clear', 'test/haze', 'llie/LOLv1/Test/input', 'llie/LOLv1/Test/target',
                       'denoising/cBSD68/original_png'):
            imwrite(pixels, tmp_path / folder / f'{name}.png')
        for folder in ('in', 'out'):
            (tmp_path / 'clips' / folder / f'1{name}').mkdir(parents=True)
            np.save(tmp_path / 'clips' / folder / f'1{name}' / '1.npy', pixels)
    (tmp_path / 'maps').mkdir()
    for name in 'ab':
        np.save(tmp_path / 'maps' / f'{name}.npy', np.full((4, 20, 34), 0.25, np.float16))
    cv2.imwrite(str(tmp_path / 'maps' / 'c.png'), np.zeros((20, 34), np.uint8))
    dataset = about(build_dataset({**block, 'phase': 'val'}))
    items = range(len(build_dataset({**block, 'phase': 'val'})))
    sizes = [dataset.input_size(i) for i in items]
    assert None not in sizes
    whole = Path(file).read_bytes()
    Path(file).write_bytes(whole[:-20])
    wrong = []
    for i in items:
        try:
            assert dataset.input_size(i) == sizes[i]
        except UserError as error:
            wrong.append(str(error))
    assert len(wrong) == 1 and file in wrong[0]
