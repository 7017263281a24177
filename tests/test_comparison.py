"""`evaluate --comparison`: three panels, and what is gained over the input."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.evaluation.comparison import Comparison
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread, to_float
from basicsr.utils.weights import save_weights

KEYS = ('total_images avg_original_psnr avg_original_ssim avg_enhanced_psnr avg_enhanced_ssim psnr_improvement'
        ' ssim_improvement avg_original_lpips avg_enhanced_lpips lpips_improvement').split()
NETWORK = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}


def without(img, img2, **kwargs):
    raise UserError('there are no weights')


@pytest.fixture(autouse=True)
def lpips(monkeypatch):
    """Sets the LPIPS of a test; there is none at first."""

    def put(function):
        monkeypatch.setattr('basicsr.evaluation.comparison.calculate_metric',
                            lambda data, opt: function(data['img'], data['img2']))

    put(without)
    return put


@pytest.fixture
def images():
    """Input, result, ground truth."""
    rng = np.random.RandomState(0)
    gt = rng.rand(20, 30, 3).astype(np.float32)
    return gt / 8, np.clip(gt + rng.randn(*gt.shape).astype(np.float32) * 0.05, 0, 1), gt


def saved(folder):
    return json.loads((folder / 'test_results.json').read_text()), (folder / 'test_results.txt').read_text()


def test_figures_are_those_of_scikit_image(images, tmp_path):
    lq, result, gt = images
    comparison = Comparison(tmp_path)
    comparison.add('a', lq, result, gt)
    comparison.add('b', lq, gt * 0.9, gt)
    comparison.write()
    values, text = saved(tmp_path)
    assert list(values) == KEYS[:7] and values['total_images'] == 2
    for kind, shown in (('original', (lq, lq)), ('enhanced', (result, gt * 0.9))):
        psnr = [peak_signal_noise_ratio(gt, x, data_range=1) for x in shown]
        ssim = [structural_similarity(gt, x, data_range=1, channel_axis=2) for x in shown]
        assert values[f'avg_{kind}_psnr'] == pytest.approx(np.mean(psnr), abs=1e-4)
        assert values[f'avg_{kind}_ssim'] == pytest.approx(np.mean(ssim), abs=1e-5)
    for metric in ('psnr', 'ssim'):
        gain = values[f'avg_enhanced_{metric}'] - values[f'avg_original_{metric}']
        assert values[f'{metric}_improvement'] == pytest.approx(gain) and gain > 0.1
    for words in ('images: 2', 'LPIPS: left out, there are no weights',
                  f'PSNR improvement: {values["psnr_improvement"]:+.4f}', 'all-in-one-uniform', '0001', '0002'):
        assert words in text
    assert [line.split()[-1] for line in text.splitlines()[-2:]] == ['a', 'b']


def test_pictures_have_three_panels_of_the_images_themselves(tmp_path):
    lq, result, gt = (np.broadcast_to(np.float32(c), (40, 60, 3)) for c in ([1, 0, 0], [0, 1, 0], [0, 0, 1]))
    Comparison(tmp_path).add('x', lq, result, gt)
    picture = imread(tmp_path / 'comparison_0001.png')[..., ::-1]
    assert picture.shape[1] == 3600 and 800 < picture.shape[0] < 1100
    row = picture[picture.shape[0] * 2 // 3]
    assert [tuple(row[x]) for x in (600, 1800, 3000)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert (picture[:150] < 128).all(axis=2).any()  # titles


def test_titles_hold_both_metrics(images, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('basicsr.evaluation.comparison._draw', lambda path, panels: drawn.append(list(panels)))
    comparison = Comparison(tmp_path)
    comparison.add('x', *images)
    old, new = comparison.original[0], comparison.enhanced[0]
    assert drawn == [[
        f'Original Image\nPSNR: {old["psnr"]:.2f} dB, SSIM: {old["ssim"]:.4f}',
        f'Enhanced Image\nPSNR: {new["psnr"]:.2f} dB, SSIM: {new["ssim"]:.4f}', 'Ground Truth\n(Reference)'
    ]]


def test_lpips_gets_unrounded_bgr_and_less_is_an_improvement(images, tmp_path, lpips):
    seen = []

    def distance(img, img2, **kwargs):
        seen.append((img, img2))
        return float(np.abs(img - img2).mean())

    lpips(distance)
    comparison = Comparison(tmp_path, images=False)
    comparison.add('x', *images)
    comparison.write()
    values, text = saved(tmp_path)
    assert list(values) == KEYS
    np.testing.assert_allclose(seen[0][0], images[0][..., ::-1] * 255., rtol=1e-6)
    assert values['lpips_improvement'] == pytest.approx(values['avg_original_lpips'] - values['avg_enhanced_lpips'])
    assert values['lpips_improvement'] > 0 and f'LPIPS improvement: {values["lpips_improvement"]:+.4f}' in text
    assert list(tmp_path.glob('*.png')) == []


def test_images_of_other_sizes_are_named(images, tmp_path):
    lq, result, gt = images
    with pytest.raises(UserError, match="of 'x' differ in size"):
        Comparison(tmp_path).add('x', lq[::2], result, gt)


def test_evaluate_writes_the_report(tiny_options, pairs, tmp_path, capsys):
    torch.manual_seed(0)
    save_weights(tmp_path / 'w.pth', {'params': build_network(NETWORK).state_dict()})
    out = tmp_path / 'o'
    arguments = ['--opt', str(tiny_options()), '--weights', str(tmp_path / 'w.pth'), '--output_dir', str(out)]
    assert evaluate(arguments) == 0
    assert not (out / 'test_results.json').exists()
    assert evaluate([*arguments, '--comparison']) == 0
    assert 'toy: compared with the input in' in capsys.readouterr().out
    values, _ = saved(out)
    assert sorted(p.name for p in out.glob('comparison_*.png')) == [f'comparison_{i:04d}.png' for i in (1, 2, 3, 4)]
    assert {'1.png', '2.png', '3.png', '10.png'} <= {p.name for p in out.glob('*.png')}  # the enhanced images
    assert values['avg_enhanced_psnr'] == json.loads((out / 'metrics.json').read_text())['psnr all-in-one-uniform']
    images = [[to_float(imread(pairs / side / f'{n}.png')) for side in ('input', 'target')] for n in (1, 2, 3, 10)]
    wanted = np.mean([peak_signal_noise_ratio(gt, lq, data_range=1) for lq, gt in images])
    assert values['avg_original_psnr'] == pytest.approx(wanted, abs=1e-3)
