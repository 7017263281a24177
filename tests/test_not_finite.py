"""Damaged weights and results that are no images: told, never written, never a number."""
from __future__ import annotations

import csv
import json
import math
import zipfile

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.cli import main as basicsr
from basicsr.metrics import calculate_mae, calculate_psnr, calculate_rmse, calculate_ssim, measure
from basicsr.test import main as run_test
from basicsr.train import main as train
from basicsr.utils.errors import UserError
from basicsr.utils.img import imwrite, to_bytes
from basicsr.utils.restricted_unpickling import read_file
from basicsr.utils.weights import load_weights, save_weights
from basicsr.weights.fitting import load_into

NETWORK = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}


@pytest.fixture
def state():
    torch.manual_seed(0)
    return build_network(NETWORK).state_dict()


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in 'ab':
        for side in ('input', 'target'):
            imwrite(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), tmp_path / side / f'{name}.png')
    return tmp_path


def spoilt(state, value=torch.nan):
    state['body.0.estimator.conv1.weight'][0, 0] = value
    return {'params': state, 'network_g': NETWORK}


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
def test_enhance_writes_no_picture_and_names_the_input(photos, state, capsys, messages, value):
    save_weights(photos / 'w.pth', spoilt(state, value))
    assert basicsr(['enhance',
                    str(photos / 'input'), '-o',
                    str(photos / 'out'), '--weights',
                    str(photos / 'w.pth')]) == 2
    said = capsys.readouterr().err
    assert "w.pth': 1 keys hold values that are not finite: body.0.estimator.conv1.weight" in '\n'.join(messages)
    assert 'a.png: the result of the network is not finite' in said and 'b.png: the result of' in said
    assert not list(photos.glob('out/*'))


def test_evaluate_has_no_number_for_it(photos, state, capsys, messages):
    save_weights(photos / 'w.pth', spoilt(state))
    assert basicsr([
        'evaluate', '--weights',
        str(photos / 'w.pth'), '--degraded_dir',
        str(photos / 'input'), '--clean_dir',
        str(photos / 'target'), '--metrics', 'psnr', 'mae', '--output_dir',
        str(photos / 'out')
    ]) == 2
    out = capsys.readouterr().out
    assert '\n'.join(messages).count('is not finite') == 2 and "input/a.png'" in '\n'.join(messages)
    assert 'psnr: 2 of 2 images have no number and are left out of the mean' in out
    content = json.loads((photos / 'out' / 'metrics.json').read_text(), parse_constant=pytest.fail)
    assert content['psnr'] is None and content['left_out'] == {'input': {'psnr': 2, 'mae': 2}}
    assert [row['psnr'] for row in csv.DictReader((photos / 'out' / 'metrics.csv').open())] == ['nan', 'nan']
    assert not list(photos.glob('out/*.png'))


def test_testing_has_no_number_for_it_either(tiny_options, state, tmp_path, messages):
    save_weights(tmp_path / 'w.pth', spoilt(build_network({**NETWORK, 'd_state': 4}).state_dict()))
    options = tiny_options(network_g={**NETWORK, 'd_state': 4}, val={'save_img': True})
    assert run_test(['--opt', str(options), f'path.pretrain_network_g={tmp_path / "w.pth"}']) == 2
    assert 'images have no number and are left out of the mean' in '\n'.join(messages)
    run = tmp_path / 'results' / 'tiny'
    assert not list(run.rglob('*.png'))
    assert 'NaN' not in next(run.glob('*.json')).read_text()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_metrics_of_what_is_no_image_are_no_numbers(bad):
    image = np.full((32, 32, 3), 0.25, np.float32)
    wrong = image.copy()
    wrong[3, 4, 1] = bad
    for block in ({'type': 'calculate_psnr'}, {'type': 'calculate_ssim', 'protocol': 'basicsr'},
                  {'type': 'calculate_psnr', 'protocol': 'retinexformer'}, {'type': 'calculate_niqe'}):
        assert math.isnan(measure(wrong, image, block) if 'niqe' not in block['type'] else measure(wrong, None, block))
    for metric in (calculate_psnr, calculate_ssim, calculate_rmse, calculate_mae):
        assert math.isnan(metric(wrong * 255, image * 255))
        assert math.isnan(metric(wrong * 255, image * 255, protocol='basicsr'))
    with pytest.raises(UserError, match='not finite'):
        to_bytes(wrong)


@pytest.mark.parametrize('dtype', [torch.bool, torch.int64, torch.complex64])
def test_weights_of_another_type_are_not_cast(state, dtype):
    with pytest.raises(UserError,
                       match=r"keys of another type: body\.0\.estimator\.conv1\.weight: \w+ in the file, float32"):
        load_into(build_network(NETWORK), {k: v.to(dtype) for k, v in state.items()}, 'w.pth')
    load_into(build_network(NETWORK), {k: v.to(torch.bfloat16) for k, v in state.items()}, 'w.pth')


