"""Losses of the recipes of CIDNet, DarkIR, NAFNet, MambaIR and MoCE-IR: published values, and how they reach a network."""
from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loss_inputs import images
from scipy import ndimage
from torch import nn

from basicsr.archs import build_network
from basicsr.archs.cidnet.hvi import HVI
from basicsr.archs.description import Description
from basicsr.losses import build_loss
from basicsr.losses.vgg import layer_names
from basicsr.metrics import calculate_ssim
from basicsr.utils.errors import UserError

SSIM = {'type': 'SSIMLoss', 'padding': 'zeros'}
LAPLACIAN = {'type': 'EdgeLoss', 'filter': 'laplacian', 'criterion': 'l2'}
LAYERS = ('conv1_2', 'conv2_2', 'conv3_4', 'conv4_4')
CIDNET = {'type': 'CIDNet', 'channels': [4, 4, 8, 16]}


def test_published_values_of_darkir_and_moce_ir(golden):
    a, b, side = (golden.image(shape, seed, 3)
                  for shape, seed in (((2, 3, 32, 24), 1), ((2, 3, 32, 24), 2), ((2, 3, 4, 3), 3)))
    for block, want in ((LAPLACIAN | {'loss_weight': 50}, 2.098878), ({'type': 'FFTLoss'}, 2.182696),
                        ({'type': 'FFTLoss', 'of': 'magnitude', 'criterion': 'l2'}, 56.56135)):
        assert build_loss(block)(a, b).item() == pytest.approx(want, rel=1e-6)
    assert build_loss({'type': 'L1Loss'})(a, b).item() == pytest.approx(0.2528615, rel=1e-6)
    pictures = [x.double().permute(0, 2, 3, 1).flip(-1).numpy() * 255 for x in (a, b)]  # BGR, as metrics take them
    ssim = [calculate_ssim(x, y, protocol='darkir') for x, y in zip(*pictures)]
    assert sum(ssim) / 2 == pytest.approx(0.0370870, abs=1e-6)
    net = SimpleNamespace(side_output=side, description=Description(multiple=8))
    found = build_loss({'type': 'SideOutputLoss', 'terms': [{'type': 'L1Loss', 'loss_weight': 0.8}]})(net, b, a)
    assert {k: v.item() for k, v in found.items()} == {'side_l1': pytest.approx(0.1972456, rel=1e-6)}


@torch.no_grad()
def test_published_values_of_cidnet(golden, published, tmp_path):
    case, net = published('cidnet_small')
    pred, target = net(case.input), golden.image(case.input.shape, case.meta['seed'] + 1, 3.)
    terms = {
        'l1': {'type': 'L1Loss'},
        'ssim': SSIM | {'loss_weight': 0.5},
        'edge': LAPLACIAN | {'loss_weight': 50},
        'perceptual': {
            'type': 'PerceptualLoss', 'layer_weights': dict.fromkeys(LAYERS, 1), 'criterion': 'l2', 'range_norm': True,
            'perceptual_weight': 0.01, 'weights': str(filled_vgg(golden, tmp_path / 'vgg.pth'))
        },
    }
    hvi = build_loss({'type': 'HVILoss', 'terms': terms})(net, pred, target)
    rgb = build_loss({'type': 'MixedLoss', 'terms': terms})(pred, target)
    assert {k: v.item() for k, v in rgb.items()} == pytest.approx(
        {'l1': 0.3100113, 'ssim': 0.46261257, 'edge': 2.2022746, 'perceptual': 0.01 * 0.33801305}, rel=1e-5)
    assert {k: v.item() for k, v in hvi.items()} == pytest.approx(
        {'hvi_l1': 0.49186432, 'hvi_ssim': 0.45723826, 'hvi_edge': 7.2914982, 'hvi_perceptual': 0.01 * 0.77685201},
        rel=1e-5)
    assert sum(rgb.values()) + sum(hvi.values()) == pytest.approx(11.226648, rel=1e-5)


