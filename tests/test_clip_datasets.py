"""Clips of `.npy` frames: which are for testing, which ground truth a frame has, and what memory the cache takes."""
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from basicsr.commands.check_data import main as check_data
from basicsr.config import load_options
from basicsr.data import build_dataset
from basicsr.data.frame_cache import FrameReader
from basicsr.data.loader import ImageLoader
from basicsr.utils.errors import UserError

H, W = 8, 12


def save_frame(file, value, shape=(H, W, 3), dtype=np.uint8):
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.full(shape, value, dtype))


def clips(root, names, frames=('1', '2', '10'), gt_frames=None):
    """`lq/<clip>/<frame>.npy` and `gt/...`; a ground truth is 100 brighter, values count up through the files."""
    for c, name in enumerate(names):
        for i, frame in enumerate(frames):
            save_frame(root / 'lq' / name / f'{frame}.npy', 10 * c + i)
        for i, frame in enumerate(gt_frames or frames):
            save_frame(root / 'gt' / name / f'{frame}.npy', 100 + 10 * c + i)
    return {'dataroot_lq': f'{root}/lq', 'dataroot_gt': f'{root}/gt', 'train_size': [W, H]}


def names(dataset):
    return [dataset[i]['name'] for i in range(len(dataset))]


def values(sample):
    return tuple(round(float(sample[k].max()) * 255) for k in ('lq', 'gt'))


# ---------------------------------------------------------------- splits


def test_sid_splits_by_the_first_character_and_takes_the_first_long_exposure(tmp_path):
    opt = clips(tmp_path, ['00001', '10003', '20211'], gt_frames=('2', '10', '1'))
    opt['type'] = 'SIDDataset'
    test, train = (build_dataset(opt | {'phase': p}) for p in ('val', 'train'))
    assert names(test) == ['10003/1', '10003/2', '10003/10']
    assert {n.split('/')[0] for n in names(train)} == {'00001', '20211'} and len(train) == 6
    assert [values(test[i]) for i in range(3)] == [(10, 112), (11, 112), (12, 112)]  # '1.npy', written third
    item = test[2]
    assert item['lq_path'] == f'{tmp_path}/lq/10003/10.npy' and item['gt_path'] == f'{tmp_path}/gt/10003/1.npy'
    assert item['lq'].shape == item['gt'].shape == (3, H, W) and item['lq'].dtype == torch.float32


@pytest.mark.parametrize('place', ['test_list.txt', 'text_list.txt', 'gt/test_list.txt', 'gt/text_list.txt'])
def test_smid_list_is_found_in_the_published_and_in_the_documented_place(tmp_path, place):
    opt = clips(tmp_path, ['0001', '0002', '0003'],
                frames=('0001', '0002.ARW', 'half0003', '0004')) | {'type': 'SMIDDataset'}
    (tmp_path / place).write_text('0002\n\n')
    test, train = (build_dataset(opt | {'phase': p}) for p in ('test', 'train'))
    assert names(test) == ['0002/0001', '0002/0004'] and [values(test[i]) for i in range(2)] == [(10, 110), (13, 110)]
    assert names(train) == ['0001/0001', '0001/0004', '0003/0001', '0003/0004']


def test_smid_without_list_or_with_a_wrong_one(tmp_path):
    opt = clips(tmp_path, ['0001', '0002']) | {'type': 'SMIDDataset', 'phase': 'test', 'block': 'val'}
    with pytest.raises(UserError) as info:
        build_dataset(opt)
    assert all(f"'{tmp_path / p}'" in str(info.value)
               for p in ('test_list.txt', 'text_list.txt', 'gt/test_list.txt', 'gt/text_list.txt'))
    assert str(info.value).startswith('datasets.val: ')
    (tmp_path / 'test_list.txt').write_text('0001\n0007\n')
    for phase in ('test', 'train'):  # a misspelt test clip would be trained on
        with pytest.raises(UserError,
                           match=r"test_list.txt' lists clips that '.*gt' lacks: 0007\. Did you mean '000[12]'"):
            build_dataset(opt | {'phase': phase})


