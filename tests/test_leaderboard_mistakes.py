"""`basicsr benchmark`: mistakes that are told before any row is measured, and before anything is touched."""
from __future__ import annotations

import pytest
from boards import results

from basicsr.commands.benchmark import main as benchmark


@pytest.mark.parametrize(('changes', 'says'), [
    ({'rows': [{'weights': 'nowhere.pth'}]}, "rows[0].weights: there is no weight file 'nowhere.pth'"),
    ({'rows': [{'weights': 'retinexformer_photo_small'}]}, "Did you mean 'retinexformer_photos_small'?"),
    ({'rows': [{'weights': 'plain.pth'}, {'weights': 'plain.pth'}]}, 'rows[1].name: there are two rows called'),
    ({'rows': [{'weight': 'plain.pth'}]}, "rows[0].weight: unknown key 'weight'. Did you mean 'weights'?"),
    ({'protocols': ['retinexfromer']
      }, "protocols[0]: there is no protocol 'retinexfromer'. Did you mean 'retinexformer'?"),
    ({'data': {'type': 'PairedImageDataset', 'dataroot_lq': 'here', 'dataroot_gt': 'there'}
      }, "data: 'here' does not exist"),
    ({'data': {'type': 'PairedDataset'}}, "data.type: there is no dataset called 'PairedDataset'"),
    ({'metrics': {'x': {'type': 'calculate_xyz'}}}, 'metrics.x.type: there is no metric'),
    ({'data': None}, 'data: is required'),
    ({'claims': 'LOLv1'}, "claims: published.json has no claims of 'LOLv1'. Did you mean 'LOL-v1'?"),
    ({'rows': [{'weights': 'plain.pth', 'opt': 'broken.yml'}]}, 'rows[0].opt: 1 mistake in '),
    ({'rows': [{'weights': 'retinexmamba_tiny', 'knobs': {'gain': 1}}]}, 'knobs.gain: RetinexMamba has no knobs'),
    ({'rows': [{'weights': 'cidnet_sice', 'knobs': {'alpha': 1}}]}, "unknown key 'alpha'. Did you mean 'alpha_s'?"),
    ({'rows': [{'weights': 'cidnet_sice', 'knobs': {'alpha_s': -1}}]}, 'knobs.alpha_s: alpha_s is a number from 0'),
    ({'rows': [{'weights': 'plain.pth', 'claim': {'nique': 3.5}}]}, "unknown key 'nique'. Did you mean 'niqe'?"),
])
def test_mistakes_are_told_with_their_place(board, nets, capsys, changes, says):
    rows = changes.get('rows', [{'weights': 'plain.pth'}])
    file = board(*rows, **{k: v for k, v in changes.items() if k != 'rows'})
    (nets / 'broken.yml').write_text('network_g: {type: MSRResNet}\n')  # no data sets
    assert benchmark([file, '--root', str(nets)]) == 2
    error = capsys.readouterr().err
    assert says in error and f'{file}:' in error and not (nets / 'results').exists()


@pytest.mark.parametrize('text', ['none_arch.py', '.'])
def test_a_file_that_is_none_is_told_once(board, nets, capsys, text):
    file = board({'weights': 'plain.pth', 'arch_files': [text]})
    assert benchmark([file, '--root', str(nets)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: 1 mistake in') and error.count('\n') == 2
    assert f"rows[0].arch_files[0]: there is no file '{text}'" in error


@pytest.mark.parametrize('device', ['foo', 'cuda:77'])
def test_a_wrong_device_touches_nothing(board, nets, capsys, device):
    command = [board({'weights': 'plain.pth'}), '--root', str(nets), '--device']
    assert benchmark([*command, device]) == 2 and not (nets / 'results').exists()
    assert f"the device '{device}' cannot be used here" in capsys.readouterr().err


def test_images_that_cannot_be_used_touch_nothing(board, nets, pairs, capsys):
    command = [board({'weights': 'plain.pth'}), '--root', str(nets), '--device', 'cpu']
    (pairs / 'input' / '2.png').write_bytes(b'')
    assert benchmark(command) == 2
    error = capsys.readouterr().err
    assert 'board.yml:' in error and ': data: ' in error and '2.png' in error and not results(nets).exists()
    for file in pairs.glob('*/*.png'):
        file.unlink()
    assert benchmark(command) == 2
    assert ': data: ' in capsys.readouterr().err and not results(nets).exists()


def test_a_folder_without_images_touches_nothing(board, nets, capsys):
    (nets / 'dark').mkdir()
    data = {'type': 'SingleImageDataset', 'dataroot_lq': str(nets / 'dark')}
    assert benchmark([board({'weights': 'plain.pth'}, data=data), '--root', str(nets), '--device', 'cpu']) == 2
    assert 'data: dataroot_lq: there are no images' in capsys.readouterr().err and not results(nets).exists()
