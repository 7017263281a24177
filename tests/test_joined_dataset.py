"""Several data sets as one: order, repeats, names, what is shared, and how mistakes are named."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from basicsr.__main__ import main
from basicsr.config import load_options
from basicsr.data import build_dataset
from basicsr.data.protocol import about
from basicsr.train import main as train
from basicsr.utils.errors import UserError


@pytest.fixture
def folders(tmp_path):
    rng = np.random.RandomState(0)
    for name, count in (('a', 2), ('b', 3)):
        for side in ('lq', 'gt'):
            (tmp_path / name / side).mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(tmp_path / name / side / f'{i}.png'), rng.randint(0, 256, (12, 16, 3), np.uint8))
    return tmp_path


def block(folders, **options):
    sets = {
        name: {
            'type': 'PairedImageDataset', 'dataroot_lq': str(folders / name / 'lq'),
            'dataroot_gt': str(folders / name / 'gt'), 'recursive': True
        } for name in ('a', 'b')
    }
    return {'type': 'JoinedDataset', 'sets': sets, 'phase': 'train', **options}


def test_each_set_comes_as_often_as_it_says(folders):
    data = build_dataset(block(folders, repeats={'a': 2}))
    assert [data[i]['name'] for i in range(len(data))] == ['a/0', 'a/1', 'a/0', 'a/1', 'b/0', 'b/1', 'b/2']
    assert data.summary() == '  a: 2 samples, 2x\n  b: 3 samples, 1x'
    assert len(about(data).stored()) == 5 and about(data).has_gt() and about(data).absent() == []
    cv2.imwrite(str(folders / 'b/lq/1.png'), np.zeros((8, 8, 3), np.uint8))
    assert [about(data).input_size(i) for i in (0, 3, 4)] == [(12, 16)] * 3
    with pytest.raises(UserError, match=r'b/gt/1\.png'):
        about(data).input_size(5)


def test_items_that_have_no_name_are_called_after_their_file(folders):
    options = block(folders)
    del options['sets']['a']['recursive']
    assert [build_dataset(options)[i]['name'] for i in range(5)] == ['a/0', 'a/1', 'b/0', 'b/1', 'b/2']


def test_shared_options_are_those_of_every_set_but_where_it_says_otherwise(folders):
    options = block(folders, gt_size=8, use_vflip=True)
    options['sets']['b'] |= {'gt_size': 4, 'use_vflip': False}
    data = build_dataset(options)
    assert data[0]['gt'].shape == (3, 8, 8) and data[2]['gt'].shape == (3, 4, 4)
    assert data.parts['a'].use_vflip and not data.parts['b'].use_vflip


def test_mistakes_name_the_set(folders, capsys):
    for change, said in (({'repeats': {'aa': 2}}, r"datasets.train: repeats: there is no set 'aa'. Did you mean 'a'\?"),
                         ({'sets': {'c': {'type': 'CDD11Dataset', 'dataroot': str(folders)}}, 'use_vflip': True},
                          'datasets.train: sets.c: CDD11Dataset has no use_vflip; give it at the sets that have it'),
                         ({'sets': {'c': block(folders)['sets']['a'] | {'pair_range': '7:'}}},
                          'datasets.train: sets.c: pair_range')):
        with pytest.raises(UserError, match=said):
            build_dataset(block(folders) | change)


def options_file(folders, **changes):
    text = f"""
name: joined
model_type: ImageCleanModel
scale: 1
num_gpu: 0
path: {{experiments_root: {folders / 'runs'}}}
datasets:
  train:
    type: JoinedDataset
    sets:
      a: {{type: PairedImageDataset, dataroot_lq: a/lq, dataroot_gt: {changes.get('root', 'a/gt')}}}
      b: {{type: {changes.get('type', 'PairedImageDataset')}, dataroot_lq: b/lq, dataroot_gt: b/gt, {changes.get('more', '')}}}
    repeats: {{b: {changes.get('times', 2)}}}
    gt_size: 8
    batch_size_per_gpu: 2
network_g: {{type: NAFNet, width: 4, enc_blk_nums: [1], middle_blk_num: 1, dec_blk_nums: [1]}}
train:
  total_iter: 4
  optim_g: {{type: Adam, lr: 1e-4}}
  scheduler: {{type: TrueCosineAnnealingLR, T_max: 4}}
  pixel_opt: {{type: L1Loss}}
"""
    (folders / 'run.yml').write_text(text)
    return folders / 'run.yml'


def test_option_files_are_checked_to_the_innermost_set(folders):
    opt = load_options(options_file(folders), is_train=True).opt
    assert opt['datasets']['train']['sets']['a']['dataroot_gt'] == str(folders / 'a/gt')
    for changes, said in (({'root': 'c/gt'}, r'datasets.train.sets.a.dataroot_gt: .*does not exist'),
                          ({'type': 'PairedImages'}, r'datasets.train.sets.b.type: .*PairedImageDataset'),
                          ({'more': 'use_vflips: true'}, r'datasets.train.sets.b.use_vflips: .*use_vflip'),
                          ({'times': 0}, r'datasets.train.repeats.b: ')):
        with pytest.raises(UserError, match=said):
            load_options(options_file(folders, **changes), is_train=True)


def test_training_and_check_data(folders, capsys):
    file = options_file(folders)
    assert train(['--opt', str(file)]) == 0
    log = next((folders / 'runs/joined').glob('train_*.log')).read_text()
    assert "8 samples" in log and 'b: 3 samples, 2x' in log
    (folders / 'b/gt/2.png').write_bytes((folders / 'b/gt/2.png').read_bytes()[:100])
    assert main(['check-data', '--opt', str(file)]) != 0
    assert 'b/gt/2.png' in ''.join(capsys.readouterr())
