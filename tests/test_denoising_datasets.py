"""Clean images with synthetic noise, and dual-pixel views."""
import random

import cv2
import numpy as np
import pytest
import torch
import yaml

from basicsr.commands.check_data import main as check_data
from basicsr.config import load_options
from basicsr.data import build_dataset
from basicsr.data.loader import ImageLoader, build_dataloader
from basicsr.data.packing import make_lmdb
from basicsr.data.samplers import EnlargedSampler
from basicsr.data.synthetic import add_gaussian_noise
from basicsr.utils.errors import UserError


def folder(root, names=('a', 'b', 'c'), value=128, size=(96, 80), suffix='.png'):
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(root / f'{name}{suffix}'), np.full((*size, 3), value, np.uint8))
    return str(root)


def gaussian(root, **options):
    return build_dataset({'type': 'GaussianDenoisingDataset', 'dataroot_gt': root, 'phase': 'val'} | options)


def noise(sample):
    return sample['lq'] - sample['gt']


# ---------------------------------------------------------------- noise on [0, 1]


def test_noise_is_white_on_unit_range_and_not_clipped(tmp_path):
    for value in (0, 128, 255):
        sample = gaussian(folder(tmp_path / str(value), 'a', value), sigma_test=50)[0]
        n = noise(sample)
        assert sample['gt'].shape == (3, 96, 80) and torch.equal(sample['gt'], torch.full((3, 96, 80), value / 255))
        # 23,040 draws: five standard errors of the mean and of the deviation
        assert abs(float(n.mean())) < 5 * 50 / 255 / 152 and abs(float(n.std()) * 255 / 50 - 1) < 5 / 214
        assert abs(float((n[:, 1:] * n[:, :-1]).mean())) < 5 * (50 / 255)**2 / 150  # neighbours are independent
    assert sample['lq'].max() > 1.2


def test_test_noise_is_a_function_of_sigma_seed_and_file_name(tmp_path):
    root = folder(tmp_path / 'x')
    all_of = [noise(s) for s in gaussian(root, sigma_test=25)]
    assert not torch.equal(all_of[0], all_of[1])
    other = gaussian(folder(tmp_path / 'y', names=('0', 'c')), sigma_test=25)
    np.random.seed(5)
    torch.testing.assert_close(noise(other[1]), all_of[2], atol=1e-6,
                               rtol=0)  # not of the other images, nor of what was drawn
    assert torch.equal(noise(gaussian(root, sigma_test=25)[2]), all_of[2])  # nor of the order
    torch.testing.assert_close(noise(gaussian(root, sigma_test=50)[2]), 2 * all_of[2], atol=1e-6, rtol=0)
    assert not torch.equal(noise(gaussian(root, sigma_test=25, seed=1)[2]), all_of[2])
    for workers in (0, 2):
        loader = ImageLoader(gaussian(root, sigma_test=25), {}, batch_size=1, num_workers=workers)
        assert all(torch.equal(noise(b)[0], n) for b, n in zip(loader, all_of, strict=True))


def test_mambairs_test_noise_is_numpys_seed_0_before_every_image(tmp_path):
    dataset = gaussian(folder(tmp_path), sigma_test=25, test_noise='mambair')
    for sample in (dataset[2], dataset[0], dataset[2]):
        np.random.seed(0)
        _, height, width = sample['gt'].shape
        bgr = np.random.normal(0, 25 / 255., (height, width, 3))  # as its code draws it
        np.testing.assert_allclose(noise(sample).numpy(), bgr[..., ::-1].transpose(2, 0, 1), atol=1e-6)
    with pytest.raises(UserError, match='test_noise'):
        gaussian(folder(tmp_path), test_noise='published')


def test_training_noise_depends_on_the_sampler_alone(tmp_path):
    dataset = gaussian(folder(tmp_path), phase='train', sigma_type='random', sigma_range=[0, 50], gt_size=16)

    def batches(workers, seed):
        loader = build_dataloader(dataset, {'phase': 'train', 'batch_size_per_gpu': 3, 'num_worker_per_gpu': workers},
                                  sampler=EnlargedSampler(dataset, ratio=3, seed=seed))
        return torch.cat([noise(b) for b in loader])

    alone = batches(0, 3)
    assert torch.equal(alone, batches(2, 3)) and not torch.equal(alone, batches(0, 4))
    assert len({round(float(n.std()), 4) for n in alone}) == 9  # every sample its own strength


