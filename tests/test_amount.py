"""How much of a network's answer is taken: strength, exposure and grain."""
from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_recorder import FakeRecorder
from photo_files import encoded, picture, profile
from test_networks import tiny

from basicsr.archs import build_network
from basicsr.commands.enhance import main
from basicsr.inference.amount import Amount
from basicsr.inference.light import exposed, mixed, with_grain
from basicsr.inference.photos import restore_photo
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.photo import Frame, Metadata, Photo, to_float
from basicsr.photos.profiles import Colours
from basicsr.photos.reading import read_photo
from basicsr.utils.errors import UserError
from basicsr.utils.replay import Replayed
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear
from basicsr.utils.weights import save_weights

SMALL = {
    'RetinexMamba': {'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2},
    'MSRResNet': {'num_feat': 4, 'num_block': 1, 'upscale': 1},
    'RRDBNet': {'num_in_ch': 3, 'num_out_ch': 3, 'scale': 1, 'num_feat': 4, 'num_block': 1, 'num_grow_ch': 4},
}
ENHANCING = ('RetinexMamba', 'RetinexFormer', 'MST_Plus_Plus', 'Restormer', 'ISALux', 'MASRNet', 'IllRecNet', 'CIDNet',
             'DarkIR', 'NAFNet', 'MambaIR', 'MoCEIR', 'PromptIR', 'LoRa_Gate_Restormer', 'ImprovedLoRaGateRestormer')


def brighter(img: np.ndarray) -> np.ndarray:
    return (img * np.float32(1.5) + np.float32(.05)).clip(0, 1)


def restored(pixels: np.ndarray, icc: bytes = b'', restore=brighter, **amount) -> np.ndarray:
    photo = Photo('PNG', [Frame(pixels, meta=Metadata(icc=icc))])
    return restore_photo(restore, photo, amount=Amount(**amount)).frames[0].pixels


def written(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


def write_weights(folder: Path) -> dict[str, str]:
    """Files of a network that enlarges, of a plain one and of one with knobs."""
    files = {}
    for name, network in (('enlarging', {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1,
                                         'upscale': 2}), ('plain', {'type': 'MSRResNet', **SMALL['MSRResNet']}),
                          ('cidnet', {'type': 'CIDNet', 'channels': [8, 8, 12, 16], 'heads': [1, 2, 2, 4]})):
        torch.manual_seed(0)
        files[name] = str(folder / f'{name}.pth')
        save_weights(files[name], {'params': build_network(network).state_dict(), 'network_g': network})
    return files


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> dict[str, str]:
    return write_weights(tmp_path_factory.mktemp('weights'))


# ------------------------------------------------------------------------------------------------ strength

PHOTOS = {
    '8 bits': (picture(), b''),
    '16 bits': (picture().astype(np.uint16) * 257 + 3, b''),
    'grey': (picture(channels=1).reshape(48, 64, 1), b''),
    'float': (picture().astype(np.float32) / 100, b''),
    'wide gamut': (picture(), profile('p3')),
    'wide and deep': (picture().astype(np.uint16) * 255, profile('p3')),
}


@pytest.mark.parametrize('kind', PHOTOS)
def test_strength_0_is_the_photo_and_1_what_comes_without(kind):
    pixels, icc = PHOTOS[kind]
    np.testing.assert_array_equal(restored(pixels, icc, strength=0.), pixels)
    photo = Photo('PNG', [Frame(pixels, meta=Metadata(icc=icc))])
    plain = restore_photo(brighter, photo).frames[0].pixels
    np.testing.assert_array_equal(restored(pixels, icc, strength=1., exposure=0., denoise=1.), plain)
    assert (plain != pixels).any()


@pytest.mark.parametrize('kind', PHOTOS)
def test_more_strength_is_more(kind):
    pixels, icc = PHOTOS[kind]
    means = [restored(pixels, icc, strength=s).astype(np.float64).mean() for s in (0., .01, .3, .7, 1., 1.2, 1.5)]
    assert all(a < b for a, b in itertools.pairwise(means))
    assert means[1] - means[0] < .05 * (means[4] - means[0])


def test_strength_is_in_light():
    """Light of 0.01 and 0.09 at half strength is 0.05, which sRGB writes as 0.2478; at 1.5 it is 0.13."""
    dark, bright = (np.full((3, 4, 3), v, np.float32) for v in (.0998528, .3318304))
    np.testing.assert_allclose(srgb_to_linear(dark), .01, rtol=1e-4)
    np.testing.assert_allclose(srgb_to_linear(bright), .09, rtol=1e-4)
    np.testing.assert_allclose(mixed(dark, bright, .5), .2478, atol=1e-4)
    np.testing.assert_allclose(srgb_to_linear(mixed(dark, bright, 1.5)), .13, rtol=1e-4)
    assert (mixed(bright, dark, 1.5) == 0).all() and mixed(dark, np.ones_like(dark), 1.5).min() > 1 - 1e-6


def test_bands_of_rows_are_one_picture():
    rng = np.random.RandomState(0)
    before, after = rng.rand(600, 7, 3).astype(np.float32), rng.rand(600, 7, 3).astype(np.float32)
    for function in (mixed, with_grain):
        whole, part = function(before, after, .5), function(before[200:320], after[200:320], .5)
        np.testing.assert_allclose(whole[210:310], part[10:110], atol=1e-6)


def test_grey_results_of_coloured_photos():

    def grey(img):
        return img.mean(axis=2, keepdims=True)

    pixels = picture()
    half = restored(pixels, restore=grey, strength=.5)
    assert half.shape == pixels.shape and 0 < np.ptp(half, axis=2).mean() < np.ptp(pixels, axis=2).mean()
    assert restored(pixels, restore=grey).shape == (48, 64, 1)


def test_pages_alpha_and_sheets(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alpha = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    written('a.png', encoded(np.dstack([picture(), alpha]), 'PNG'))
    assert main(['a.png', '-o', 'b.png', '--weights', weights['plain'], '--strength', '0', '--sheet']) == 0
    frame = read_photo('b.png').frames[0]
    np.testing.assert_array_equal(frame.pixels, picture())
    np.testing.assert_array_equal(frame.alpha, alpha)
    sheet = read_photo('b_sheet.png').frames[0].pixels
    np.testing.assert_array_equal(sheet[:, :64], sheet[:, 64:])


# ------------------------------------------------------------------------------------------------ exposure


def test_a_stop_is_twice_the_light():
    dark = np.full((2, 2, 3), .0998528, np.float32)  # light of 0.01
    for stops in (-3, -1, .5, 1, 3):
        np.testing.assert_allclose(srgb_to_linear(exposed(dark, stops)), .01 * 2**stops, rtol=1e-4)
    assert exposed(dark, 0) is dark


def light(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Of sRGB, below black and above white as well."""
    return srgb_to_linear(Colours(icc, pixels.shape[2]).to_srgb(to_float(pixels)))


@pytest.mark.parametrize('stops', [-2., .5, 1.])
@pytest.mark.parametrize('kind', PHOTOS)
def test_stops_of_the_photo_itself_at_strength_0(kind, stops):
    pixels, icc = PHOTOS[kind]

    def no_network(img, **settings):
        raise AssertionError('is not asked')

    found = restored(pixels, icc, restore=no_network, strength=0., exposure=stops)
    assert found.dtype == pixels.dtype and found.shape == pixels.shape
    want = light(pixels, icc) * 2**stops
    inner = (want.max(axis=2) < .6) & (want.min(axis=2) > 0)
    level = .02 if pixels.dtype == np.uint8 else 3e-3
    np.testing.assert_allclose(light(found, icc)[inner], want[inner], atol=level)


def test_light_above_white_keeps_its_stops_at_strength_0():
    pixels = np.full((4, 4, 3), 1.5, np.float32)
    found = restored(pixels, strength=0., exposure=-2.)
    np.testing.assert_allclose(srgb_to_linear(found), srgb_to_linear(np.float32(1.5)) / 4, rtol=1e-4)


@pytest.mark.parametrize('strength', [.01, .5, .99, 1.2])
def test_stops_are_those_of_the_mixture(strength):
    """So that nothing jumps where strength begins."""

    def bright(img, exposure=0.):
        return exposed(img, 1 + exposure)

    pixels = picture().astype(np.float32) / 1000
    plain, more = (srgb_to_linear(restored(pixels, restore=bright, strength=strength, exposure=e)) for e in (0., 1.))
    np.testing.assert_allclose(more, 2 * plain, rtol=1e-3, atol=1e-5)


def test_auto_that_finds_nothing_to_do_does_the_same_as_0(monkeypatch):
    from basicsr.inference import photos
    monkeypatch.setattr(photos, 'auto_strength', lambda *_: 0.)
    pixels = (picture() / np.float32(100)).astype(np.float32)
    results = [
        restored(pixels, restore=lambda img, exposure=0.: exposed(img, exposure), strength=s, exposure=-1.)
        for s in ('auto', 0.)
    ]
    np.testing.assert_array_equal(*results)
    assert results[0].max() < pixels.max()


def test_what_is_above_white_comes_back():

    class Twice(torch.nn.Module):

        def forward(self, x):
            return x * 2

    img = np.full((8, 8, 3), .75, np.float32)
    restorer = ImageRestorer(Twice())
    assert (restorer(img) == 1).all()
    light = srgb_to_linear(np.float32(1.5))
    np.testing.assert_allclose(srgb_to_linear(restorer(img, exposure=-2)), light / 4, rtol=1e-4)


def test_an_answer_that_is_not_finite_stays_an_error():

    class Infinite(torch.nn.Module):

        def forward(self, x):
            return x / 0

    assert np.isnan(ImageRestorer(Infinite())(np.ones((8, 8, 3), np.float32), exposure=1)).all()
    with pytest.raises(UserError, match='not finite'):
        restored(picture(), restore=ImageRestorer(Infinite()), strength=.5, exposure=1.)


@pytest.mark.parametrize('name', ENHANCING)
def test_exposure_of_every_family(name):
    """Whole, in tiles and with the self-ensemble: each answer has twice the light that it has without."""
    net = build_network({'type': name, **SMALL[name]}).eval() if name in SMALL else tiny(name)
    img = np.random.RandomState(0).rand(16, 32, 3).astype(np.float32) / 8
    for settings in ({}, {'tile': 16, 'tile_overlap': 4}, {'ensemble': True}):
        restorer = ImageRestorer(net, **settings)
        plain = restorer(img)
        np.testing.assert_array_equal(restorer(img, exposure=0.), plain)
        inner = (plain > 0) & (plain < 1)
        want = (2 * srgb_to_linear(plain)).clip(0, 1)
        np.testing.assert_allclose(srgb_to_linear(restorer(img, exposure=1.))[inner], want[inner], atol=1e-5)
        means = [restorer(img, exposure=e).mean() for e in (-3., 0., 3.)] if not settings else [0., 1.]
        assert all(a < b for a, b in itertools.pairwise(means)) or plain.max() == 0


def test_recordings_of_a_network_know_no_exposure():
    """So that a recording of one exposure is not replayed for another."""
    restorer = ImageRestorer(tiny('RetinexFormer'))
    img = np.random.RandomState(0).rand(16, 16, 3).astype(np.float32) / 8
    want = restorer(img), restorer(img, exposure=1.)
    restorer.replayed = Replayed(restorer._network, FakeRecorder(), 'restoring', warmup=1)
    with torch.inference_mode():
        for _ in range(3):
            np.testing.assert_array_equal(restorer(img), want[0])
            np.testing.assert_array_equal(restorer(img, exposure=1.), want[1])
    assert restorer.replayed.recordings == 1


# ------------------------------------------------------------------------------------------------ grain


def test_grain_is_the_photos_as_bright_as_the_result():
    rng = np.random.RandomState(0)
    light = .02 + .004 * rng.randn(64, 64, 1).astype(np.float32)
    before, after = (np.broadcast_to(linear_to_srgb(of), (64, 64, 3))
                     for of in (light, np.float32(.16)))  # eight times the light, and smooth
    noisy = srgb_to_linear(with_grain(before, after, 0.))[8:-8, 8:-8]
    assert abs(noisy.mean() / .16 - 1) < .01
    assert abs(noisy.std() / (8 * .004) - 1) < .1
    half = srgb_to_linear(with_grain(before, after, .5))[8:-8, 8:-8]
    assert abs(half.std() / noisy.std() - .5) < .01
    np.testing.assert_allclose(with_grain(before, after, 1.), after, atol=1e-6)


def test_grain_of_a_photo_that_does_not_change_stays():
    pixels = picture()
    np.testing.assert_array_equal(restored(pixels, restore=lambda img: img, denoise=0.), pixels)


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize('words, message', [
    (['--strength', '1.6'], "--strength is 'auto' or a number from 0 to 1.5, not 1.6"),
    (['--strength', 'much'], "--strength is 'auto' or a number from 0 to 1.5, not 'much'"),
    (['--strength', 'nan'], "--strength is 'auto' or a number from 0 to 1.5, not nan"),
    (['--exposure', '-4'], '--exposure is a number from -3 to 3, not -4.0'),
    (['--exposure', '-1,5'], "--exposure is a number from -3 to 3, not '-1,5'"),
    (['--expo', '-,5'], "--exposure is a number from -3 to 3, not '-,5'"),
    (['--strength', '-1/2'], "--strength is 'auto' or a number from 0 to 1.5, not '-1/2'"),
    (['--exposure', 'auto'], "--exposure is a number from -3 to 3, not 'auto'"),
    (['--denoise', '2'], '--denoise is a number from 0 to 1, not 2.0'),
    (['--alpha_s', 'red'], "--alpha_s is a number, not 'red'"),
    (['--alpha_s', '3'], '--alpha_s is a number from 0 to 2, not 3.0'),
    (['--alpha_z', '1'], "there is no argument '--alpha_z'. Did you mean '--alpha_s'?"),
    (['--recursve'], "there is no argument '--recursve'. Did you mean '--recursive'?"),
])
def test_wrong_values_are_told_before_the_weights_are_looked_for(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written('a.png', encoded(picture(), 'PNG'))
    assert main(['a.png', '-o', 'b.png', '--weights', 'missing.pth', *words]) == 2
    assert capsys.readouterr().err == f'error: {message}\n'


@pytest.mark.parametrize('name, words, message', [
    ('plain', ['--alpha_s', '1'], "MSRResNet has no knob 'alpha_s'; it has none"),
    ('enlarging', ['--strength', '0.5'], 'this network enlarges its images (2 times)'),
    ('enlarging', ['--strength', '0'], 'this network enlarges its images (2 times)'),
    ('enlarging', ['--denoise', '0.5'], 'this network enlarges its images (2 times)'),
])
def test_what_a_network_cannot_do_is_one_sentence(weights, name, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written('a.png', encoded(picture(), 'PNG'))
    assert main(['a.png', '-o', 'b.png', '--weights', weights[name], *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and not Path('b.png').exists()


def test_networks_that_enlarge_can_be_exposed(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written('a.png', encoded(picture() // 4, 'PNG'))
    for n, more in enumerate(([], ['--exposure', '1'])):
        assert main(['a.png', '-o', f'{n}.png', '--weights', weights['enlarging'], *more]) == 0
    plain, bright = (srgb_to_linear(read_photo(f'{n}.png').frames[0].pixels / 255) for n in range(2))
    assert plain.shape == (96, 128, 3) and abs(bright.mean() / plain.mean() - 2) < .1


def test_the_help_names_all(capsys):
    with pytest.raises(SystemExit):
        main(['--help'])
    said = capsys.readouterr().out
    assert all(word in said for word in ('--strength', '--exposure', '--denoise', '--alpha_s'))