@pytest.mark.parametrize('phase', ['train', 'test'])
def test_a_misspelt_test_clip_of_sdsd_is_a_mistake(tmp_path, phase):
    opt = clips(tmp_path, ['pair11', 'pair12', 'MVI_0898_2_1']) | {'type': 'SDSDDataset', 'phase': phase}
    with pytest.raises(UserError,
                       match=r"testing_dir lists clips that '.*gt' lacks: par12\. Did you mean 'pair1[12]'\?$"):
        build_dataset(opt | {'testing_dir': 'par12,MVI_0898,pair11'})


def test_a_negative_cache_is_refused(tmp_path):
    opt = clips(tmp_path, ['00001']) | {'type': 'SIDDataset', 'phase': 'train', 'cache_data': True}
    with pytest.raises(UserError, match='cache_gib: -1 must not be negative'):
        build_dataset(opt | {'cache_gib': -1})


def test_sdsd_splits_by_testing_dir_and_its_parts(tmp_path):
    opt = clips(tmp_path, ['pair1', 'pair11', 'pair2', 'MVI_0898_2_1', 'pair1_2x']) | {'type': 'SDSDDataset'}
    for testing in ('pair1, MVI_0898', ['pair1', 'MVI_0898']):
        test, train = (build_dataset(opt | {'phase': p, 'testing_dir': testing}) for p in ('test', 'train'))
        assert {n.split('/')[0] for n in names(test)} == {'pair1', 'pair1_2x', 'MVI_0898_2_1'}
        assert {n.split('/')[0] for n in names(train)} == {'pair11', 'pair2'}
    assert all(gt - lq == 100 for lq, gt in map(values, (train[i] for i in range(len(train)))))


def test_sdsd_frames_pair_by_name_or_in_order_and_never_by_chance(tmp_path):
    opt = clips(tmp_path / 'a', ['x', 'y'], frames=('a1', 'a2', 'a10'), gt_frames=('b1', 'b2', 'b10'))
    opt |= {'type': 'SDSDDataset', 'testing_dir': 'x', 'phase': 'test'}
    assert [values(build_dataset(opt)[i]) for i in range(3)] == [(0, 100), (1, 101), (2, 102)]
    for i, gt_frames in enumerate([('1', '2', '11'), ('1', '2')]):
        opt |= clips(tmp_path / str(i), ['x'], gt_frames=gt_frames)
        with pytest.raises(UserError, match=r"/lq/x' has 3 frames and '.*/gt/x' [23]; without partner: 10"):
            build_dataset(opt)


def test_every_clip_that_does_not_pair_is_named(tmp_path):
    opt = clips(tmp_path, ['00001', '00002', '00003', '10001']) | {'type': 'SIDDataset', 'phase': 'train'}
    (tmp_path / 'lq' / '00004').mkdir()
    for file in (tmp_path / 'gt' / '00002').iterdir():
        file.unlink()
    with pytest.raises(UserError) as info:
        build_dataset(opt)
    message = str(info.value)
    assert "clip '00004' is in dataroot_lq only" in message
    assert f"there are no .npy frames in '{tmp_path}/gt/00002'" in message and '00003' not in message
    with pytest.raises(UserError, match=r"'.*lq' is not a folder"):
        build_dataset(opt | {'dataroot_lq': f'{tmp_path}/nowhere/lq'})
    with pytest.raises(UserError, match='holds 4 clips, none of them for test'):
        build_dataset(opt
                      | {'type': 'SDSDDataset', 'testing_dir': '', 'phase': 'test', 'dataroot_lq': opt['dataroot_gt']})


# ---------------------------------------------------------------- frames


