"""The bundled demo pairs and the camera model that made their dark inputs."""
import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'scripts' / 'make_demo_pairs.py'


def _load_script():
    spec = importlib.util.spec_from_file_location('make_demo_pairs', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = _load_script()
simulate_low_light = demo.simulate_low_light
each_photo = pytest.mark.parametrize('photo', demo.PHOTOS, ids=lambda photo: photo.name)


def linear(srgb_uint8):
    """sRGB EOTF written a second time, so that a slip in the model's own cannot hide."""
    value = np.asarray(srgb_uint8) / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055)**2.4, value / 12.92)


def grey(level, size=200):
    return np.full((size, size, 3), level, np.uint8)


# ---------------------------------------------------------------- the files


@each_photo
def test_input_is_what_the_model_gives(photo):
    target = demo.read_rgb(demo.path_of(photo, 'target'))
    np.testing.assert_array_equal(demo.read_rgb(demo.path_of(photo, 'input')), demo.dark_input(photo, target))


@each_photo
def test_pair_has_the_promised_form(photo):
    target, dark = (demo.read_rgb(demo.path_of(photo, kind)) for kind in ('target', 'input'))
    assert target.shape == dark.shape
    height, width = target.shape[:2]
    assert height % 4 == 0 and width % 4 == 0
    assert max(height, width) <= demo.LONG_SIDE and min(height, width) <= demo.SHORT_SIDE
    # 128 is a usual training patch: every picture has to hold one.
    assert min(height, width) >= 128
    assert dark.mean() < 40
    assert target.mean() > 60


@each_photo
def test_notice_credits_the_photo(photo):
    rows = (demo.DEMO / 'NOTICE.md').read_text(encoding='utf-8').splitlines()
    row = next((row for row in rows if row.startswith(f'| {photo.split}/{photo.name}.png |')), None)
    assert row is not None, f'{photo.name} has no row in NOTICE.md'
    exposure = f'1/{1 / demo.camera(photo.name)[0]:.1f}'
    for fact in (photo.author, photo.licence, photo.package, Path(photo.file).name, f'| {exposure} |'):
        assert fact in row


def test_the_folder_holds_the_photos_and_nothing_else_and_is_small():
    expected = {demo.path_of(photo, kind) for photo in demo.PHOTOS for kind in ('input', 'target')}
    files = {path for path in demo.DEMO.rglob('*') if path.is_file()}
    assert files == expected | {demo.DEMO / 'NOTICE.md'}
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_the_held_out_photos_are_not_in_the_training_set():
    names = [photo.name for photo in demo.PHOTOS]
    files = [(photo.package, photo.file) for photo in demo.PHOTOS]
    assert len(set(names)) == len(names) and len(set(files)) == len(files)
    assert sum(photo.split == 'test' for photo in demo.PHOTOS) == 2


# ---------------------------------------------------------------- the script


def _copy_pairs(monkeypatch, folder):
    """Let the script work on a copy of the demo folder."""
    for photo in demo.PHOTOS:
        for kind in ('input', 'target'):
            copy = folder / demo.path_of(photo, kind).relative_to(demo.DEMO)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(demo.path_of(photo, kind).read_bytes())
    monkeypatch.setattr(demo, 'DEMO', folder)


def test_check_passes_from_any_directory_and_without_torch(tmp_path):
    code = ('import runpy, sys\n'
            'sys.modules["torch"] = None  # importing it raises\n'
            f'sys.argv = [{str(SCRIPT)!r}, "--check"]\n'
            f'runpy.run_path({str(SCRIPT)!r}, run_name="__main__")\n')
    result = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_check_names_what_differs_and_a_plain_run_mends_it(tmp_path, monkeypatch, capsys):
    _copy_pairs(monkeypatch, tmp_path)
    first, second = demo.path_of(demo.PHOTOS[0], 'input'), demo.path_of(demo.PHOTOS[1], 'input')
    picture = demo.read_rgb(first)
    picture[0, 0, 0] ^= 1  # the smallest difference there is
    demo.write_png(first, picture)
    second.unlink()
    assert demo.main(['--check']) == 1
    wrong = [path.relative_to(tmp_path).as_posix() for path in (first, second)]
    assert capsys.readouterr().out.splitlines() == [f'differs: {name}' for name in sorted(wrong)]
    assert demo.main([]) == 0
    assert demo.main(['--check']) == 0
    assert not list(tmp_path.rglob('*.part'))


@pytest.mark.parametrize('arguments', [['--check'], []])
def test_a_missing_target_is_one_line_and_exit_2(arguments, tmp_path, monkeypatch, capsys):
    _copy_pairs(monkeypatch, tmp_path)
    demo.path_of(demo.PHOTOS[-1], 'target').unlink()
    assert demo.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and f'{demo.PHOTOS[-1].name}.png' in error


def test_missing_sources_are_exit_2_and_leave_the_pairs_alone(tmp_path, monkeypatch, capsys):
    _copy_pairs(monkeypatch, tmp_path / 'demo')
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.png')}
    assert demo.main(['--sources', str(tmp_path / 'nowhere')]) == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob('*.png')} == before


