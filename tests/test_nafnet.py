"""NAFNet's window means, DarkIR's spectrum and side output."""
import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED

from basicsr.archs import build_network
from basicsr.archs.darkir_arch import SpectralMLP
from basicsr.archs.nafnet_arch import NAFNetLocal, WindowMean
from basicsr.utils.errors import UserError

DARK = {'type': 'DarkIR', 'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]}


def slow_window_mean(x, size):
    """By the definition: a valid mean, then the border repeated, less of it before than behind."""
    kernel = [min(k, side) for k, side in zip(size, x.shape[-2:])]
    y = F.avg_pool2d(x, kernel, stride=1)
    (h, w), (hh, ww) = x.shape[-2:], y.shape[-2:]
    left, top = (w - ww) // 2, (h - hh) // 2
    return F.pad(y, (left, w - ww - left, top, h - hh - top), mode='replicate')


@pytest.mark.parametrize('size', [(4, 3), (5, 40), (40, 6), (9, 12)])
def test_means_of_windows(size):
    x = torch.rand(2, 3, 9, 13)
    torch.testing.assert_close(WindowMean(size)(x), slow_window_mean(x, size), atol=1e-6, rtol=1e-5)


def test_a_window_that_holds_all_is_the_global_mean():
    x = torch.rand(2, 3, 9, 13)
    assert torch.equal(WindowMean((9, 13))(x), x.mean((2, 3), keepdim=True))


def test_sums_of_large_images_keep_their_digits():
    x = torch.full((1, 1, 1200, 1600), 0.7)
    assert (WindowMean((384, 384))(x) - 0.7).abs().max() < 1e-7


@pytest.mark.parametrize(
    ('train_size', 'levels', 'want'),
    [
        ((1, 3, 256, 256), 4, [(384, 384), (192, 192), (96, 96), (48, 48), (24, 24)]),
        ((1, 3, 101, 60), 2, [(155, 96), (77, 48), (38, 24)]),  # padded to 104 x 60; 151 is 1.5 * 101 without its half
    ])
def test_windows_follow_the_training_patches(train_size, levels, want):
    net = build_network({
        'type': 'NAFNetLocal', 'width': 2, 'enc_blk_nums': [1] * levels, 'dec_blk_nums': [1] * levels,
        'train_size': train_size
    })
    if train_size[2] == 101:
        want = [((104 >> i) * 151 // 101, (60 >> i) * 90 // 60) for i in range(3)]
    assert [net.pool(i).size for i in range(levels + 1)] == want


@pytest.mark.parametrize('name', ['NAFNet', 'NAFNetLocal', 'DarkIR'])
@pytest.mark.parametrize('down, up', [([1, 1], [1]), ([1], [1, 1]), ([1], [1, 1, 1, 1, 1])])
def test_levels_must_match(name, down, up):
    said = f'{name}: enc_blk_nums and dec_blk_nums are of the same levels, but there are {len(down)} and {len(up)}'
    with pytest.raises(UserError, match=said):
        build_network({'type': name, 'width': 2, 'enc_blk_nums': down, 'dec_blk_nums': up})


@pytest.mark.parametrize('train_size', [[1, 3, 256], [256], [1, 3, 256, 0]])
def test_a_training_size_is_images_channels_height_and_width(train_size):
    with pytest.raises(ValueError, match=r'train_size is \(images, channels, height, width\), each 1 or more, not \['):
        NAFNetLocal(2, train_size=train_size)


def test_the_large_darkir_has_as_many_parameters_as_published():
    with torch.device('meta'):
        sizes = [sum(p.numel() for p in build_network({'type': 'DarkIR', 'width': w}).parameters()) for w in (32, 64)]
    assert sizes == [3_321_638, 12_957_254]


@pytest.mark.parametrize('value', [0., 0.25])
def test_a_constant_has_a_spectrum_without_phases(value):
    """Only the mean is not zero; where there is nothing, what the convolutions make of it is real."""
    layer, x = SpectralMLP(2), torch.full((1, 2, 6, 7), value, requires_grad=True)
    out = layer(x)
    magnitude = torch.zeros(1, 2, 6, 4)
    magnitude[..., 0, 0] = value * 42
    torch.testing.assert_close(out, torch.fft.irfft2(layer.process1(magnitude) + 0j, s=(6, 7)), atol=1e-6, rtol=1e-5)
    out.backward(torch.ones_like(out))  # PyTorch 2.6 has no spectrum of the expanded gradient of a sum
    assert torch.isfinite(x.grad).all()


@torch.no_grad()
def test_the_spectrum_is_the_one_by_magnitude_and_angle():
    layer, x = SpectralMLP(3), torch.randn(2, 3, 9, 12)
    spectrum = torch.fft.rfft2(x)
    want = torch.fft.irfft2(torch.polar(torch.ones(()), spectrum.angle()) * layer.process1(spectrum.abs()), s=(9, 12))
    torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-5)
    with torch.autocast('cpu', torch.bfloat16):
        assert layer(x.bfloat16()).dtype == torch.float32


@torch.no_grad()
def test_the_side_output_comes_first():
    net, x = build_network(DARK).eval(), torch.rand(1, 3, 10, 13)
    side, out = net(x, side_loss=True)
    assert side.shape == (1, 3, 3, 4) and torch.equal(out, net(x))


@pytest.mark.skipif(not (SHARED / 'golden').is_dir(), reason='the golden files are not part of the checkout')
@torch.no_grad()
def test_the_side_output_is_the_published_one(monkeypatch):
    monkeypatch.syspath_prepend(SHARED / 'tools')
    import golden
    case = golden.load_case(SHARED / 'golden' / 'darkir_small.npz')
    net = golden.fill_(build_network(case.options).eval(), case.meta['seed'], tuple(case.meta['skip']))
    side = net(case.input, side_loss=True)[0]
    assert golden.max_rel_err(side, torch.tensor(case.meta['side_output']).view_as(side)) < 2e-5
