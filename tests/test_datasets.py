"""Datasets and their loader: what reaches the network, and what is said about files that cannot be read."""
import random
import struct

import cv2
import numpy as np
import pytest
import torch

from basicsr.data import build_dataset, transforms
from basicsr.data.loader import ImageLoader, build_dataloader
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.samplers import EnlargedSampler
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.data.transforms import DIHEDRAL, augment, paired_random_crop
from basicsr.utils.errors import UserError


def coded(h=24, w=20):
    """An image whose pixels tell where they are: BGR = (row, column, 7)."""
    y, x = np.mgrid[:h, :w]
    return np.stack([y, x, np.full_like(y, 7)], -1).astype(np.uint8)


def make_pairs(root, count=3, h=24, w=20, scale=1):
    """Ground truth = twice the input, so that a different box or flip in one of them shows."""
    for side, factor in (('lq', 1), ('gt', 2)):
        (root / side).mkdir()
        for i in range(count):
            img = (coded(h, w) + [0, 0, i]).astype(np.uint8) * factor
            img = img if side == 'lq' else img.repeat(scale, 0).repeat(scale, 1)
            cv2.imwrite(str(root / side / f'{i}.png'), img)
    return {'dataroot_gt': f'{root}/gt', 'dataroot_lq': f'{root}/lq'}


def one_image(root, img_bytes, name='a.png'):
    (root / name).write_bytes(img_bytes)
    return SingleImageDataset(str(root))[0]['lq']


def encoded(img, suffix='.png'):
    return cv2.imencode(suffix, img)[1].tobytes()


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize('name', ['PairedImageDataset', 'Dataset_PairedImage'])
def test_items_and_both_ways_to_call(tmp_path, name):
    opt = make_pairs(tmp_path) | {'phase': 'val', 'io_backend': {'type': 'disk'}, 'name': 'x', 'mean': None}
    for dataset in (build_dataset(opt | {'type': name}), PairedImageDataset(opt)):
        sample = dataset[1]
        assert len(dataset) == 3 and sample['lq'].shape == (3, 24, 20) and sample['lq'].dtype == torch.float32
        red = sample['lq'][0]
        assert torch.equal(red, torch.full_like(red, 8 / 255)) and torch.equal(sample['gt'], sample['lq'] * 2)
        assert sample['lq_path'].endswith('lq/1.png') and sample['gt_path'].endswith('gt/1.png')


