"""`evaluate --metrics`: the table of a benchmark, what it says about metrics that cannot run, its files."""
from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.metrics import calculate_mae, calculate_niqe, calculate_psnr
from basicsr.metrics.tasks import mean
from basicsr.utils.img import imread
from basicsr.utils.weights import save_weights

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / 'w.pth', {'params': build_network(NETWORK).state_dict()})
    return str(tmp_path / 'w.pth')


@pytest.fixture
def folders(tmp_path, weights):
    """Arguments for two pairs that are large enough for NIQE."""
    rng = np.random.RandomState(0)
    for side in ('in', 'gt'):
        (tmp_path / side).mkdir()
        for name in '12':
            picture = cv2.GaussianBlur(rng.randint(0, 256, (100, 200, 3)).astype(np.uint8), (0, 0), 2)
            cv2.imwrite(str(tmp_path / side / f'{name}.png'), picture)
    return ['--weights', weights, '--degraded_dir', str(tmp_path / 'in'), '--output_dir', str(tmp_path / 'out')]


def test_the_table_and_the_files_hold_the_chosen_metrics(folders, tmp_path, capsys):
    arguments = ['--clean_dir', str(tmp_path / 'gt'), '--metrics', 'psnr', 'mae', 'niqe']
    assert evaluate([*folders, *arguments, '--set', 'niqe.convert_to=gray', 'psnr.crop_border=3']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'in: 2 images' and lines[1].split() == ['psnr', 'mae', 'niqe']
    assert lines[3].split() == ['better', 'higher', 'lower', 'lower'] and lines[4] == 'psnr: protocol basicsr, crop 3'
    pairs = [[imread(tmp_path / side / f'{name}.png') for side in ('out', 'gt')] for name in '12']
    wanted = {
        'psnr': np.mean([calculate_psnr(a, b, crop_border=3) for a, b in pairs]),
        'mae': np.mean([calculate_mae(a, b) for a, b in pairs]),
        'niqe': np.mean([calculate_niqe(a, convert_to='gray') for a, _ in pairs])
    }
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert {k: found[k] for k in wanted} == pytest.approx(wanted, abs=1e-6)
    assert [float(word) for word in lines[2].split()[1:]] == pytest.approx(list(wanted.values()), abs=1e-4)
    assert found['metrics']['niqe']['options']['convert_to'] == 'gray' and 'psnr basicsr' not in found
    with (tmp_path / 'out' / 'metrics.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['image'] for row in rows] == ['1', '2'] and list(rows[0]) == ['image', 'psnr', 'mae', 'niqe']


def test_metrics_without_weights_are_left_out_before_anything_is_restored(folders, tmp_path, capsys, messages):
    arguments = ['--clean_dir', str(tmp_path / 'gt'), '--set', 'brisque.weights=none', '--metrics', 'brisque']
    assert evaluate([*folders, *arguments]) == 2
    assert 'none of the metrics can be measured here: brisque' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    assert evaluate([*folders, *arguments, 'mae']) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ['mae']
    said = [line for line in messages if 'left out' in line]
    assert said == ["brisque is left out: calculate_brisque: there is no file 'none'"] * 2


def test_metrics_of_images_without_ground_truth(folders, tmp_path, capsys):
    assert evaluate([*folders, '--metrics', 'niqe']) == 0
    assert capsys.readouterr().out.splitlines()[0] == 'in: 2 images'
    assert json.loads((tmp_path / 'out' / 'metrics.json').read_text())['niqe'] > 0


def test_data_sets_with_and_without_ground_truth_share_a_table(tiny_options, tmp_path, weights, folders, capsys):
    data = {
        'val': {'name': 'pairs', 'dataroot_lq': str(tmp_path / 'in'), 'dataroot_gt': str(tmp_path / 'gt')},
        'test': {'type': 'SingleImageDataset', 'name': 'photos', 'dataroot_lq': str(tmp_path / 'in')}
    }
    options = str(tiny_options(network_g=NETWORK, datasets=data))
    assert evaluate(['--opt', options, *folders[:2], *folders[4:], '--metrics', 'mae', 'niqe']) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ['mae', 'niqe'] and lines[2][:2] == ['photos', '-'] and lines[3][0] == 'pairs'
    assert lines[2][2] == lines[3][2]
    with (tmp_path / 'out' / 'metrics.csv').open(newline='') as file:
        assert [bool(row['mae']) for row in csv.DictReader(file)] == [False, False, True, True]


def test_a_mean_is_over_those_that_have_the_metric():
    assert mean([{'a': 1.}, {'b': 5., 'a': 3.}]) == {'a': 2., 'b': 5.}


@pytest.mark.parametrize('arguments, words', [
    (['--metrics', 'psnr'], '--metrics: psnr needs a ground truth, and there is none'),
    (['--metrics', 'nique'], "there is no metric 'nique'. Did you mean 'niqe'?"),
    (['--protocol', 'pyiqa'], '--protocol is for metrics named with --metrics'),
    (['--set', 'niqe.convert_to=gray'], '--set is for metrics named with --metrics'),
    (['--metrics', 'niqe', '--set', 'niqe.net=vgg'], "niqe has no 'net'"),
])
def test_mistakes_are_one_sentence(folders, tmp_path, capsys, arguments, words):
    assert evaluate([*folders, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1 and not (tmp_path / 'out').exists()


def test_an_image_that_a_metric_cannot_measure_is_named(folders, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'in' / '2.png'), np.zeros((40, 40, 3), np.uint8))
    assert evaluate([*folders, '--metrics', 'niqe']) == 2
    assert "in/2.png' is 40x40 pixels, and 'niqe' needs at least 96x192; leave" in capsys.readouterr().err