def test_frames_are_bgr_and_resized_bilinearly(tmp_path):
    opt = clips(tmp_path, ['10001'], frames=('1', )) | {'type': 'SIDDataset', 'phase': 'test', 'train_size': [4, 2]}
    frame = np.zeros((4, 8, 3), np.uint8)
    frame[:, 4:] = (10, 20, 200)
    np.save(tmp_path / 'lq' / '10001' / '1.npy', frame)
    lq = build_dataset(opt)[0]['lq']
    assert lq.shape == (3, 2, 4)
    assert torch.equal((lq[:, :, 3] * 255).round(), torch.tensor([200., 20., 10.])[:, None].expand(3, 2))
    assert torch.equal(lq[:, :, 0], torch.zeros(3, 2))
    save_frame(tmp_path / 'gt' / '10001' / '1.npy', 7, (4, 8, 3))
    assert build_dataset(opt | {'train_size': None})[0]['lq'].shape == (3, 4, 8)
    with pytest.raises(UserError, match=r'train_size: \[4\] must be \[width, height\]'):
        build_dataset(opt | {'train_size': [4]})


def test_training_crops_and_flips_both_sides_alike_and_never_turns(tmp_path):
    opt = clips(tmp_path, ['00001'], frames=('1', )) | {'type': 'SIDDataset', 'phase': 'train'}
    y, x = np.mgrid[:H, :W]
    frame = np.stack([y, x, x * 0], -1).astype(np.uint8)
    for side, factor in (('lq', 1), ('gt', 2)):
        np.save(tmp_path / side / '00001' / '1.npy', frame * factor)
    random.seed(0)

    def seen(**options):
        samples = [build_dataset(opt | options)[0] for _ in range(60)]
        assert all(torch.equal(s['gt'], s['lq'] * 2) for s in samples)
        columns, rows = zip(*((s['lq'][1:] * 255).round().int() for s in samples))
        # the value at the top left and the step rightwards or downwards tell the box and the flips
        return {(int(r[0, 0]), int(r[1, 0] - r[0, 0]), int(c[0, 0]), int(c[0, 1] - c[0, 0]))
                for r, c in zip(rows, columns)}

    assert seen() == {(0, 1, 0, 1)}
    assert seen(use_flip=True) == {(0, 1, 0, 1), (0, 1, W - 1, -1)}
    assert seen(use_rot=True) == {(0, 1, 0, 1), (H - 1, -1, 0, 1)}
    assert len(seen(use_flip=True, use_rot=True)) == 4
    boxes = seen(gt_size=6)
    assert len(boxes) > 10 and {b[1::2] for b in boxes} == {(1, 1)}
    assert build_dataset(opt | {'gt_size': 6})[0]['lq'].shape == (3, 6, 6)
    assert build_dataset(opt)[0]['lq'].shape == (3, H, W)


DAMAGE = {
    'cut': lambda f: f.write_bytes(f.read_bytes()[:-5]),
    'empty': lambda f: f.write_bytes(b''),
    'text': lambda f: f.write_bytes(b'no array' * 9),
    'grey': lambda f: save_frame(f, 0, (H, W)),
    'float': lambda f: save_frame(f, 0, dtype=np.float32),
    'object': lambda f: np.save(f, np.array([None]), allow_pickle=True),
}


@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_damaged_frame_is_named_in_one_sentence(tmp_path, damage):
    opt = clips(tmp_path, ['10001']) | {'type': 'SIDDataset', 'phase': 'test'}
    file = tmp_path / 'lq' / '10001' / '2.npy'
    damage(file)
    with pytest.raises(UserError) as info:
        list(ImageLoader(build_dataset(opt), {}))
    assert str(info.value).startswith(f"'{file}' ") and '\n' not in str(info.value)


# ---------------------------------------------------------------- cache


def test_cache_keeps_what_was_used_last_within_its_bound(tmp_path):
    files = [str(tmp_path / f'{i}.npy') for i in range(4)]
    for i, file in enumerate(files):
        save_frame(Path(file), i)
    size = H * W * 3
    reader = FrameReader((W, H), cache_gib=3 * size / 2**30)
    for i in (0, 1, 2, 0, 3):
        assert reader.read(files[i]).max() == i
        assert reader.held == sum(f.nbytes for f in reader.frames.values()) <= 3 * size
    assert list(reader.frames) == [files[2], files[0], files[3]]
    for file in files:  # from now on a frame that was kept shows by its old value
        save_frame(Path(file), 99)
    assert [int(reader.read(files[i]).max()) for i in (2, 0, 3, 1)] == [2, 0, 3, 99]


