"""Training losses: values against independent formulas in float64, gradients, names in the log, option errors."""
from __future__ import annotations

import csv
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOOD_OPTIONS, option_error
from scipy import ndimage

from basicsr.losses import build_loss, vgg
from basicsr.losses.loss_util import number_names
from basicsr.metrics.ssim import calculate_ssim
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.logger import get_root_logger


def images(height: int = 24, width: int = 20, channels: int = 3, batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """A smooth picture with noise, and another noisy version of it, float64 in [0, 1]."""
    rng = np.random.RandomState(seed)
    base = ndimage.gaussian_filter(rng.rand(batch, channels, height, width), (0, 0, 2, 2))
    base = (base - base.min()) / (base.max() - base.min())
    return [torch.from_numpy(np.clip(base + rng.randn(*base.shape) * s, 0, 1)) for s in (0.1, 0.02)]


def vgg_file(path: Path, vgg_type: str = 'vgg19', convs: int = 2, prefix: str = 'features.') -> Path:
    """Random weights of the first convolutions in torchvision's layout."""
    generator, state, channels = torch.Generator().manual_seed(0), {}, 3
    wanted = [(i, n) for i, n in enumerate(vgg.layer_names(vgg_type)) if n.startswith('conv')][:convs]
    for i, name in wanted:
        width = min(64 * 2**(int(name[4]) - 1), 512)
        weight = torch.randn(width, channels, 3, 3, generator=generator) / (channels * 9)**0.5
        state |= {f'{prefix}{i}.weight': weight, f'{prefix}{i}.bias': torch.randn(width, generator=generator) / 10}
        channels = width
    torch.save(state, path)
    return path


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
])  # yapf: disable
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


def test_ms_ssim_of_a_negative_has_finite_gradients():
    target = images(48, 48)[1].float()
    pred = (1 - target).requires_grad_()
    loss = build_loss({'type': 'MSSSIMLoss'})(pred, target)
    loss.backward()
    assert 0.5 < loss.item() <= 1 and pred.grad.isfinite().all()


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
])  # yapf: disable
def test_too_small_patches_are_named(options, size, least):
    with pytest.raises(UserError, match=f'at least {least}x{least} pixels, the patch has {size[0]}x{size[1]}'):
        build_loss(options)(*images(*size))


# --- all ------------------------------------------------------------------------------------------------------------

SMOOTH = [{'type': 'CharbonnierLoss', 'eps': 1e-2}, {'type': 'CharbonnierLoss', 'form': 'restormer', 'eps': 0.1},
          {'type': 'MSELoss'}, {'type': 'PSNRLoss'}, {'type': 'SSIMLoss'}, {'type': 'SSIMLoss', 'padding': 'replicate'},
          {'type': 'MSSSIMLoss'}, {'type': 'EdgeLoss'}, {'type': 'WeightedTVLoss'}]  # yapf: disable


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
])  # yapf: disable
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(UserError, match=words):
        build_loss(options)


# --- perceptual -----------------------------------------------------------------------------------------------------


def features_by_scipy(x: np.ndarray, file: Path) -> list[np.ndarray]:
    """conv1_1, relu1_1, conv1_2 of one image (3, H, W), as sums over shifted pictures."""
    state = {k: v.double().numpy() for k, v in torch.load(file).items()}
    out = []
    for i in (0, 2):
        weight, bias = state[f'features.{i}.weight'], state[f'features.{i}.bias']
        x = np.stack([
            sum(ndimage.correlate(c, k, mode='constant') for c, k in zip(x, kernels)) + b
            for kernels, b in zip(weight, bias)
        ])
        out += [x, np.maximum(x, 0)]
        x = out[-1]
    return out[:3]


