"""Super-resolution from the command line: every command at scales 2, 3 and 4, and the recipes of MambaIR."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from test_degraded_datasets import data, levels, picture

from basicsr.archs import build_network
from basicsr.commands.check_data import main as check_data
from basicsr.commands.enhance import main as enhance
from basicsr.commands.evaluate import main as evaluate
from basicsr.commands.export import main as export
from basicsr.config import load_options
from basicsr.inference.restorer import ImageRestorer
from basicsr.losses import build_loss
from basicsr.metrics import measure
from basicsr.metrics.tasks import mean
from basicsr.test import main as on_test_sets
from basicsr.train import main as train
from basicsr.utils.img import imread, to_float
from basicsr.utils.matlab_functions import enlarged, imresize

RECIPES = sorted(file.stem for kind in ('SR', 'light', 'CAR') for file in (ROOT / 'Options').glob(f'MambaIR_{kind}_*'))


@pytest.fixture
def small_images(tmp_path: Path):
    """`HR/1.png` ... of sizes that no scale divides, and `LR_bicubic/X{scale}/1x{scale}.png`; grey or not."""

    def write(scale: int, grey: bool = False) -> Path:
        small = tmp_path / 'LR_bicubic' / f'X{scale}'
        small.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'HR').mkdir(exist_ok=True)
        for i, size in enumerate(((61, 75), (83, 66), (97, 91)), start=1):
            img = picture(*size, seed=i)
            img = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY) if grey else img
            cv2.imwrite(f'{tmp_path}/HR/{i}.png', img)
        made = data('BicubicSRDataset', str(tmp_path / 'HR'), scale=scale)
        for i in range(3):
            cv2.imwrite(f'{small}/{i + 1}x{scale}.png', levels(made[i]['lq'])[..., ::-1].astype(np.uint8))
        return tmp_path

    return write


def network(kind: str, scale: int, channels: int = 3) -> dict[str, Any]:
    if kind == 'MSRResNet':
        return {
            'type': kind, 'num_feat': 4, 'num_block': 1, 'upscale': scale, 'num_in_ch': channels, 'num_out_ch': channels
        }
    small = {'embed_dim': 32, 'depths': [1], 'd_state': 2, 'in_chans': channels}
    return {'type': 'MambaIR', 'upscale': scale, 'upsampler': kind, **small}


def run(command: Any, *argv: Any) -> int:
    return command([str(a) for a in argv]) or 0


# ---------------------------------------------------------------- all commands


@pytest.mark.parametrize(('kind', 'scale', 'grey', 'more'), [
    ('MSRResNet', 2, False, {'cache': 'device'}),
    ('MSRResNet', 3, False, {'mini_batch_sizes': [2, 1], 'gt_sizes': [12, 24], 'iters': [1, 3]}),
    ('MSRResNet', 4, True, {}),
    ('pixelshuffledirect', 3, True, {}),
    ('pixelshuffle', 4, False, {}),
], ids=str)  # yapf: disable
def test_every_command_at_every_scale(small_images, tiny_options, capsys, kind, scale, grey, more):
    root, options = small_images(scale, grey), {'color': 'gray'} if grey else {}
    pairs = {
        'dataroot_gt': f'{root}/HR', 'dataroot_lq': f'{root}/LR_bicubic/X{scale}', 'filename_tmpl': f'{{}}x{scale}',
        **options
    }
    metrics = {
        name: {'type': f'calculate_{name}', 'test_y_channel': True, 'crop_border': scale} for name in ('psnr', 'ssim')
    }
    file = tiny_options(name='sr', scale=scale, datasets={'train': {**pairs, 'gt_size': 24, **more}, 'val': pairs},
                        network_g=network(kind, scale, 1 if grey else 3), val={'metrics': metrics, 'save_img': True},
                        train={'mixing_augs': {'mixup': True}})
    assert run(check_data, '--opt', file) == 0 and '3 samples, 0 mistakes' in capsys.readouterr().out
    assert run(train, '--opt', file) == 0
    weights = root / 'experiments' / 'sr' / 'models' / 'net_g_latest.pth'
    assert run(on_test_sets, '--opt', file, f'path.pretrain_network_g={weights}') == 0
    shown = imread(root / 'results' / 'sr' / 'visualization' / 'toy' / f'1x{scale}_sr.png')
    assert shown.shape[:2] == (61 // scale * scale, 75 // scale * scale)

    (root / 'photos').mkdir()
    sizes = {'one': (1, 1), 'small': (5, 7), 'odd': (33, 47)}
    for name, size in sizes.items():
        cv2.imwrite(f'{root}/photos/{name}.png', picture(*size))
    assert run(enhance, root / 'photos', '-o', root / 'large', '--weights', weights, '--sheet') == 0
    for name, (height, width) in sizes.items():
        assert imread(root / 'large' / f'{name}.png').shape[:2] == (height * scale, width * scale)
        before = imread(root / 'large' / f'{name}_sheet.png')
        assert before.shape == (height * scale, 2 * width * scale, 3)
    assert run(export, '--weights', weights, '-o', root / 'x.pt', '--size', 9, 7) == 0
    assert torch.jit.load(root / 'x.pt')(torch.zeros(1, 1 if grey else 3, 9, 7)).shape[2:] == (9 * scale, 7 * scale)

    arguments = ['--weights', weights, '--metrics', 'psnr', '--output_dir', root / 'o', '--comparison']
    assert run(evaluate, '--opt', file, *arguments) == 0
    folders = '--degraded_dir', pairs['dataroot_lq'], '--clean_dir', pairs['dataroot_gt']
    assert run(evaluate, *folders, '--filename_tmpl', pairs['filename_tmpl'], *arguments) == 0
    assert "original: the input enlarged by MATLAB's bicubic" in (root / 'o' / 'test_results.txt').read_text()


@pytest.mark.parametrize('scale', [2, 3])
def test_a_scale_that_is_not_the_networks_is_said(small_images, tiny_options, capsys, scale):
    root = small_images(scale)
    pairs = {
        'dataroot_gt': f'{root}/HR', 'dataroot_lq': f'{root}/LR_bicubic/X{scale}', 'filename_tmpl': f'{{}}x{scale}'
    }
    file = tiny_options(name='sr', scale=scale, datasets={'train': {**pairs, 'gt_size': 24}, 'val': pairs},
                        network_g=network('MSRResNet', 4))
    small = 24 // scale
    assert run(train, '--opt', file) == 2
    said = capsys.readouterr().err
    assert 'scale and the upscaling of network_g must fit each other' in said and f"'{root}/LR_bicubic/X{scale}/" in said
    assert f'{small * 4}x{small * 4} pixels of {small}x{small}' in said or f'{75 // scale * 4}x{61 // scale * 4}' in said


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_tiles_and_ensemble_at_scale(scale):
    torch.manual_seed(0)
    net = build_network(network('MSRResNet', scale))
    img = to_float(picture(70, 51))
    whole = ImageRestorer(net)(img)
    assert whole.shape == (70 * scale, 51 * scale, 3)
    tiled = ImageRestorer(net, tile=40, tile_overlap=16)(img)
    difference = np.abs(whole - tiled)
    assert difference.max() < 0.02 and difference[:24 * scale, :11 * scale].max() < 1e-5  # there, one tile covers it
    turned = ImageRestorer(net, ensemble=True)(img[::-1])[::-1]
    np.testing.assert_allclose(ImageRestorer(net, ensemble=True)(img), turned, atol=1e-5)


# ---------------------------------------------------------------- what tables compare


def luma_psnr_and_ssim(a: np.ndarray, b: np.ndarray, border: int) -> tuple[float, float]:
    """BasicSR's definition, written down again: luma of 8-bit BGR images, borders cut off, windows inside the image."""
    a, b = (x[border:-border, border:-border].astype(np.float64) for x in (a, b))
    a, b = ((24.966 * x[..., 0] + 128.553 * x[..., 1] + 65.481 * x[..., 2]) / 255 + 16 for x in (a, b))
    psnr = 20 * np.log10(255 / np.sqrt(np.mean((a - b)**2)))
    taps = np.exp(-(np.arange(11) - 5)**2 / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum()**2

    def blurred(x: np.ndarray) -> np.ndarray:
        return np.einsum('yxij,ij->yx', np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window)

    c1, c2, mu, nu = (0.01 * 255)**2, (0.03 * 255)**2, blurred(a), blurred(b)
    var, war, cov = blurred(a * a) - mu**2, blurred(b * b) - nu**2, blurred(a * b) - mu * nu
    ssim = (2 * mu * nu + c1) * (2 * cov + c2) / ((mu**2 + nu**2 + c1) * (var + war + c2))
    return float(psnr), float(ssim.mean())


@pytest.mark.parametrize('border', [2, 3, 4])
def test_luma_metrics_are_those_of_basicsr(border):
    """A prediction in [0, 1] is clamped and rounded first, as BasicSR's validation does."""
    gt = to_float(picture(47, 38))[..., ::-1]
    result = (gt + np.random.RandomState(1).normal(0, 0.05, gt.shape)).astype(np.float32)
    seen = [np.rint(np.clip(x, 0, 1) * 255)[..., ::-1] for x in (result, gt)]
    wanted = luma_psnr_and_ssim(*seen, border)
    for name, value in zip(('psnr', 'ssim'), wanted):
        block = {'type': f'calculate_{name}', 'test_y_channel': True, 'crop_border': border}
        assert measure(result, gt, block) == pytest.approx(value, abs=1e-7)
        grey = {**block, 'test_y_channel': False}
        assert measure(result[..., :1], gt[..., :1], block) == measure(result[..., :1], gt[..., :1], grey)


def test_the_numbers_of_a_run_are_those_of_its_pictures(small_images, tiny_options):
    """From files to `results/sr.json`, by definitions that stand in this file alone."""
    root = small_images(3)
    pairs = {'dataroot_gt': f'{root}/HR', 'dataroot_lq': f'{root}/LR_bicubic/X3', 'filename_tmpl': '{}x3'}
    metrics = {
        name: {'type': f'calculate_{name}', 'test_y_channel': True, 'crop_border': 3} for name in ('psnr', 'ssim')
    }
    file = tiny_options(name='sr', scale=3, datasets={'train': {**pairs, 'gt_size': 24}, 'val': pairs},
                        network_g=network('MSRResNet', 3), val={'metrics': metrics, 'save_img': True})
    torch.manual_seed(0)
    torch.save({'params': build_network(network('MSRResNet', 3)).state_dict()}, root / 'w.pth')
    assert run(on_test_sets, '--opt', file, f'path.pretrain_network_g={root}/w.pth') == 0
    values = []
    for i in (1, 2, 3):
        result = imread(root / 'results' / 'sr' / 'visualization' / 'toy' / f'{i}x3_sr.png')
        gt = imread(root / 'HR' / f'{i}.png')[:result.shape[0], :result.shape[1]]
        values.append(dict(zip(('psnr', 'ssim'), luma_psnr_and_ssim(result, gt, 3))))
    found = json.loads(next((root / 'results' / 'sr').rglob('toy.json')).read_text())['metrics']
    assert {k: v['mean'] for k, v in found.items()} == pytest.approx(mean(values), abs=1e-6)


# ---------------------------------------------------------------- MambaIR's recipes

PARAMETERS = {
    'MambaIR_SR_x2': 20421863, 'MambaIR_SR_x3': 20606503, 'MambaIR_SR_x4': 20569575, 'MambaIR_light_x2': 905016,
    'MambaIR_light_x3': 913131, 'MambaIR_light_x4': 924492, 'MambaIR_CAR_q10': 15771025, 'MambaIR_CAR_q30': 15771025,
    'MambaIR_CAR_q40': 15771025
}  # yapf: disable


def test_recipes_are_the_published_ones():
    assert sorted(PARAMETERS) == RECIPES
    for name in RECIPES:
        opt = load_options(ROOT / 'Options' / f'{name}.yml', is_train=True, check_files=False).opt
        assert sum(p.numel() for p in build_network(opt['network_g']).parameters()) == PARAMETERS[name], name
        block, schedule = opt['datasets']['train'], opt['train']
        patch = {1: 126, 2: 64, 3: 64, 4: 48}[opt['scale']]
        assert block['gt_size'] == patch * opt['scale']
        half, last = schedule['scheduler']['milestones'][0], schedule['total_iter']
        assert half * 2 == last and schedule['scheduler']['gamma'] == 0.5
        assert schedule['optim_g']['lr'] == (2e-4 if last in (500000, 1600000) else 1e-4)
        assert opt['val']['metrics']['psnr']['crop_border'] == (opt['scale'] if opt['scale'] > 1 else 0)
    opt = load_options(ROOT / 'Options' / 'MambaIR_CAR_q10.yml', is_train=True, check_files=False).opt
    loss = build_loss(opt['train']['pixel_opt'])
    zero = torch.zeros(1, 1, 2, 2)
    assert float(loss(zero, zero)) == pytest.approx(1e-3**0.5)  # MambaIR's eps is not squared


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_run(small_images, tmp_path, name):
    opt = load_options(ROOT / 'Options' / f'{name}.yml', is_train=True, check_files=False).opt
    scale = opt['scale']
    root = small_images(scale)
    small = [
        'network_g.embed_dim=32', 'network_g.depths=[1]', 'network_g.d_state=2', f'datasets.train.gt_size={12 * scale}',
        'datasets.train.batch_size_per_gpu=1', 'datasets.train.num_worker_per_gpu=0', 'num_gpu=0',
        'datasets.train.persistent_workers=false', 'train.total_iter=2', 'val.val_freq=2', 'logger.use_tb_logger=false',
        f'path.experiments_root={tmp_path}/runs'
    ]
    small += ['datasets.train.pair_range=":-1"', 'datasets.val.pair_range="-1:"']
    for block in ('train', 'val', 'test'):
        small.append(f'datasets.{block}.dataroot_gt={root}/HR')
        small += [f'datasets.{block}.dataroot_lq={root}/LR_bicubic/X{scale}'] if scale > 1 else []
    started = opt['path'].get('pretrain_network_g')
    if started:  # the smaller scale, or the better quality
        first = 'MambaIR_SR_x2' if scale > 1 else 'MambaIR_CAR_q40'
        assert first in started
        start = load_options(ROOT / 'Options' / f'{first}.yml', small[:3], is_train=True, check_files=False).opt
        torch.save({'params': build_network(start['network_g']).state_dict()}, tmp_path / 'w.pth')
        small += ['path.fine_tune_from=null', f'path.pretrain_network_g={tmp_path}/w.pth']
    assert run(train, '--opt', ROOT / 'Options' / f'{name}.yml', *small) == 0


def test_enlarging_by_bicubic_is_beside_results(tmp_path):
    img = to_float(picture(6, 5))
    assert np.array_equal(enlarged(img, np.zeros((18, 15, 3))), imresize(img, 3))
    assert enlarged(img, np.zeros((6, 5, 3))) is img
