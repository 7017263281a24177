"""Module names and helpers of BasicSR and the Restormer family that code for them imports."""
from __future__ import annotations

import importlib
import math
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from conftest import ROOT, run_python
from torch import nn

from basicsr.losses import build_loss
from basicsr.losses.gan_loss import (
    GANLoss,
    MultiScaleGANLoss,
    g_path_regularize,
    gradient_penalty_loss,
    r1_penalty,
)
from basicsr.losses.loss_util import get_refined_artifact_map
from basicsr.metrics.psnr_ssim import calculate_psnr, calculate_psnr_pt, calculate_ssim, calculate_ssim_pt
from basicsr.utils import DiffJPEG, FileClient, USMSharp, yaml_load
from basicsr.utils.download_util import load_file_from_url
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite, tensor2img
from basicsr.utils.img_process_util import filter2D
from basicsr.utils.lmdb_util import LmdbMaker, make_lmdb_from_imgs

# module of theirs, the name they take from it, and where it is defined here
NAMES = [
    ('utils.dist_util', 'get_dist_info', 'utils.dist'),
    ('utils.dist_util', 'master_only', 'utils.dist'),
    ('utils.img_util', 'tensor2img', 'utils.img'),
    ('utils.color_util', 'bgr2ycbcr', 'utils.color'),
    ('utils.file_client', 'FileClient', 'utils.storage'),
    ('utils.download_util', 'load_file_from_url', 'utils.download'),
    ('utils.lmdb_util', 'make_lmdb_from_imgs', 'data.packing'),
    ('losses.basic_loss', 'CharbonnierLoss', 'losses.pixel_loss'),
    ('losses.basic_loss', 'PerceptualLoss', 'losses.perceptual_loss'),
    ('losses.gan_loss', 'GANLoss', 'losses.gan_loss'),
    ('metrics.psnr_ssim', 'calculate_ssim', 'metrics.ssim'),
    ('data.data_util', 'paired_paths_from_folder', 'data.data_util'),
    ('models.lr_scheduler', 'MultiStepRestartLR', 'engine.schedule'),
    ('models.archs', 'build_network', 'archs'),
    ('models.archs.restormer_arch', 'Restormer', 'archs.restormer_arch'),
    ('models.archs.arch_util', 'to_2tuple', 'archs.arch_util'),
    ('models.archs', 'define_network', 'archs.build_network'),
    ('models.losses.losses', 'PSNRLoss', 'losses.pixel_loss'),
    ('models.losses.loss_util', 'weighted_loss', 'losses.loss_util'),
    ('models.losses', 'L1Loss', 'losses.pixel_loss'),
    ('losses', 'CharbonnierLoss', 'losses.pixel_loss'),
    ('losses', 'r1_penalty', 'losses.gan_loss'),
    ('losses.losses', 'GANLoss', 'losses.gan_loss'),
    ('models', 'create_model', 'models.build_model'),
    ('data', 'create_dataset', 'data.build_dataset'),
    ('data', 'create_dataloader', 'data.loader.build_dataloader'),
    ('data.data_sampler', 'EnlargedSampler', 'data.samplers'),
    ('data.degradations', 'random_mixed_kernels', 'data.blur_kernels'),
    ('data.degradations', 'random_add_poisson_noise_pt', 'data.noise'),
    ('models.lr_scheduler', 'VibrateLR', 'engine.schedule'),
    ('utils.misc', 'scandir', 'utils.files'),
    ('utils.matlab_functions', 'bgr2ycbcr', 'utils.color'),
    ('utils.logger', 'MessageLogger', 'utils.message_logger'),
    ('utils', 'padding', 'utils.img_util'),
    ('utils', 'DiffJPEG', 'utils.diffjpeg'),
    ('utils', 'USMSharp', 'utils.img_process_util'),
    ('utils', 'yaml_load', 'utils.options'),
    ('utils.options', 'dict2str', 'config.load'),
]


@pytest.mark.parametrize(('module', 'name', 'home'), NAMES)
def test_a_name_of_theirs_is_the_one_object_here(module, name, home):
    found = getattr(importlib.import_module(f'basicsr.{module}'), name)
    place, _, last = home.rpartition('.')  # the home may say another name
    if last.startswith('build_'):
        home, name = place, last
    assert found is getattr(importlib.import_module(f'basicsr.{home}'), name)


