"""PSNR and SSIM against scikit-image, and each protocol against its formula written out naively."""
import math
import typing
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from basicsr.metrics import (
    PROTOCOLS,
    better,
    calculate_metric,
    calculate_psnr,
    calculate_ssim,
    describe,
    measure,
    needs_gt,
)
from basicsr.metrics.gt_mean import match_mean
from basicsr.registry import METRIC_REGISTRY
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread

TEST_SET = Path(__file__).resolve().parent.parent.parent / 'shared' / 'data' / 'LOLv1' / 'Test'
C1, C2 = (0.01 * 255)**2, (0.03 * 255)**2
SKIMAGE = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 255}


def pair(h=17, w=15, noise=12., seed=0):
    """RGB float images in [0, 1] that are no multiples of 1/255."""
    rng = np.random.default_rng(seed)
    gt = np.clip(rng.random((h, w, 3)) * 0.6 + np.linspace(0, 0.4, w)[None, :, None], 0, 1)
    return np.clip(gt + rng.normal(0, noise / 255, gt.shape), 0, 1), gt


def bytes_pair(*args, **kwargs):
    return [np.rint(x[..., ::-1] * 255).astype(np.uint8) for x in pair(*args, **kwargs)]  # BGR


def luma(bgr):
    blue, green, red = (np.asarray(bgr, np.float64)[..., c] for c in range(3))
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def psnr(a, b):
    return 10 * math.log10(255**2 / np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64))**2))


def skimage_ssim(a, b, **options):
    """Of RGB images in [0, 1], as the all-in-one family calls it: the sample covariance is scikit-image's default."""
    return structural_similarity(a, b, channel_axis=2, data_range=1, **options)


def gauss():
    taps = np.array([math.exp(-(i - 5)**2 / (2 * 1.5**2)) for i in range(11)])
    return taps / taps.sum()