@pytest.mark.parametrize('criterion', ['l1', 'l2', 'fro'])
@pytest.mark.parametrize('use_input_norm, range_norm', [(True, False), (False, True)])
def test_perceptual_and_style_against_their_definition(tmp_path, criterion, use_input_norm, range_norm):
    file = vgg_file(tmp_path / 'vgg.pth')
    weights = {'conv1_1': 0.5, 'relu1_1': 0.25, 'conv1_2': 2.0}
    loss = build_loss({'type': 'PerceptualLoss', 'layer_weights': weights, 'weights': str(file), 'criterion': criterion,
                       'use_input_norm': use_input_norm, 'range_norm': range_norm, 'perceptual_weight': 0.1,
                       'style_weight': 3.0}).double()  # yapf: disable
    pred, target = images(9, 8, batch=1)

    def features(x):
        x = x[0].numpy()
        x = (x + 1) / 2 if range_norm else x
        if use_input_norm:
            x = (x - np.array([[[0.485]], [[0.456]], [[0.406]]])) / np.array([[[0.229]], [[0.224]], [[0.225]]])
        return features_by_scipy(x, file)

    distance = {'l1': lambda d: np.abs(d).mean(), 'l2': lambda d: (d**2).mean(), 'fro': lambda d: (d**2).sum()**0.5}
    percep = style = 0
    for weight, a, b in zip(weights.values(), features(pred), features(target)):
        percep += weight * distance[criterion](a - b)
        grams = [f.reshape(len(f), -1) @ f.reshape(len(f), -1).T / f.size for f in (a, b)]
        style += weight * distance[criterion](grams[0] - grams[1])
    values = loss(pred, target)
    # the weights and ImageNet's means are stored in float32
    assert values[0].item() == pytest.approx(0.1 * percep, rel=1e-6)
    assert values[1].item() == pytest.approx(3 * style, rel=1e-6)


def test_each_of_the_two_results_can_be_left_out(tmp_path):
    options = {'type': 'PerceptualLoss', 'layer_weights': {'relu1_1': 1}, 'weights': str(vgg_file(tmp_path / 'v.pth'))}
    pred, target = (x.float() for x in images())
    percep, style = build_loss(options)(pred, target)
    assert percep > 0 and style is None
    percep, style = build_loss(options | {'perceptual_weight': 0, 'style_weight': 1})(pred, target)
    assert percep is None and style > 0


@pytest.mark.parametrize('vgg_type', ['vgg16', 'vgg19'])
def test_layers_and_addresses_are_those_of_torchvision(vgg_type):
    torchvision = pytest.importorskip('torchvision')
    enum = getattr(torchvision.models, f'{vgg_type.upper()}_Weights')
    assert vgg.URLS[vgg_type] == enum.IMAGENET1K_V1.url
    with torch.device('meta'):
        theirs = getattr(torchvision.models, vgg_type)(weights=None).features
    kinds = {'conv': torch.nn.Conv2d, 'relu': torch.nn.ReLU, 'pool': torch.nn.MaxPool2d}
    assert [kinds[n[:4]] for n in vgg.layer_names(vgg_type)] == [type(m) for m in theirs]


@pytest.mark.parametrize('vgg_type, prefix', [('vgg16', 'features.'), ('vgg19', 'features.'), ('vgg19', '')])
def test_features_equal_those_of_torchvision(tmp_path, vgg_type, prefix):
    torchvision = pytest.importorskip('torchvision')
    file = vgg_file(tmp_path / 'vgg.pth', vgg_type, 6, prefix)
    state = {k.removeprefix('features.'): v for k, v in torch.load(file).items()}
    with torch.device('meta'):
        theirs = getattr(torchvision.models, vgg_type)(weights=None).features
    theirs = theirs[:max(int(k.split('.')[0]) for k in state) + 2].eval()
    theirs.load_state_dict(state, assign=True)
    last = vgg.layer_names(vgg_type)[len(theirs) - 1]
    ours = vgg.VGGFeatures(['conv1_2', 'pool2', last], vgg_type, use_input_norm=False, weights=file)
    assert len(ours.features) == len(theirs)
    x = images(24, 20)[0].float()
    with torch.no_grad():
        out = ours(x)
        assert torch.equal(out['conv1_2'], theirs[:3](x))
        assert torch.equal(out['pool2'], theirs[:10](x))
        assert torch.equal(out[last], theirs(x))


