"""The six losses of MASR-Net: values against their formulas in float64, gradients, what the option files ask for."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import ROOT
from loss_inputs import images, vgg_file
from scipy import ndimage

from basicsr.config.yaml_reader import read_yaml
from basicsr.losses import build_loss
from basicsr.losses.vgg import VGGFeatures
from basicsr.utils.errors import UserError

LOSSES = {block['type']: block for block in read_yaml(ROOT / 'Options' / 'MASRNet_LOL_v1.yml')[0]['train']['losses']}


def lab_by_numpy(rgb: np.ndarray) -> np.ndarray:
    """a* and b* of one pixel, written out."""
    linear = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055)**2.4 for v in np.clip(rgb, 0, 1)])
    x = 0.4124564 * linear[0] + 0.3575761 * linear[1] + 0.1804375 * linear[2]
    y = 0.2126729 * linear[0] + 0.7151522 * linear[1] + 0.0721750 * linear[2]
    z = 0.0193339 * linear[0] + 0.1191920 * linear[1] + 0.9503041 * linear[2]
    fx, fy, fz = (np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116
                  for t in np.clip([x / 0.95047, y / 1.0, z / 1.08883], 1e-8, 10))
    return np.clip([500 * (fx - fy), 200 * (fy - fz)], -128, 128)


def wild(x: torch.Tensor) -> torch.Tensor:
    """Values on both sides of [0, 1] and of the thresholds."""
    return x * 1.6 - 0.3


def test_lab_loss_is_the_sum_of_both_colour_differences():
    pred, target = images(9, 8)
    pred = wild(pred)
    pixels = [x.permute(0, 2, 3, 1).reshape(-1, 3).numpy() for x in (pred, target)]
    a, b = (np.array([lab_by_numpy(p) for p in side]) for side in pixels)
    value = build_loss({'type': 'LabLoss', 'loss_weight': 0.012})(pred, target).item()
    assert value == pytest.approx(0.012 * np.abs(a - b).sum(axis=1).mean(), rel=1e-10)
    grey = torch.full((1, 3, 2, 2), 0.3, dtype=torch.float64)
    assert build_loss({'type': 'LabLoss'})(grey, 2 * grey) < 0.01  # another lightness of the same colour


def test_lab_loss_has_finite_gradients_in_black_and_white():
    pred = torch.tensor([0., 1., 0.04045, 0.5]).view(1, 1, 2, 2).repeat(1, 3, 1, 1).requires_grad_()
    build_loss({'type': 'LabLoss'})(pred, torch.rand(1, 3, 2, 2)).backward()
    assert pred.grad.isfinite().all() and pred.grad.abs().max() > 0


@pytest.mark.parametrize('noise', [1e-4, 1e-2, 0.3, 3.])
def test_psnr_hinge_is_the_missing_part_of_fifty_decibels(noise):
    target = images()[1]
    pred = target + noise * torch.randn(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    psnr = 10 * np.log10(1 / ((pred - target).numpy()**2).mean())  # of the whole batch
    wanted = max(0, (50 - np.clip(psnr, 0, 50)) / 50)
    assert build_loss(LOSSES['PSNRHingeLoss'])(pred, target).item() == pytest.approx(0.0981 * wanted, rel=1e-10, abs=0)
    assert wanted == {1e-4: 0, 3.: 1}.get(noise, wanted)


def test_psnr_hinge_of_equal_images_is_zero_with_a_gradient_of_zero():
    target = images()[1]
    pred = target.clone().requires_grad_()
    loss = build_loss({'type': 'PSNRHingeLoss'})(pred, target)
    loss.backward()
    assert loss == 0 and torch.equal(pred.grad, torch.zeros_like(pred))


def ssim_by_scipy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Per channel, Gaussian 11x11 windows, borders reflected without repeating the edge; 1e-12 as published."""
    g = np.exp(-np.arange(-5, 6)**2 / (2 * 1.5**2))
    window = (np.outer(g, g) / g.sum()**2)[None, None]
    ma, mb, aa, bb, ab = (ndimage.correlate(x, window, mode='mirror') for x in (a, b, a * a, b * b, a * b))
    above = (2 * ma * mb + 0.01**2) * (2 * (ab - ma * mb) + 0.03**2)
    return above / ((ma**2 + mb**2 + 0.01**2) * (aa - ma**2 + bb - mb**2 + 0.03**2) + 1e-12)


