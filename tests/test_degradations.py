"""Blur kernels, noise and compression under BasicSR's names, against their definitions; clips of frames."""
import math
import random

import cv2
import numpy as np
import pytest
import torch

from basicsr.data import data_util
from basicsr.data import degradations as d
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher
from basicsr.data.transforms import DIHEDRAL, augment, img_rotate, paired_random_crop
from basicsr.utils.img import imwrite


@pytest.fixture(autouse=True)
def seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def quadratic(x, y, sig_x, sig_y, theta):
    """The squared distance of (x, y), in the axes of the ellipse."""
    along = x * math.cos(theta) + y * math.sin(theta)
    across = y * math.cos(theta) - x * math.sin(theta)
    return (along / sig_x)**2 + (across / sig_y)**2


@pytest.mark.parametrize(('make', 'more', 'shape'), [
    (d.bivariate_Gaussian, (), lambda q: math.exp(-q / 2)),
    (d.bivariate_generalized_Gaussian, (1.7, ), lambda q: math.exp(-q**1.7 / 2)),
    (d.bivariate_plateau, (0.8, ), lambda q: 1 / (1 + q**0.8)),
])
def test_kernels_are_their_formulas(make, more, shape):
    kernel = make(9, 2.5, 1.2, 0.7, *more, isotropic=False)
    wanted = np.array([[shape(quadratic(x, y, 2.5, 1.2, 0.7)) for x in range(-4, 5)] for y in range(-4, 5)])
    np.testing.assert_allclose(kernel, wanted / wanted.sum(), rtol=1e-9)
    np.testing.assert_allclose(make(9, 2.5, 99, 0.7, *more), make(9, 2.5, 2.5, 0, *more, isotropic=False))
    np.testing.assert_allclose(make(9, 2.5, 1.2, 0.7, *more, grid=d.mesh_grid(9)[0], isotropic=False), kernel)


def test_the_isotropic_gaussian_is_opencvs():
    taps = cv2.getGaussianKernel(21, 3.)
    np.testing.assert_allclose(d.bivariate_Gaussian(21, 3., 3., 0.), taps @ taps.T, atol=1e-12)
    grid = d.mesh_grid(3)[0]
    np.testing.assert_allclose(d.pdf2(d.sigma_matrix2(1, 2, 0), grid)[0, 0], math.exp(-(1 + 1 / 4) / 2))


def test_random_kernels():
    kinds = [f'{kind}{way}' for kind in ('', 'generalized_', 'plateau_') for way in ('iso', 'aniso')]
    for kind in kinds:
        kernel = d.random_mixed_kernels([kind], [1], 15, (0.8, 2), (0.8, 2), noise_range=None)
        assert kernel.shape == (15, 15) and kernel.sum() == pytest.approx(1) and kernel.argmax() == 112
        assert np.allclose(kernel, kernel.T) == kind.endswith('_iso') or kind == 'iso'
    noisy = d.random_mixed_kernels(['iso'], [1], 15, noise_range=(0.75, 1.25))
    assert noisy.sum() == pytest.approx(1) and not np.allclose(noisy, noisy.T)
    np.random.seed(1)
    first = d.random_mixed_kernels(kinds, [0, 0, 0, 1, 0, 0])
    np.random.seed(1)
    np.testing.assert_array_equal(
        first,
        d.random_bivariate_generalized_Gaussian(21, (0.6, 5), (0.6, 5), (-math.pi, math.pi), (0.5, 8), None, False))
    with pytest.raises(ValueError, match="called 'round'"):
        d.random_mixed_kernels(['round'], [1])


def test_the_low_pass_kernel_keeps_low_frequencies_and_rings():
    kernel = d.circular_lowpass_kernel(math.pi / 2, 51)
    response = np.abs(np.fft.fft2(np.fft.ifftshift(kernel)))
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(51) * 2 * math.pi] * 2))
    assert response[radius < 0.4 * math.pi].min() > 0.9 and response[radius > 0.6 * math.pi].max() < 0.1
    assert kernel.min() < 0 and kernel.sum() == pytest.approx(1)
    assert kernel[25, 25] / kernel[25, 26] == pytest.approx(math.pi / 4 / 0.5668240889, rel=1e-6)  # J1(pi / 2)
    padded = d.circular_lowpass_kernel(1., 7, pad_to=21)
    assert padded.shape == (21, 21) and np.array_equal(padded[7:14, 7:14], d.circular_lowpass_kernel(1., 7))