def test_a_whole_torchvision_file_is_accepted(tmp_path):
    torchvision = pytest.importorskip('torchvision')
    with torch.device('meta'):
        shapes = torchvision.models.vgg16(weights=None).state_dict()
    file = tmp_path / 'whole.pth'  # stride 0: a few numbers that look like 138 million
    torch.save({k: torch.full((), 0.01).expand(v.shape) for k, v in shapes.items()}, file)
    assert file.stat().st_size < 100_000
    net = vgg.VGGFeatures(['relu5_3'], 'vgg16', weights=file)
    assert len(net.features) == 30 and net(torch.rand(1, 3, 32, 32))['relu5_3'].shape == (1, 512, 2, 2)


def test_the_feature_network_is_frozen_and_the_target_gets_no_gradient(tmp_path):
    loss = build_loss({'type': 'PerceptualLoss', 'layer_weights': {'relu1_2': 1},
                       'weights': str(vgg_file(tmp_path / 'v.pth'))})  # yapf: disable
    pred, target = (x.float().requires_grad_() for x in images())
    loss(pred, target)[0].backward()
    assert pred.grad.abs().sum() > 0 and target.grad is None
    assert not any(p.requires_grad for p in loss.parameters()) and not loss.vgg.training


def test_without_weights_there_is_no_random_network_but_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(vgg, 'project_root', lambda: tmp_path)
    asked = []

    def offline(url, target, **kwargs):
        asked.append((url, kwargs['hash_prefix']))
        raise urllib.error.URLError('Name or service not known')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    with pytest.raises(UserError) as caught:
        build_loss({'type': 'MixedLoss'})
    text = str(caught.value)
    assert asked == [('https://download.pytorch.org/models/vgg19-dcbb9e9d.pth', 'dcbb9e9d')]
    for part in ('vgg19', 'Name or service not known', asked[0][0], str(tmp_path / 'pretrained_weights'),
                 str(tmp_path / 'hub' / 'checkpoints'), "option 'weights'"):  # yapf: disable
        assert part in text
    assert '\n' not in text