def filled_vgg(golden, file):
    """Weights that follow from their names."""
    convs = nn.Sequential()
    channels = 3
    for name in (n for n in layer_names('vgg19') if n.startswith('conv') and int(n[4]) < 5):
        width = min(64 * 2**(int(name[4]) - 1), 512)
        convs.add_module(name, nn.Conv2d(channels, width, 3))
        channels = width
    state = golden.fill_(convs, 0).state_dict()
    torch.save(
        {f'features.{layer_names("vgg19").index(k.split(".")[0])}.{k.split(".")[1]}': v for k, v in state.items()},
        file)
    return file


# ------------------------------------------------------------------------------------------------ by definition


def laplacian_by_scipy(x):
    """What a level of the Laplacian pyramid keeps of (B, C, H, W)."""
    g = np.outer(*[[.05, .25, .4, .25, .05]] * 2)[None, None]
    up = np.zeros_like(x)
    up[..., ::2, ::2] = 4 * ndimage.correlate(x, g, mode='nearest')[..., ::2, ::2]
    return x - ndimage.correlate(up, g, mode='nearest')


@pytest.mark.parametrize('size', [(24, 20), (7, 5), (1, 2)])
def test_laplacian_edges_against_their_definition(size):
    pred, target = images(*size)
    difference = laplacian_by_scipy(pred.numpy()) - laplacian_by_scipy(target.numpy())
    assert build_loss(LAPLACIAN)(pred, target).item() == pytest.approx((difference**2).mean(), rel=1e-9)
    absolute = build_loss(LAPLACIAN | {'criterion': 'l1', 'loss_weight': 3})
    assert absolute(pred, target).item() == pytest.approx(3 * np.abs(difference).mean(), rel=1e-9)


def test_ssim_beyond_the_border_is_black():
    pred, target = (x.numpy() for x in images(9, 14))  # smaller than the window
    g = np.exp(-np.arange(-5, 6)**2 / (2 * 1.5**2))
    window = (np.outer(g, g) / g.sum()**2)[None, None]
    ma, mb, aa, bb, ab = (ndimage.correlate(x, window, mode='constant')
                          for x in (pred, target, pred * pred, target * target, pred * target))
    above = (2 * ma * mb + 1e-4) * (2 * (ab - ma * mb) + 9e-4)
    wanted = 1 - (above / ((ma**2 + mb**2 + 1e-4) * (aa - ma**2 + bb - mb**2 + 9e-4))).mean()
    assert build_loss(SSIM)(*map(torch.from_numpy, (pred, target))).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize('width', [20, 21])
@pytest.mark.parametrize('criterion', ['l1', 'l2'])
def test_spectra_against_their_definition(width, criterion):
    pred, target = images(11, width)
    a, b = (np.fft.rfft2(x.numpy()) for x in (pred, target))
    measure = {'l1': np.abs, 'l2': np.square}[criterion]
    parts = (measure((a - b).real).mean() + measure((a - b).imag).mean()) / 2
    assert build_loss({'type': 'FFTLoss', 'criterion': criterion})(pred, target).item() == pytest.approx(parts)
    magnitude = build_loss({'type': 'FFTLoss', 'of': 'magnitude', 'criterion': criterion})
    assert magnitude(pred, target).item() == pytest.approx(measure(np.abs(a) - np.abs(b)).mean())


@pytest.mark.parametrize('block', [LAPLACIAN, {'type': 'FFTLoss'}, {'type': 'FFTLoss', 'of': 'magnitude'}, SSIM],
                         ids=lambda b: b['type'] + b.get('of', ''))
