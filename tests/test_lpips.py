"""LPIPS by its formula, against the published package, and what happens without weights."""
import urllib.error

import numpy as np
import pytest
import torch
from conftest import SHARED
from loss_inputs import vgg_file

from basicsr.losses import imagenet
from basicsr.metrics import calculate_lpips, lpips, measure
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread

BACKBONE = SHARED / 'data' / 'backbones' / 'alexnet_features.pth'
PAIRS = SHARED / 'data' / 'LOLv1' / 'Test'
CHANNELS = {'alex': (64, 192, 384, 256, 256), 'vgg': (64, 128, 256, 512, 512)}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Random weights of both backbones and random non-negative heads; returns the backbones' files by `net`."""
    generator = torch.Generator().manual_seed(1)
    for net, channels in CHANNELS.items():
        torch.save(
            {f'lin{i}.model.1.weight': torch.rand(1, c, 1, 1, generator=generator) for i, c in enumerate(channels)},
            tmp_path / f'{net}_heads.pth')
    monkeypatch.setattr(lpips, '_head_file', lambda net: tmp_path / f'{net}_heads.pth')
    state = {}
    for i, (o, c, k) in zip((0, 3, 6, 8, 10), ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))):
        state[f'features.{i}.weight'] = torch.randn(o, c, k, k, generator=generator) / (c * k * k)**0.5
        state[f'features.{i}.bias'] = torch.randn(o, generator=generator) / 10
    torch.save(state, tmp_path / 'alex.pth')
    return {'alex': str(tmp_path / 'alex.pth'), 'vgg': str(vgg_file(tmp_path / 'vgg.pth', 'vgg16', convs=13))}


def images(h=40, w=48):
    rng = np.random.RandomState(0)
    a = rng.randint(0, 256, (h, w, 3))
    return [x.astype(np.uint8) for x in (a, np.clip(a + rng.randint(-30, 31, a.shape), 0, 255))]  # BGR


def by_formula(net, file, heads, pair):
    torchvision = pytest.importorskip('torchvision')
    with torch.device('meta'):
        layers = getattr(torchvision.models, {'alex': 'alexnet', 'vgg': 'vgg16'}[net])(weights=None).features[:-1]
    state = {k.removeprefix('features.'): v for k, v in torch.load(file).items()}
    layers.load_state_dict(state, assign=True)
    taps = {'alex': (1, 4, 7, 9, 11), 'vgg': (3, 8, 15, 22, 29)}[net]
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in ([-.030, -.088, -.188], [.458, .448, .450]))
    features = []
    for img in pair:
        x = torch.from_numpy(img[..., ::-1].transpose(2, 0, 1).copy()).float()[None]
        x, found = (x / 255 * 2 - 1 - shift) / scale, []
        for i, layer in enumerate(layers):
            x = layer(x)
            found += [x[0].clone()] if i in taps else []
        features.append(found)
    total = 0
    for i, (a, b) in enumerate(zip(*features)):
        a, b = (v / v.pow(2).sum(0).sqrt() for v in (a, b))
        total += (torch.load(heads)[f'lin{i}.model.1.weight'][0] * (a - b)**2).sum(0).mean()
    return float(total)


@pytest.mark.parametrize('net', ['alex', 'vgg'])
@torch.no_grad()
def test_lpips_by_its_formula(files, tmp_path, net):
    pair = images()
    wanted = by_formula(net, files[net], tmp_path / f'{net}_heads.pth', pair)
    value = calculate_lpips(*pair, net=net, weights=files[net])
    assert value == pytest.approx(wanted, rel=1e-5) and value > 1e-3
    assert calculate_lpips(pair[0], pair[0], net=net, weights=files[net]) == 0
    assert calculate_lpips(*(p.transpose(2, 0, 1) for p in pair), net=net, weights=files[net],
                           input_order='CHW') == pytest.approx(value, rel=1e-6)


def test_the_network_is_built_once_and_small_or_grey_images_are_handled(files, monkeypatch):
    built, real = [], lpips.LPIPS
    lpips._network.cache_clear()
    monkeypatch.setattr(lpips, 'LPIPS', lambda *args: built.append(args) or real(*args))
    pair = images()
    opt = {'type': 'calculate_lpips', 'weights': files['alex']}
    values = [measure(*(p[..., ::-1] / 255 for p in pair), opt, torch.device('cpu')) for _ in range(2)]
    assert len(built) == 1 and values[0] == values[1] == calculate_lpips(*pair, weights=files['alex'])
    plane = [p[..., 0] for p in pair]
    assert calculate_lpips(*plane, weights=files['alex']) == pytest.approx(
        calculate_lpips(*(np.stack([p] * 3, -1) for p in plane), weights=files['alex']), rel=1e-6)
    with pytest.raises(ValueError, match='32x32'):
        calculate_lpips(*(p[:31] for p in pair), weights=files['alex'])
    assert calculate_lpips(*(p[:32, :32] for p in pair), weights=files['alex']) > 0


def test_without_weights_a_sentence_says_what_is_missing(tmp_path, monkeypatch):

    def offline(*args, **kwargs):
        raise urllib.error.URLError('no network')

    lpips._network.cache_clear()
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    monkeypatch.setattr(imagenet, 'project_root', lambda: tmp_path)
    monkeypatch.setattr(lpips, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'package lpips, which is not installed: pip install'):
        calculate_lpips(*images())
    torch.save({f'lin{i}.model.1.weight': torch.rand(1, c, 1, 1) for i, c in enumerate(CHANNELS['alex'])},
               tmp_path / 'heads.pth')
    monkeypatch.setattr(lpips, '_head_file', lambda net: tmp_path / 'heads.pth')
    with pytest.raises(UserError, match=r'weights of alexnet .* get https://\S+/alexnet-owt-7be5be79.pth and put it'):
        calculate_lpips(*images())


def test_the_address_of_alexnet_is_that_of_torchvision():
    torchvision = pytest.importorskip('torchvision')
    assert imagenet.URLS['alexnet'] == torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_the_published_package_gives_the_same_values_on_photographs():
    published = pytest.importorskip('lpips')
    if not (BACKBONE.is_file() and PAIRS.is_dir()):
        pytest.skip('needs LOL v1 and the weights of AlexNet')
    theirs = published.LPIPS(net='alex', pnet_rand=True, verbose=False).eval()
    state = torch.load(BACKBONE)
    for part in ('slice1', 'slice2', 'slice3', 'slice4', 'slice5'):
        for name, module in getattr(theirs.net, part).named_children():
            for key, parameter in module.named_parameters():
                parameter.data.copy_(state[f'features.{name}.{key}'])
    targets = sorted((PAIRS / 'target').iterdir())
    assert len(targets) == 15
    for target in targets[::3]:
        pair = [imread(PAIRS / 'input' / target.name), imread(target)]
        tensors = [torch.from_numpy(p[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 127.5 - 1 for p in pair]
        with torch.no_grad():
            wanted = theirs(*tensors).item()
        assert 0.1 < wanted < 1
        assert calculate_lpips(*pair, weights=str(BACKBONE)) == pytest.approx(wanted, abs=1e-5)
