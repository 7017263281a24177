"""Tiles as parts of one image: sums over a sample of it, shared by all."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from basicsr.archs.illrecnet.pixel_attention import PixelAttention
from basicsr.archs.layers.channel_attention import affinity_in_strips
from basicsr.archs.layers.interpolation import CornerToCorner, spread
from basicsr.archs.layers.whole_image import (
    Crop,
    ImageGroupNorm,
    Place,
    image_max,
    image_mean,
    over_image,
    pixels_of_image,
    sampling,
    sharing,
)
from basicsr.inference.photos import photo_restorer
from basicsr.inference.restorer import ImageRestorer
from basicsr.inference.sampling import PIXELS, sample_of
from basicsr.utils.pretrained import default_weights


def halves(x: torch.Tensor) -> tuple[torch.Tensor, list[Crop]]:
    """An image in two crops that overlap by 4 columns, of which each counts 2."""
    middle = x.shape[3] // 2
    columns = slice(0, middle + 2), slice(middle - 2, x.shape[3])
    own = slice(0, middle), slice(2, middle + 2)
    rows = slice(0, x.shape[2])
    crops = [Crop(rows, part, 1., Place(rows, place, *x.shape[2:])) for part, place in zip(own, columns)]
    return torch.cat([x[..., place] for place in columns]), crops


def whole(x: torch.Tensor) -> Place:
    return Place(slice(0, x.shape[2]), slice(0, x.shape[3]), *x.shape[2:])


@pytest.mark.parametrize('layer', [
    image_mean, image_max, ImageGroupNorm(2, 4),
    lambda x: image_mean(x.bfloat16(), torch.float32)], ids=['mean', 'max', 'group norm', 'mean of bf16'])  # yapf: disable
@torch.no_grad()
def test_crops_are_answered_as_the_image(layer):
    x = torch.randn(1, 4, 8, 20)
    expected = layer(x)
    batch, crops = halves(x)
    with sampling(crops) as found:
        parts = layer(batch)
    assert len(found) == 1
    with sharing(found, whole(x)._replace(columns=slice(3, 9))):
        tile = layer(x[..., 3:9])
    for part, columns in ((parts[:1], slice(0, 12)), (parts[1:], slice(8, 20)), (tile, slice(3, 9))):
        same = expected[..., columns] if expected.shape[3] > 1 else expected
        torch.testing.assert_close(part, same, rtol=1e-5, atol=1e-5)


def test_layers_are_told_apart_by_their_order():
    x = torch.rand(1, 3, 4, 4)
    with sampling([Crop(slice(0, 4), slice(0, 4), 1., whole(x))]) as found:
        first, second = image_mean(x), image_mean(2 * x)
    for _ in range(2):
        with sharing(found, whole(x)):
            torch.testing.assert_close((image_mean(0 * x), image_mean(0 * x)), (first, second))


@pytest.mark.parametrize('factor', [0.5, 2])
def test_parts_are_interpolated_as_the_image(factor):
    """Between the corners of the image, not of the part; away from the edges of the part, beyond which pixels move."""
    layer, x = CornerToCorner(scale_factor=factor), torch.rand(1, 2, 24, 40, dtype=torch.float64)
    with sharing([], whole(x)._replace(rows=slice(8, 24), columns=slice(6, 30))):
        part = layer(x[..., 8:24, 6:30])
    edge = int(2 * factor)
    expected = layer(x)[..., int(8 * factor):int(24 * factor), int(6 * factor):int(30 * factor)]
    assert part.shape == expected.shape
    inner = slice(edge, -edge)
    torch.testing.assert_close(part[..., inner, inner], expected[..., inner, inner], rtol=0, atol=1e-9)


def test_maps_are_spread_over_the_image_and_not_over_a_part():
    maps, like = torch.rand(1, 2, 5, 7, dtype=torch.float64), torch.zeros(1, 3, 24, 40)
    batch, crops = halves(like)
    with sampling(crops):
        parts = spread(maps.expand(2, -1, -1, -1), batch)
    expected = spread(maps, like)
    torch.testing.assert_close(parts[0], expected[0, ..., :22], rtol=0, atol=1e-9)
    torch.testing.assert_close(parts[1], expected[0, ..., 18:], rtol=0, atol=1e-9)


def test_pixels_stand_for_the_image():
    x = torch.arange(160.).view(1, 8, 20, 1)
    batch, crops = halves(x.permute(0, 3, 1, 2))
    batch = batch.permute(0, 2, 3, 1)
    with sampling(crops) as found:
        pixels, weights = pixels_of_image(batch)
    assert pixels[0].flatten().sort().values.tolist() == x.flatten().tolist() and (weights == 1).all()
    assert len(found) == 1 and pixels.shape == (2, 160, 1)
    with sampling(crops):
        assert pixels_of_image(batch, most=50)[0].shape[1] <= 50


def test_a_key_of_weight_two_is_two_keys():
    attention = PixelAttention(8, 2).double().eval()
    x, context = torch.rand(1, 5, 8, dtype=torch.float64), torch.rand(1, 6, 8, dtype=torch.float64)
    twice = torch.cat([context, context[:, :2]], dim=1)
    weighed = attention(x, context, torch.tensor([[2., 2., 1., 1., 1., 1.]]))
    torch.testing.assert_close(weighed, attention(x, twice), rtol=0, atol=1e-9)


def test_features_of_other_size_are_cropped_in_proportion():
    x = torch.arange(8.).view(1, 2, 4, 1)  # a quarter of the crop's pixels
    with sampling([Crop(slice(0, 4), slice(2, 8), 1., Place(slice(0, 4), slice(0, 8), 4, 8))]):
        total, = over_image(lambda t: (t.sum((1, 2)), ), x)
    assert total.item() == 1 + 2 + 3 + 5 + 6 + 7


@pytest.mark.parametrize('multiple', [1, 4, 8, 16, 64])
@pytest.mark.parametrize('height, width', [(96, 96), (100, 900), (700, 500), (64, 4000), (2000, 3000)])
def test_a_sample_stands_for_every_pixel_once(height, width, multiple):
    height, width = (-(-n // multiple) * multiple for n in (height, width))
    x = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    batch, crops = sample_of(x, multiple)
    assert len(batch) == len(crops) and batch[0].numel() * len(batch) <= 1.1 * PIXELS
    stood_for = [crop.weight * crop.of(t[0], 1.).numel() for t, crop in zip(batch, crops)]
    assert sum(stood_for) == pytest.approx(height * width)
    own = torch.cat([crop.of(t[0], 1.).flatten() for t, crop in zip(batch, crops)])
    assert len(own.unique()) == len(own)
    if own.numel() == x.numel():
        assert all(crop.weight == pytest.approx(1) for crop in crops)
    for crop in crops:
        assert all(n % multiple == 0 for s in (crop.rows, crop.columns) for n in (s.start, s.stop))


def test_tiles_of_a_smooth_gradient_have_one_brightness():
    """In tiles that each were a whole image, the result is 17 dB away, and each tile has a brightness of its own."""
    y, x = np.mgrid[:160, :320]
    img = np.stack([.02 + .2 * x / 320 + .05 * y / 160] * 3, axis=-1).astype(np.float32)
    name = default_weights()
    assert name
    restorer = photo_restorer(name, device='cpu')
    whole = restorer(img)
    tiled = ImageRestorer(restorer.net, tile=96, tile_overlap=16)(img)
    assert 10 * np.log10(1 / np.mean((whole - tiled)**2)) > 45
    steps = [np.abs(np.diff(t.mean(axis=(0, 2)))).max() for t in (whole, tiled)]
    assert steps[1] < 1.1 * steps[0]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('paired', [True, False])
@torch.no_grad()
def test_attention_in_strips_is_that_of_the_whole_image(dtype, paired, monkeypatch):
    """Sums over strips are not rounded to the type of the features, although autocast is on."""
    q, k, v = torch.randn(3, 1, 8, 40, 24).to(dtype)
    scale = torch.full((2, 1, 1), 3.)

    reads = []

    def attended(read, keep):
        reads.append(read)
        rows = [t[:, :, read].permute(0, 2, 3, 1) for t in (q, k)]
        return *([torch.cat(rows, dim=-1)] if paired else rows), v[:, :, read]

    def answer():
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
            return affinity_in_strips(v, attended, scale, channels=8)

    whole = answer()
    monkeypatch.setattr('basicsr.archs.layers.strips._CPU_BYTES', 1)
    torch.testing.assert_close(answer(), whole, rtol=1e-5, atol=1e-6)
    assert len(reads) == 1 + 5
