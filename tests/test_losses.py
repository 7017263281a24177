"""Training losses: values against independent formulas in float64, gradients, what is refused."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_inputs import images
from scipy import ndimage

from basicsr.losses import build_loss
from basicsr.metrics.ssim import calculate_ssim
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger


@pytest.fixture
def messages(caplog):
    """What the toolbox's logger, which does not pass records on, has said."""
    logger = get_root_logger()
    logger.addHandler(caplog.handler)
    yield lambda: [r.getMessage() for r in caplog.records]
    logger.removeHandler(caplog.handler)


# --- value by value -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('options, formula', [
    ({}, lambda d: np.sqrt(d**2 + 1e-12)),
    ({'eps': 1e-2}, lambda d: np.sqrt(d**2 + 1e-2)),
    ({'form': 'restormer'}, lambda d: np.sqrt(d**2 + 1e-3**2)),
    ({'form': 'restormer', 'eps': 0.1}, lambda d: np.sqrt(d**2 + 0.01)),
])
def test_charbonnier_in_both_forms(options, formula):
    pred, target = images()
    loss = build_loss({'type': 'CharbonnierLoss', **options})
    assert loss(pred, target).item() == pytest.approx(formula((pred - target).numpy()).mean(), rel=1e-12)


def test_charbonnier_honours_weight_and_reduction_except_in_the_form_of_the_forks(messages):
    pred, target = images()
    d = np.sqrt((pred - target).numpy()**2 + 1e-12)
    half = build_loss({'type': 'CharbonnierLoss', 'loss_weight': 0.5, 'reduction': 'sum'})
    assert half(pred, target).item() == pytest.approx(d.sum() / 2, rel=1e-12)
    fork = build_loss({'type': 'CharbonnierLoss', 'loss_weight': 0.5, 'reduction': 'sum', 'form': 'restormer'})
    assert messages() == ['CharbonnierLoss: form restormer ignores loss_weight and reduction']
    assert fork(pred, target).item() == pytest.approx(np.sqrt((pred - target).numpy()**2 + 1e-6).mean(), rel=1e-12)


@pytest.mark.parametrize('weight_channels', [None, 1, 3])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_weighted_total_variation(weight_channels, reduction):
    pred = images()[0]
    weight = None if weight_channels is None else torch.rand(2, weight_channels, 24, 20, dtype=torch.float64)
    loss = build_loss({'type': 'WeightedTVLoss', 'loss_weight': 0.3, 'reduction': reduction})
    x = pred.numpy()
    w = np.ones_like(x) if weight is None else np.broadcast_to(weight.numpy(), x.shape)
    parts = [(np.abs(np.diff(x, axis=2)), w[:, :, :-1]), (np.abs(np.diff(x, axis=3)), w[:, :, :, :-1])]
    expected = sum((d * v).sum() / (v.sum() if reduction == 'mean' else 1) for d, v in parts)
    assert loss(pred, weight=weight).item() == pytest.approx(0.3 * expected, rel=1e-12)
    assert loss(pred, torch.zeros_like(pred)) == loss(pred)  # in a list of losses the target is given, and not read


@pytest.mark.parametrize('shape', [(24, 20), (1, 1), (2, 5)])
def test_edges_are_sobel_filters_of_each_channel(shape):
    pred, target = images(*shape)
    expected = 0
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    for kernel in (across, across.T):
        edges = [ndimage.correlate(x.numpy(), kernel[None, None], mode='nearest') for x in (pred, target)]
        expected += np.abs(edges[0] - edges[1]).mean()
    loss = build_loss({'type': 'EdgeLoss', 'loss_weight': 0.05})
    assert loss(pred, target).item() == pytest.approx(0.05 * expected, rel=1e-10)
    assert build_loss({'type': 'EdgeLoss', 'reduction': 'none'})(pred, target).shape == pred.shape