def test_gradients_are_those_of_differences_and_in_float32_at_least(block):
    pred, target = images(8, 7, batch=1)
    loss = build_loss(block)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), pred.requires_grad_(), eps=1e-7, atol=1e-5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss(pred.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_equal_images_have_finite_gradients():
    """The magnitude of a spectrum has a kink at 0, where that of a constant is almost everywhere."""
    target = torch.full((1, 3, 8, 8), 0.5)
    for block in (LAPLACIAN, {'type': 'FFTLoss'}, {'type': 'FFTLoss', 'of': 'magnitude'}, SSIM):
        pred = target.clone().requires_grad_()
        loss = build_loss(block)(pred, target)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(pred.grad).all(), block


def test_nafnets_psnr_and_mambairs_charbonnier_are_those_that_are_here():
    pred, target = images()
    mse = ((pred - target)**2).mean((1, 2, 3))
    nafnet = 10 / math.log(10) * (mse + 1e-8).log().mean()
    assert build_loss({'type': 'PSNRLoss'})(pred, target).item() == pytest.approx(nafnet.item(), rel=1e-12)
    mambair = ((pred - target)**2 + 1e-3).sqrt().mean()  # under the root as it is
    block = {'type': 'CharbonnierLoss', 'form': 'basicsr', 'eps': 1e-3}
    assert build_loss(block)(pred, target).item() == pytest.approx(mambair.item(), rel=1e-12)


# ------------------------------------------------------------------------------------------------ of networks


def test_the_colour_space_learns_from_both_images():
    net = SimpleNamespace(trans=HVI())
    pred, target = (x.float() for x in images(8, 6))
    loss = build_loss({'type': 'HVILoss', 'terms': [{'type': 'L1Loss'}], 'loss_weight': 2})
    value = loss(net, pred, target)['hvi_l1']
    torch.testing.assert_close(value, 2 * (net.trans(pred) - net.trans(target)).abs().mean())
    whole, = torch.autograd.grad(value, net.trans.density_k)
    (2 * (net.trans(pred) - net.trans(target).detach()).abs().mean()).backward()
    assert whole != net.trans.density_k.grad


@pytest.mark.parametrize('kind, what', [('HVILoss', 'no colour space HVI'), ('SideOutputLoss', 'no side output')])
def test_a_network_that_lacks_what_is_compared_is_named(kind, what):
    loss = build_loss({'type': kind, 'terms': [{'type': 'L1Loss'}]})
    with pytest.raises(UserError, match=f'{kind}: Identity has {what}'):
        loss(nn.Identity(), *images())
    with pytest.raises(UserError, match=r'goes into train\.losses'):
        build_loss({'type': 'MixedLoss', 'terms': [{'type': kind, 'terms': [{'type': 'L1Loss'}]}]})


def test_the_side_output_is_there_in_training_alone_and_is_not_copied():
    from copy import deepcopy
    net = build_network({'type': 'DarkIR', 'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]})
    x, target = torch.rand(1, 3, 10, 9), torch.rand(1, 3, 10, 9)
    net(x)
    assert net.side_output.shape == (1, 3, 3, 3)
    loss = build_loss({'type': 'SideOutputLoss', 'terms': [{'type': 'L1Loss'}]})
    enlarged = net.side_output.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :10, :9]
    torch.testing.assert_close(loss(net, x, target)['side_l1'], (enlarged - target).abs().mean())
    assert deepcopy(net).side_output is None and net.side_output is not None
    assert net.eval()(x).shape == x.shape and net.side_output is None
    side, out = net(x, side_loss=True)
    assert side.shape == (1, 3, 3, 3) and torch.equal(out, net(x))


@pytest.mark.parametrize('network, block, logged', [
    (CIDNET, {'type': 'HVILoss', 'terms': [{'type': 'L1Loss'}, SSIM]}, {'l_hvi_l1', 'l_hvi_ssim'}),
    ({'type': 'DarkIR', 'width': 4, 'enc_blk_nums': [1], 'dec_blk_nums': [1]
      }, {'type': 'SideOutputLoss', 'terms': {'x': {'type': 'L1Loss'}}}, {'l_side_x'}),
], ids=['CIDNet', 'DarkIR'])
@pytest.mark.parametrize('accumulate', [1, 2])
def test_training_logs_their_terms_and_trains_what_they_reach(tiny_model, network, block, logged, accumulate):
    model = tiny_model(network, pixel_opt={'type': 'L1Loss', 'loss_weight': 0}, losses=[block], accumulate=accumulate)
    model.feed_data({'lq': torch.rand(2, 3, 16, 16), 'gt': torch.rand(2, 3, 16, 16)})
    model.optimize_parameters(1)
    assert model.log_dict.keys() == {'l_pix'} | logged and all(v > 0 for k, v in model.log_dict.items() if k in logged)
    reached = {k for k, p in model.net_g.named_parameters() if p.grad is not None and p.grad.any()}
    assert ('trans.density_k' if 'HVILoss' in block['type'] else 'side_out.weight') in reached