def test_networks_of_the_restormer_family_are_imported_once():
    code = (
        'from basicsr.models.archs.mst_plus_plus_arch import MST_Plus_Plus as a\nfrom basicsr.registry import ARCH_REGISTRY\n'
        "import basicsr.archs.mst_plus_plus_arch as m\nassert a is m.MST_Plus_Plus is ARCH_REGISTRY.get('MST_Plus_Plus')\n"
        "assert m.__spec__.name == 'basicsr.archs.mst_plus_plus_arch'\n"
        "try:\n    import basicsr.models.archs.nothing_arch\nexcept ModuleNotFoundError as error:\n"
        "    assert error.name == 'basicsr.archs.nothing_arch'\nelse:\n    raise SystemExit('found')\n")
    done = run_python('-c', code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_yaml_of_files_and_text(tmp_path):
    (tmp_path / 'x.yml').write_text('a: 1e-4\nb: [1, ~]\n')
    assert yaml_load(tmp_path / 'x.yml') == yaml_load('a: 1e-4\nb: [1, ~]\n') == {'a': 1e-4, 'b': [1, None]}


def test_pairs_by_their_names(pairs, tmp_path):
    from basicsr.data.data_util import (
        paired_paths_from_folder,
        paired_paths_from_lmdb,
        paired_paths_from_meta_info_file,
        paths_from_folder,
    )
    folders = [str(pairs / 'input'), str(pairs / 'target')]
    found = paired_paths_from_folder(folders, ['lq', 'gt'], '{}')
    assert [Path(p['gt_path']).name for p in found] == ['1.png', '2.png', '3.png', '10.png']
    assert all(p['lq_path'] == p['gt_path'].replace('target', 'input') for p in found)
    (tmp_path / 'meta.txt').write_text('3.png (24,28,3)\n1.png (24,28,3)\n')
    listed = paired_paths_from_meta_info_file(folders, ['lq', 'gt'], str(tmp_path / 'meta.txt'), '{}')
    assert listed == [found[2], found[0]] and len(paths_from_folder(folders[0])) == 4
    for side in ('input', 'target'):
        make_lmdb_from_imgs(str(pairs / side), str(tmp_path / f'{side}.lmdb'), ['3.png', '1.png'], ['x/3', 'x/1'])
    keys = paired_paths_from_lmdb([str(tmp_path / 'input.lmdb'), str(tmp_path / 'target.lmdb')], ['lq', 'gt'])
    assert sorted(p['lq_path'] for p in keys) == ['x/1', 'x/3'] == sorted(p['gt_path'] for p in keys)


def test_a_database_made_image_by_image(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    data = cv2.imencode('.png', image)[1].tobytes()
    maker = LmdbMaker(str(tmp_path / 'a.lmdb'), map_size=1024**4, compress_level=3)
    maker.put(data, 'sub/one', image.shape)
    assert not (tmp_path / 'a.lmdb').exists()
    maker.close()
    assert (tmp_path / 'a.lmdb' / 'meta_info.txt').read_text() == 'sub/one.png (5,6,3) 3\n'
    with lmdb.open(str(tmp_path / 'a.lmdb'), readonly=True, lock=False) as env, env.begin() as transaction:
        assert transaction.get(b'sub/one') == data
    assert FileClient('lmdb', str(tmp_path / 'a.lmdb')).get('sub/one') == data
    with pytest.raises(UserError, match='exists already'):
        LmdbMaker(tmp_path / 'a.lmdb')
    with pytest.raises(UserError, match='1 images, but 2 keys'):
        make_lmdb_from_imgs(str(tmp_path), str(tmp_path / 'b.lmdb'), ['a.png'], ['a', 'b'])


def test_downloads_go_where_they_are_told(tmp_path):
    (tmp_path / 'made.pth').write_bytes(b'weights')
    url = (tmp_path / 'made.pth').as_uri()
    first = load_file_from_url(url, model_dir=str(tmp_path / 'cache'), progress=False)
    assert Path(first).read_bytes() == b'weights' and Path(first).parent == tmp_path / 'cache'
    (tmp_path / 'made.pth').write_bytes(b'others')  # what is there is not fetched again
    assert Path(load_file_from_url(url, str(tmp_path / 'cache'))).read_bytes() == b'weights'
    assert Path(load_file_from_url(url, str(tmp_path / 'cache'), file_name='x.pth')).read_bytes() == b'others'
    with pytest.raises(UserError, match=r"'none\.pth' cannot be downloaded .* put it into"):
        load_file_from_url((tmp_path / 'none.pth').as_uri(), str(tmp_path / 'cache'))
    assert not (tmp_path / 'cache' / 'none.pth').exists()


@pytest.mark.parametrize('luma', [False, True])
def test_metrics_of_tensors_are_those_of_images(luma):
    torch.manual_seed(0)
    a = (torch.rand(2, 3, 24, 30) * 255).round() / 255
    b = ((a + 0.05 * torch.randn_like(a)).clamp(0, 1) * 255).round() / 255
    images = [(tensor2img(x), tensor2img(y)) for x, y in zip(a, b)]
    psnr = [calculate_psnr(x, y, 2, test_y_channel=luma) for x, y in images]
    ssim = [calculate_ssim(x, y, 2, test_y_channel=luma) for x, y in images]
    assert calculate_psnr_pt(a, b, 2, luma).tolist() == pytest.approx(psnr, abs=1e-3)
    assert calculate_ssim_pt(a, b, 2, luma).tolist() == pytest.approx(ssim, abs=1e-6)
    assert calculate_psnr_pt(a, a, 0).tolist() == pytest.approx([80, 80])  # 1e-8 in the place of 0


def test_adversarial_losses():
    x = torch.tensor([[0.5, -2.0], [3.0, 0.0]])
    sigmoid = torch.sigmoid(x)
    wanted = {
        'vanilla': (-torch.log(sigmoid).mean(), -torch.log(1 - sigmoid).mean()),
        'lsgan': (((x - 1)**2).mean(), (x**2).mean()),
        'wgan': (-x.mean(), x.mean()),
        'wgan_softplus': (torch.log1p(torch.exp(-x)).mean(), torch.log1p(torch.exp(x)).mean()),
        'hinge': ((1 - x).clamp(min=0).mean(), (1 + x).clamp(min=0).mean()),
    }
    for kind, (real, fake) in wanted.items():
        loss = GANLoss(kind, loss_weight=0.1)
        torch.testing.assert_close(loss(x, True, is_disc=True), real)
        torch.testing.assert_close(loss(x, False, is_disc=True), fake)
        generator = -x.mean() if kind == 'hinge' else real
        torch.testing.assert_close(loss(x, True), 0.1 * generator)
    several = MultiScaleGANLoss('lsgan', loss_weight=2)
    torch.testing.assert_close(several([x, [x * 9, x + 1]], True), 2 * (((x - 1)**2).mean() + (x**2).mean()) / 2)
    torch.testing.assert_close(several(x, True), 2 * ((x - 1)**2).mean())
    with pytest.raises(UserError, match="gan_type 'gan' is not supported"):
        build_loss({'type': 'GANLoss', 'gan_type': 'gan'})


def test_gradient_penalties():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False))
    x = torch.rand(4, 3, 2, 2, requires_grad=True)
    torch.testing.assert_close(r1_penalty(net(x), x), net[1].weight.square().sum())
    weight = net[1].weight.detach().view(3, 2, 2)
    wanted = (weight.norm(dim=0) - 1).square().mean()
    torch.testing.assert_close(gradient_penalty_loss(net, x, torch.rand_like(x)), wanted)
    mask = torch.full((4, 1, 2, 2), 0.5)
    masked = ((0.5 * weight).norm(dim=0) - 1).square().mean() / 0.5
    torch.testing.assert_close(gradient_penalty_loss(net, x, torch.rand_like(x), mask), masked)


