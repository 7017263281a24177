"""Inputs that are made from the ground truth: bicubic super-resolution and JPEG; grey images; names of DIV2K's layout."""
from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from test_basicsr_helpers import reference

from basicsr.data import build_dataset
from basicsr.data.packing import make_lmdb
from basicsr.utils.errors import UserError
from basicsr.utils.img import img2tensor


def picture(height: int, width: int, seed: int = 0, dtype: Any = np.uint8) -> np.ndarray:
    """Smooth enough for JPEG to have something to keep."""
    noise = np.random.RandomState(seed).randint(0, 256, (height // 3 + 2, width // 3 + 2, 3)).astype(np.float32)
    large = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    return large.astype(np.uint8).astype(dtype) * dtype(257 if dtype == np.uint16 else 1)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for i, size in enumerate(((61, 75), (80, 66), (97, 90))):
        (tmp_path / 'gt').mkdir(exist_ok=True)
        cv2.imwrite(f'{tmp_path}/gt/{i}.png', picture(*size, seed=i))
    return str(tmp_path / 'gt')


def data(kind: str, root: Any, phase: str = 'val', **options: Any) -> Any:
    return build_dataset({'type': kind, 'dataroot_gt': root, 'phase': phase, **options})


def levels(image: torch.Tensor, peak: int = 255) -> np.ndarray:
    """(H, W, C) in the order of the tensor."""
    return (image.double() * peak).round().int().permute(1, 2, 0).numpy()


def read(file: str, channels: int) -> np.ndarray:
    img = cv2.imread(file)
    return cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)[..., None] if channels == 1 else img


def is_part_of(patch: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """Where a patch lies in an image."""
    h, w = patch.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(image, (h, w), axis=(0, 1))
    return [(int(y), int(x)) for y, x in np.argwhere((np.moveaxis(windows, 2, -1) == patch).all((2, 3, 4)))]


# ---------------------------------------------------------------- bicubic


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_bicubic_inputs_are_those_of_matlab(folder, scale):
    sample = data('BicubicSRDataset', folder, scale=scale)[0]
    height, width = 61 // scale, 75 // scale
    gt = cv2.imread(f'{folder}/0.png')[:height * scale, :width * scale]
    assert np.array_equal(levels(sample['gt']), gt[..., ::-1])
    for channel, found in zip(np.moveaxis(gt, -1, 0), levels(sample['lq'])[..., ::-1].transpose(2, 0, 1)):
        rows = np.array([reference(row, 1 / scale) for row in channel])
        wanted = np.array([reference(column, 1 / scale) for column in rows.T]).T.clip(0, 255)
        assert found.shape == wanted.shape == (height, width)
        assert np.abs(found - wanted).max() <= 0.5 + 1e-9  # rounded, and nothing else


def test_bicubic_keeps_sixteen_bits_and_grey_comes_first(tmp_path):
    cv2.imwrite(f'{tmp_path}/a.png', picture(21, 26, dtype=np.uint16))
    deep = levels(data('BicubicSRDataset', str(tmp_path), scale=2)[0]['lq'], 65535)
    assert deep.shape == (10, 13, 3) and np.unique(deep % 257).size > 50
    sample = data('BicubicSRDataset', str(tmp_path), scale=2, in_ch=1)[0]
    grey = cv2.cvtColor(cv2.imread(f'{tmp_path}/a.png', cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2GRAY)
    assert np.array_equal(levels(sample['gt'], 65535)[..., 0], grey[:20]) and sample['lq'].shape == (1, 10, 13)


def test_a_picture_too_small_for_the_scale_is_named(tmp_path):
    cv2.imwrite(f'{tmp_path}/a.png', picture(3, 9))
    cv2.imwrite(f'{tmp_path}/b.png', picture(4, 9))
    dataset = data('BicubicSRDataset', str(tmp_path), scale=4)
    assert dataset[1]['lq'].shape == (3, 1, 2) and dataset.input_size(1) == (1, 2)
    for ask in (dataset.__getitem__, dataset.input_size):
        with pytest.raises(UserError, match=r"a\.png' is 9x3 pixels; at scale 4 nothing is left of its input"):
            ask(0)


# ---------------------------------------------------------------- JPEG


@pytest.mark.parametrize('quality', [10, 40])
@pytest.mark.parametrize('in_ch', [1, 3])
def test_jpeg_inputs_are_the_files_that_opencv_writes(folder, tmp_path, quality, in_ch):
    sample = data('JPEGArtifactDataset', folder, quality=quality, in_ch=in_ch)[0]
    flag = cv2.IMREAD_GRAYSCALE if in_ch == 1 else cv2.IMREAD_COLOR
    clean = read(f'{folder}/0.png', in_ch)
    cv2.imwrite(f'{tmp_path}/x.jpg', clean, [cv2.IMWRITE_JPEG_QUALITY, quality])
    for found, wanted in ((sample['gt'], clean), (sample['lq'], cv2.imread(f'{tmp_path}/x.jpg', flag))):
        assert np.array_equal(levels(found), wanted.reshape(61, 75, in_ch)[..., ::-1])


def test_jpeg_of_sixteen_bits_has_eight(tmp_path):
    cv2.imwrite(f'{tmp_path}/a.png', picture(20, 20, dtype=np.uint16))
    deep = data('JPEGArtifactDataset', str(tmp_path), quality=90)[0]
    cv2.imwrite(f'{tmp_path}/a.png', picture(20, 20))
    eight = data('JPEGArtifactDataset', str(tmp_path), quality=90)[0]
    assert torch.equal(deep['lq'], eight['lq']) and not torch.equal(deep['lq'], deep['gt'])


def test_jpeg_qualities(folder):
    random.seed(0)
    sizes = set()
    dataset = data('JPEGArtifactDataset', folder, 'train', quality=[5, 95])
    for _ in range(20):
        sample = dataset[0]
        sizes.add(round(float((sample['lq'] - sample['gt']).abs().mean()), 4))
    assert len(sizes) > 10
    with pytest.raises(UserError, match=r'quality: \[5, 95\] is a range, for training'):
        data('JPEGArtifactDataset', folder, quality=[5, 95])
    for wrong in ([50, 10], [10], 0, 101):
        with pytest.raises(UserError, match='from 1 to 100'):
            data('JPEGArtifactDataset', folder, 'train', quality=wrong)
    with pytest.raises(UserError, match='size of their ground truth; scale is 2'):
        data('JPEGArtifactDataset', folder, scale=2)


# ---------------------------------------------------------------- patches


@pytest.mark.parametrize(('kind', 'options'), [('BicubicSRDataset', {'scale': 2}), ('BicubicSRDataset', {'scale': 3}),
                                               ('BicubicSRDataset', {'scale': 4, 'in_ch': 1}),
                                               ('JPEGArtifactDataset', {'quality': 10}),
                                               ('JPEGArtifactDataset', {'quality': 10, 'in_ch': 3})], ids=str)
def test_patches_are_parts_of_the_whole_input(folder, kind, options):
    whole, patches = data(kind, folder, **options), data(kind, folder, 'train', gt_size=24, **options)
    scale = options.get('scale', 1)
    random.seed(1)
    for index in (0, 1, 2):
        lq, gt = (levels(whole[index][key]) for key in ('lq', 'gt'))
        seen = set()
        for _ in range(12):
            sample = patches[index]
            assert sample['lq'].shape[1:] == (24 // scale, 24 // scale) and sample['gt'].shape[1:] == (24, 24)
            (y, x), = is_part_of(levels(sample['lq']), lq)
            assert np.array_equal(levels(sample['gt']), gt[y * scale:][:24, x * scale:][:, :24])
            seen.add((y, x))
        assert len(seen) > 6


@pytest.mark.parametrize(('kind', 'options'), [('BicubicSRDataset', {'scale': 2}), ('JPEGArtifactDataset', {})])
def test_patches_of_small_pictures_and_turned_ones(tmp_path, kind, options):
    cv2.imwrite(f'{tmp_path}/a.png', picture(5, 7))
    random.seed(0)
    dataset = data(kind, str(tmp_path), 'train', gt_size=32, **options)
    assert dataset[0]['gt'].shape[1:] == (32, 32) and dataset[0]['lq'].shape[1] == 32 // options.get('scale', 1)
    for turning in ({'use_hflip': True, 'use_rot': True}, {'geometric_augs': True}):
        dataset = data(kind, str(tmp_path), 'train', **options, **turning)
        samples = [dataset[0] for _ in range(60)]
        assert len({(s['gt'].shape, s['gt'].numpy().tobytes()) for s in samples}) == 8
        assert all(s['lq'].shape[1] * options.get('scale', 1) == s['gt'].shape[1] for s in samples)


# ---------------------------------------------------------------- folders, databases, names


@pytest.mark.parametrize('kind', ['BicubicSRDataset', 'JPEGArtifactDataset', 'GaussianDenoisingDataset'])
def test_a_part_of_the_images_is_held_out(folder, kind):
    parts = [[Path(p.gt_path).name for p in data(kind, folder, pair_range=r).paths] for r in (':-1', '-1:')]
    assert parts == [['0.png', '1.png'], ['2.png']]
    with pytest.raises(UserError, match="pair_range: '9:' leaves none"):
        data(kind, folder, pair_range='9:')


def test_several_roots_and_databases(folder, tmp_path):
    make_lmdb(folder, f'{tmp_path}/gt.lmdb')
    for kind, options in (('BicubicSRDataset', {'scale': 2}), ('JPEGArtifactDataset', {})):
        stored, read = data(kind, f'{tmp_path}/gt.lmdb', **options), data(kind, folder, **options)
        assert stored[2]['gt_path'] == '2' and torch.equal(stored[2]['lq'], read[2]['lq'])
        assert stored.input_size(2) == read.input_size(2) == tuple(read[2]['lq'].shape[1:])
    other = tmp_path / 'Flickr2K'
    other.mkdir()
    cv2.imwrite(f'{other}/7.png', picture(12, 12))
    both = data('BicubicSRDataset', [folder, str(other)], scale=2)
    assert len(both) == 4 and both[3]['name'] == 'Flickr2K/7'


def test_pairs_of_other_suffixes_are_read_as_grey(folder, tmp_path):
    (tmp_path / 'jpg').mkdir()
    for i in range(3):
        clean = read(f'{folder}/{i}.png', 1)
        cv2.imwrite(f'{tmp_path}/jpg/{i}.jpg', clean, [cv2.IMWRITE_JPEG_QUALITY, 10])
    paired = data('PairedImageDataset', folder, dataroot_lq=f'{tmp_path}/jpg', color='gray')
    made = data('JPEGArtifactDataset', folder, quality=10)
    for a, b in zip(paired, made):
        assert a['lq'].shape[0] == 1 and torch.equal(a['lq'], b['lq']) and torch.equal(a['gt'], b['gt'])
        assert a['lq_path'].endswith('.jpg') and a['gt_path'].endswith('.png')
    single = data('SingleImageDataset', None, dataroot_lq=f'{tmp_path}/jpg', color='gray')
    assert torch.equal(single[1]['lq'], paired[1]['lq'])
    with pytest.raises(UserError, match='mean: 3 values for one channel'):
        data('PairedImageDataset', folder, dataroot_lq=f'{tmp_path}/jpg', color='gray', mean=[0.5, 0.5, 0.5])


@pytest.fixture
def div2k(folder, tmp_path) -> Path:
    """`HR/0.png` and `LR_bicubic/X3/0x3.png`; ground truths are no multiples of 3."""
    (tmp_path / 'LR_bicubic' / 'X3').mkdir(parents=True)
    made = data('BicubicSRDataset', folder, scale=3)
    for i in range(3):
        small = levels(made[i]['lq'])[..., ::-1].astype(np.uint8)
        cv2.imwrite(f'{tmp_path}/LR_bicubic/X3/{i}x3.png', small)
    (tmp_path / 'gt').rename(tmp_path / 'HR')
    return tmp_path


def test_training_cuts_off_what_the_division_leaves_over(div2k):
    roots = {'dataroot_lq': str(div2k / 'LR_bicubic' / 'X3'), 'filename_tmpl': '{}x3', 'scale': 3}
    whole, patches = (data('PairedImageDataset', str(div2k / 'HR'), 'train', gt_size=size, **roots)
                      for size in (None, 24))
    for index in range(3):
        lq, gt = (levels(whole[index][key]) for key in ('lq', 'gt'))
        assert gt.shape == (lq.shape[0] * 3, lq.shape[1] * 3, 3)
        sample = patches[index]
        (y, x), = is_part_of(levels(sample['lq']), lq)
        assert np.array_equal(levels(sample['gt']), gt[y * 3:][:24, x * 3:][:, :24])


def test_databases_pair_by_template_too(div2k):
    make_lmdb(div2k / 'HR', f'{div2k}/hr.lmdb')
    make_lmdb(div2k / 'LR_bicubic' / 'X3', f'{div2k}/lr.lmdb')
    roots = {'dataroot_lq': f'{div2k}/lr.lmdb', 'scale': 3}
    dataset = data('PairedImageDataset', f'{div2k}/hr.lmdb', filename_tmpl='{}x3', **roots)
    assert [tuple(pair) for pair in dataset.paths] == [('0x3', '0'), ('1x3', '1'), ('2x3', '2')]
    assert dataset[0]['gt'].shape == (3, 60, 75)
    with pytest.raises(UserError, match='have no input: 0, 1, 2'):
        data('PairedImageDataset', f'{div2k}/hr.lmdb', **roots)
    same = {'dataroot_lq': f'{div2k}/hr.lmdb', 'filename_tmpl': '{}x3'}  # keys that are equal need none
    assert len(data('PairedImageDataset', f'{div2k}/hr.lmdb', **same)) == 3


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize('in_ch', [1, 3])
def test_noise_that_is_repeated_for_each_image(folder, in_ch):
    """MambaIR's test: `numpy.random.seed(0)` before every image, noise added to BGR rows."""
    dataset = data('GaussianDenoisingDataset', folder, sigma_test=25, test_noise='repeated', in_ch=in_ch)
    for i in (1, 0, 1):
        clean = read(f'{folder}/{i}.png', in_ch).astype(np.float32) / 255.
        np.random.seed(0)
        noisy = clean + np.random.normal(0, 25 / 255., clean.shape)
        wanted = img2tensor(noisy.astype(np.float32), bgr2rgb=True)
        torch.testing.assert_close(dataset[i]['lq'], wanted, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="test_noise: 'once' is not supported"):
        data('GaussianDenoisingDataset', folder, test_noise='once')
