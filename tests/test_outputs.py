"""Commands write over nothing that they read."""
from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.photos.inputs import find
from basicsr.photos.naming import plan
from basicsr.test import main as run_test
from basicsr.utils.errors import UserError
from basicsr.utils.files import atomic_write, list_images
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


@pytest.mark.parametrize('mode', [0o600, 0o640, 0o644, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    """Also while the new one is written, for those who look at the folder."""
    path = tmp_path / 'a.png'
    path.write_bytes(b'old')
    path.chmod(mode)
    with atomic_write(path) as file:
        file.write(b'new')
        part, = (other for other in tmp_path.iterdir() if other != path)
        assert not part.stat().st_mode & 0o777 & ~mode
    assert path.read_bytes() == b'new' and path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize('there', [True, False])
def test_a_link_stays_and_leads_to_what_is_written(tmp_path, there):
    (tmp_path / 'far').mkdir()
    target, link, other = tmp_path / 'far' / 'a.png', tmp_path / 'link.png', tmp_path / 'other.png'
    if there:
        target.write_bytes(b'old')
        target.chmod(0o600)
    link.symlink_to('far/a.png')
    other.symlink_to('link.png')
    with pytest.raises(RuntimeError), atomic_write(other) as file:
        file.write(b'half')
        assert len(list(
            target.parent.iterdir())) == there + 1  # beside the target, to which a name can be given at once
        raise RuntimeError
    assert not there or target.read_bytes() == b'old'
    with atomic_write(other) as file:
        file.write(b'new')
    assert other.is_symlink() and link.is_symlink() and target.read_bytes() == b'new'
    assert not there or target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ['a.png']


@pytest.mark.parametrize('linked', [False, True])
def test_no_file_takes_the_place_of_a_pipe(tmp_path, linked):
    path = tmp_path / 'pipe'
    os.mkfifo(path)
    if linked:
        (tmp_path / 'link').symlink_to(path)
        path = tmp_path / 'link'
    with pytest.raises(UserError, match='is a device or a pipe'), atomic_write(path):
        pass
    assert (tmp_path / 'pipe').is_fifo() and path.is_symlink() == linked


@pytest.mark.parametrize('words', [
    ['enhance', '', '-o', 'q'],
    ['enhance', 'input', '', '-o', 'q'],
    ['enhance', 'input/1.png', '-o', ''],
    ['enhance', 'input/1.png', '--output='],
    ['enhance', 'input', '-o', 'q', '--weights', ''],
    ['evaluate', '--weights', 'w.pth', '--degraded_dir', ''],
    ['evaluate', '--weights', '', '--degraded_dir', 'input'],
    ['measure', ''],
    ['measure', 'input', ''],
    ['augment', '--input_low', '', '--input_normal', 'input', '--output', 'q'],
    ['augment', '--input_low', 'input', '--input_normal', 'input', '--output', ''],
    ['split', ''],
    ['split', 'input', '-o', ''],
    ['segment', '', '-o', 'q'],
    ['segment', 'input', '-o', ''],
    ['lmdb', '', 'q.lmdb'],
    ['publish', '', '--weights', 'w.pth'],
])
def test_an_empty_word_is_not_the_current_folder(pairs, capsys, monkeypatch, words):
    monkeypatch.chdir(pairs)
    imwrite(np.zeros((9, 9, 3), np.uint8), 'here.png')
    before = content(pairs)
    command, *argv = words
    assert importlib.import_module(f'basicsr.commands.{command}').main(argv) == 2
    assert capsys.readouterr().err == "error: an empty word ('') names no file or folder; is a variable not set?\n"
    assert content(pairs) == before


@pytest.mark.parametrize(('source', 'target'), [('', 'q'), ('input', '')])
def test_an_empty_word_of_python_neither(pairs, monkeypatch, source, target):
    monkeypatch.chdir(pairs)
    with pytest.raises(UserError, match='an empty word'):
        plan(find([source], output=target), target)


def test_data_in_the_folder_that_a_test_renames(tiny_options, pairs, weights, tmp_path, capsys):
    folder = tmp_path / 'results' / 'again' / 'visualization'
    folder.parent.mkdir(parents=True)
    (pairs / 'input').rename(folder)
    options = tiny_options('again', network_g=NETWORK, datasets={'val': {'dataroot_lq': str(folder)}})
    assert run_test(['--opt', str(options), f'path.pretrain_network_g={weights}', 'num_gpu=0']) == 2
    assert 'which is renamed for the new run' in capsys.readouterr().err and len(list_images(folder)) == 4