@pytest.mark.parametrize('folder', ['pretrained_weights', 'experiments/pretrained_models', 'hub/checkpoints'])
def test_weights_are_found_by_their_published_name(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(vgg, 'project_root', lambda: tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    vgg_file(tmp_path / folder / 'vgg16-397923af.pth', 'vgg16')
    options = {'type': 'PerceptualLoss', 'vgg_type': 'vgg16', 'layer_weights': {'relu1_2': 1}}
    assert build_loss(options)(*(x.float() for x in images()))[0] > 0


def test_a_file_that_does_not_hold_the_layers_is_named(tmp_path):
    file = vgg_file(tmp_path / 'short.pth')
    options = {'type': 'PerceptualLoss', 'layer_weights': {'relu2_1': 1}, 'weights': str(file)}
    with pytest.raises(UserError, match=r"short.pth' does not hold the weights of vgg19: features.5.weight is missing"):
        build_loss(options)
    torch.save({'features.0.weight': torch.zeros(8, 3, 3, 3)}, file)
    with pytest.raises(UserError, match=r'features.0.weight is \(8, 3, 3, 3\)'):
        build_loss(options)
    with pytest.raises(UserError, match='there is no file'):
        build_loss(options | {'weights': str(tmp_path / 'none.pth')})


# --- mixed ----------------------------------------------------------------------------------------------------------


def test_mixed_loss_returns_its_terms_by_name(tmp_path):
    perceptual = {'type': 'PerceptualLoss', 'layer_weights': {'relu1_1': 1}, 'style_weight': 1,
                  'weights': str(vgg_file(tmp_path / 'v.pth'))}  # yapf: disable
    pred, target = (x.float() for x in images())
    named = build_loss({'type': 'MixedLoss', 'terms': {'a.b': {'type': 'L1Loss', 'loss_weight': 2}, 'vgg': perceptual}})
    values = named(pred, target)
    assert list(values) == ['a.b', 'vgg', 'vgg_style']
    assert values['a.b'].item() == pytest.approx(2 * (pred - target).abs().mean().item())
    listed = build_loss({'type': 'MixedLoss', 'terms': [{'type': 'L1Loss'}, {'type': 'EdgeLoss'}, {'type': 'L1Loss'}]})
    assert list(listed(pred, target)) == ['l1', 'edge', 'l1_2']
    nested = build_loss({'type': 'MixedLoss', 'terms': [{'type': 'L1Loss'}, {'type': 'MixedLoss', 'terms': [
        {'type': 'L1Loss', 'loss_weight': 3}]}]})  # yapf: disable
    values = nested(pred, target)
    assert list(values) == ['l1', 'l1_2'] and values['l1_2'] == 3 * values['l1']


def test_the_default_mixed_loss_is_the_recipe_of_the_all_in_one_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(vgg, 'project_root', lambda: tmp_path)
    (tmp_path / 'pretrained_weights').mkdir()
    vgg_file(tmp_path / 'pretrained_weights' / 'vgg19-dcbb9e9d.pth', convs=13)
    pred, target = (x.float() for x in images(32, 32, batch=1))
    values = build_loss({'type': 'MixedLoss'})(pred, target)
    d = (pred - target).double().numpy()
    assert list(values) == ['charbonnier', 'perceptual', 'edge']
    assert values['charbonnier'].item() == pytest.approx(np.sqrt(d**2 + 1e-6).mean(), rel=1e-5)
    assert values['edge'] == build_loss({'type': 'EdgeLoss', 'loss_weight': 0.05})(pred, target)
    layers = {'relu1_1': 1 / 32, 'relu2_1': 1 / 16, 'relu3_1': 1 / 8, 'relu4_1': 1 / 4, 'relu5_1': 1}
    net = vgg.VGGFeatures(layers, weights=tmp_path / 'pretrained_weights' / 'vgg19-dcbb9e9d.pth')
    assert [net.names.index(k) for k in layers] == [1, 6, 11, 20, 29]
    distance = sum(w * (net(pred)[k] - net(target)[k]).abs().mean().item() for k, w in layers.items())
    assert values['perceptual'].item() == pytest.approx(0.1 * distance, rel=1e-5)


def test_equal_names_are_numbered():
    assert number_names([('a', 1), ('a', 2), ('a_2', 3), ('b', None), ('a', 4)]) == {
        'a': 1,
        'a_2': 2,
        'a_2_2': 3,
        'a_3': 4
    }


# --- options and training -------------------------------------------------------------------------------------------

PIXEL = '  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n'
MIXED = """  losses:
    - type: MixedLoss
      terms:
        char: {type: CharbonnierLoss, eps: '1e-3'}
        edges:
          type: EdgeLoss
          loss_weight: 0.05
"""


@pytest.mark.parametrize('old, new, path, words', [
    ('loss_weight: 0.05', 'los_weight: 0.05', 'train.losses[0].terms.edges.los_weight', "Did you mean 'loss_weight'?"),
    ('type: EdgeLoss', 'type: EdgesLoss', 'train.losses[0].terms.edges.type', "Did you mean 'EdgeLoss'?"),
    ('type: EdgeLoss', 'reduction: mean', 'train.losses[0].terms.edges.type', 'is required'),
    ('loss_weight: 0.05', 'loss_weight: much', 'train.losses[0].terms.edges.loss_weight', "not 'much'"),
])  # yapf: disable
def test_a_mistake_inside_terms_is_reported_with_its_line(load, old, new, path, words):
    text = GOOD_OPTIONS.replace(PIXEL, MIXED.replace(old, new))
    message = option_error(load, text)
    key = 'edges:' if 'required' in words else new
    line = next(i for i, row in enumerate(text.splitlines(), start=1) if key in row)
    assert f'run.x4.yml:{line}: {path}: ' in message and words in message and message.startswith('1 mistake')


def test_terms_are_checked_and_converted(load, tmp_path):
    opt = load(GOOD_OPTIONS, (PIXEL, MIXED)).opt
    assert opt['train']['losses'][0]['terms']['char'] == {'type': 'CharbonnierLoss', 'eps': 1e-3}
    as_list = PIXEL.replace('type: L1Loss\n    loss_weight: 1.0',
                            'type: MixedLoss\n    terms: [{type: L1Loss}, {typ: MSELoss}]')
    message = option_error(load, GOOD_OPTIONS, (PIXEL, as_list))
    assert 'train.pixel_opt.terms[1].type: is required' in message


def test_weight_files_are_found_beside_the_option_file_or_reported(load, tmp_path):
    block = 'pixel_opt:\n    type: MixedLoss\n    terms: [{type: PerceptualLoss, weights: nets/v.pth}]\n'
    text = GOOD_OPTIONS.replace(PIXEL, '  ' + block)
    message = option_error(load, text, check_files=True)
    assert "train.pixel_opt.terms[0].weights: 'nets/v.pth' does not exist" in message
    (tmp_path / 'nets').mkdir()
    file = vgg_file(tmp_path / 'nets' / 'v.pth')
    assert load(text).opt['train']['pixel_opt']['terms'][0]['weights'] == str(file)


def test_the_editor_schema_completes_terms():
    jsonschema = pytest.importorskip('jsonschema')
    from basicsr.config.json_schema import option_schema
    schema = option_schema()
    check = jsonschema.Draft202012Validator({'$ref': '#/$defs/Loss', '$defs': schema['$defs']})
    good = {'type': 'MixedLoss', 'terms': {'a': {'type': 'EdgeLoss', 'loss_weight': 0.1}}}
    assert check.is_valid(good) and check.is_valid({'type': 'MixedLoss', 'terms': [{'type': 'L1Loss'}]})
    assert not check.is_valid({'type': 'MixedLoss', 'terms': {'a': {'type': 'EdgeLoss', 'los_weight': 0.1}}})


def test_training_logs_every_term(tiny_options, tmp_path):
    file = str(vgg_file(tmp_path / 'v.pth'))
    perceptual = {'type': 'PerceptualLoss', 'layer_weights': {'relu1_1': 1}, 'weights': file}
    losses = [{'type': 'L1Loss'}, {'type': 'SSIMLoss', 'loss_weight': 0.1}, {**perceptual, 'style_weight': 1},
              {'type': 'MixedLoss', 'terms': {'l1': {'type': 'L1Loss'}, 'edge': {'type': 'EdgeLoss'},
                                              'vgg': perceptual}}]  # yapf: disable
    options = tiny_options(
        train={
            'total_iter': 2,
            'losses': losses,
            'perceptual_opt': perceptual
        }, logger={'save_checkpoint_freq': 2})
    assert train([str(options)]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    with (run / 'losses.csv').open() as table:
        rows = list(csv.DictReader(table))
    names = ['l_pix', 'l_percep', 'l_l1', 'l_ssim', 'l_perceptual', 'l_perceptual_style', 'l_l1_2', 'l_edge', 'l_vgg']
    assert len(rows) == 2 and [k for k in rows[0] if k.startswith('l_')] == names
    assert rows[0]['l_l1'] == rows[0]['l_l1_2'] == rows[0]['l_pix'] and rows[0]['l_vgg'] == rows[0]['l_percep']
    log = next(run.glob('train_*.log')).read_text()
    assert all(f' {name}: ' in log for name in names)
    assert b'vgg' not in (run / 'models' / 'net_g_latest.pth').read_bytes()
    assert b'vgg' not in next((run / 'training_states').iterdir()).read_bytes()


def test_training_without_weights_ends_with_a_sentence(tiny_options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(vgg, 'project_root', lambda: tmp_path)

    def offline(*args, **kwargs):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    assert train([str(tiny_options(train={'pixel_opt': {'type': 'MixedLoss'}}))]) == 2
    assert 'needs the ImageNet weights of vgg19' in capsys.readouterr().err


def test_a_mixed_loss_compares_every_image_of_a_network_that_returns_several(tiny_options):
    from basicsr.config import load_options
    from basicsr.models import build_model
    terms = {'a': {'type': 'L1Loss'}, 'b': {'type': 'MSELoss'}}
    opt = load_options(tiny_options(train={'pixel_opt': {'type': 'MixedLoss', 'terms': terms}}), is_train=True).opt
    model = build_model(opt | {'dist': False, 'rank': 0, 'world_size': 1})
    losses = model.compute_losses([torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)], torch.full((1, 3, 4, 4), 0.25))
    assert {k: v.item() for k, v in losses.items()} == {'l_a': 1.0, 'l_b': 0.0625 + 0.5625}
