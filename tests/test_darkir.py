"""DarkIR: its spectrum, its side output, its sizes."""
import pytest
import torch

from basicsr.archs import build_network
from basicsr.archs.darkir_arch import SpectralMLP

DARK = {'type': 'DarkIR', 'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]}


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


@torch.no_grad()
def test_the_side_output_is_the_published_one(golden, published):
    case, net = published('darkir_small')
    side = net(case.input, side_loss=True)[0]
    assert golden.max_rel_err(side, torch.tensor(case.meta['side_output']).view_as(side)) < 2e-5