# --- structural similarity ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('padding, mode', [('valid', None), ('replicate', 'nearest'), ('reflect', 'mirror')])
def test_ssim_against_its_definition(padding, mode):
    pred, target = images()
    ssim = ssim_maps_by_scipy(pred.numpy(), target.numpy(), mode)[0]
    loss = build_loss({'type': 'SSIMLoss', 'loss_weight': 2, 'padding': padding})
    assert loss(pred, target).item() == pytest.approx(2 * (1 - ssim.mean()), rel=1e-10)
    assert build_loss({'type': 'SSIMLoss', 'padding': padding, 'reduction': 'none'})(pred, target).shape == ssim.shape


@pytest.mark.parametrize('padding, protocol', [('valid', None), ('replicate', 'matlab-y')])
def test_ssim_equals_the_metric(padding, protocol):
    a, b = ((x[0].permute(1, 2, 0).numpy() * 255).round()
            for x in images(40, 33, channels=3 if protocol is None else 1))
    if protocol:  # windows with repeated borders, on luma rounded to 8 bits
        a, b = (np.repeat(x, 3, axis=2) for x in (a, b))
        y = [torch.from_numpy(x[..., :1] * 219 / 255 + 16).round().permute(2, 0, 1)[None] / 255 for x in (a, b)]
        metric = calculate_ssim(a, b, test_y_channel=True, protocol=protocol)
    else:
        y = [torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (a, b)]
        metric = calculate_ssim(a, b)
    loss = build_loss({'type': 'SSIMLoss', 'padding': padding})(*y).item()
    assert 1 - loss == pytest.approx(metric, abs=1e-6)
    assert metric < 0.99


def ssim_maps_by_scipy(a: np.ndarray, b: np.ndarray, mode: str | None) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and contrast-structure as Wang et al. write them, windows as dense 11x11 sums; None: inside the image."""
    g = np.exp(-np.arange(-5, 6)**2 / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum()**2

    def mean(x):
        out = ndimage.correlate(x, window[None, None], mode=mode or 'constant')
        return out if mode else out[:, :, 5:-5, 5:-5]

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    cs = (2 * cov + 0.03**2) / (va + vb + 0.03**2)
    return (2 * ma * mb + 0.01**2) / (ma**2 + mb**2 + 0.01**2) * cs, cs


def halve(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; at an odd border, of those that are there."""
    rows = [x[:, :, i:i + 2].mean(2, keepdims=True) for i in range(0, x.shape[2], 2)]
    x = np.concatenate(rows, 2)
    return np.concatenate([x[:, :, :, i:i + 2].mean(3, keepdims=True) for i in range(0, x.shape[3], 2)], 3)


@pytest.mark.parametrize('size, scales', [((161, 176), 5), ((160, 200), 4), ((64, 47), 3), ((21, 30), 2),
                                          ((20, 30), 1)])
def test_ms_ssim_against_its_definition(size, scales):
    pred, target = images(*size, batch=1)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    weights = weights[:scales] * weights.sum() / weights[:scales].sum()
    a, b, product = pred.numpy(), target.numpy(), 1
    for i, weight in enumerate(weights):
        maps = ssim_maps_by_scipy(a, b, None)
        product = product * maps[0 if i == scales - 1 else 1].mean((2, 3))**weight
        a, b = halve(a), halve(b)
    loss = build_loss({'type': 'MSSSIMLoss'})(pred, target).item()
    assert loss == pytest.approx(1 - product.mean(), rel=1e-8)
    assert 0.001 < loss < 0.9


def test_ms_ssim_says_once_that_it_uses_fewer_scales(messages):
    loss = build_loss({'type': 'MSSSIMLoss'})
    for _ in range(3):
        loss(*images(48, 48))
    assert messages() == [
        'MSSSIMLoss: patches of 48x48 pixels allow 3 of 5 scales; their weights are raised to the same sum'
    ]
    build_loss({'type': 'MSSSIMLoss'})(*images(161, 161, batch=1))
    assert len(messages()) == 1


