"""The loss that looks past the brightness of a result."""
from __future__ import annotations

import math

import pytest
import torch

from basicsr.losses import build_loss


def pictures(*factors):
    """Ground truths and results of their structure, that many times as bright, and one pixel off."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(len(factors), 3, 8, 8, generator=generator)
    pred = target * torch.tensor(factors)[:, None, None, None]
    pred[:, :, 0, 0] += 0.1
    return pred, target


def expected(pred, target, spread=0.1):
    """The definition, image by image, in Python's numbers."""
    total = 0.
    for p, t in zip(pred.double(), target.double()):
        a, b = p.mean().item(), t.mean().item()
        v, w = (spread * a)**2, (spread * b)**2
        distance = (a - b)**2 / (4 * (v + w)) + math.log((v + w) / (2 * math.sqrt(v * w))) / 2
        share = min(1, distance)
        total += share * (p - t).abs().mean().item() + (1 - share) * (p * b / a - t).abs().mean().item()
    return total / len(pred)


@pytest.mark.parametrize('factors', [(1., ), (1.1, ), (2., ), (0.9, 1.25, 0.3)])
@pytest.mark.parametrize('spread', [0.1, 0.3])
def test_it_is_the_definition(factors, spread):
    pred, target = pictures(*factors)
    values = build_loss({'type': 'GTMeanLoss', 'spread': spread})(pred, target)
    assert list(values) == ['l1'] and values['l1'].item() == pytest.approx(expected(pred, target, spread), rel=1e-5)


def test_far_from_the_brightness_it_is_the_plain_loss():
    pred, target = pictures(0.5, 1.6)
    assert build_loss({'type': 'GTMeanLoss'})(pred, target)['l1'].item() == pytest.approx(
        (pred - target).abs().mean().item())


def test_near_the_brightness_the_gradient_does_not_ask_for_another():
    pred, target = pictures(1.02)
    pred.requires_grad_()
    build_loss({'type': 'GTMeanLoss'})(pred, target)['l1'].backward()
    plain = (pred.detach() - target).sign() / pred.numel()
    along = [abs((g * pred).sum().item()) for g in (pred.grad, plain)]  # what a change of brightness changes
    assert along[0] < 0.02 * along[1]


def test_black_images_give_numbers():
    pred = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss = build_loss({'type': 'GTMeanLoss', 'terms': {'l1': {'type': 'L1Loss'}, 'edge': {'type': 'EdgeLoss'}}})
    values = loss(pred, torch.cat([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)]))
    sum(values.values()).backward()
    assert list(values) == ['l1', 'edge'] and torch.isfinite(
        pred.grad).all() and values['l1'].item() == pytest.approx(0.5)


def test_it_is_scaled_as_a_whole():
    pred, target = pictures(1.1, 1.3)
    one, three = (build_loss({'type': 'GTMeanLoss', 'loss_weight': w})(pred, target)['l1'].item() for w in (1, 3))
    assert three == pytest.approx(3 * one)
