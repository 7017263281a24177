"""`--preview`: small answers, quickly."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from photo_files import camera, encoded, picture, profile
from PIL import Image

from basicsr.commands.enhance import main
from basicsr.inference.auto_strength import auto_strength
from basicsr.inference.light import exposed
from basicsr.inference.preview import Preview, reduced
from basicsr.inference.restorer import ImageRestorer
from basicsr.photos.photo import Frame, Photo
from basicsr.photos.reading import read_photo
from basicsr.utils.srgb import srgb_to_linear


def large(size: tuple[int, int] = (1200, 900)) -> np.ndarray:
    return cv2.resize(picture(), size, interpolation=cv2.INTER_CUBIC)


def test_the_network_sees_little_and_edges_stay():
    seen = []

    def twice(img, exposure=0.):
        seen.append(img.shape)
        return exposed(img, 1 + exposure).clip(0, 1)

    rng = np.random.RandomState(0)
    img = cv2.resize(rng.rand(60, 80, 3).astype(np.float32), (1000, 750), interpolation=cv2.INTER_NEAREST) / 2
    found = Preview(twice)(img)
    assert found.shape == img.shape and seen == [(300, 400, 3)]
    error = np.square(found - twice(img)).mean()
    assert -10 * np.log10(error) > 35
    light = srgb_to_linear(Preview(twice)(img, exposure=-1.)).mean()
    assert abs(light / srgb_to_linear(img).mean() - 1) < .01


def test_small_pictures_grey_results_and_networks_that_enlarge():
    small, wide = picture() / np.float32(255), large() / np.float32(255)
    np.testing.assert_array_equal(Preview(lambda img: 1 - img)(small), 1 - small)
    assert Preview(lambda img: img.mean(axis=2, keepdims=True))(wide).shape == (900, 1200, 1)
    twice_as_large = Preview(lambda img: img.repeat(2, axis=0).repeat(2, axis=1))
    found = twice_as_large(wide)
    assert auto_strength(twice_as_large, wide, found) == 1  # as without a preview
    assert found.shape == wide.shape and abs(found - wide).mean() < .05
    assert not np.isfinite(Preview(lambda img: img * np.nan)(wide)).any()


def test_colours_behind_clear_pixels_do_not_shine_through():
    pixels, alpha = np.zeros((1200, 2000, 3), np.uint8), np.zeros((1200, 2000), np.uint8)
    pixels[:, 1001:], alpha[:, 1001:] = 200, 255  # black, unseen, beside opaque grey, and the border within a pixel
    frame = reduced(Photo('PNG', [Frame(pixels, alpha)])).frames[0]
    assert frame.pixels.shape == (600, 1000, 3) and frame.alpha.shape == (600, 1000)
    assert 0 < frame.alpha[0, 500] < 255 and frame.pixels[0, 500, 0] == 200


@pytest.mark.parametrize('pixels', [large(), large().astype(np.uint16) * 257, large().astype(np.float32) / 255])
def test_pixels_keep_their_type(pixels):
    frame = reduced(Photo('TIFF', [Frame(pixels)])).frames[0]
    assert frame.pixels.shape == (750, 1000, 3) and frame.pixels.dtype == pixels.dtype
    assert abs(frame.pixels.astype(float).mean() / pixels.astype(float).mean() - 1) < .01


def test_the_file_is_right_about_itself(tmp_path, monkeypatch):
    """A photo that lies on its side, with another's sizes in its EXIF data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ImageRestorer, '__call__', lambda self, img, **more: img)
    data = encoded(large(), 'JPEG', exif=b'Exif\0\0' + camera(6), icc_profile=profile('p3'))
    Path('a.jpg').write_bytes(data)
    assert main(['a.jpg', '-o', 'b.jpg', '--preview', '--sheet']) == 0
    image = Image.open('b.jpg')
    assert image.size == (750, 1000) and image.info['icc_profile'] == profile('p3')
    inside = image.getexif().get_ifd(0x8769)
    sizes = {tag: inside[tag] for tag in (40962, 40963) if tag in inside}
    assert sizes in ({}, {40962: 750, 40963: 1000})
    assert Image.open('b_sheet.png').size == (1500, 1000)
    Path('c.png').write_bytes(encoded(picture(), 'PNG'))
    assert main(['c.png', '-o', 'd.png', '--preview', '--strength', '0']) == 0
    np.testing.assert_array_equal(read_photo('d.png').frames[0].pixels, picture())