def test_gaussian_noise_of_arrays():
    img = np.full((200, 200, 3), 0.5, np.float32)
    noise = d.generate_gaussian_noise(img, 10)
    assert noise.dtype == np.float32 and noise.std() * 255 == pytest.approx(10, rel=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    grey = d.generate_gaussian_noise(img, 10, gray_noise=True)
    assert np.array_equal(grey[..., 0], grey[..., 2]) and grey.std() * 255 == pytest.approx(10, rel=0.02)
    assert d.add_gaussian_noise(img, 500).min() == 0 and d.add_gaussian_noise(img, 500, clip=False).min() < 0
    levels = d.add_gaussian_noise(img, 10, rounds=True) * 255
    np.testing.assert_allclose(levels, levels.round(), atol=1e-4)
    spread = [d.random_generate_gaussian_noise(img, (5, 50)).std() * 255 for _ in range(8)]
    assert 4.9 < min(spread) < max(spread) < 51 and max(spread) - min(spread) > 5
    assert np.ptp(d.random_add_gaussian_noise(img, (20, 20), gray_prob=1), axis=2).max() == 0


def test_gaussian_noise_of_tensors():
    img = torch.full((2, 3, 150, 150), 0.5)
    noise = d.generate_gaussian_noise_pt(img, torch.tensor([5., 20.]), torch.tensor([0., 1.]))
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)) * 255, torch.tensor([5., 20.]), rtol=0.03, atol=0)
    assert torch.equal(noise[1, 0], noise[1, 2]) and not torch.equal(noise[0, 0], noise[0, 2])
    assert d.add_gaussian_noise_pt(img, 500).aminmax() == (0, 1)
    out = d.random_add_gaussian_noise_pt(img, (10, 30), gray_prob=1, clip=True, rounds=True)
    assert torch.equal(out[:, 0], out[:, 1]) and torch.allclose(out * 255, (out * 255).round(), atol=1e-4)


@pytest.mark.parametrize('grey', [False, True])
def test_poisson_noise(grey):
    """Of 64 values, white is 64 counts, so that the noise of value v has the variance v / 64."""
    levels = np.repeat(np.arange(64) * 4, 600).reshape(64, 600) / 255
    img = np.repeat(levels[..., None], 3, axis=2).astype(np.float32)
    noise = d.generate_poisson_noise(img, 2., gray_noise=grey)
    found = noise[[16, 32, 63]].var(axis=(1, 2))
    np.testing.assert_allclose(found, 4 * levels[[16, 32, 63], 0] / 64, rtol=0.15)
    tensor = torch.from_numpy(img).permute(2, 0, 1)[None]
    theirs = d.generate_poisson_noise_pt(tensor, 2., float(grey))
    np.testing.assert_allclose(theirs[0, :, [16, 32, 63]].var(dim=(0, 2)), found, rtol=0.25)
    for values in (noise.transpose(2, 0, 1), theirs[0].numpy()):
        assert np.array_equal(values[0], values[1]) is grey and abs(values.mean()) < 0.005
    out = d.random_add_poisson_noise_pt(tensor, (0.5, 3), gray_prob=float(grey), rounds=True)
    assert out.aminmax().min >= 0 and out.aminmax().max <= 1 and torch.allclose(out * 255,
                                                                                (out * 255).round(), atol=1e-4)
    assert np.abs(d.random_add_poisson_noise(img, (0, 0)) - img).max() == 0
    assert d.add_poisson_noise(img, 9., clip=False).max() > 1 >= d.add_poisson_noise(img, 9.).max()
    assert torch.equal(d.add_poisson_noise_pt(tensor, 0.), tensor)


