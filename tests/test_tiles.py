"""Tiles of networks that share nothing: the low frequencies of an answer to the reduced image; no seams."""
from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from basicsr.archs.description import Description
from basicsr.inference.low_frequencies import LowFrequencies
from basicsr.inference.restorer import ImageRestorer


class Bright(nn.Module):
    """Says nothing of itself: brings the mean of what it sees to a half, and sharpens."""

    def __init__(self, scale: int = 1):
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        y = x * (0.5 / x.mean())
        y = y + 0.5 * (y - F.avg_pool2d(F.pad(y, (1, 1, 1, 1), mode='replicate'), 3, 1))
        return F.interpolate(y, scale_factor=self.scale, mode='bilinear')


class Sharp(Bright):
    """Looks at its surroundings alone."""

    def forward(self, x: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        return x + 0.5 * (x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode='replicate'), 3, 1))


def gradient(height: int, width: int, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([.02 + .2 * x / width + .05 * y / height] * channels, axis=-1).astype(np.float32)


def textured(height: int, width: int) -> np.ndarray:
    return (gradient(height, width) * (1 + .3 * np.random.RandomState(0).randn(height, width, 1))).clip(0,
                                                                                                        1).astype('f')


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(1 / max(np.mean((a - b)**2), 1e-12))


def apart(net: nn.Module, img: np.ndarray, **settings) -> np.ndarray:
    """In tiles that each are taken for an image."""
    net.description = Description(tiling='')
    out = ImageRestorer(net, **settings)(img)
    del net.description
    return out


@pytest.mark.parametrize('scale', [1, 2])
@pytest.mark.parametrize('img', [gradient(150, 331), textured(203, 301)], ids=['gradient', 'texture'])
def test_tiles_are_as_bright_as_the_image(img, scale):
    """Sides that are not multiples, results of twice the size."""
    net = Bright(scale)
    whole, tiled = ImageRestorer(net)(img), ImageRestorer(net, tile=96, tile_overlap=16)(img)
    assert tiled.shape == (img.shape[0] * scale, img.shape[1] * scale, 3)
    assert decibels(whole, tiled) > 38 > 25 > decibels(whole, apart(net, img, tile=96, tile_overlap=16))


def test_a_smooth_gradient_has_no_seams():
    img, net = gradient(160, 320), Bright()
    whole, tiled, torn = ImageRestorer(net)(img), ImageRestorer(net, tile=96)(img), apart(net, img, tile=96)
    steps = [np.abs(np.diff(t.mean(axis=(0, 2)))).max() for t in (whole, tiled, torn)]
    assert steps[1] < 1.2 * steps[0] < 1.8 * steps[0] < steps[2]


def test_the_ensemble_and_a_guide_change_nothing():
    img, net = gradient(120, 200), Bright()
    whole = ImageRestorer(net)(img)
    guide = np.zeros((*img.shape[:2], 2), np.float32)
    for tiled in (ImageRestorer(net, tile=80, ensemble=True)(img), ImageRestorer(net, tile=80)(img, guide)):
        assert decibels(whole, tiled) > 38


def test_grey_images_stay_grey():
    img, net = gradient(120, 200), Bright()
    whole, tiled = (ImageRestorer(net, tile=tile, channels=1)(img) for tile in (0, 80))
    assert tiled.shape == (120, 200, 1) and decibels(whole, tiled) > 38


def test_an_image_within_one_tile_is_whole():
    img, net = textured(60, 90), Bright()
    np.testing.assert_array_equal(ImageRestorer(net, tile=96, tile_overlap=16)(img), ImageRestorer(net)(img))


def test_local_networks_are_left_alone():
    """Parts of the reduced image are answered as it is whole, so tiles are not touched."""
    img, net = textured(203, 301), Sharp()
    tiled = ImageRestorer(net, tile=96, tile_overlap=16)(img)
    np.testing.assert_array_equal(tiled, apart(net, img, tile=96, tile_overlap=16))
    assert decibels(ImageRestorer(net)(img), tiled) > 60


@pytest.mark.parametrize('height, width, pixels', [(400, 600, 10**6), (400, 600, 20_000), (8, 4000, 20_000)])
def test_the_reduced_image_has_the_pixels_that_it_may_have(height, width, pixels):
    seen = []
    LowFrequencies(lambda t: seen.append(t.shape) or t, torch.rand(1, 3, height, width), 8, pixels, 16)
    reduced = seen[0][2] * seen[0][3]
    assert all(side % 8 == 0 for side in seen[0][2:])
    assert height == 8 or 0.8 < reduced / min(pixels, height * width / 2) < 1.2
