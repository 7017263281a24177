"""NIQE and BRISQUE: their parts by formula, and values of other programs."""
import math
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy import ndimage
from scipy.special import gamma

from basicsr.metrics import brisque, calculate_brisque, calculate_niqe, natural_scene
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread

DEMO = ROOT / 'data' / 'demo'
# BasicSR 1.4.2, calculate_niqe(img, 0)
NIQE = {
    'test/input/lounge': 6.296128,
    'test/input/peaks': 7.747485,
    'test/target/lounge': 4.583694,
    'test/target/peaks': 3.794139,
    'train/input/astronaut': 5.948040,
    'train/input/brushes': 5.570245,
    'train/input/cat': 6.513252,
    'train/input/coffee': 9.437133,
    'train/input/dandelion': 7.538192,
    'train/input/dogs': 7.955779,
    'train/input/fig': 7.397450,
    'train/input/flower': 6.094847,
    'train/input/meadow': 9.336877,
    'train/input/pagoda': 5.693324,
    'train/input/stream': 4.114391,
    'train/target/astronaut': 3.823427,
    'train/target/brushes': 4.317354,
    'train/target/cat': 3.351528,
    'train/target/coffee': 5.381063,
    'train/target/dandelion': 4.275073,
    'train/target/dogs': 6.230889,
    'train/target/fig': 4.926126,
    'train/target/flower': 5.309748,
    'train/target/meadow': 3.497620,
    'train/target/pagoda': 4.606405,
    'train/target/stream': 4.549852,
}
# IQA-PyTorch 0.1.16 in float32, with the same support vectors
BRISQUE = {
    'test/input/lounge': 21.9149, 'test/input/peaks': 12.8366, 'test/target/lounge': 29.2360,
    'test/target/peaks': 5.5184
}
needs_machine = pytest.mark.skipif(
    find_spec('brisque') is None and not (ROOT / 'pretrained_weights' / 'brisque_allmodel').is_file(),
    reason="needs LIVE's file 'allmodel'")


