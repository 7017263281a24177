"""Files that cannot be used, by their headers, are told before a run, a test or an evaluation starts."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_headers import picture

from basicsr.cli import main as basicsr
from basicsr.data import build_dataset
from basicsr.data.protocol import about
from basicsr.registry import DATASET_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite


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
