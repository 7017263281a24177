"""Augmented copies of pairs: the same change for both, the same files for the same seed."""
from __future__ import annotations

import random

import cv2
import numpy as np
import pytest

from basicsr.cli import main as basicsr
from basicsr.data.augmented_copies import Draw, draw, transform
from basicsr.utils.img import imread, imwrite

PLAIN = Draw(scale=1.5, angle=0., top=0.5, left=0.5, bilateral=None)


@pytest.fixture
def folders(tmp_path):
    """Three smooth pairs of 40x50 pixels; every dark pixel is half of its partner."""
    rng = np.random.RandomState(0)
    for n in (1, 2, 10):
        normal = cv2.resize(rng.randint(0, 256, (5, 6, 3), np.uint8), (50, 40), interpolation=cv2.INTER_CUBIC)
        imwrite(normal, tmp_path / 'in' / 'Normal' / f'normal{n}.png')
        imwrite(normal // 2, tmp_path / 'in' / 'Low' / f'low{n:05d}.png')
    return tmp_path


def run(folder, out, *extra):
    return basicsr([
        'augment', '--input_low',
        str(folder / 'in' / 'Low'), '--input_normal',
        str(folder / 'in' / 'Normal'), '--output',
        str(folder / out), '--height', '32', '--width', '48', *extra
    ])


def read(folder, suffix='png'):
    return {p.relative_to(folder).as_posix(): imread(p) for p in sorted(folder.rglob(f'*.{suffix}'))}


def test_both_images_of_a_pair_change_alike(folders):
    assert run(folders, 'out', '--format', 'png', '--bilateral_prob', '0') == 0
    made = read(folders / 'out')
    assert sorted(made) == [
        'Low/low00001.png', 'Low/low00002.png', 'Low/low00010.png', 'Normal/normal1.png', 'Normal/normal10.png',
        'Normal/normal2.png'
    ]
    for n in (1, 2, 10):
        low, normal = made[f'Low/low{n:05d}.png'].astype(int), made[f'Normal/normal{n}.png'].astype(int)
        assert low.shape == normal.shape == (32, 48, 3) and normal.std() > 20
        assert np.abs(2 * low - normal).max() <= 4  # rounding of dark values, twice enlarged
    assert len({made[k].tobytes() for k in made}) == 6  # every pair has draws of its own


def test_a_seed_gives_the_same_files_whatever_else_is_there(folders):
    for out, seed in (('a', '5'), ('b', '6')):
        assert run(folders, out, '--seed', seed, '--format', 'png') == 0
    (folders / 'in' / 'Low' / 'low00001.png').unlink()
    (folders / 'in' / 'Normal' / 'normal1.png').unlink()
    assert run(folders, 'c', '--seed', '5', '--format', 'png') == 0
    a, b, c = (read(folders / out) for out in 'abc')
    assert len(c) == 4 and all(np.array_equal(a[k], image) for k, image in c.items())
    assert not any(np.array_equal(a[k], b[k]) for k in a)


def test_files_are_jpeg_of_quality_95_unless_told_otherwise(folders):
    assert run(folders, 'jpg') == 0 and run(folders, 'png', '--format', 'png') == 0
    jpg, png = read(folders / 'jpg', 'jpg'), read(folders / 'png')
    assert len(jpg) == len(png) == 6
    for name, image in png.items():
        encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        np.testing.assert_array_equal(jpg[name.replace('.png', '.jpg')], cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def test_draws_lie_in_the_published_ranges():
    draws = [draw(random.Random(i), 0.5) for i in range(400)]
    for values, low, high in (([d.scale for d in draws], 1.2, 2), ([d.angle for d in draws], -15, 15),
                              ([d.top for d in draws], 0, 1), ([d.left for d in draws], 0, 1)):
        assert low <= min(values) < low + (high - low) / 20 and high - (high - low) / 20 < max(values) <= high
    filters = [d.bilateral for d in draws if d.bilateral]
    assert 160 < len(filters) < 240 and {f[0] for f in filters} == {5, 7, 9}
    assert all(50 <= s <= 150 for f in filters for s in f[1:])
    without = [draw(random.Random(i), 0) for i in range(400)]
    assert [d._replace(bilateral=None) for d in draws] == without  # the filter does not shift the other draws


def test_without_rotation_it_is_an_enlarged_window():
    image = np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)
    large = cv2.resize(image, (75, 60), interpolation=cv2.INTER_LANCZOS4)
    np.testing.assert_array_equal(transform(image, PLAIN, 32, 48), large[14:46, 14:62])
    corner = transform(image, PLAIN._replace(top=1., left=0.), 32, 48)
    np.testing.assert_array_equal(corner, large[28:, :48])


def test_rotation_keeps_the_whole_image_on_black_and_its_centre():
    white = np.full((40, 50, 3), 255, np.uint8)
    turned = transform(white, PLAIN._replace(scale=1., angle=15.), 51, 58)
    assert (turned[0, 0] == 0).all() and (turned[-1, -1] == 0).all() and (turned[25, 29] == 255).all()
    assert turned[..., 0].sum() / 255 == pytest.approx(40 * 50, rel=0.02)


def test_small_images_are_enlarged_until_the_window_fits():
    image = np.full((7, 9, 3), 200, np.uint8)
    assert transform(image, PLAIN, 400, 600).shape == (400, 600, 3)
    assert transform(image, PLAIN._replace(angle=-12., bilateral=(5, 60., 70.)), 61, 37).shape == (61, 37, 3)


@pytest.mark.parametrize('extra, words', [
    (['--height', '0'], 'must be at least 1x1'),
    (['--bilateral_prob', '2'], '--bilateral_prob must be between 0 and 1'),
    (['--output', '{}/in'], 'holds what is to be read'),
])
def test_mistakes_are_one_sentence(folders, capsys, extra, words):
    assert run(folders, 'out', *(word.format(folders) for word in extra)) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1


def test_images_that_are_there_stay_unless_told_otherwise(folders, capsys):
    assert run(folders, 'out') == 0
    before = {file: file.stat().st_mtime_ns for file in (folders / 'out').rglob('*.jpg')}
    assert run(folders, 'out', '--seed', '1') == 2 and '--overwrite' in capsys.readouterr().err
    assert before == {file: file.stat().st_mtime_ns for file in (folders / 'out').rglob('*.jpg')}
    assert run(folders, 'out', '--seed', '1', '--overwrite') == 0


def test_pairs_of_two_sizes_are_named(folders, capsys):
    imwrite(np.zeros((9, 9, 3), np.uint8), folders / 'in' / 'Low' / 'low00002.png')
    assert run(folders, 'out') == 2
    assert 'normal2.png' in capsys.readouterr().err
