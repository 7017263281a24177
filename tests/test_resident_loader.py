"""Batches cut on the device: the same as from the ordinary loader, bit for bit; what is refused."""
import cv2
import numpy as np
import pytest
import torch

from basicsr.data import build_dataset
from basicsr.data.loader import build_dataloader
from basicsr.data.resident_loader import ResidentLoader
from basicsr.data.samplers import EnlargedSampler
from basicsr.train import main as train


def message(capsys, options) -> str:
    assert train([str(options)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def photos(tmp_path):
    """Pairs of four sizes, one of them smaller than the patch; inputs are half as large at scale 2."""
    rng = np.random.RandomState(0)
    for name, (h, w) in {'1': (40, 52), '2': (33, 24), '3': (12, 60), '4': (64, 24)}.items():
        for scale in (1, 2):
            for side, shape in (('gt', (h * scale, w * scale)), ('lq', (h, w))):
                folder = tmp_path / f'x{scale}' / side
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f'{name}.png'), rng.randint(0, 256, (*shape, 3), np.uint8))
    return tmp_path


def loaders(folder, scale=1, **changes):
    block = {
        'type': 'PairedImageDataset', 'phase': 'train', 'dataroot_gt': str(folder / f'x{scale}' / 'gt'),
        'dataroot_lq': str(folder / f'x{scale}' / 'lq'), 'gt_size': 24 * scale, 'scale': scale, 'batch_size_per_gpu': 3,
        **changes
    }
    dataset = build_dataset(block)
    samplers = [EnlargedSampler(dataset, ratio=8, seed=5) for _ in range(2)]
    resident = ResidentLoader(dataset, block, samplers[1], 3, torch.device('cpu'))
    return build_dataloader(dataset, block, sampler=samplers[0]), resident, samplers


@pytest.mark.parametrize(
    'changes', [{'geometric_augs': True}, {'use_hflip': True}, {'use_hflip': True, 'use_rot': True}, {}, {
        'scale': 2, 'geometric_augs': True
    }, {'pair_range': '1:3'}, {'exposure_augs': {'probability': 0.7}, 'geometric_augs': True},
                {'gamma_augs': {}, 'use_hflip': True}, {'gamma_augs': {'per': 'sample'}, 'exposure_augs': {}}])
def test_batches_are_those_of_the_ordinary_loader(photos, changes):
    ordinary, resident, samplers = loaders(photos, **changes)
    assert len(ordinary) == len(resident) > 3 and resident.batch_size == ordinary.batch_size
    for epoch, start in ((0, 0), (1, 6)):
        for sampler in samplers:
            sampler.set_epoch(epoch, start)
        batches = list(zip(ordinary, resident, strict=True))
        assert len(batches) == len(ordinary) - start // 3
        for a, b in batches:
            assert torch.equal(a['lq'], b['lq']) and torch.equal(a['gt'], b['gt'])
            assert a['lq_path'] == b['lq_path'] and a['gt_path'] == b['gt_path']


def test_training_is_the_same_and_resumes(tiny_options, tmp_path):
    for name, cache in (('disk', None), ('device', 'device')):
        options = tiny_options(name, datasets={'train': {'cache': cache}}, logger={'save_checkpoint_freq': 2})
        assert train([str(options)]) == 0
    assert train([
        str(tiny_options('again', datasets={'train': {'cache': 'device'}})), 'train.total_iter=3',
        'logger.save_checkpoint_freq=3'
    ]) == 0
    (tmp_path / 'experiments' / 'again' / 'models' / 'net_g_latest.pth').unlink()
    assert train([str(tmp_path / 'again.yml'), '--auto_resume']) == 0
    losses = [(tmp_path / 'experiments' / name / 'losses.csv').read_text() for name in ('disk', 'device', 'again')]
    assert losses[0] == losses[1] == losses[2] and losses[0].count('\n') == 5


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'gt_size': None}, 'cache: device needs gt_size'),
    ({'mean': [.5, .5, .5]}, 'cache: device is for PairedImageDataset, without'),
    ({'color': 'y'}, 'cache: device is for PairedImageDataset, without'),
    ({'cache': 'gpu'}, "datasets.train.cache: 'gpu' is not allowed; one of: device"),
])
def test_what_is_refused(tiny_options, capsys, changes, reason):
    assert reason in message(capsys, tiny_options(datasets={'train': {'cache': 'device', **changes}}))


def test_it_is_for_training_and_takes_no_workers(tiny_options, capsys, messages):
    options = tiny_options(datasets={'val': {'cache': 'device'}})
    assert 'datasets.val.cache: is for training sets' in message(capsys, options)
    assert train([str(tiny_options(datasets={'train': {'cache': 'device', 'num_worker_per_gpu': 2}}))]) == 0
    assert any('no workers are needed: num_worker_per_gpu without effect' in m for m in messages)


def test_deep_images_are_named(tiny_options, pairs, capsys):
    img = np.full((24, 28, 3), 40000, np.uint16)
    cv2.imwrite(str(pairs / 'input' / '3.png'), img)
    text = message(capsys, tiny_options(datasets={'train': {'cache': 'device'}}))
    assert "input/3.png' has 16 bits" in text


@pytest.mark.parametrize(('pair_range', 'names'), [(':2', '12'), ('2:', '310'), ('-1:', '10'), ('::2', '13')])
def test_a_subset_is_a_slice_in_natural_order(pairs, pair_range, names):
    dataset = build_dataset({
        'type': 'PairedImageDataset', 'dataroot_lq': str(pairs / 'input'), 'phase': 'val',
        'dataroot_gt': str(pairs / 'target'), 'pair_range': pair_range
    })
    assert ''.join(item['lq_path'].rsplit('/', 1)[1].removesuffix('.png') for item in dataset) == names


@pytest.mark.parametrize(('pair_range', 'reason'), [('a:b', 'is no slice'), ('3', 'is no slice'),
                                                    ('::0', 'is no slice'), ('1:2:3:4', 'is no slice'),
                                                    ('9:', 'leaves none of the 4 pairs')])
def test_a_wrong_subset_is_said(tiny_options, capsys, pair_range, reason):
    assert reason in message(capsys, tiny_options(datasets={'train': {'pair_range': pair_range}}))