def naive_ssim(a, b, valid, depth):
    """Loops over all windows; (H, W, C). depth: the window also spans the channels."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    g = gauss()
    kernel = np.einsum('i,j,k->ijk', g, g, g if depth else np.ones(1))
    r = 5 if depth else 0
    pad = ((0, 0) if valid else (5, 5), (0, 0) if valid else (5, 5), (r, r))
    a, b = np.pad(a, pad, 'edge'), np.pad(b, pad, 'edge')
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            for c in range(a.shape[2] - 2 * r):
                p, q = (z[y:y + 11, x:x + 11, c:c + 2 * r + 1] for z in (a, b))
                mp, mq = (kernel * p).sum(), (kernel * q).sum()
                vp, vq = (kernel * (p - mp)**2).sum(), (kernel * (q - mq)**2).sum()
                cov = (kernel * (p - mp) * (q - mq)).sum()
                values.append((2 * mp * mq + C1) * (2 * cov + C2) / ((mp**2 + mq**2 + C1) * (vp + vq + C2)))
    return np.mean(values)


# ---------------------------------------------------------------- against scikit-image


@pytest.mark.parametrize('noise', [1., 12., 60.])
def test_psnr_and_ssim_of_scikit_image(noise):
    a, b = bytes_pair(48, 37, noise)
    assert calculate_psnr(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), abs=1e-9)
    # scikit-image cuts the same five pixels off each side
    assert calculate_ssim(a, b) == pytest.approx(structural_similarity(a, b, channel_axis=2, **SKIMAGE), abs=1e-7)
    expected = structural_similarity(a[..., 0], b[..., 0], **SKIMAGE)
    assert calculate_ssim(a[..., 0], b[..., 0]) == pytest.approx(expected, abs=1e-7)


def test_crop_order_and_luma():
    a, b = bytes_pair(30, 28)
    cut = np.s_[4:-4, 4:-4]
    assert calculate_psnr(a, b, crop_border=4) == pytest.approx(psnr(a[cut], b[cut]), abs=1e-9)
    assert calculate_psnr(a, b, test_y_channel=True) == pytest.approx(psnr(luma(a), luma(b)), abs=1e-9)
    ya, yb = luma(a[cut]), luma(b[cut])
    expected = structural_similarity(ya, yb, **SKIMAGE)
    assert calculate_ssim(a, b, 4, test_y_channel=True) == pytest.approx(expected, abs=1e-7)
    for metric in (calculate_psnr, calculate_ssim):
        chw = metric(a.transpose(2, 0, 1), b.transpose(2, 0, 1), crop_border=2, input_order='CHW')
        assert chw == pytest.approx(metric(a, b, crop_border=2), abs=1e-12)
        # a view with negative strides is what reversing the channels gives
        assert metric(a.astype(float)[..., ::-1], b.astype(float)[..., ::-1]) == pytest.approx(metric(a, b), abs=1e-12)


def test_uint8_does_not_wrap_around():
    a, b = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    assert calculate_psnr(a, b) == pytest.approx(0, abs=1e-12)
    assert calculate_ssim(a, b) == pytest.approx(C1 / (255**2 + C1), rel=1e-9)


@pytest.mark.parametrize('noise', [1., 12., 60.])
def test_all_in_one_protocols_are_those_of_scikit_image(noise):
    result, gt = pair(48, 37, noise)
    for name, options in (('all-in-one', {'gaussian_weights': True, 'sigma': 1.5}), ('all-in-one-uniform', {})):
        ssim = measure(result, gt, {'type': 'calculate_ssim', 'protocol': name})
        assert ssim == pytest.approx(skimage_ssim(result, gt, **options), abs=1e-12)
        value = measure(result, gt, {'type': 'calculate_psnr', 'protocol': name})
        assert value == pytest.approx(peak_signal_noise_ratio(gt, result, data_range=1), abs=1e-9)
    small = [x[:8, :9] for x in (result, gt)]
    assert measure(*small,
                   {'type': 'calculate_ssim', 'protocol': name}) == pytest.approx(skimage_ssim(*small), abs=1e-12)
    with pytest.raises(ValueError, match='7x7'):
        measure(*(x[:6, :9] for x in small), {'type': 'calculate_ssim', 'protocol': name})


# ---------------------------------------------------------------- protocols


def test_each_protocol_by_its_formula():
    result, gt = pair()
    exact = [x[..., ::-1] * 255 for x in (result, gt)]
    rounded = [np.rint(x) for x in exact]
    y = [np.rint(luma(x))[..., None] for x in rounded]
    yiq = [np.rint(x @ [0.114, 0.587, 0.299])[..., None] for x in exact]
    cut = [np.floor(x) for x in exact]
    greys = [np.rint(x @ [0.114, 0.587, 0.299]).mean() for x in cut]
    scaled = [np.clip(cut[0] * greys[1] / greys[0], 0, 255), cut[1]]
    wanted = {
        'basicsr': (psnr(*rounded), naive_ssim(*rounded, valid=True, depth=False)),
        'restormer-rgb3d': (psnr(*exact), naive_ssim(*exact, valid=False, depth=True)),
        'retinexformer': (psnr(*exact), naive_ssim(*rounded, valid=True, depth=False)),
        'matlab-y': (psnr(*y), naive_ssim(*y, valid=False, depth=False)),
        'all-in-one': (psnr(*exact), skimage_ssim(result, gt, gaussian_weights=True, sigma=1.5)),
        'all-in-one-uniform': (psnr(*exact), skimage_ssim(result, gt)),
        'pyiqa': (-10 * math.log10(np.mean((result - gt)**2) + 1e-8), naive_ssim(*yiq, valid=True, depth=False)),
        'cidnet': (psnr(*cut), naive_ssim(*cut, valid=True, depth=False)),
        'cidnet-gt-mean': (psnr(*scaled), naive_ssim(*scaled, valid=True, depth=False)),
        'darkir': (psnr(*exact), naive_ssim(*exact, valid=True, depth=False)),
        'nafnet': (psnr(*exact), naive_ssim(*exact, valid=False, depth=True)),
        'nafnet-8bit': (psnr(*rounded), naive_ssim(*rounded, valid=False, depth=True)),
    }
    assert set(wanted) == set(PROTOCOLS)
    for name, values in wanted.items():
        for metric, value in zip(('calculate_psnr', 'calculate_ssim'), values):
            assert measure(result, gt, {'type': metric, 'protocol': name}) == pytest.approx(value, abs=1e-9), name
    # the protocols are told apart by this pair at all
    assert len({round(v, 6) for v in (p for p, _ in wanted.values())}) == 6
    assert len({round(v, 6) for v in (s for _, s in wanted.values())}) == 10


def test_values_beyond_the_range_count_where_the_protocol_says_so():
    _, gt = pair()
    result = gt + 0.5  # above 1 here and there
    for name, wanted in (('darkir', psnr(result * 255, gt * 255)), ('nafnet', psnr(result * 255, gt * 255)),
                         ('all-in-one', psnr(np.clip(result, 0, 1) * 255, gt * 255))):
        assert measure(result, gt, {'type': 'calculate_psnr', 'protocol': name}) == pytest.approx(wanted, abs=1e-9)
    assert math.isnan(measure(result * math.inf, gt, {'type': 'calculate_psnr', 'protocol': 'nafnet'}))


def test_cutting_off_keeps_what_is_a_whole_number():
    """Images of files are float32: 255 times k / 255 can be less than k in float64."""
    levels = np.arange(256, dtype=np.float32)[:, None, None].repeat(3, 2) / np.float32(255)
    block = {'type': 'calculate_psnr', 'protocol': 'cidnet'}
    assert measure(levels, levels + np.float32(1e-3), block) == pytest.approx(10 * math.log10(255**2 / 1e-8))
    assert measure(levels + np.float32(0.9 / 255), levels, block) == pytest.approx(10 * math.log10(255**2 / 1e-8))


def test_the_answer_is_used_on_request_alone():
    from basicsr.evaluation.metric_choice import all_protocols, choose_metrics
    assert 'psnr cidnet' in all_protocols() and not any('gt-mean' in label for label in all_protocols())
    assert choose_metrics(['psnr'], 'cidnet-gt-mean', [], True)['psnr']['protocol'] == 'cidnet-gt-mean'
    grey = np.full((12, 12), 0.25)
    assert measure(grey, grey * 2, {'type': 'calculate_psnr', 'protocol': 'cidnet-gt-mean'}) > 60


def test_volume_of_one_channel_is_the_replicated_plane():
    a, b = (luma(x) for x in bytes_pair())
    assert calculate_ssim(a, b, protocol='restormer-rgb3d') == pytest.approx(
        naive_ssim(a[..., None], b[..., None], valid=False, depth=False), abs=1e-9)


def test_small_images_where_borders_are_repeated():
    a, b = bytes_pair(6, 9)
    expected = naive_ssim(a, b, valid=False, depth=True)
    assert calculate_ssim(a, b, protocol='restormer-rgb3d') == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match='11x11'):
        calculate_ssim(a, b)


@pytest.mark.parametrize('protocol', [None, *PROTOCOLS])
def test_equal_images(protocol):
    a = bytes_pair()[0]
    cidnet = 10 * math.log10(255**2 / 1e-8)
    wanted = {'retinexformer': 100., 'pyiqa': 80., 'cidnet': cidnet, 'cidnet-gt-mean': cidnet}
    assert calculate_psnr(a, a.copy(), protocol=protocol) == wanted.get(protocol, float('inf'))
    assert calculate_ssim(a, a.copy(), protocol=protocol) == pytest.approx(1, abs=1e-12)


def test_unknown_protocol_suggests_a_name():
    a = bytes_pair()[0]
    with pytest.raises(UserError, match=r"Did you mean 'retinexformer'\?"):
        calculate_psnr(a, a, protocol='retinexfomer')


# ---------------------------------------------------------------- calling


@pytest.mark.parametrize('metric', [calculate_psnr, calculate_ssim])
def test_images_that_cannot_be_compared(metric):
    a, b = bytes_pair(20, 24)
    with pytest.raises(ValueError, match='shape'):
        metric(a, b[:, 1:])
    with pytest.raises(ValueError, match='shape'):
        metric(a, b[..., 0])  # would broadcast without the check when sizes agree
    with pytest.raises(ValueError, match='crop_border 10'):
        metric(a, b, crop_border=10)
    with pytest.raises(ValueError, match='input_order'):
        metric(a, b, input_order='NCHW')


def test_calculate_metric_ignores_foreign_keys_and_keeps_the_options():
    a, b = bytes_pair(24, 24)
    opt = {'type': 'calculate_psnr', 'crop_border': 3, 'better': 'higher', 'note': 1}
    kept = dict(opt)
    assert calculate_metric({'img': a, 'img2': b}, opt) == calculate_psnr(a, b, 3)
    assert opt == kept
    opt = {'type': 'calculate_ssim', 'better': 'lower'}
    assert calculate_metric({'img': a, 'img2': b}, opt) == calculate_ssim(a, b)


@pytest.mark.parametrize('protocol', [None, *(name for name, p in PROTOCOLS.items() if p.clamps)])
@pytest.mark.parametrize('metric', ['calculate_psnr', 'calculate_ssim'])
def test_one_stray_pixel_does_not_change_the_peak(metric, protocol):
    result, gt = pair()
    result[3, 4], result[5, 6] = 1.5, -0.5
    opt = {'type': metric, **({'protocol': protocol} if protocol else {})}
    kept = result.copy()
    assert measure(result, gt, opt) == measure(np.clip(result, 0, 1), gt, opt)
    assert np.array_equal(result, kept)
    # two wrong pixels must cost something; the published code guesses the peak from the maximum and adds 48 dB
    assert measure(result, gt, opt) < measure(pair()[0], gt, opt)


def test_measure_rounds_without_a_protocol():
    result, gt = pair()
    opt = {'type': 'calculate_psnr'}
    assert measure(result, gt, opt) == measure(result, gt, opt | {'protocol': 'basicsr'})
    assert measure(result, gt, opt | {'test_y_channel': True}) == pytest.approx(
        psnr(*(luma(np.rint(x[..., ::-1] * 255)) for x in (result, gt))), abs=1e-9)


def test_gt_mean_by_formula():
    result, gt = pair()
    dark = result * 0.6
    # OpenCV's BGR weights on RGB data, as the published script does
    grey = [(0.114 * x[..., 0] + 0.587 * x[..., 1] + 0.299 * x[..., 2]).mean() for x in (dark, gt)]
    np.testing.assert_allclose(match_mean(dark, gt), np.clip(dark * grey[1] / grey[0], 0, 1), rtol=1e-12)
    assert match_mean(dark, np.ones_like(gt)).max() == 1
    one = dark[..., :1]  # a grey result: the ratio of the means
    np.testing.assert_allclose(match_mean(one, one * 2), np.clip(one * 2, 0, 1), rtol=1e-12)
    assert np.array_equal(match_mean(np.zeros_like(gt), gt), np.zeros_like(gt))


def test_describe_says_what_the_number_means():
    opt = {'type': 'calculate_psnr', 'test_y_channel': True, 'crop_border': 4}
    assert describe(opt) == 'basicsr, luma, crop 4'
    assert describe({'type': 'calculate_ssim', 'protocol': 'matlab-y', 'test_y_channel': True}) == 'matlab-y'

    assert describe({'type': 'calculate_lpips'}) == 'alex, version 0.1'
    assert describe({'type': 'calculate_lpips', 'net': 'vgg'}) == 'vgg, version 0.1'
    assert describe({'type': 'calculate_niqe', 'crop_border': 4}) == ''


def test_no_protocol_can_be_written_as_null():
    result, gt = pair()
    for name in ('calculate_psnr', 'calculate_ssim'):
        none, rounded = {'type': name, 'protocol': None}, {'type': name, 'protocol': 'basicsr'}
        assert measure(result, gt, none) == measure(result, gt, {'type': name}) == measure(result, gt, rounded)
        assert measure(result, gt, none) != measure(result, gt, {'type': name, 'protocol': 'all-in-one'})
        assert describe(none) == 'basicsr' and describe(none | {'crop_border': 2}) == 'basicsr, crop 2'


def test_metrics_of_others_say_what_they_want(monkeypatch):

    def bare(img, img2):
        return 1.

    def own(img, weight=1, **kwargs):
        return 2.

    own.better, own.describe = 'lower', lambda opt: f"weight {opt.get('weight', 1)}"
    # a name like ours says nothing of what a metric does
    for name, metric in (('calculate_psnr_bare', bare), ('calculate_own', own)):
        monkeypatch.setitem(METRIC_REGISTRY._objects, name, metric)
    opt = {'type': 'calculate_psnr_bare'}
    assert (better(opt), needs_gt(opt), describe(opt)) == ('higher', True, '')
    opt = {'type': 'calculate_own', 'weight': 3}
    assert (better(opt), needs_gt(opt), describe(opt)) == ('lower', False, 'weight 3')


@pytest.mark.skipif(not TEST_SET.is_dir(), reason='needs LOL v1')
def test_inputs_of_lol_v1():
    targets = sorted((TEST_SET / 'target').iterdir())
    assert len(targets) == 15
    values = [calculate_psnr(imread(TEST_SET / 'input' / t.name), imread(t)) for t in targets]
    assert np.mean(values) == pytest.approx(7.773, abs=5e-4)


def test_options_accept_exactly_the_protocols_of_the_table():
    from basicsr.config.signatures import read_signature
    from basicsr.registry import METRIC_REGISTRY
    for name in ('calculate_psnr', 'calculate_ssim'):
        annotation = read_signature(METRIC_REGISTRY.index()[name]).fields['protocol'][0]
        assert set(typing.get_args(typing.get_args(annotation)[0])) == set(PROTOCOLS)
