"""Commands write over nothing that they read."""
from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.test import main as run_test
from basicsr.utils.errors import UserError
from basicsr.utils.files import list_images
from basicsr.utils.img import imwrite
from basicsr.utils.outputs import check_outputs
from basicsr.utils.weights import save_weights

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / 'w.pth', {'params': build_network(NETWORK).state_dict(), 'network_g': NETWORK})
    return tmp_path / 'w.pth'


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('arguments, option', [
    (['evaluate', '--weights', '{w}', '--degraded_dir', '{d}/input', '--output_dir', '{d}/input'], '--output_dir'),
    ([
        'evaluate', '--weights', '{w}', '--degraded_dir', '{d}/input', '--clean_dir', '{d}/target', '--output_dir',
        '{d}/target'
    ], '--output_dir'),
    (['evaluate', '--weights', '{w}', '--degraded_dir', '{d}/input', '--output_dir', '{d}/link'], '--output_dir'),
    (['measure', '{d}/input', '{d}/target', '--csv', '{d}/input/1.png'], '--csv'),
    (['measure', '{d}/input', '{d}/target', '--json', '{d}/link/1.png'], '--json'),
    (['augment', '--input_low', '{d}/input', '--input_normal', '{d}/target', '--output', '{d}/tree'], '--output'),
    (['export', '--weights', '{w}', '-o', '{d}/w.pt'], '-o'),
    (['check_data', '--opt', '{opt}', '--report', '{d}/target/1.png'], '--report'),
    (['throughput', '--opt', '{opt}', '--json', '{opt}'], '--json'),
    (['lmdb', '{d}/x.lmdb.part', '{d}/x.lmdb'], 'x.lmdb'),
])
def test_an_output_that_is_an_input_is_refused_before_anything_is_written(tiny_options, pairs, weights, tmp_path,
                                                                          capsys, arguments, option):
    options = tiny_options()
    (pairs / 'link').symlink_to('input')
    (pairs / 'w.pt').symlink_to(weights)
    (pairs / 'tree').mkdir()
    (pairs / 'tree' / 'Low').symlink_to(pairs / 'input')
    imwrite(np.zeros((9, 9, 3), np.uint8), pairs / 'x.lmdb.part' / '1.png')
    before = content(tmp_path)
    command, *argv = (text.format(d=pairs, w=weights, opt=options) for text in arguments)
    assert importlib.import_module(f'basicsr.commands.{command}').main(argv) == 2
    error = capsys.readouterr().err
    assert option in error and 'would be written over' in error, error
    assert content(tmp_path) == before


def test_what_is_new_or_another_file_is_no_input(pairs, tmp_path):
    inputs = [pairs / 'input', pairs / 'target' / '1.png']
    check_outputs([pairs / 'new.png', tmp_path, pairs, pairs / 'target' / '2.png'], inputs, '-o')
    for output in (pairs / 'target', pairs / 'input' / '3.png', pairs / 'input' / '..' / 'input'):
        with pytest.raises(UserError, match='-o: '):
            check_outputs([output], inputs, '-o')


def test_a_second_name_of_an_input_is_the_input(pairs, tmp_path):
    os.link(pairs / 'input' / '1.png', tmp_path / 'other.png')
    with pytest.raises(UserError, match=r"other.png' is to be read, as '.*1.png'"):
        check_outputs([tmp_path / 'other.png'], [pairs / 'input'], '-o')


def test_folders_in_names_of_images_lead_to_no_input(pairs, tiny_options, weights, tmp_path, capsys):
    """The input 'a/1.png' of a set with subfolders is written to 'a/1.png' of the folder of results."""
    for side in ('lq', 'gt'):
        for path in list_images(pairs / 'input'):
            (tmp_path / 'tree' / side / 'a').mkdir(parents=True, exist_ok=True)
            (tmp_path / 'tree' / side / 'a' / path.name).write_bytes(path.read_bytes())
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'a').symlink_to(tmp_path / 'tree' / 'gt' / 'a')
    options = tiny_options(
        network_g=NETWORK, datasets={
            'val': {
                'dataroot_lq': str(tmp_path / 'tree' / 'lq'), 'dataroot_gt': str(tmp_path / 'tree' / 'gt'),
                'recursive': True
            }
        })
    argv = ['--opt', str(options), '--weights', str(weights), '--output_dir', str(tmp_path / 'out')]
    assert evaluate(argv) == 2 and 'holds what is to be read' in capsys.readouterr().err


def test_data_in_the_folder_that_a_test_renames(tiny_options, pairs, weights, tmp_path, capsys):
    folder = tmp_path / 'results' / 'again' / 'visualization'
    folder.parent.mkdir(parents=True)
    (pairs / 'input').rename(folder)
    options = tiny_options('again', network_g=NETWORK, datasets={'val': {'dataroot_lq': str(folder)}})
    assert run_test(['--opt', str(options), f'path.pretrain_network_g={weights}', 'num_gpu=0']) == 2
    assert 'which is renamed for the new run' in capsys.readouterr().err and len(list_images(folder)) == 4
