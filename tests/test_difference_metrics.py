"""RMSE, MAE, CIEDE2000 and the protocol of IQA-PyTorch."""
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from basicsr.metrics import calculate_delta_e, calculate_mae, calculate_psnr, calculate_rmse, calculate_ssim
from basicsr.metrics.delta_e import ciede2000
from basicsr.utils import color

# Sharma, Wu and Dalal 2005, table 1: two colours in CIELAB and their difference
BLUE = (50, 0, -82.7485)
RED = (50, 2.5, 0)
SHARMA = [
    ((50, 2.6772, -79.7751), BLUE, 2.0425),
    ((50, 3.1571, -77.2803), BLUE, 2.8615),
    ((50, 2.8361, -74.0200), BLUE, 3.4412),
    ((50, -1.3802, -84.2814), BLUE, 1.0000),
    ((50, -1.1848, -84.8006), BLUE, 1.0000),
    ((50, -0.9009, -85.5211), BLUE, 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, -1, 2), (50, 0, 0), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.001), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.49, -0.001), (50, -2.49, 0.0012), 7.2195),
    ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
    ((50, -0.001, 2.49), (50, 0.001, -2.49), 4.8045),
    ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
    (RED, (50, 0, -2.5), 4.3065),
    (RED, (73, 25, -18), 27.1492),
    (RED, (61, -5, 29), 22.8977),
    (RED, (56, -27, -3), 31.9030),
    (RED, (58, 24, 15), 19.4535),
    (RED, (50, 3.1736, 0.5854), 1.0000),
    (RED, (50, 3.2972, 0), 1.0000),
    (RED, (50, 1.8634, 0.5757), 1.0000),
    (RED, (50, 3.2592, 0.3350), 1.0000),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((61.2901, 3.7196, -5.3901), (61.4292, 2.2480, -4.9620), 1.8731),
    ((35.0831, -44.1164, 3.7933), (35.0232, -40.0716, 1.5901), 1.8645),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((36.4612, 47.8580, 18.3852), (36.2715, 50.5065, 21.2231), 1.4146),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


def images(h=20, w=24, seed=0):
    rng = np.random.RandomState(seed)
    return [rng.randint(0, 256, (h, w, 3)).astype(np.uint8) for _ in range(2)]  # BGR


def test_ciede2000_of_the_published_table():
    assert len(SHARMA) == 34
    first, second, wanted = (np.array(column) for column in zip(*SHARMA))
    assert np.array_equal(ciede2000(first, second).round(4), wanted)
    assert np.array_equal(ciede2000(second, first).round(4), wanted)


def test_delta_e_of_scikit_image():
    a, b = images()
    lab = [rgb2lab(x[..., ::-1]) for x in (a, b)]
    np.testing.assert_allclose(color.rgb2lab(a[..., ::-1] / 255), lab[0], atol=2e-4)
    np.testing.assert_allclose(ciede2000(*lab), deltaE_ciede2000(*lab), atol=1e-9)
    assert calculate_delta_e(a, b) == pytest.approx(deltaE_ciede2000(*lab).mean(), abs=1e-6)
    assert calculate_delta_e(a, b, crop_border=3) == calculate_delta_e(a[3:-3, 3:-3], b[3:-3, 3:-3])


def test_delta_e_of_black_white_and_grey():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert calculate_delta_e(black, white) == pytest.approx(100, abs=0.01)
    assert calculate_delta_e(white, white) == 0
    assert calculate_delta_e(black[..., 0] + 40, white[..., 0]) == calculate_delta_e(black + 40, white)


def test_rmse_and_mae_do_not_overflow():
    a, b = images()
    difference = a.astype(float) - b
    assert calculate_rmse(a, b) == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-12)
    assert calculate_mae(a, b) == pytest.approx(np.abs(difference).mean(), rel=1e-12)
    assert calculate_rmse(a, b, 2) == pytest.approx(calculate_rmse(a[2:-2, 2:-2], b[2:-2, 2:-2]), rel=1e-12)
    assert calculate_mae(a.transpose(2, 0, 1), b.transpose(2, 0, 1),
                         input_order='CHW') == pytest.approx(calculate_mae(a, b), rel=1e-12)
    zero, full = np.zeros((12, 12), np.uint8), np.full((12, 12), 255, np.uint8)
    assert calculate_rmse(zero, full) == calculate_mae(zero, full) == 255
    assert calculate_psnr(a, b) == pytest.approx(20 * np.log10(255 / calculate_rmse(a, b)), abs=1e-9)


@pytest.mark.parametrize('metric', [calculate_rmse, calculate_mae, calculate_delta_e])
def test_images_that_cannot_be_compared(metric):
    a, b = images()
    with pytest.raises(ValueError, match='shape'):
        metric(a, b[:, 1:])


def test_ssim_of_iqa_pytorch_ignores_inverted_structure():
    a = images(32, 32)[0]
    inverted = 255 - a
    assert calculate_ssim(a, inverted) < 0
    assert 0 <= calculate_ssim(a, inverted, protocol='pyiqa') < 1e-3
    plane = a[..., 0]
    assert calculate_ssim(plane, plane, protocol='pyiqa') == pytest.approx(1, abs=1e-12)
