"""Paired folders whose names differ around a number, scenes with one ground truth, and pictures that are resized."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_pairing import error_of, names, touch

from basicsr.commands.check_data import main as check_data
from basicsr.data import build_dataset
from basicsr.data.pairing_schemes import pair_by_folder, pair_by_number
from basicsr.data.transforms import resize_bilinear
from basicsr.utils.img import imwrite

# ---------------------------------------------------------------- pairing by number


def test_low_is_replaced_by_normal_and_the_rest_pairs_by_its_number(tmp_path):
    lq = touch(tmp_path / 'Low', 'Low10.png', 'Low_a.png', 'low00007.png', '1.jpg', 'r2_3.png', 'same.png')
    gt = touch(tmp_path / 'Normal', 'Normal10.png', 'Normal_a.png', 'normal7.png', 'n1.png', 'r2-x3.png', 'same.png')
    assert names(pair_by_number(lq, gt)) == [('1.jpg', 'n1.png'), ('low00007.png', 'normal7.png'),
                                             ('Low10.png', 'Normal10.png'), ('Low_a.png', 'Normal_a.png'),
                                             ('r2_3.png', 'r2-x3.png'), ('same.png', 'same.png')]


def test_one_never_pairs_with_ten(tmp_path):
    lq, gt = touch(tmp_path / 'Low', 'low1.png', 'low2.png'), touch(tmp_path / 'Normal', 'normal10.png', 'normal2.png')
    message = error_of(pair_by_number, lq, gt)
    assert 'do not pair by number (1 pairs found)' in message and 'filename_tmpl' not in message
    assert 'have no input: normal10.png.' in message and message.endswith('have no ground truth: low1.png')


def test_two_files_of_one_number_are_refused(tmp_path):
    lq, gt = touch(tmp_path / 'Low', 'low1.png', 'dark01.png'), touch(tmp_path / 'Normal', 'normal1.png')
    assert "dataroot_lq: 'dark01.png' and 'low1.png'" in error_of(pair_by_number, lq, gt)


def test_meta_info_file_chooses_ground_truths_of_a_number(tmp_path):
    lq, gt = touch(tmp_path / 'Low', 'low1.png', 'low2.png'), touch(tmp_path / 'Normal', 'normal1.png', 'normal2.png')
    (tmp_path / 'list.txt').write_text('normal2.png\n')
    assert names(pair_by_number(lq, gt, str(tmp_path / 'list.txt'))) == [('low2.png', 'normal2.png')]


# ---------------------------------------------------------------- pairing by folder


@pytest.fixture
def scenes(tmp_path):
    """Two scenes with a ground truth beside the folders, one with a folder of its own."""
    lq = tmp_path / 'lq'
    for scene in ('1', '2', '10'):
        touch(lq / scene, 'b.JPG', 'a.png')
    gt = touch(tmp_path / 'gt', '2.png', '10.JPG')
    touch(tmp_path / 'gt' / '1', 'late10.png', 'late9.png')
    return str(lq), gt


def inside(pairs, lq, gt):
    return [(str(Path(a).relative_to(lq)), str(Path(b).relative_to(gt))) for a, b in pairs]


def test_all_inputs_of_a_scene_have_its_one_ground_truth(scenes, tmp_path):
    truths = ['1/late9.png', '2.png', '10.JPG']
    wanted = [(f'{scene}/{name}', gt) for scene, gt in zip(('1', '2', '10'), truths) for name in ('a.png', 'b.JPG')]
    assert inside(pair_by_folder(*scenes), *scenes) == wanted
    (tmp_path / 'list.txt').write_text('10.JPG\n1/late10.png\n')
    found = inside(pair_by_folder(*scenes, str(tmp_path / 'list.txt')), *scenes)
    assert found == [('1/a.png', '1/late10.png'), ('1/b.JPG', '1/late10.png'), ('10/a.png', '10.JPG'),
                     ('10/b.JPG', '10.JPG')]


def test_scenes_and_ground_truths_alone_are_named(scenes, tmp_path):
    touch(tmp_path / 'lq', 'loose.png')
    touch(tmp_path / 'lq' / '3', 'x.png')
    touch(tmp_path / 'gt', '4.png')
    message = error_of(pair_by_folder, *scenes)
    assert 'do not pair by folder (6 pairs found)' in message
    assert 'have no input: 4.png.' in message and message.endswith('have no ground truth: 3/x.png, loose.png')


def test_a_ground_truth_that_could_be_another_is_refused(scenes, tmp_path):
    touch(tmp_path / 'gt', '1.png')
    assert "'1' is a folder, and there is '1.png' beside it" in error_of(pair_by_folder, *scenes)


def test_a_range_never_cuts_through_a_scene(scenes):
    lq, gt = scenes
    block = {'type': 'PairedImageDataset', 'name': 'x', 'dataroot_lq': lq, 'dataroot_gt': gt, 'pair_by': 'folder'}
    parts = [build_dataset(block | {'phase': 'val', 'pair_range': part}).names for part in (':-1', '-1:', '::2')]
    assert parts == [['1/a', '1/b', '2/a', '2/b'], ['10/a', '10/b'], ['1/a', '1/b', '10/a', '10/b']]


@pytest.mark.parametrize('options, words', [
    ({'filename_tmpl': '{}_low'}, 'pair_by: number is for folders'),
    ({'pair_by': 'folder', 'recursive': True}, 'pair_by: folder is for folders'),
    ({'resize': [40]}, 'resize must be'),
    ({'resize': [40, 61], 'scale': 2}, 'multiples of scale 2'),
])
def test_options_that_do_not_go_together_are_named(tmp_path, options, words):
    lq, gt = touch(tmp_path / 'Low', '1.png'), touch(tmp_path / 'Normal', '1.png')
    assert words in error_of(
        build_dataset, {
            'type': 'PairedImageDataset', 'name': 'x', 'dataroot_lq': lq, 'phase': 'val', 'dataroot_gt': gt,
            'pair_by': 'number', **options
        })


def test_the_layout_of_the_authors_is_read_by_an_option_file(tiny_options, tmp_path, capsys):
    block = {'pair_by': 'number', 'resize': [16, 24]}
    for part in ('Train', 'Val'):
        for n in (1, 2, 10):
            image = np.full((20, 30, 3), n * 20, np.uint8)
            imwrite(image, tmp_path / 'LOL' / part / 'Low' / f'low{n:05d}.png')
            imwrite(image, tmp_path / 'LOL' / part / 'Normal' / f'normal{n:05d}.jpg')
    data = {
        key: {
            **block, 'dataroot_lq': str(tmp_path / 'LOL' / part / 'Low'), 'gt_size': None,
            'dataroot_gt': str(tmp_path / 'LOL' / part / 'Normal')
        } for key, part in (('train', 'Train'), ('val', 'Val'))
    }
    del data['val']['gt_size']
    assert check_data(['--opt', str(tiny_options(datasets=data))]) == 0
    assert capsys.readouterr().out.count('3 samples, 0 mistakes; sizes: 24x16 (3)') == 2


# ---------------------------------------------------------------- resizing


@pytest.mark.parametrize('size, target', [((64, 96), (40, 60)), ((33, 50), (40, 60)), ((30, 80), (60, 24))])
def test_resizing_is_that_of_torchvision_on_pillow_images(size, target):
    """Pillow's own arithmetic of 8-bit images rounds in other places: one level."""
    from PIL import Image
    from torchvision.transforms.functional import resize
    image = np.random.RandomState(0).randint(0, 256, (*size, 3), np.uint8)
    wanted = np.asarray(resize(Image.fromarray(image), list(target))).astype(int)
    ours = resize_bilinear(image, *target)
    assert ours.dtype == np.uint8 and ours.shape == (*target, 3)
    assert np.abs(ours - wanted).max() <= 1
    deep = resize_bilinear(image.astype(np.uint16) * 257, *target)
    assert deep.dtype == np.uint16 and np.abs(deep / 257 - wanted).max() <= 1.01
    assert resize_bilinear(image, *size) is image


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_pairs_are_resized_before_anything_else_in_every_phase(tmp_path, phase):
    rng = np.random.RandomState(0)
    gt, lq = rng.randint(0, 256, (48, 80, 3), np.uint8), rng.randint(0, 256, (24, 40, 3), np.uint8)
    imwrite(gt, tmp_path / 'gt' / '1.png')
    imwrite(lq, tmp_path / 'lq' / '1.png')
    options = {
        'type': 'PairedImageDataset', 'name': 'x', 'dataroot_gt': str(tmp_path / 'gt'), 'phase': phase,
        'dataroot_lq': str(tmp_path / 'lq'), 'scale': 2, 'resize': [40, 36]
    }
    item = build_dataset(options)[0]
    for key, image, size in (('gt', gt, (40, 36)), ('lq', lq, (20, 18))):
        wanted = torch.from_numpy(resize_bilinear(image, *size)[..., ::-1].copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(item[key], wanted)
    patch = build_dataset({**options, 'gt_size': 16})[0]['gt']
    assert patch.shape == ((3, 16, 16) if phase == 'train' else (3, 40, 36))