def test_path_lengths():
    """Of a linear generator the gradient is the noise times the matrix."""
    torch.manual_seed(0)
    latents = torch.rand(2, 3, 5, requires_grad=True)
    images = (latents * 2).sum((1, 2)).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    torch.manual_seed(1)
    noise = torch.randn(2, 1, 4, 4) / 4
    lengths = 2 * noise.sum((1, 2, 3)).abs() * 5**0.5
    torch.manual_seed(1)
    penalty, mean, running = g_path_regularize(images, latents, torch.tensor(0.5), decay=0.1)
    wanted = 0.5 + 0.1 * (lengths.mean() - 0.5)
    torch.testing.assert_close(running, wanted)
    torch.testing.assert_close(mean, lengths.mean())
    torch.testing.assert_close(penalty, (lengths - wanted).square().mean())


def test_artifact_maps():
    torch.manual_seed(0)
    gt, out, ema = (torch.rand(2, 3, 9, 9) for _ in range(3))
    found = get_refined_artifact_map(gt, out, ema, 3)
    residual, average = (gt - out).abs().sum(1), (gt - ema).abs().sum(1)
    window = residual[1, 3:6, 4:7]
    wanted = residual[1].var()**0.2 * window.var() if residual[1, 4, 5] >= average[1, 4, 5] else torch.tensor(0.)
    torch.testing.assert_close(found[1, 0, 4, 5], wanted)
    assert found.shape == (2, 1, 9, 9) and (found[:, 0][residual < average] == 0).all() and (found > 0).any()