@pytest.mark.parametrize('options', [{}, {'geometric_augs': True}, {'use_hflip': True, 'use_rot': True}], ids=str)
@pytest.mark.parametrize('scale, size', [(1, 8), (2, 8), (1, 44), (2, 60), (1, 24), (4, 96)])
def test_crops_are_the_same_box(tmp_path, scale, size, options):
    dataset = PairedImageDataset(**make_pairs(tmp_path, scale=scale), gt_size=size, scale=scale, **options)
    random.seed(0)
    boxes = set()
    for _ in range(12):
        sample = dataset[0]
        lq, gt = sample['lq'], sample['gt']
        assert lq.shape == (3, size // scale, size // scale) and gt.shape == (3, size, size)
        assert torch.equal(gt, (lq * 2).repeat_interleave(scale, 1).repeat_interleave(scale, 2))
        boxes.add(tuple(lq.flatten().tolist()))
    # without flips, an image that had to be padded has one position only
    assert len(boxes) == 1 if size // scale >= 24 and not options else len(boxes) > 3


def test_crop_pads_by_reflection_and_reaches_every_position():
    img = coded(3, 5)
    gt, lq = paired_random_crop(img, img, 8)
    rows, columns = [0, 1, 2, 2, 1, 0, 0, 1], [0, 1, 2, 3, 4, 4, 3, 2]
    assert np.array_equal(lq, img[rows][:, columns]) and np.array_equal(gt, lq)

    random.seed(1)  # and every position is reached
    seen = {tuple(paired_random_crop(coded(6, 5), coded(6, 5), 4)[0][0, 0, :2].tolist()) for _ in range(200)}
    assert seen == {(y, x) for y in range(3) for x in range(2)}


def test_a_patch_above_the_size_of_pictures_is_said_once(messages):
    transforms.say_padded.cache_clear()
    for _ in range(3):
        paired_random_crop(np.zeros((8, 9, 3)), np.zeros((8, 9, 3)), 8)
        paired_random_crop(np.zeros((8, 9, 3)), np.zeros((8, 9, 3)), 10)
    assert messages == ['gt_size: 10 is above the size of some pictures, which are padded by reflection']


@pytest.mark.parametrize('options', [{'gt_size': 8}, {'gt_size': None}, {'gt_size': 8, 'scale': 2}], ids=str)
def test_sizes_that_do_not_belong_together(tmp_path, options):
    opt = make_pairs(tmp_path, count=1)
    cv2.imwrite(f'{tmp_path}/gt/0.png', coded(26, 20))
    with pytest.raises(UserError, match=r"gt/0\.png' is 20x26, but its input is 20x24"):
        PairedImageDataset(**opt, **options)[0]
    # so does validation, which trims what a division leaves over, and refuses smaller ones
    opt |= {'phase': 'val', 'gt_size': 8, 'geometric_augs': True}
    cv2.imwrite(f'{tmp_path}/gt/0.png', coded(26, 23) * 2)
    with pytest.raises(UserError, match=r"gt/0\.png' is 23x26, but its input is 20x24"):
        PairedImageDataset(opt)[0]
    with pytest.raises(UserError, match=r'is 23x26, but its input is 20x24; at scale 2 it should be 40x48'):
        PairedImageDataset(opt | {'scale': 2})[0]


@pytest.mark.parametrize(('scale', 'size', 'fits'), [
    (1, (16, 16), True),
    (1, (17, 16), False),
    (1, (32, 32), False),
    (1, (8, 16), False),
    (4, (64, 64), True),
    (4, (67, 65), True),
    (4, (68, 64), False),
    (4, (63, 64), False),
    (4, (128, 128), False),
])
def test_in_tests_only_what_a_division_leaves_over_is_cut(tmp_path, scale, size, fits):
    """Cutting more would compare other contents."""
    for side, (height, width) in (('lq', (16, 16)), ('gt', size)):
        (tmp_path / side).mkdir()
        cv2.imwrite(f'{tmp_path}/{side}/a.png', coded(height, width))
    data = PairedImageDataset(str(tmp_path / 'gt'), str(tmp_path / 'lq'), scale=scale, phase='val')
    if fits:
        cut = coded(*size)[:16 * scale, :16 * scale, ::-1].transpose(2, 0, 1)
        assert np.array_equal(data[0]['gt'].numpy() * 255, cut.astype(np.float32))
    else:
        with pytest.raises(UserError, match=rf"gt/a.png'.*{size[1]}x{size[0]}.*{16 * scale}x{16 * scale}"):
            data[0]


def test_augmentation_modes():
    img = coded(4, 6)
    modes = [turn(img) for turn in DIHEDRAL]
    assert len({m.tobytes() + bytes(m.shape) for m in modes}) == 8
    ccw, half, cw = (cv2.rotate(img, cv2.ROTATE_90_COUNTERCLOCKWISE), cv2.rotate(img, cv2.ROTATE_180),
                     cv2.rotate(img, cv2.ROTATE_90_CLOCKWISE))
    wanted = [img, img[::-1], ccw, ccw[::-1], half, half[::-1], cw, cw[::-1]]
    assert all(np.array_equal(a, b) for a, b in zip(modes, wanted))
    random.seed(0)
    views = {False: {m.tobytes() for m in (img, img[:, ::-1])}, True: {m.tobytes() for m in modes}}
    for rotation, allowed in views.items():
        assert {augment(img, True, rotation).tobytes() for _ in range(100)} == allowed
    assert all(np.array_equal(*augment([img, img])) for _ in range(8))


# ---------------------------------------------------------------- kinds of files


def test_sixteen_bits_are_read_in_full_depth(tmp_path):
    img = np.array([[[0, 1, 255], [256, 40000, 65535]]], np.uint16)
    wanted = img[..., ::-1].transpose(2, 0, 1) / 65535
    np.testing.assert_allclose(one_image(tmp_path, encoded(img)), wanted, rtol=1e-6)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_grey_and_alpha(tmp_path, dtype):
    grey = (coded()[..., 1].astype(dtype) * np.iinfo(dtype).max) // 255
    tensor = one_image(tmp_path, encoded(grey))
    assert tensor.shape == (3, 24, 20) and torch.equal(tensor[0], tensor[2]) and torch.equal(tensor[0], tensor[1])
    np.testing.assert_allclose(tensor[0].numpy(), grey / np.iinfo(dtype).max, rtol=1e-6)
    alpha = np.dstack([coded(), np.zeros((24, 20), np.uint8)])  # fully transparent: colours must stay as stored
    assert np.array_equal(one_image(tmp_path, encoded(alpha)).permute(1, 2, 0) * 255, coded()[..., ::-1])


def with_exif(data, orientation, order='<'):
    mark = b'II' if order == '<' else b'MM'
    tiff = struct.pack(order + '2sHIHHHIHHI', mark, 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)
    segment = b'Exif\0\0' + tiff
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(segment) + 2) + segment + data[2:]


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('orientation, turns', [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_photo_is_turned_upright(tmp_path, messages, orientation, turns, order):
    data = encoded(cv2.resize(coded(4, 6) * 40, (48, 32), interpolation=cv2.INTER_NEAREST), '.jpg')
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    tensor = one_image(tmp_path, with_exif(data, orientation, order), 'a.jpg')
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), np.rot90(stored, turns)[..., ::-1] / 255, atol=1e-6)
    assert bool([m for m in messages if 'EXIF' in m]) == (orientation != 1)


def test_fill_bytes_before_a_marker_are_no_damage(tmp_path):
    data = encoded(coded(), '.jpg')
    assert torch.equal(one_image(tmp_path, data[:2] + b'\xff\xff' + data[2:], 'a.jpg'),
                       one_image(tmp_path, data, 'a.jpg'))


