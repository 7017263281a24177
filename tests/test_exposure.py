"""Inputs made from ground truths: the camera's model, which samples it takes, options, and training that resumes."""
import math
import random

import cv2
import numpy as np
import pytest
import torch

from basicsr.data import build_dataset
from basicsr.data.exposure import Exposure, draw_exposure, expose, exposed
from basicsr.data.loader import SeededSamples
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.srgb import linear_to_srgb, srgb_to_linear
from basicsr.utils.values import ExposureAugs


def camera(kept=1., full_well=1e12, read_noise=0., size=(8, 8)) -> Exposure:
    kept = kept if isinstance(kept, tuple) else (kept, ) * 3
    return Exposure(kept, full_well, read_noise, torch.randn(*size, 3, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_at_full_light_nothing_changes_whatever_the_noise(kind):
    peak = np.iinfo(kind).max
    picture = np.linspace(0, peak, 64 * 1024 * 3).astype(kind).reshape(-1, 256, 3)
    again = exposed(picture, camera(1., 100., 50., picture.shape[:2]))
    assert again.dtype == kind and np.array_equal(again, picture)


@pytest.mark.parametrize('stops', [-1, -2.5, -5])
def test_without_noise_light_is_scaled_and_rounded(stops):
    picture = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    gains = (1.1, 1., 0.9)
    dark = exposed(picture, camera(tuple(2**stops * g for g in gains), size=(16, 16)))
    want = linear_to_srgb(srgb_to_linear(picture / 255) * 2**stops * np.array(gains)) * 255
    assert np.abs(dark - want).max() < 0.51


def test_noise_has_the_variance_of_the_model():
    """One grey: shot noise of the light that is lost, read-out noise but for what was there."""
    level, kept, full_well, read_noise = 188, 0.25, 800., 12.
    picture = np.full((512, 512, 3), level, np.uint16) * 257
    light = srgb_to_linear(exposed(picture, camera(kept, full_well, read_noise, (512, 512))) / 65535)
    bright = srgb_to_linear(level / 255)
    variance = kept * (1 - kept) * bright / full_well + (1 - kept**2) * (read_noise / full_well)**2
    assert light.mean() == pytest.approx(kept * bright, rel=1e-3)
    assert light.var() == pytest.approx(variance, rel=0.02)


def test_draws_follow_the_options():
    options = ExposureAugs(probability=0.6, untouched=0.3, stops=(-4, -1), full_well=(500, 600), read_noise=(2, 3),
                           white_balance=0)
    random.seed(0)
    drawn = [draw_exposure(options, 2, 2) for _ in range(4000)]
    made = [e for e in drawn if e is not None]
    assert len(made) / 4000 == pytest.approx(0.6, abs=0.03)
    stops = [math.log2(e.kept[0]) for e in made]
    assert stops.count(0) / len(made) == pytest.approx(0.3, abs=0.03)
    dark = [s for s in stops if s]
    assert -4 <= min(dark) < -3.9 and -1.1 < max(dark) <= -1 and np.mean(dark) == pytest.approx(-2.5, abs=0.1)
    assert all(500 <= e.full_well <= 600 and 2 <= e.read_noise <= 3 and len(set(e.kept)) == 1 for e in made)


def test_white_balance_errs_more_in_the_dark():
    random.seed(0)
    for stops in (-1., -4.):
        options = ExposureAugs(probability=1, untouched=0, stops=(stops, stops), white_balance=0.05)
        gains = np.log([draw_exposure(options, 1, 1).kept for _ in range(2000)]) - stops * math.log(2)
        assert gains.mean() == pytest.approx(0, abs=0.01) and gains.std() == pytest.approx(0.05 * -stops, rel=0.05)


def test_a_batch_is_its_pictures():
    rng = np.random.RandomState(0)
    pictures = rng.randint(0, 256, (3, 8, 8, 3), np.uint8)
    cameras = [camera((.2, .3, .4), 900., 3.), camera(1.), camera(.05, 5000., 1.)]
    batch = expose(torch.from_numpy(pictures), cameras)
    assert all(np.array_equal(one.numpy(), exposed(p, c)) for one, p, c in zip(batch, pictures, cameras))


@pytest.fixture
def photos(tmp_path):
    rng = np.random.RandomState(0)
    for side in ('gt', 'lq'):
        (tmp_path / side).mkdir()
        for i in range(4):
            cv2.imwrite(str(tmp_path / side / f'{i}.png'), rng.randint(0, 256, (20, 24, 3), np.uint8))
    return {'type': 'PairedImageDataset', 'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq')}


def test_only_inputs_of_training_are_made(photos):
    always = {'exposure_augs': {'probability': 1, 'untouched': 1}}
    for phase, same in (('train', True), ('val', False)):
        item = SeededSamples(build_dataset(photos | always | {'phase': phase}), {})[0]
        assert torch.equal(item['lq'], item['gt']) is same
    plain, never = (SeededSamples(build_dataset(photos | {'gt_size': 8, 'phase': 'train', 'exposure_augs': e}), {})
                    for e in (None, {'probability': 0}))
    assert all(torch.equal(plain[i]['lq'], never[i]['lq']) for i in range(4))


def test_a_run_resumes_with_the_same_inputs(tiny_options, tmp_path):
    augs = {'train': {'exposure_augs': {'probability': 0.5}, 'num_worker_per_gpu': 1}}
    assert train([str(tiny_options('whole', datasets=augs))]) == 0
    again = str(tiny_options('again', datasets=augs))
    assert train([again, 'train.total_iter=2', 'logger.save_checkpoint_freq=2']) == 0
    assert train([again, '--auto_resume']) == 0
    losses = [(tmp_path / 'experiments' / name / 'losses.csv').read_text() for name in ('whole', 'again')]
    assert losses[0] == losses[1]
    assert train([str(tiny_options('plain'))]) == 0
    assert (tmp_path / 'experiments' / 'plain' / 'losses.csv').read_text() != losses[0]


@pytest.mark.parametrize(('augs', 'reason'), [
    ({'probability': 1.5}, 'exposure_augs.probability: must be less than or equal to 1, not 1.5'),
    ({'probabilty': 0.5}, "Did you mean 'probability'"),
    ({'stops': [0, -5]}, 'exposure_augs.stops: must begin with the smaller number'),
    ({'stops': [-5, 1]}, 'exposure_augs.stops'),
    ({'full_well': [0, 10]}, 'exposure_augs.full_well'),
    ({'read_noise': 3}, 'exposure_augs.read_noise'),
    (0.5, 'exposure_augs'),
])
def test_mistakes_are_told_with_their_place(tiny_options, capsys, augs, reason):
    options = tiny_options('run', datasets={'train': {'exposure_augs': augs}})
    assert train([str(options)]) == 2
    told = capsys.readouterr().err
    assert reason in told and 'run.yml:' in told


def test_scale_must_be_one(photos):
    with pytest.raises(UserError, match='exposure_augs'):
        build_dataset(photos | {'exposure_augs': {}, 'scale': 2})
