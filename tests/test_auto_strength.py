"""`--strength auto`: photos that are bright already stay, dark ones get all that the network does."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photo_files import encoded, picture, tiff
from PIL import Image

from basicsr.commands.enhance import main
from basicsr.inference.amount import Amount
from basicsr.inference.auto_strength import auto_strength, light_of
from basicsr.inference.light import exposed, mixed
from basicsr.inference.photos import restore_photo
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.photo import Frame, Photo
from basicsr.photos.reading import read_photo

AUTO = Amount(strength='auto')


def scene(light: float, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """An even picture with so much light, white at 1."""
    return exposed(np.ones((*size, 3), np.float32), np.log2(light)).astype(np.float32)


def to_mid_grey(img: np.ndarray, exposure: float = 0.) -> np.ndarray:
    """A network that makes mid-grey of what is darker, and knows when to stop."""
    return exposed(img, max(0., -2.5 - light_of(img)) + exposure).clip(0, 1)


def six_stops(img: np.ndarray, exposure: float = 0.) -> np.ndarray:
    """A network that brightens everything."""
    return exposed(img, 6 + exposure).clip(0, 1)


def two_stops(img: np.ndarray, exposure: float = 0.) -> np.ndarray:
    return exposed(img, 2 + exposure).clip(0, 1)


def strength_of(img: np.ndarray, restore=to_mid_grey, exposure: float = 0.) -> float:
    return auto_strength(restore, img, restore(img, exposure), exposure)


def test_light_is_that_of_the_darker_part_in_stops():
    assert abs(light_of(scene(.18)) - np.log2(.18)) < .01
    assert abs(light_of(scene(.18)[..., :1]) - np.log2(.18)) < .01
    half = scene(.01)
    half[:, :13] = 1  # a fifth
    assert abs(light_of(half) - np.log2(.01)) < .05
    half[:, :32] = 1
    assert abs(light_of(half)) < .01


def test_dark_photos_get_all_and_bright_ones_nothing():
    assert [strength_of(scene(2.**-stops)) for stops in (1, 2, 2.5, 5, 6, 9)] == [0, 0, 0, 1, 1, 1]


def test_it_rises_with_the_darkness_and_makes_no_jumps():
    found = [strength_of(scene(2.**-stops)) for stops in np.arange(1, 6, .05)]
    steps = np.diff(found)
    assert (steps >= 0).all() and steps.max() < .2 and found[0] == 0 and found[-1] == 1


def test_a_network_that_brightens_everything_is_not_believed():
    assert [strength_of(scene(2.**-stops), two_stops) for stops in (1, 1.7, 2.8, 5)] == [0, 0, 1, 1]
    between = strength_of(scene(2.**-2.2), two_stops)
    assert 0 < between < 1


def test_a_lamp_leaves_a_room_dark_and_a_sunset_stays():
    room = scene(.004)
    room[:9, :32] = 1
    assert strength_of(room) == 1
    sunset = scene(.004)
    sunset[:28] = scene(.5)[:28]
    assert strength_of(sunset) == 0


def test_white_walls_of_dark_rooms_may_be_white():
    img = scene(2.**-7)
    after = to_mid_grey(img)
    after[:, :24] = 1
    assert auto_strength(to_mid_grey, img, after) == 1


def test_exposure_does_not_change_the_decision():
    img = scene(2.**-3)
    plain = strength_of(img)
    assert 0 < plain < 1 and abs(strength_of(img, exposure=1.) - plain) < .01


@pytest.mark.parametrize('restore', [lambda img, exposure=0.: img, lambda img, exposure=0.: img * np.float32(.9)])
def test_networks_that_bring_no_light_are_taken_as_they_are(restore):
    assert strength_of(scene(.2), restore) == strength_of(scene(.001), restore) == 1


def test_results_of_another_size_are_taken_as_they_are():
    assert auto_strength(None, scene(.5), scene(.5, (96, 128))) == 1


def test_the_result_is_the_photo_or_the_mean_in_light():
    said: list[str] = []

    def restored(img):
        pixels = np.rint(img * 255).astype(np.uint8)
        return pixels, restore_photo(to_mid_grey, Photo('PNG', [Frame(pixels)]), None, AUTO,
                                     said.append).frames[0].pixels

    pixels, found = restored(scene(.4))
    np.testing.assert_array_equal(found, pixels)
    assert said.pop() == 'is bright already, strength 0'
    pixels, found = restored(scene(2.**-3))
    img = pixels / np.float32(255)
    want = mixed(img, to_mid_grey(img), strength_of(img)) * 255
    assert abs(found - want).max() < .51 and 'strength 0.' in said.pop()
    pixels, found = restored(scene(.002))
    assert abs(found - to_mid_grey(pixels / np.float32(255)) * 255).max() < .51 and said == []


def test_numbers_win_over_auto():
    """A bright photo is exposed as asked for, although it needs nothing else."""
    pixels = np.rint(scene(.2) * 255).astype(np.uint8)
    photo = Photo('PNG', [Frame(pixels)])
    found = restore_photo(six_stops, photo, None, Amount('auto', exposure=1.)).frames[0].pixels
    assert abs(found - exposed(pixels / np.float32(255), 1.) * 255).max() < 1
    assert (restore_photo(six_stops, photo, None, Amount(1.)).frames[0].pixels == 255).all()


def test_an_animation_has_one_strength_and_pages_have_their_own():
    lights = (2.**-2.95, 2.**-3, 2.**-3.05)
    frames = [Frame(np.rint(scene(light) * 65535).astype(np.uint16)) for light in lights]
    said: list[str] = []
    moving = restore_photo(to_mid_grey, Photo('PNG', frames, animated=True), None, AUTO, said.append)
    assert len(said) == 1
    strength = strength_of(frames[1].pixels / np.float32(65535))
    for old, new in zip(frames, moving.frames):
        img = old.pixels / np.float32(65535)
        assert abs(new.pixels - mixed(img, to_mid_grey(img), strength) * 65535).max() < 2
    del said[:]
    restore_photo(to_mid_grey, Photo('TIFF', frames), None, AUTO, said.append)
    assert [words.split(',')[0].split(' is')[0] for words in said] == ['page 1', 'page 2', 'page 3']
    assert len({words.rpartition(' ')[2] for words in said}) == 3


def test_enhance_says_it_in_one_line_and_is_automatic(tmp_path, monkeypatch, messages):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ImageRestorer, '__call__', lambda self, img, **more: six_stops(img, **more))
    Image.fromarray(picture()).save('bright.png')
    Path('dark.tif').write_bytes(tiff(picture() // 40))
    assert main(['bright.png', 'dark.tif', '-o', 'out']) == 0
    np.testing.assert_array_equal(read_photo('out/bright.png').frames[0].pixels, picture())
    assert [line for line in messages if 'strength' in line] == ['bright.png: is bright already, strength 0']
    assert read_photo('out/dark.tif').frames[0].pixels.mean() > 3 * (picture() // 40).mean()
    assert main(['bright.png', '-o', 'one.png', '--strength', '1']) == 0
    assert read_photo('one.png').frames[0].pixels.mean() > 200
    Path('a.gif').write_bytes(encoded(Image.fromarray(picture()), 'GIF'))
    assert main(['a.gif', '-o', 'b.gif']) == 0


def test_what_research_uses_stays_at_1():
    assert Amount().strength == 1
    pixels = np.rint(scene(.4) * 255).astype(np.uint8)
    assert (restore_photo(six_stops, Photo('PNG', [Frame(pixels)])).frames[0].pixels == 255).all()
