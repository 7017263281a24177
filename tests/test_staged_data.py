"""Data in folders by stage, and the four stages by the commands of docs/illrecnet.md: train, validate, bench, enhance."""
from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from basicsr.cli import main as basicsr
from basicsr.data import build_dataset
from basicsr.data.pairing import pair_by_name
from basicsr.test import main as validate
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.files import list_images
from basicsr.utils.img import imread

OPTIONS = 'Options/IllRecNet_staged.yml'
SMALL = [
    'num_gpu=0', 'train.amp=~', 'datasets.train.gt_size=16', 'datasets.train.batch_size_per_gpu=2',
    'datasets.train.num_worker_per_gpu=0', 'datasets.train.persistent_workers=false', 'network_g.embed_dim=4',
    'network_g.num_heads=2', 'network_g.mlp_ratio=1', 'network_g.num_resolution=1'
]


def write(folder, *names, size=(20, 28), sides=('low', 'high')):
    rng = np.random.RandomState(len(names))
    for name in names:
        target = rng.randint(60, 256, (*size, 3), np.uint8)
        for side in sides:
            file = folder / side / f'{name}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), target // 4 if side == 'low' else target)


@pytest.fixture
def stages(tmp_path):
    """Two sets for training, one for all else, images in subfolders, no ground truth in the last stage."""
    root = tmp_path / 'data'
    write(root / '1_train' / 'a', '1', '2', 'night/1')
    write(root / '1_train' / 'b', '1', '10')
    write(root / '2_valid', '3', 'x/3')
    write(root / '3_bench' / 'b', '7', '8', size=(100, 200))
    write(root / '4_infer', 'p', 'deep/p', sides=('low', ))
    return root


def block(root, stage, **more):
    return {'type': 'StagedImageDataset', 'dataroot': str(root), 'stage': stage, 'phase': 'val', 'block': 'val', **more}


def test_sets_and_subfolders_are_read_together(stages):
    names = {
        stage: [item['name'] for item in build_dataset(block(stages, stage))]
        for stage in ('train', 'valid', 'bench', 'infer')
    }
    assert names == {
        'train': ['a/1', 'a/2', 'a/night/1', 'b/1', 'b/10'], 'valid': ['3', 'x/3'], 'bench': ['b/7', 'b/8'],
        'infer': ['deep/p', 'p']
    }
    for item in build_dataset(block(stages, 'train')):
        assert np.allclose(item['lq'] * 255, item['gt'] * 255 // 4, atol=1e-3)
    assert 'gt' not in build_dataset(block(stages, 'infer'))[0]
    write(stages / '4_infer', 'p', 'deep/p', sides=('high', ))
    assert 'gt' in build_dataset(block(stages, 'infer'))[0]


def test_training_crops_and_turns_pairs_alike(stages):
    data = build_dataset(block(stages, 'train', gt_size=32, geometric_augs=True, phase='train'))  # larger: padded
    for item in data:
        assert item['lq'].shape == item['gt'].shape == (3, 32, 32)
        assert np.allclose(item['lq'] * 255, item['gt'] * 255 // 4, atol=1e-3)


@pytest.mark.parametrize('stage, change, words', [
    ('infer', lambda root: (root / '4_infer' / 'low').rename(root / '4_infer' / 'dark'), 'it holds neither low nor'),
    ('valid', lambda root:
     (root / '2_valid').rename(root / 'valid'), "2_valid/<set>/low', but there is no such folder"),
    ('valid', lambda root: (root / '2_valid' / 'low' / 'x' / '3.png').unlink(), 'have no input: x/3.png'),
    ('bench', lambda root: (root / '3_bench' / 'b' / 'high').rename(root / 'h'), "b/high' is not a folder"),
])
def test_what_is_missing_is_named(stages, stage, change, words):
    change(stages)
    with pytest.raises(UserError, match=r'^datasets\.val: ') as caught:
        build_dataset(block(stages, stage))
    assert words in str(caught.value)


def test_subfolders_are_part_of_a_name(stages):
    low, high = (str(stages / '1_train' / 'a' / side) for side in ('low', 'high'))
    assert [b[len(high) + 1:] for _, b in pair_by_name(low, high, recursive=True)] == ['1.png', '2.png', 'night/1.png']
    assert len(pair_by_name(low, high)) == 2
    (stages / '1_train' / 'a' / 'low' / '.trash').mkdir()
    (stages / '1_train' / 'a' / 'low' / '.trash' / '9.png').write_bytes(b'')
    assert len(list_images(low, recursive=True)) == 3


def test_the_four_stages(stages, tmp_path, capsys):
    roots = [f'datasets.{b}.dataroot={stages}' for b in ('train', 'val')]
    paths = [f'path.{p}_root={tmp_path / p}' for p in ('experiments', 'results')]
    common = ['--opt', OPTIONS, *SMALL, *roots, *paths, 'name=run']
    length = [
        'train.total_iter=4', 'train.scheduler.warmup_iter=1', 'val.val_freq=2', 'logger.use_tb_logger=false',
        'logger.save_checkpoint_freq=4'
    ]
    assert train([*common, *length]) == 0
    best = tmp_path / 'experiments' / 'run' / 'best' / 'net_g_best.pth'
    assert json.loads(best.with_name('best.json').read_text())['metric'] == 'mae'
    with (tmp_path / 'experiments' / 'run' / 'losses.csv').open() as file:
        assert {'l_l1', 'l_mse'} <= set(next(csv.DictReader(file)))

    assert validate([*common, f'path.pretrain_network_g={best}', 'val.save_img=true']) == 0
    assert len(list((tmp_path / 'results' / 'run').rglob('3*.png'))) == 2

    evaluate = ['evaluate', *common, '--weights', str(best), '--output_dir']
    bench = ['psnr', 'ssim', 'niqe', 'mae', 'datasets.val.stage=bench']
    capsys.readouterr()
    assert basicsr([*evaluate, str(tmp_path / 'bench'), '--protocol', 'pyiqa', '--metrics', *bench]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ['psnr', 'ssim', 'niqe', 'mae']
    found = json.loads((tmp_path / 'bench' / 'metrics.json').read_text())
    assert found['images'] == 2 and found['metrics']['psnr']['protocol'] == 'pyiqa'
    assert (tmp_path / 'bench' / 'b' / '8.png').is_file()

    assert basicsr([*evaluate, str(tmp_path / 'infer'), 'datasets.val.stage=infer']) == 0
    assert 'no ground truth; 2 images written' in capsys.readouterr().out
    written = {p.relative_to(tmp_path / 'infer').as_posix() for p in (tmp_path / 'infer').rglob('*.png')}
    assert written == {'p.png', 'deep/p.png'}
    photos = [str(stages / '4_infer' / 'low'), '-o', str(tmp_path / 'photos'), '--weights', str(best)]
    assert basicsr(['enhance', *photos]) == 0
    np.testing.assert_array_equal(imread(tmp_path / 'photos' / 'p.png'), imread(tmp_path / 'infer' / 'p.png'))