def photo() -> np.ndarray:
    """BGR, smooth and textured; no multiple of 16."""
    y, x = np.mgrid[:90, :123] / 20
    return np.stack([128 + 90 * np.sin(x + c) * np.cos(y * (c + 1)) for c in range(3)], 2).round().astype(np.uint8)


@pytest.mark.parametrize('quality', [10, 50, 75, 95])
def test_jpeg_of_tensors_is_jpeg(quality):
    """To the rounding of its decoder in brightness; decoders differ in how they enlarge the halved colour."""
    colour = photo()
    for img, least in ((np.repeat(colour[..., :1], 3, axis=2), 50), (colour, 36)):
        x = torch.from_numpy(img[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        data = cv2.imencode('.jpg', img, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        jpeg = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(float)
        exact, smooth = (tensor2img(DiffJPEG(differentiable)(x, quality)) for differentiable in (False, True))
        assert 10 * math.log10(255**2 / ((exact - jpeg)**2).mean()) > least
        if least == 50:
            assert np.abs(smooth - jpeg).mean() < 1.5 * np.abs(img - jpeg).mean() + 0.5


def test_jpeg_has_gradients_and_a_quality_for_each_image():
    x = torch.rand(2, 3, 33, 40, requires_grad=True)
    jpeg = DiffJPEG()
    out = jpeg(x, torch.tensor([90., 20.]))
    torch.testing.assert_close(out[:1], jpeg(x[:1], 90))
    torch.testing.assert_close(out[1:], jpeg(x[1:], 20.))
    out.square().sum().backward()
    assert out.shape == x.shape and x.grad.isfinite().all() and x.grad.abs().sum() > 0
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert (jpeg(flat, 50) - flat).abs().max() < 0.02


def test_filters():
    torch.manual_seed(0)
    x, kernel = torch.rand(2, 3, 9, 11), torch.rand(1, 5, 5)
    found = filter2D(x, kernel)
    wanted = cv2.filter2D(x[1].permute(1, 2, 0).numpy(), -1, kernel[0].numpy(), borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(found[1].permute(1, 2, 0).numpy(), wanted, atol=1e-5)
    each = torch.rand(2, 3, 3)
    torch.testing.assert_close(filter2D(x, each)[1:], filter2D(x[1:], each[1:]))
    with pytest.raises(ValueError, match='odd side, not 4'):
        filter2D(x, torch.rand(1, 4, 4))


def test_unsharp_masking():
    sharp = USMSharp(radius=10, sigma=2)
    assert sharp.kernel.shape == (1, 11, 11) and sharp.kernel.sum().item() == pytest.approx(1)
    step = torch.zeros(1, 3, 32, 32)
    step[..., 16:] = 0.6
    step += 0.2
    out = sharp(step)
    assert out[..., 16].mean() > 0.8 + 0.02 and out[..., 15].mean() < 0.2 - 0.02  # on both sides of the edge
    torch.testing.assert_close(out[..., :2], step[..., :2])
    torch.testing.assert_close(sharp(step, threshold=255), step)
    assert (out >= 0).all() and (out <= 1).all()


def test_pictures_through_their_helpers(tmp_path):
    imwrite(photo(), tmp_path / 'a' / 'b.png')
    from basicsr.utils.img_util import imfrombytes, img2tensor
    image = imfrombytes((tmp_path / 'a' / 'b.png').read_bytes(), float32=True)
    assert img2tensor(image).shape == (3, 90, 123)