def test_sigma_types(tmp_path):
    root = folder(tmp_path, 'a')

    def sigmas(**options):
        random.seed(0)
        np.random.seed(0)
        dataset = gaussian(root, phase='train', **options)
        return [float(noise(dataset[0]).std()) * 255 for _ in range(40)]

    assert all(abs(s / 15 - 1) < 0.03 for s in sigmas(sigma_range=15))
    chosen = sigmas(sigma_type='choice', sigma_range=[15, 25, 50])
    nearest = [min((15, 25, 50), key=lambda v: abs(v - s)) for s in chosen]
    assert set(nearest) == {15, 25, 50} and all(abs(s / v - 1) < 0.03 for s, v in zip(chosen, nearest))
    drawn = sigmas(sigma_type='random', sigma_range=[10, 50])
    assert min(drawn) > 9 and max(drawn) < 52 and max(drawn) - min(drawn) > 30
    for kind, values in (('constant', [1, 2]), ('random', 5), ('random', [50, 0]), ('choice', []), ('constant', -1)):
        with pytest.raises(UserError, match=f"sigma_range: .* does not fit sigma_type '{kind}'"):
            gaussian(root, sigma_type=kind, sigma_range=values)
    with pytest.raises(UserError, match='sigma_test: -15 must not be negative'):
        gaussian(root, sigma_test=-15)


def test_grey_uses_the_usual_weights_also_after_padding(tmp_path):
    tmp_path.joinpath('a').mkdir()
    cv2.imwrite(f'{tmp_path}/a/1.png', np.full((9, 7, 3), (10, 100, 200), np.uint8))
    grey = round(.114 * 10 + .587 * 100 + .299 * 200) / 255
    for options in ({}, {'phase': 'train', 'gt_size': 16, 'geometric_augs': True}):
        sample = gaussian(f'{tmp_path}/a', in_ch=1, **options)[0]
        assert sample['gt'].shape == ((1, 16, 16) if options else (1, 9, 7)) == sample['lq'].shape
        assert torch.equal(sample['gt'], torch.full_like(sample['gt'], grey))