def picture(h, w, seed=0):
    y, x = np.mgrid[:h, :w]
    waves = np.stack([128 + 60 * np.sin(x / 9 + c) + 40 * np.cos(y / (7 + c)) for c in range(3)], -1)
    noise = np.random.RandomState(seed).randint(-20, 21, (h, w, 3))
    return np.clip(np.rint(waves + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('size, options, wanted', [
    ((192, 288, 0), {}, 27.629012),
    ((192, 288, 0), {'convert_to': 'gray'}, 27.456183),
    ((192, 288, 0), {'crop_border': 5}, 29.064891),
    ((250, 310, 1), {}, 27.130605),
    ((250, 310, 1), {'convert_to': 'gray'}, 27.242026),
    ((250, 310, 1), {'crop_border': 5}, 27.514534),
])
def test_niqe_of_basicsr_on_synthetic_pictures(size, options, wanted):
    assert calculate_niqe(picture(*size), **options) == pytest.approx(wanted, abs=1e-4)


def test_niqe_of_basicsr_where_a_block_is_flat():
    flat = picture(300, 300, 2)
    flat[:110, :120] = 200
    assert calculate_niqe(flat) == pytest.approx(19.162335, abs=1e-4)


def test_niqe_is_not_defined_without_variation(recwarn):
    flat = np.full((200, 200, 3), 7, np.uint8)
    assert np.isnan(calculate_niqe(flat)) and not recwarn
    flat[:96, :96] = picture(96, 96)
    assert np.isnan(calculate_niqe(flat))  # one block has no covariance


@pytest.mark.parametrize('name', NIQE)
def test_niqe_of_basicsr_on_photographs(name):
    assert calculate_niqe(imread(DEMO / f'{name}.png')) == pytest.approx(NIQE[name], abs=1e-4)


def test_niqe_of_grey_images_and_orders():
    img = picture(192, 288)
    assert calculate_niqe(img[..., 0]) == pytest.approx(64.219020, abs=1e-4)  # BasicSR
    assert calculate_niqe(img.transpose(2, 0, 1), input_order='CHW') == calculate_niqe(img)
    assert calculate_niqe(img, img2=img, better='lower') == calculate_niqe(img)
    with pytest.raises(ValueError, match='at least 96x192 pixels, the image has 191x100'):
        calculate_niqe(img[:191, :100])
    with pytest.raises(ValueError, match="convert_to 'rgb'"):
        calculate_niqe(img, convert_to='rgb')


def test_halving_is_antialiased_cubic_interpolation():
    plane = picture(41, 50)[..., 0].astype(np.float64)
    ours = natural_scene.halve(plane)
    assert ours.shape == (21, 25)
    # torch's kernel inside the image; at the border, MATLAB mirrors instead
    padded = np.pad(plane, 9, 'symmetric')[1:, 1:]
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(padded)[None, None], scale_factor=0.5, mode='bicubic', antialias=True,
        recompute_scale_factor=False)[0, 0].numpy()[4:25, 4:29]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize('border, mode', [(cv2.BORDER_REPLICATE, 'nearest'), (cv2.BORDER_CONSTANT, 'constant')])
def test_mscn_by_its_formula(border, mode):
    plane = picture(30, 34)[..., 1].astype(np.float64)
    taps = np.exp(-(np.arange(7) - 3)**2 / (2 * (7 / 6)**2))
    kernel = np.outer(taps, taps) / taps.sum()**2
    mean, square = (ndimage.correlate(x, kernel, mode=mode) for x in (plane, plane**2))
    wanted = (plane - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)
    np.testing.assert_allclose(natural_scene.mscn(plane, border), wanted, atol=5e-5)  # float32
    flat = natural_scene.mscn(np.full((20, 20), 77.), cv2.BORDER_REPLICATE)
    assert np.array_equal(flat, np.zeros((20, 20)))


def test_fit_recovers_the_distribution_it_was_drawn_from():
    rng = np.random.RandomState(0)
    shape, left, right, n = 1.4, 0.7, 1.6, 400_000
    size = rng.gamma(1 / shape, size=n)**(1 / shape)
    values = np.where(rng.rand(n) < left / (left + right), -left, right) * size
    got = natural_scene.fit(values)
    assert got.shape == pytest.approx(shape, abs=0.02)
    assert (got.left_scale, got.right_scale) == pytest.approx((left, right), rel=0.02)
    assert got.mean == pytest.approx((right - left) * gamma(2 / shape) / gamma(1 / shape), rel=0.02)
    assert (got.left_std,
            got.right_std) == pytest.approx([s * math.sqrt(gamma(3 / shape) / gamma(1 / shape)) for s in (left, right)],
                                            rel=0.02)
    assert math.isnan(natural_scene.fit(np.abs(values)).mean)


@needs_machine
@pytest.mark.parametrize('name', BRISQUE)
def test_brisque_of_iqa_pytorch(name):
    # rounding of grey values that end in .5, and float32, move it in the second decimal
    assert calculate_brisque(imread(DEMO / f'{name}.png')) == pytest.approx(BRISQUE[name], abs=0.03)


@needs_machine
def test_brisque_of_odd_and_grey_images():
    img = picture(97, 129)
    plane = natural_scene.grey(img.astype(np.float64))
    assert calculate_brisque(plane) == calculate_brisque(img) == calculate_brisque(np.uint8(plane))
    assert calculate_brisque(np.pad(img, ((2, 2), (2, 2), (0, 0))), crop_border=2) == calculate_brisque(img)


def test_brisque_takes_the_published_machine_only(tmp_path, monkeypatch):
    head = 'svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv {}\nrho {}\nSV\n'
    file = tmp_path / 'other'
    file.write_text(head.format(770, -155.845) + '-1024 1:-0.5 36:1\n')
    with pytest.raises(UserError, match="other' is not LIVE's file 'allmodel' of BRISQUE"):
        calculate_brisque(picture(40, 40), weights=str(file))
    with pytest.raises(UserError, match='there is no file'):
        calculate_brisque(picture(40, 40), weights=str(tmp_path / 'none'))
    with pytest.raises(ValueError, match='16x16'):
        calculate_brisque(picture(15, 40), weights=str(file))
    monkeypatch.setattr(brisque, 'find_spec', lambda name: None)
    monkeypatch.setattr(brisque, 'project_root', lambda: tmp_path)
    brisque._machine.cache_clear()
    with pytest.raises(UserError, match='brisque_allmodel'):
        calculate_brisque(picture(40, 40))
    (tmp_path / 'pretrained_weights').mkdir()
    lines = ['2 1:-1 36:0.5', '-1 2:0.25'] + ['0'] * 772
    (tmp_path / 'pretrained_weights' / 'brisque_allmodel').write_text(head.format(774, -153.591) + '\n'.join(lines))
    assert np.isnan(calculate_brisque(np.full((40, 40), 9, np.uint8)))
    coefficients, vectors = brisque._machine(None)
    assert coefficients[:3].tolist() == [2, -1, 0] and vectors[0, [0, 1, 35]].tolist() == [-1, 0, 0.5]
    assert vectors[1, 1] == 0.25 and vectors.shape == (774, 36)
    brisque._machine.cache_clear()
