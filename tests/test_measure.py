"""The command `measure`, and metrics in validation: which need a ground truth, which direction is better, where they run."""
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import GOOD_OPTIONS, ROOT, option_error

from basicsr.cli import main
from basicsr.engine.best import BestMetrics
from basicsr.metrics import better, calculate_niqe, calculate_psnr, calculate_rmse, calculate_ssim, measure, needs_gt
from basicsr.registry import METRIC_REGISTRY
from basicsr.train import main as train
from basicsr.utils.img import imread

DEMO = ROOT / 'data' / 'demo' / 'test'
LOWER = ('brisque', 'delta_e', 'lpips', 'mae', 'niqe', 'rmse')


def test_metrics_know_their_direction_and_whether_they_need_a_ground_truth():
    names = {k.removeprefix('calculate_') for k in METRIC_REGISTRY.keys()}
    assert {n for n in names if better({'type': f'calculate_{n}'}) == 'lower'} == set(LOWER)
    assert better({'type': 'calculate_niqe', 'better': 'higher'}) == 'higher'
    assert {n for n in names if not needs_gt({'type': f'calculate_{n}'})} == {'niqe', 'brisque'}


def test_only_metrics_that_are_networks_are_told_the_device(monkeypatch):
    told = []
    pair = np.random.RandomState(0).rand(2, 40, 40, 3)

    def network(img, img2, device=None, **kwargs):
        told.append(device)
        return 0.

    monkeypatch.setitem(METRIC_REGISTRY._objects, 'network', network)
    monkeypatch.setitem(METRIC_REGISTRY._objects, 'strict', lambda img, img2: 1.)
    assert measure(*pair, {'type': 'strict'}, 'cuda:1') == 1
    for opt in ({}, {'device': 'cpu'}):
        measure(*pair, {'type': 'network', **opt}, 'cuda:1')
    assert told == ['cuda:1', 'cpu']