def test_a_scale_that_disagrees_does_not_silence_the_others():
    """Details of the opposite sign: contrast-structure of the finest scale is negative, that of the coarse ones is not."""
    y, x = torch.meshgrid(torch.arange(96.), torch.arange(96.), indexing='ij')
    coarse, details = (0.5 + 0.3 * torch.sin(x / 15) * torch.cos(y / 11)), 0.1 * (-1)**(x + y)
    target = (coarse + details).expand(1, 1, 96, 96)
    pred = (0.1 + 0.8 * coarse - details).expand(1, 1, 96, 96).clone().requires_grad_()
    assert ssim_maps_by_scipy(pred.detach().numpy(), target.numpy(), None)[1].mean() < 0
    loss = build_loss({'type': 'MSSSIMLoss'})(pred, target)
    loss.backward()
    assert 0.1 < loss.item() < 0.9 and pred.grad.isfinite().all() and pred.grad.abs().max() > 1e-6


def test_ms_ssim_clamps_the_prediction_when_told_to():
    pred, target = images(48, 48)
    bright = pred * 1.5
    clamped = build_loss({'type': 'MSSSIMLoss', 'clamp': True})(bright, target)
    assert clamped == build_loss({'type': 'MSSSIMLoss'})(bright.clamp(0, 1), target)
    assert clamped != build_loss({'type': 'MSSSIMLoss'})(bright, target)


@pytest.mark.parametrize('options, size, least', [
    ({'type': 'SSIMLoss'}, (10, 30), 11),
    ({'type': 'MSSSIMLoss'}, (30, 10), 11),
    ({'type': 'SSIMLoss', 'padding': 'reflect'}, (5, 9), 6),
])
def test_too_small_patches_are_named(options, size, least):
    with pytest.raises(UserError, match=f'at least {least}x{least} pixels, the patch has {size[0]}x{size[1]}'):
        build_loss(options)(*images(*size))


# --- all ------------------------------------------------------------------------------------------------------------

SMOOTH = [{'type': 'CharbonnierLoss', 'eps': 1e-2}, {'type': 'CharbonnierLoss', 'form': 'restormer', 'eps': 0.1},
          {'type': 'MSELoss'}, {'type': 'PSNRLoss'}, {'type': 'SSIMLoss'}, {'type': 'SSIMLoss', 'padding': 'replicate'},
          {'type': 'MSSSIMLoss'}, {'type': 'EdgeLoss'}, {'type': 'WeightedTVLoss'}]


@pytest.mark.parametrize('options', SMOOTH, ids=lambda o: '-'.join(str(v) for v in o.values()))
def test_gradients_are_those_of_differences(options):
    pred, target = images(12, 11, channels=1, batch=1)
    loss = build_loss(options)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), pred.requires_grad_(), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize('kind', ['SSIMLoss', 'MSSSIMLoss', 'EdgeLoss'])
def test_float32_inside_under_autocast(kind):
    pred, target = (x.bfloat16() for x in images(32, 32))
    loss = build_loss({'type': kind})
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(pred, target)
    assert value.dtype == torch.float32 and value == loss(pred.float(), target.float())


@pytest.mark.parametrize('options, words', [
    ({'type': 'SSIMLoss', 'padding': 'same'}, "padding 'same'"),
    ({'type': 'SSIMLoss', 'reduction': 'max'}, "reduction 'max'"),
    ({'type': 'WeightedTVLoss', 'reduction': 'none'}, 'one of: mean, sum'),
    ({'type': 'CharbonnierLoss', 'form': 'square'}, "form 'square'"),
    ({'type': 'PerceptualLoss', 'criterion': 'l3'}, "criterion 'l3'"),
    ({'type': 'PerceptualLoss', 'vgg_type': 'vgg11'}, 'one of: vgg16, vgg19'),
    ({'type': 'PerceptualLoss', 'vgg_type': 'vgg16', 'layer_weights': {'conv5_4': 1}}, "no layer 'conv5_4'"),
    ({'type': 'PerceptualLoss', 'layer_weights': {'relu11': 1}}, "Did you mean 'relu1_1'"),
    ({'type': 'PerceptualLoss', 'layer_weights': {}}, 'no layer is named'),
    ({'type': 'MixedLoss', 'terms': []}, 'terms is empty'),
])
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(UserError, match=words):
        build_loss(options)