def test_compression_is_opencvs():
    img = np.random.rand(16, 24, 3).astype(np.float32)
    data = cv2.imencode('.jpg', (img * 255).round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    wanted = cv2.imdecode(data, cv2.IMREAD_COLOR) / np.float32(255)
    np.testing.assert_array_equal(d.add_jpg_compression(img * 1.0, 30), wanted)
    np.testing.assert_array_equal(d.random_add_jpg_compression(img, (30, 30)), wanted)


@pytest.mark.parametrize(('padding', 'first', 'last'), [
    ('replicate', [0, 0, 0, 1, 2], [97, 98, 99, 99, 99]),
    ('reflection', [2, 1, 0, 1, 2], [97, 98, 99, 98, 97]),
    ('reflection_circle', [4, 3, 0, 1, 2], [97, 98, 99, 96, 95]),
    ('circle', [3, 4, 0, 1, 2], [97, 98, 99, 95, 96]),
])
def test_frames_around_one(padding, first, last):
    assert data_util.generate_frame_indices(0, 100, 5, padding) == first
    assert data_util.generate_frame_indices(99, 100, 5, padding) == last
    assert data_util.generate_frame_indices(50, 100, 3, padding) == [49, 50, 51]
    with pytest.raises(ValueError, match='odd'):
        data_util.generate_frame_indices(0, 9, 4)
    with pytest.raises(ValueError, match="padding 'zero'"):
        data_util.generate_frame_indices(0, 9, 3, 'zero')


def test_clips_are_read_and_made_smaller(tmp_path):
    for name in ('10', '9'):
        imwrite(np.full((9, 10, 3), (0, 0, int(name)), np.uint8), tmp_path / f'{name}.png')
    clip, names = data_util.read_img_seq(str(tmp_path), require_mod_crop=True, scale=4, return_imgname=True)
    assert names == ['9', '10'] and clip.shape == (2, 3, 8, 8)
    assert (clip[:, 0, 0, 0] * 255).round().tolist() == [9, 10] and clip[:, 1:].max() == 0
    assert torch.equal(data_util.read_img_seq([str(tmp_path / '10.png')]), data_util.read_img_seq(str(tmp_path))[1:])
    x = torch.rand(1, 2, 3, 32, 40)
    small = data_util.duf_downsample(x, scale=4)
    image = cv2.GaussianBlur(x[0, 1].permute(1, 2, 0).numpy(), (13, 13), 1.6, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(small[0, 1].permute(1, 2, 0), image[::4, ::4], atol=1e-5)
    assert data_util.duf_downsample(x[0], scale=2).shape == (2, 3, 16, 20)
    with pytest.raises(ValueError, match='2, 3 or 4'):
        data_util.duf_downsample(x, scale=5)
    assert data_util.generate_gaussian_kernel().sum() == pytest.approx(1)


def test_pairs_of_two_views(pairs):
    folders = [str(pairs / side) for side in ('input', 'input', 'target')]
    found = data_util.paired_DP_paths_from_folder(folders, ['lqL', 'lqR', 'gt'], '{}')
    assert len(found) == 4 and found[0] == {
        'lqL_path': f'{folders[0]}/1.png', 'lqR_path': f'{folders[0]}/1.png', 'gt_path': f'{folders[2]}/1.png'
    }


def test_patches_of_tensors_are_those_of_arrays():
    """Descendants of Real-ESRGAN cut patches out of batches that a GPU has degraded."""
    lq, gt = np.random.rand(20, 24, 3), np.random.rand(40, 48, 3)
    batch = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (gt, gt + 1, lq)]
    random.seed(5)
    arrays = paired_random_crop([gt, gt + 1], lq, 16, 2)
    random.seed(5)
    (a, b), c = paired_random_crop(batch[:2], batch[2], 16, 2, 'image.png')
    for tensor, array in ((a, arrays[0][0]), (b, arrays[0][1]), (c, arrays[1])):
        assert torch.equal(tensor[0].permute(1, 2, 0), torch.from_numpy(np.ascontiguousarray(array)))
    padded, _ = paired_random_crop(batch[0], batch[2], 64, 2)
    assert padded.shape == (1, 3, 64, 64) and torch.equal(padded[..., 40, :48], padded[..., 39, :48])


def test_augmentation_with_its_status_and_flows():
    image = np.random.rand(6, 6, 3)
    seen = set()
    for _ in range(60):
        out, (hflip, vflip, turned) = augment(image, return_status=True)
        wanted = image[:, ::-1] if hflip else image
        wanted = wanted[::-1] if vflip else wanted
        np.testing.assert_array_equal(out, wanted.swapaxes(0, 1) if turned else wanted)
        seen.add((hflip, vflip, turned))
    assert len(seen) == 8
    x, y = np.meshgrid(np.arange(6.), np.arange(6.))
    flow = np.stack([x - 2, y - 2], axis=2)  # away from pixel (2, 2)
    for _ in range(20):
        images, flows = augment([image, x[..., None]], flows=flow)
        hflip, vflip, turned = next(t for t in DIHEDRAL if np.array_equal(t(image), images[0]))
        across = [-flow[..., 0] if hflip else flow[..., 0], -flow[..., 1] if vflip else flow[..., 1]]
        across = [v[:, ::-1] if hflip else v for v in across]
        across = [v[::-1] if vflip else v for v in across]
        across = [v.T for v in reversed(across)] if turned else across
        np.testing.assert_array_equal(flows, np.stack(across, axis=2))
        assert len(images) == 2 and augment(image, flows=[flow, flow])[1][1].shape == (6, 6, 2)


def test_turned_images():
    image = np.random.rand(21, 21, 3).astype(np.float32)
    np.testing.assert_allclose(img_rotate(image, 90), np.rot90(image), atol=1e-4)  # counter-clockwise
    assert img_rotate(image, 30, scale=0.5).shape == image.shape


def test_batches_one_by_one():
    loader = [{'lq': torch.ones(1), 'lq_path': ['a']}, {'lq': torch.zeros(1), 'lq_path': ['b']}]
    for prefetcher in (CPUPrefetcher(loader), CUDAPrefetcher(loader, {'num_gpu': 0})):
        for _ in range(2):
            assert [prefetcher.next()['lq_path'],
                    prefetcher.next()['lq_path'],
                    prefetcher.next()] == [['a'], ['b'], None]
            prefetcher.reset()
