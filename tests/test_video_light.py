"""Colours of clips, and a light that does not flicker."""
from __future__ import annotations

from types import SimpleNamespace

import av
import numpy as np
import pytest
from clips import Fake, Found, fake, make, scene

from basicsr.inference.amount import Amount
from basicsr.inference.light import exposed
from basicsr.inference.photos import photo_restorer
from basicsr.video.colours import colours_of, from_rgb, to_rgb
from basicsr.video.flicker import Steady, fields_of, is_cut, step_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- colours

MATRICES = {1: (.2126, .0722), 6: (.299, .114), 9: (.2627, .0593)}  # by FFmpeg's number: shares of red and blue


@pytest.mark.parametrize('full', [False, True])
@pytest.mark.parametrize('space', MATRICES)
@pytest.mark.parametrize('pixel_format,bits', [('yuv420p', 8), ('yuv444p', 8), ('yuv422p10le', 10),
                                               ('yuv420p12le', 12)])
def test_colours_are_those_of_the_tags_and_come_back(pixel_format, bits, space, full):
    frame = av.VideoFrame(32, 32, pixel_format)
    codes = [90 << bits - 8, 120 << bits - 8, 140 << bits - 8]
    dtype = np.dtype(np.uint16 if bits > 8 else np.uint8)
    for plane, code in zip(frame.planes, codes):
        plane.update(np.full(plane.buffer_size // dtype.itemsize, code, dtype).tobytes())
    frame.colorspace, frame.color_range = space, 2 if full else 1
    colours, (red, blue), one = colours_of(frame, SimpleNamespace(color_trc=2,
                                                                  color_primaries=2)), MATRICES[space], 1 << bits - 8
    luma, *chroma = (codes[0] / (256 * one - 1), *codes[1:]) if full else ((codes[0] - 16 * one) / (219 * one),
                                                                           *codes[1:])
    b, r = (2 * (code - 128 * one) / (256 * one - 1 if full else 224 * one) for code in chroma)
    b, r = luma + (1 - blue) * b, luma + (1 - red) * r
    wanted = [r, (luma - red * r - blue * b) / (1 - red - blue), b]
    pixels = to_rgb(frame, colours)
    np.testing.assert_allclose(pixels[16, 16], wanted, atol=.002)
    back = from_rgb(np.rint(pixels * 65535).astype(np.uint16), pixel_format, colours)
    for plane, code in zip(back.planes, codes):
        assert abs(int(np.frombuffer(bytes(plane), dtype)[0]) - code) <= max(1, one // 2)
    assert (back.colorspace, back.color_range) == (space, 2 if full else 1)


def test_tags_are_kept():
    tags = {'color_range': 2, 'colorspace': 1, 'color_trc': 13, 'color_primaries': 1}
    before = Found(make('a.mp4', **tags))
    assert before.tags == (2, 1, 13, 1) and fake('a.mp4', 'b.mp4').tags == before.tags
    before = Found(make('a.mkv', 'libx265', 'yuv420p10le', color_trc=16, colorspace=9, color_primaries=9))
    assert fake('a.mkv', 'b.mkv').tags == before.tags


# --- flicker


def variation(found: Found) -> float:
    """Of the mean brightness of frames that follow one another."""
    return float(np.abs(np.diff(found.brightness)).mean())


def flickering(path: str, sway: float = .02, noise: float = 3, frames: int = 24) -> str:
    """A static dark scene with the noise of a sensor in levels, and a lamp that is not quite steady, in stops."""
    random = np.random.RandomState(3)
    light = [exposed(scene().astype(np.float32) / 255, sway * random.normal()) * 255 for _ in range(frames)]
    return make(path, 'ffv1', 'bgr0', frames=frames, sound=False,
                pictures=[picture + random.normal(0, noise, picture.shape) for picture in light])


@pytest.mark.parametrize('jitter', [.02, .1])
def test_a_static_clip_varies_half_as_much_as_frame_by_frame_at_most(jitter):
    flickering('a.mkv')
    alone = variation(fake('a.mkv', 'alone.mkv', Fake(jitter), smooth=0))
    steady = variation(fake('a.mkv', 'steady.mkv', Fake(jitter), smooth=1))
    again = variation(fake('a.mkv', 'again.mkv', Fake(jitter), smooth=0))
    assert steady <= .5 * alone and again == alone
    assert variation(fake('a.mkv', 'short.mkv', Fake(jitter), smooth=.2)) < alone


@pytest.mark.parametrize('sway, noise', [(.02, 3), (0, 20), (.3, 3)])
def test_the_shipped_network_flickers_half_as_much_at_most(sway, noise):
    flickering('a.mkv', sway, noise)
    restorer = photo_restorer('retinexmamba_tiny', device='cpu')
    alone = variation(fake('a.mkv', 'alone.mkv', restorer, smooth=0))
    assert variation(fake('a.mkv', 'steady.mkv', restorer)) <= .5 * alone


def test_a_cut_stays_a_cut_and_an_even_rise_stays_even():
    dark, bright = scene(brightest=40), scene(seed=1, brightest=160)
    make('a.mkv', 'ffv1', 'bgr0', frames=24, sound=False, pictures=[dark] * 12 + [bright] * 12)
    alone, steady = (fake('a.mkv', f'{smooth}.mkv', smooth=smooth).brightness for smooth in (0, 1))
    np.testing.assert_allclose(steady, alone, rtol=2e-3)
    assert steady[12] > 1.5 * steady[11]
    steady = Steady(1., 100)
    done = [(n, stops) for n in range(48) for n, stops in steady.add(n / 24, .02 * n, n)] + steady.rest()
    assert [n for n, _ in done] == list(range(48))
    assert max(abs(stops) for n, stops in done if 12 <= n < 36) < 1e-9


def test_what_moves_does_not_change_the_light_around_it():
    still = np.full((48, 64, 3), .2, np.float32)
    lamp = still.copy()
    lamp[10:25, 10:25] = 1
    first, second = fields_of(still), fields_of(lamp)
    assert abs(step_of(first, second)) < 1e-6 and not is_cut(first, second)
    assert abs(step_of(second, fields_of(exposed(lamp, -.1))) + .1) < .01
    assert is_cut(first, fields_of(exposed(still, 1.2))) and not is_cut(first, fields_of(exposed(still, .8)))


def test_results_that_wait_are_bounded():
    steady, waiting = Steady(60., 5), 0
    for n in range(100):
        waiting += 1 - len(steady.add(n / 24, 0., n))
        assert waiting <= 5
    assert len(steady.rest()) == waiting


def test_one_strength_is_found_for_a_clip(messages):
    bright = scene(brightest=255).clip(150, 255)
    make('a.mkv', 'ffv1', 'bgr0', sound=False, pictures=[bright] * 12)
    restorer = Fake()
    after = fake('a.mkv', 'b.mkv', restorer, Amount(strength='auto'))
    assert 'a.mkv: is bright already, strength 0' in messages
    assert restorer.calls < 6 and np.array_equal(after.picture(7), bright)