def test_luma_and_normalisation(tmp_path):
    opt = make_pairs(tmp_path, count=1) | {'phase': 'val'}
    rgb = coded()[..., ::-1].astype(float)
    luma = (rgb @ [65.481, 128.553, 24.966] / 255 + 16) / 255
    y = PairedImageDataset(opt | {'color': 'y'})[0]['lq']
    assert y.shape == (1, 24, 20) and np.allclose(y[0], luma, rtol=1e-6, atol=0)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1, 2]
    for dataset in (PairedImageDataset(opt | {'mean': mean, 'std': std}),
                    SingleImageDataset(opt | {'mean': mean, 'std': std})):
        np.testing.assert_allclose(dataset[0]['lq'].permute(1, 2, 0), (rgb / 255 - mean) / std, atol=1e-6)
    with pytest.raises(UserError, match="color 'hsv'"):
        PairedImageDataset(opt | {'color': 'hsv'})


def test_what_reading_changes_is_logged(tmp_path, messages):
    opt = make_pairs(tmp_path, count=2)
    PairedImageDataset(opt)
    assert not messages
    cv2.imwrite(f'{tmp_path}/lq/0.png', coded()[..., 0])
    cv2.imwrite(f'{tmp_path}/lq/1.png', np.dstack([coded(), coded()[..., 0]]).astype(np.uint16))
    PairedImageDataset(opt)
    text = '\n'.join(messages)
    assert all(w in text for w in ('1 of 4', 'grey', 'alpha', '16-bit', opt['dataroot_lq'])) and len(messages) == 3


# ---------------------------------------------------------------- damage, in this process and in a worker

DAMAGE = [('0.png', lambda: encoded(coded(64, 64))[:-20], 'is cut off'),
          ('0.jpg', lambda: encoded(coded(64, 64), '.jpg')[:-40], 'is cut off'),
          ('0.jpg', lambda: with_exif(encoded(coded(64, 64), '.jpg'), 6)[:60], 'is cut off'),
          ('0.png', lambda: b'', 'is empty'), ('0.png', lambda: b'<html>not found</html>', 'is not an image'),
          ('0.tif', lambda: encoded(coded().astype(np.float32), '.tif'), 'images are supported')]


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('name, content, words', DAMAGE, ids=[f'{n}-{w}' for n, _, w in DAMAGE])
def test_damaged_file_is_named_in_one_sentence(tmp_path, name, content, words, workers):
    opt = make_pairs(tmp_path, count=2)
    (tmp_path / 'gt' / '0.png').unlink()
    (tmp_path / 'gt' / name).write_bytes(content())
    dataset = PairedImageDataset(opt | {'gt_size': 8})
    with pytest.raises(UserError) as info:
        list(ImageLoader(dataset, {}, batch_size=2, num_workers=workers))
    message = str(info.value)
    assert message.startswith(f"'{tmp_path}/gt/{name}' ") and words in message
    assert '\n' not in message and 'Traceback' not in message and 'worker' not in message


@pytest.mark.parametrize('workers', [0, 1])
def test_vanished_file_and_different_sizes(tmp_path, workers):
    dataset = PairedImageDataset(make_pairs(tmp_path, count=2))
    for side in ('lq', 'gt'):
        cv2.imwrite(f'{tmp_path}/{side}/1.png', coded(9, 9))
    with pytest.raises(UserError, match=r'differ in size .*\(3, 9, 9\), \(3, 24, 20\).*gt_size'):
        next(iter(ImageLoader(dataset, {}, batch_size=2, num_workers=workers)))
    (tmp_path / 'lq' / '0.png').unlink()
    with pytest.raises(UserError, match=r"^cannot use the file '.*lq/0\.png': no such file or directory$"):
        next(iter(ImageLoader(dataset, {}, num_workers=workers)))


def test_batches_do_not_depend_on_workers_or_on_resuming(tmp_path):
    dataset = PairedImageDataset(**make_pairs(tmp_path, count=5), gt_size=8, geometric_augs=True)
    opt = {'phase': 'train', 'batch_size_per_gpu': 2}

    def batches(workers, seed=3, start=0):
        sampler = EnlargedSampler(dataset, ratio=2, seed=seed)
        sampler.set_epoch(1, start)
        loader = build_dataloader(dataset, opt | {'num_worker_per_gpu': workers}, sampler=sampler)
        return torch.stack([b['lq'] for b in loader])

    random.seed(11)
    state, torch_state = random.getstate(), torch.get_rng_state()
    alone = batches(0)
    assert random.getstate() == state and torch.equal(torch.get_rng_state(), torch_state)
    assert alone.shape == (5, 2, 3, 8, 8) and torch.equal(alone, batches(2))
    assert torch.equal(torch.get_rng_state(), torch_state)  # starting workers draws nothing from the training
    assert torch.equal(alone[2:], batches(2, start=4))
    assert not torch.equal(alone, batches(0, seed=4))
    assert not torch.equal(alone[0], alone[1])