def test_ssim_loss_clamps_each_window():
    pred, target = images()
    pred = 1 - pred  # structure of the opposite sign
    ssim = ssim_by_scipy(pred.numpy(), target.numpy())
    assert ssim.min() < -0.1 and ssim.max() > 0.05
    clamped, plain = 1 - np.clip(ssim, 0, 1).mean(), 1 - ssim.mean()
    error = 1e-12 / (0.01 * 0.03)**2  # the most that the published 1e-12, left out here, can change
    assert build_loss(LOSSES['SSIMLoss'])(pred, target).item() == pytest.approx(0.15 * clamped, rel=error)
    reflecting = build_loss({'type': 'SSIMLoss', 'padding': 'reflect'})
    assert reflecting(pred, target).item() == pytest.approx(plain, rel=error)
    assert plain - clamped > 0.01


def test_charbonnier_has_an_epsilon_of_a_thousandth():
    pred, target = images()
    wanted = np.sqrt((pred - target).numpy()**2 + 1e-3**2).mean()
    assert build_loss(LOSSES['CharbonnierLoss'])(pred, target).item() == pytest.approx(1.523 * wanted, rel=1e-12)


def test_perceptual_loss_is_the_mean_of_three_layers_of_images_as_they_are(tmp_path):
    file = vgg_file(tmp_path / 'vgg.pth', 'vgg16', convs=7)
    pred, target = (x.float() for x in images(16, 16))
    layers = ('relu1_2', 'relu2_2', 'relu3_3')
    net = VGGFeatures(layers, 'vgg16', use_input_norm=False, weights=file)
    assert [net.names.index(k) for k in layers] == [3, 8, 15]
    distance = np.mean([((net(pred)[k] - net(target)[k])**2).mean().item() for k in layers])
    value, style = build_loss({**LOSSES['PerceptualLoss'], 'weights': str(file)})(pred, target)
    assert value.item() == pytest.approx(0.2318 * distance, rel=1e-5) and style is None


def test_the_balance_loss_is_what_the_network_left():
    net = torch.nn.Identity()
    loss = build_loss(LOSSES['MoEBalanceLoss'])
    for _ in range(2):  # a network without mixtures, and one that has not been trained
        with pytest.raises(UserError, match='Identity has no balance loss; take it out of'):
            loss(net)
        net.auxiliary_loss = None
    net.auxiliary_loss = torch.tensor(2., requires_grad=True)
    loss(net).backward()
    assert loss(net).item() == pytest.approx(0.2134) and net.auxiliary_loss.grad.item() == pytest.approx(0.1067)


@pytest.mark.parametrize(
    'options',
    [{'type': 'LabLoss'}, {'type': 'PSNRHingeLoss'}, {'type': 'SSIMLoss', 'padding': 'reflect', 'clamp_map': True}],
    ids=lambda o: o['type'])
def test_gradients_are_those_of_differences(options):
    pred, target = images(8, 7, batch=1)
    pred = 0.05 + 0.9 * pred  # away from the edges of the clamps, which have no difference quotient
    loss = build_loss(options)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), pred.requires_grad_(), eps=1e-7, atol=1e-5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss(pred.bfloat16(), target.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize('options, words', [
    ({'type': 'PSNRHingeLoss', 'target_psnr': 0}, 'target_psnr must be above 0'),
    ({'type': 'MixedLoss', 'terms': {'balance': {'type': 'MoEBalanceLoss'}}
      }, r"'balance' \(MoEBalanceLoss\) compares no"),
])
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(UserError, match=words):
        build_loss(options)