def test_several_folders_and_databases(tmp_path):
    roots = [folder(tmp_path / 'WaterlooED', suffix='.bmp'), folder(tmp_path / 'BSD400', ('a', ), suffix='.jpg')]
    dataset = gaussian(roots)
    assert [s['name'] for s in dataset] == ['WaterlooED/a', 'WaterlooED/b', 'WaterlooED/c', 'BSD400/a']
    assert dataset[3]['lq_path'] == dataset[3]['gt_path'] == f'{roots[1]}/a.jpg' and 'name' not in gaussian(roots[0])[0]
    with pytest.raises(UserError, match='at least one folder'):
        gaussian([])
    with pytest.raises(UserError, match='nowhere'):
        gaussian([roots[0], f'{tmp_path}/nowhere'])
    images, base = folder(tmp_path / 'png', ('a', 'b.v2')), f'{tmp_path}/x.lmdb'
    make_lmdb(images, base)
    stored = gaussian(base, io_backend={'type': 'lmdb'})
    assert len(stored) == 2 and stored[1]['gt_path'] == 'b.v2'
    assert torch.equal(stored[1]['lq'], gaussian(images)[1]['lq'])


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_eight_bit_noise_is_clipped_and_truncated(dtype):
    peak = np.iinfo(dtype).max
    rng, again = np.random.RandomState(1), np.random.RandomState(1)
    clean = np.full((200, 200), peak // 2, dtype)
    exact = clean + again.standard_normal(clean.shape) * 25 * (peak / 255)
    noisy = add_gaussian_noise(clean, 25, rng)
    assert noisy.dtype == dtype and np.array_equal(noisy, np.floor(exact))
    # truncation lowers the mean by half a level: 40,000 draws, standard error 0.125 levels of 255
    assert abs((exact - noisy).mean() - 0.5) < 0.01
    for value in (0, peak):
        edge = add_gaussian_noise(np.full((100, 100), value, dtype), 25, rng)
        assert 0.45 < (edge == value).mean() < 0.55  # half of the draws fall outside and do not wrap around


# ---------------------------------------------------------------- dual pixel


def dual_pixel(root, names=('1', '2'), dtype=np.uint16):
    for side, value in (('L', 1000), ('R', 2000), ('gt', 3000)):
        (root / side).mkdir()
        for i, name in enumerate(names):
            y, x = np.mgrid[:12, :10]
            img = np.stack([y, x, np.full_like(x, value + i)], -1) // (1 if dtype == np.uint16 else 20)
            cv2.imwrite(str(root / side / f'{name}.png'), img.astype(dtype))
    return {
        'type': 'DualPixelDefocusDataset', 'dataroot_lqL': f'{root}/L', 'dataroot_lqR': f'{root}/R',
        'dataroot_gt': f'{root}/gt', 'phase': 'val'
    }


def test_dual_pixel_views_are_stacked_in_full_depth(tmp_path):
    sample = build_dataset(dual_pixel(tmp_path))[1]
    assert sample['lq'].shape == (6, 12, 10) and sample['gt'].shape == (3, 12, 10)
    reds = [float(c[0, 0]) * 65535 for c in (sample['lq'][0], sample['lq'][3], sample['gt'][0])]
    assert reds == pytest.approx([1001, 2001, 3001], rel=1e-6)
    assert sample['lq_path'].endswith('L/2.png') and sample['gt_path'].endswith('gt/2.png')


def test_dual_pixel_training_keeps_the_three_images_together(tmp_path):
    dataset = build_dataset(dual_pixel(tmp_path) | {'phase': 'train', 'gt_size': 4, 'geometric_augs': True})
    seen = set()
    for _ in range(100):
        sample = dataset[0]
        lq, gt = sample['lq'], sample['gt']
        assert lq.shape == (6, 4, 4) and torch.equal(lq[1:3], gt[1:]) and torch.equal(lq[4:], gt[1:])
        seen.add(tuple((gt[1:, 0, 0] * 65535).round().int().tolist()))
    assert len(seen) > 20


def test_dual_pixel_names_every_mistake(tmp_path):
    opt = dual_pixel(tmp_path, ('1', '2', '3'))
    (tmp_path / 'L' / '2.png').unlink()
    (tmp_path / 'R' / '3.png').rename(tmp_path / 'R' / '4.png')
    with pytest.raises(UserError) as info:
        build_dataset(opt)
    message = str(info.value)
    assert "1 of dataroot_gt" in message and 'have no input: 2.png' in message and 'have no input: 3.png' in message
    assert f"1 of dataroot_lqR '{tmp_path}/R' have no ground truth: 4.png" in message
    (tmp_path / 'L').rename(tmp_path / 'left')
    with pytest.raises(UserError, match=r'dataroot_lqL: .* is not a folder'):
        build_dataset(opt)


def test_dual_pixel_sizes_must_agree(tmp_path):
    opt = dual_pixel(tmp_path, dtype=np.uint8)
    assert round(float(build_dataset(opt)[0]['lq'][3, 0, 0]) * 255) == 100  # eight bits are no mistake
    cv2.imwrite(f'{tmp_path}/R/1.png', np.zeros((12, 11, 3), np.uint8))
    with pytest.raises(UserError, match=r"gt/1\.png' is 10x12, but its input is 11x12"):
        build_dataset(opt)[0]


# ---------------------------------------------------------------- options


def test_published_option_files_load_and_check(tmp_path, capsys):
    shared = {'io_backend': {'type': 'disk'}, 'filename_tmpl': '{}', 'geometric_augs': True, 'gt_size': 16}
    clean = shared | {
        'type': 'Dataset_GaussianDenoising', 'dataroot_gt': folder(tmp_path / 'gt'), 'dataroot_lq': 'none',
        'sigma_type': 'random', 'sigma_range': [0, 50], 'sigma_test': 25, 'in_ch': 3
    }
    (tmp_path / 'dp').mkdir()
    dual = dual_pixel(tmp_path / 'dp') | shared | {'type': 'Dataset_DefocusDeblur_DualPixel_16bit'}
    del dual['phase']
    file = tmp_path / 'x.yml'
    file.write_text(
        yaml.safe_dump({
            'datasets': {'train': clean, 'val': dict(clean), 'val_2': dual}, 'num_gpu': 0,
            'network_g': {'type': 'Restormer'}
        }))
    notices = '\n'.join(load_options(file, is_train=None).notices)
    assert 'datasets.val.dataroot_lq: ignored (the input is made from the ground truth)' in notices
    assert 'val_2.filename_tmpl' not in notices
    assert check_data(['--opt', str(file)]) == 0
    out = capsys.readouterr().out
    assert 'datasets.train (Dataset_GaussianDenoising): 3 samples, 0 mistakes; sizes: 80x96 (3)' in out
    assert 'datasets.val_2 (Dataset_DefocusDeblur_DualPixel_16bit): 2 samples, 0 mistakes' in out


def test_lists_of_folders_are_found_beside_the_option_file(tmp_path):
    roots = ['x', 'y']
    for name in roots:
        folder(tmp_path / name)
    block = {'type': 'GaussianDenoisingDataset', 'dataroot_gt': roots}
    (tmp_path / 'x.yml').write_text(yaml.safe_dump({'datasets': {'val': block}, 'network_g': {'type': 'Restormer'}}))
    opt = load_options(tmp_path / 'x.yml', is_train=False).opt
    assert opt['datasets']['val']['dataroot_gt'] == [str(tmp_path / n) for n in roots]
    (tmp_path / 'x.yml').write_text((tmp_path / 'x.yml').read_text().replace('- y', '- z'))
    with pytest.raises(UserError, match=r"datasets\.val\.dataroot_gt\[1\]: 'z' does not exist"):
        load_options(tmp_path / 'x.yml', is_train=False)