def test_cache_holds_resized_frames_and_none_larger_than_itself(tmp_path):
    save_frame(tmp_path / 'a.npy', 5, (64, 64, 3))
    reader = FrameReader((4, 2), cache_gib=24 / 2**30)
    assert reader.read(str(tmp_path / 'a.npy')).shape == (2, 4, 3) and reader.held == 24
    small = FrameReader((4, 2), cache_gib=23 / 2**30)
    assert small.read(str(tmp_path / 'a.npy')).max() == 5 and small.held == 0
    off = FrameReader((4, 2))
    assert off.read(str(tmp_path / 'a.npy')).max() == 5 and not off.frames


@pytest.mark.parametrize('workers', [0, 2])
def test_a_cache_changes_no_sample(tmp_path, workers):
    opt = clips(tmp_path, ['00001', '00002']) | {'type': 'SIDDataset', 'phase': 'train', 'gt_size': 4, 'use_flip': True}
    plain, cached = (torch.cat([
        b['lq'] for _ in range(2) for b in ImageLoader(build_dataset(opt | {'cache_data': c}), {}, num_workers=workers)
    ]) for c in (False, True))
    assert torch.equal(plain, cached)


# ---------------------------------------------------------------- options

PUBLISHED = {
    'name': 'clips',
    'cache_data': True,
    'N_frames': 5,
    'train_size': [W, H],
    'use_flip': True,
    'use_rot': True,
    'padding': 'new_info',
    'random_reverse': False,
    'border_mode': False,
    'cache_keys': None,
    'color': 'RGB',
    'io_backend': {'type': 'disk'},
    'geometric_augs': True,
    'gt_size': 4,
    'use_shuffle': True,
    'testing_dir': '10001',
}


@pytest.mark.parametrize('kind', ['SID', 'SMID', 'SDSD'])
def test_published_option_files_load_and_check(tmp_path, capsys, kind):
    opt = clips(tmp_path, ['00001', '10001'])
    (tmp_path / 'test_list.txt').write_text('10001')
    block = PUBLISHED | opt | {'type': f'Dataset_{kind}Image'}
    file = tmp_path / 'x.yml'
    file.write_text(
        yaml.safe_dump({
            'name': 'x', 'datasets': {'train': block, 'val': dict(block)}, 'num_gpu': 0,
            'network_g': {'type': 'Restormer'}
        }))
    loaded = load_options(file, is_train=None)
    ignored = {n.split(': ')[1] for n in loaded.notices if 'ignored' in n}
    assert {f'datasets.train.{k}' for k in ('N_frames', 'padding', 'border_mode', 'color', 'geometric_augs')} <= ignored
    assert ('datasets.val.testing_dir' in ignored) == (kind != 'SDSD')
    assert check_data(['--opt', str(file)]) == 0
    out = capsys.readouterr().out
    assert f'datasets.train (Dataset_{kind}Image): 3 samples, 0 mistakes; sizes: {W}x{H} (3)' in out
    assert f'datasets.val (Dataset_{kind}Image): 3 samples, 0 mistakes' in out


def test_our_own_names_tell_keys_without_effect(tmp_path):
    block = clips(tmp_path, ['10001']) | {'type': 'SIDDataset', 'N_frames': 5}
    (tmp_path / 'x.yml').write_text(yaml.safe_dump({'datasets': {'val': block}, 'network_g': {'type': 'Restormer'}}))
    loaded = load_options(tmp_path / 'x.yml', is_train=False)
    assert 'N_frames' not in loaded.opt['datasets']['val']
    assert any('datasets.val.N_frames: ignored (SIDDataset does not read it)' in notice for notice in loaded.notices)