@pytest.mark.parametrize(('size', 'zoom', 'expected'), [
    ((3264, 2448), 1.0, (304, 228)),
    ((2056, 3088), 1.0, (200, 304)),
    ((640, 427), 0.75, (304, 200)),
    ((100, 83), 1.0, (100, 80)),
])
def test_target_sizes(size, zoom, expected):
    photo = demo.PHOTOS[0]._replace(zoom=zoom)
    target = demo.make_target(photo, np.zeros((size[1], size[0], 3), np.uint8))
    assert target.shape == (expected[1], expected[0], 3)


# ---------------------------------------------------------------- the camera model


def test_equal_seeds_give_equal_pictures_and_others_do_not():
    image = grey(120, 32)
    first = simulate_low_light(image, 0.1, seed=7)
    np.testing.assert_array_equal(first, simulate_low_light(image, 0.1, seed=7))
    assert (first != simulate_low_light(image, 0.1, seed=8)).any()
    assert (image == 120).all()
    # A stream that numpy does not change: pinned to values, not only to itself.
    assert simulate_low_light(grey(120, 1), 0.1, seed=7).tolist() == [[[35, 36, 38]]]


def test_global_random_state_is_left_alone():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    simulate_low_light(grey(90, 8), 0.2, seed=1)
    assert np.random.rand() == expected


def test_full_exposure_without_noise_changes_nothing():
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 4, 3))
    result = simulate_low_light(ramp, 1.0, full_well=math.inf, read_noise=0.0)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - ramp).max() <= 1
    # A real, but very good, sensor comes to the same.
    result = simulate_low_light(ramp, 1.0, full_well=1e10, read_noise=0.0)
    assert np.abs(result.astype(int) - ramp).max() <= 1


def test_exposure_is_a_factor_on_linear_light():
    levels = np.array([100, 160, 220, 255], np.uint8)
    dark = simulate_low_light(np.tile(levels[:, None, None], (1, 1, 3)), 0.125, full_well=math.inf)
    dark = dark[:, 0, 0].astype(float)
    # The eighth of the light lies between the two ends of the 8-bit step that it was rounded to.
    assert (linear(dark - 0.5) <= linear(levels) / 8).all()
    assert (linear(levels) / 8 <= linear(dark + 0.5)).all()


def test_float_and_uint8_agree():
    image = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(simulate_low_light(image, 0.1, seed=5),
                                  simulate_low_light(image / 255.0, 0.1, seed=5))


@pytest.mark.parametrize('level', [160, 200, 230])
@pytest.mark.parametrize(('exposure', 'read_noise'), [(0.6, 0.0), (0.3, 0.0), (0.3, 6.0)])
def test_noise_variance_follows_the_shot_noise_law(level, exposure, read_noise):
    # Few electrons, so that the noise spans many 8-bit levels and rounding adds next to nothing; and a mean so far from
    # black and white that nothing is clipped.
    full_well = 400.0
    result = simulate_low_light(grey(level), exposure, full_well, read_noise, seed=level)
    electrons = linear(result) * full_well
    expected = float(linear(level)) * exposure * full_well
    assert result.min() > 0 and result.max() < 255
    # 120,000 samples: standard errors are 0.4 % of the variance, and under 0.1 % of the mean.
    assert electrons.var() == pytest.approx(expected + read_noise**2, rel=0.03)
    assert electrons.mean() == pytest.approx(expected, rel=0.01)


def test_noise_is_independent_between_pixels_and_channels():
    noise = linear(simulate_low_light(grey(180), 0.5, full_well=400.0, read_noise=3.0, seed=2))
    noise -= noise.mean()
    for first, second in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1]), (noise[..., 1:], noise[..., :-1])):
        # Standard error of a correlation over n samples: 1 / sqrt(n), here about 0.003 to 0.004.
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize('image', [
    None, [[[0, 0, 0]]],
    np.zeros((4, 4), np.uint8),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.int64),
    np.full((4, 4, 3), 1.5),
    np.full((4, 4, 3), -0.1),
    np.full((4, 4, 3), np.nan)
])
def test_bad_images_are_rejected(image):
    with pytest.raises(ValueError, match='image'):
        simulate_low_light(image, 0.1)


@pytest.mark.parametrize(('name', 'value'), [
    *[('exposure', value) for value in (0, -0.1, 1.01, math.nan, math.inf, '0.1', None, True)],
    *[('full_well', value) for value in (0, -1, math.nan, 1e13, '100', None, -math.inf)],
    *[('read_noise', value) for value in (-1, math.nan, math.inf, '1', None)],
    *[('seed', value) for value in (-1, 2**32, 0.5, None, '1', True)],
])
def test_bad_numbers_are_rejected(name, value):
    with pytest.raises(ValueError, match=name):
        simulate_low_light(grey(10, 2), **{'exposure': 0.1, name: value})