def test_two_folders(tmp_path, capsys):
    files = [str(tmp_path / 'deep' / name) for name in ('values.csv', 'means.json')]
    folders = [str(DEMO / 'input'), str(DEMO / 'target')]
    options = ['--protocol', 'matlab-y', '--set', 'niqe.convert_to=gray', '--csv', files[0], '--json', files[1]]
    assert main(['measure', *folders, '--metrics', 'psnr', 'ssim', 'rmse', 'niqe', *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['psnr', 'ssim', 'rmse', 'niqe']
    assert [line.split()[0] for line in lines[1:3]] == ['lounge', 'peaks']
    assert lines[3].startswith('mean of 2') and lines[4].split()[1:] == ['higher', 'higher', 'lower', 'lower']
    assert lines[5:] == ['psnr: protocol matlab-y', 'ssim: protocol matlab-y']
    wanted = {}
    for name in ('lounge', 'peaks'):
        a, b = (imread(DEMO / side / f'{name}.png') for side in ('input', 'target'))
        wanted[name] = [
            calculate_psnr(a, b, protocol='matlab-y'),
            calculate_ssim(a, b, protocol='matlab-y'),
            calculate_rmse(a, b),
            calculate_niqe(a, convert_to='gray')
        ]
    with open(files[0], newline='') as file:
        rows = list(csv.reader(file))
    assert rows[0] == ['image', 'psnr', 'ssim', 'rmse', 'niqe']
    for name, *values in rows[1:]:
        assert [float(v) for v in values] == pytest.approx(wanted[name], abs=1e-6)
    summary = json.loads(Path(files[1]).read_text())
    assert summary['images'] == 2 and summary['metrics']['psnr']['protocol'] == 'matlab-y'
    assert [m['mean'] for m in summary['metrics'].values()] == pytest.approx(np.mean(list(wanted.values()), axis=0))


def test_one_folder_and_names_that_differ(tmp_path, capsys):
    assert main(['measure', str(DEMO / 'target')]) == 0
    text = capsys.readouterr().out
    assert f"{calculate_niqe(imread(DEMO / 'target' / 'peaks.png')):.4f}" in text and 'psnr' not in text
    for name in ('lounge', 'peaks'):
        (tmp_path / f'{name}_mine.png').write_bytes((DEMO / 'target' / f'{name}.png').read_bytes())
    assert main(['measure', str(tmp_path), str(DEMO / 'target'), '--filename_tmpl', '{}_mine']) == 0
    assert 'mean of 2' in (text := capsys.readouterr().out) and 'inf' in text and '1.0000' in text


def test_sixteen_bits_and_grey(tmp_path, capsys):
    rng = np.random.RandomState(0)
    for side, offset in (('a', 0), ('b', 5 * 257)):
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / '1.png'), rng.randint(0, 200, (20, 20)).astype(np.uint16) * 0 + 9000 + offset)
    assert main(['measure', str(tmp_path / 'a'), str(tmp_path / 'b'), '--metrics', 'mae']) == 0
    assert 'mean of 1     5.0000' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, words', [
    (['--metrics', 'psn'], "no metric 'psn'. Did you mean 'psnr'?"),
    (['--metrics', 'niqe', 'ssim'], 'ssim needs a ground truth'),
    (['--set', 'niqe.convert_two=y'], "niqe has no 'convert_two'. Did you mean 'convert_to'?"),
    (['--set', 'niqe=1'], 'not of the form NAME.KEY=VALUE'),
    (['--set', 'psnr.crop_border=1'], 'with a NAME of niqe'),
    (['--protocol', 'pyqa', '--metrics', 'psnr'], 'psnr needs a ground truth'),
])
def test_mistakes_are_told_in_one_sentence(arguments, words, capsys):
    assert main(['measure', str(DEMO / 'target'), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and words in error and len(error.splitlines()) == 1


def test_an_image_without_a_number_is_said(tmp_path, capsys):
    for name, values in {'black': np.zeros, 'good': np.random.RandomState(0).random_sample}.items():
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.uint8(255 * values((96, 192, 3))))
    assert main(['measure', str(tmp_path), '--json', str(tmp_path / 'means.json')]) == 2
    said = capsys.readouterr()
    assert 'niqe: 1 of 2 images have no number and are left out of the mean' in said.out
    assert said.err == 'error: some images have no number, as said above; the means leave them out\n'
    assert json.loads((tmp_path / 'means.json').read_text())['metrics']['niqe']['mean'] > 0


def test_images_that_cannot_be_measured_are_named(pairs, tmp_path, capsys):
    assert main(['measure', str(pairs / 'input')]) == 2
    assert "input/1.png': NIQE needs at least 96x192 pixels, the image has 24x28" in capsys.readouterr().err
    assert main(['measure', str(pairs / 'input'), str(pairs / 'target'), '--protocol', 'pyqa']) == 2
    assert "Did you mean 'pyiqa'?" in capsys.readouterr().err
    cv2.imwrite(str(pairs / 'input' / '2.png'), np.zeros((9, 9, 3), np.uint8))
    assert main(['measure', str(pairs / 'input'), str(pairs / 'target')]) == 2
    assert "input/2.png': images differ in shape" in capsys.readouterr().err
    (pairs / 'input' / '3.png').unlink()
    assert main(['measure', str(pairs / 'input'), str(pairs / 'target')]) == 2
    assert 'have no input: 3.png' in capsys.readouterr().err


def test_the_best_weights_are_those_of_the_lowest_error(tiny_options, tmp_path):
    metrics = {'rmse': {'type': 'calculate_rmse'}, 'mae': {'type': 'calculate_mae', 'better': 'higher'}}
    changes = {'train': {'total_iter': 6}, 'val': {'val_freq': 1, 'best_metric': 'rmse', 'metrics': metrics}}
    assert train([str(tiny_options(**changes))]) == 0
    folder = tmp_path / 'experiments' / 'tiny'
    with open(folder / 'metrics.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    column = next(k for k in rows[0] if k.endswith('rmse'))
    values = [float(row[column]) for row in rows]
    assert len(set(values)) > 1
    best = json.loads((folder / 'best' / 'best.json').read_text())
    assert best['metric'] == 'rmse' and best['value'] == pytest.approx(min(values), abs=1e-4)


def test_metrics_without_ground_truth_measure_data_without_one(tiny_options, tmp_path):
    rng = np.random.RandomState(0)
    for side in ('lq', 'gt'):
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / '1.png'), rng.randint(0, 256, (96, 192, 3)).astype(np.uint8))
    data = {
        'val': {'name': 'pairs', 'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')},
        'val_2': {'type': 'SingleImageDataset', 'name': 'photos', 'dataroot_lq': str(tmp_path / 'lq')}
    }
    metrics = {'psnr': {'type': 'calculate_psnr'}, 'niqe': {'type': 'calculate_niqe'}}
    val = {'val_freq': 1, 'metrics': metrics}
    assert train([str(tiny_options(datasets=data, train={'total_iter': 1}, val=val))]) == 0
    log = next((tmp_path / 'experiments' / 'tiny').glob('*.log')).read_text()
    assert 'Validation photos: no ground truth, so no psnr' in log
    with open(tmp_path / 'experiments' / 'tiny' / 'metrics.csv', newline='') as file:
        row = next(csv.DictReader(file))
    assert row['pairs/niqe'] == row['photos/niqe'] and row['pairs/psnr'] and 'photos/psnr' not in row


def test_the_first_data_set_that_has_the_chosen_metric_decides():
    best = BestMetrics({m: {'type': f'calculate_{m}'} for m in ('niqe', 'psnr')}, 'psnr')
    found = [('photos', 'niqe', 4), ('pairs', 'niqe', 5), ('pairs', 'psnr', 20), ('more', 'psnr', 25),
             ('pairs', 'psnr', 19), ('photos', 'niqe', 3), ('pairs', 'psnr', 21)]
    saved = [(dataset, metric) for dataset, metric, value in found if best.report(dataset, metric, value, 1)]
    assert saved == [('pairs', 'psnr')] * 2
    assert best.table['photos']['niqe'] == {'better': 'lower', 'val': 3, 'iter': 1}


def test_options_of_the_new_metrics_are_checked(load):
    wrong = 'calculate_lpips\n      net: squeeze'
    text = option_error(load, GOOD_OPTIONS, ('calculate_psnr\n      crop_border: 2', wrong))
    assert "val.metrics.psnr.net: 'squeeze' is not allowed; one of: alex or vgg" in text