def test_a_flipped_bit_is_found_in_every_record(tmp_path, state):
    path = tmp_path / 'w.pth'
    save_weights(path, {'params': state})
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        records = [i for i in archive.infolist() if i.filename.split('/')[1] == 'data' and i.file_size > 32]
    for record in records[:3] + records[-3:]:
        start = record.header_offset  # the local header is followed by name, padding and data
        at = start + 30 + int.from_bytes(whole[start + 26:start + 28], 'little') + int.from_bytes(
            whole[start + 28:start + 30], 'little') + 5
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
        with pytest.raises(
                UserError,
                match=r"w\.pth' is cut off or damaged \([\d,]+ bytes(, the checksum of .*)?\); get it again"):
            load_weights(path)


@pytest.mark.parametrize('part', [0.02, 0.1, 0.25, 0.5, 0.75, 0.99, 0.9999])
def test_a_download_that_stopped_is_one_sentence(tmp_path, state, part):
    path = tmp_path / 'w.pth'
    save_weights(path, {'params': state})
    size = int(path.stat().st_size * part)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=rf"^'.*w\.pth' is cut off or damaged \({size:,d} bytes\); get it again$"):
        read_file(path)


def test_the_entry_of_a_file(photos, state, messages):
    one, two = photos / 'one.pth', photos / 'two.pth'
    save_weights(one, {'model': state, 'epoch': 3})
    other = {k: v * 0.9 for k, v in state.items()}
    save_weights(two, {'generator': state, 'student': other, 'network_g': NETWORK})
    assert load_weights(one).choice == 'model, the only one'
    with pytest.raises(UserError, match=r"It has: generator, student; choose by --key, or param_key_g"):
        load_weights(two)
    arguments = ['enhance', str(photos / 'input' / 'a.png'), '-o', str(photos / 'o.png'), '--weights']
    assert basicsr([*arguments, str(one)]) == 0
    assert basicsr([*arguments, str(two), '--key', 'student', '--overwrite']) == 0
    assert '(entry: student;' in '\n'.join(messages)
    for command in ('export', 'evaluate'):
        more = ['-o', str(photos / 'e.safetensors')] if command == 'export' else [
            '--degraded_dir', str(photos / 'input'), '--output_dir',
            str(photos / 'ev')
        ]
        assert basicsr([command, '--weights', str(two), '--key', 'generator', *more]) == 0
        assert '(entry: generator;' in '\n'.join(messages)


def test_weights_of_another_network_name_it_and_its_options(state):
    with pytest.raises(UserError,
                       match=r'look like RetinexMamba \(.*\); with other arguments, Options/RetinexMamba_\w+\.yml is'):
        load_into(build_network({'type': 'RetinexFormer', 'n_feat': 8}), state, 'w.pth')


def test_no_training_begins_with_it(tiny_options, tmp_path, capsys):
    assert train([str(tiny_options())]) == 0
    earlier = sorted((tmp_path / 'experiments').rglob('*'))
    save_weights(tmp_path / 'w.pth', spoilt(build_network({**NETWORK, 'd_state': 4}).state_dict()))
    options = tiny_options(network_g={**NETWORK, 'd_state': 4})
    for place in ('pretrain_network_g', 'fine_tune_from'):
        assert train([str(options), f'path.{place}={tmp_path / "w.pth"}']) == 2
        assert 'conv1.weight; no training begins with these' in capsys.readouterr().err
    assert sorted((tmp_path / 'experiments').rglob('*')) == earlier


@pytest.mark.parametrize('white', [1, 4])
def test_a_validation_that_leaves_images_out_is_never_the_best(tiny_options, pairs, tmp_path, white):
    (tmp_path / 'moody_arch.py').write_text("""
from torch import nn
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class Moody(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) * (1 if x.mean() < 0.9 else float('nan'))
""")
    for file in sorted((pairs / 'input').iterdir())[:white]:
        imwrite(np.full((40, 56, 3), 255, np.uint8), file)
        imwrite(np.full((40, 56, 3), 200, np.uint8), pairs / 'target' / file.name)
    options = tiny_options(arch_files=[str(tmp_path / 'moody_arch.py')], network_g={'type': 'Moody'},
                           datasets={'train': {'dataroot_lq': str(pairs / 'target')}}, train={'total_iter': 2})
    assert train([str(options)]) == 0
    run = tmp_path / 'experiments' / 'tiny'
    assert not list(run.rglob('*best*.*')) and 'Best' not in next(run.glob('*.log')).read_text()
    values = [float(row['toy/psnr']) for row in csv.DictReader((run / 'metrics.csv').open())]
    assert values and all(math.isnan(v) == (white == 4) for v in values)


def test_nothing_is_exported(state, tmp_path, capsys):
    save_weights(tmp_path / 'w.pth', spoilt(state))
    assert basicsr(['export', '--weights', str(tmp_path / 'w.pth'), '-o', str(tmp_path / 'w.safetensors')]) == 2
    assert "result is not finite, so nothing is written" in capsys.readouterr().err
    assert not (tmp_path / 'w.safetensors').exists()
