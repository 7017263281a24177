"""The perceptual loss: values, weight files, and what happens without them."""
from __future__ import annotations

import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_inputs import images, vgg_file
from scipy import ndimage

from basicsr.losses import build_loss, imagenet, vgg
from basicsr.utils.errors import UserError


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
    loss = build_loss({
        'type': 'PerceptualLoss', 'layer_weights': weights, 'weights': str(file), 'criterion': criterion,
        'use_input_norm': use_input_norm, 'range_norm': range_norm, 'perceptual_weight': 0.1, 'style_weight': 3.0
    }).double()
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
    assert imagenet.URLS[vgg_type] == enum.IMAGENET1K_V1.url
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
    loss = build_loss(
        {'type': 'PerceptualLoss', 'layer_weights': {'relu1_2': 1}, 'weights': str(vgg_file(tmp_path / 'v.pth'))})
    pred, target = (x.float().requires_grad_() for x in images())
    loss(pred, target)[0].backward()
    assert pred.grad.abs().sum() > 0 and target.grad is None
    assert not any(p.requires_grad for p in loss.parameters()) and not loss.vgg.training


def test_without_weights_there_is_no_random_network_but_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(imagenet, 'project_root', lambda: tmp_path)
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
                 str(tmp_path / 'hub' / 'checkpoints'), "option 'weights'"):
        assert part in text
    assert '\n' not in text


@pytest.mark.parametrize('folder', ['pretrained_weights', 'experiments/pretrained_models', 'hub/checkpoints'])
def test_weights_are_found_by_their_published_name(tmp_path, monkeypatch, folder):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(imagenet, 'project_root', lambda: tmp_path)
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
