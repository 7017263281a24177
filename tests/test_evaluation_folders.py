"""A folder of results belongs to one evaluation at a time, and holds nothing of an earlier one that it is not."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.evaluation.files import forget
from basicsr.utils.img import imwrite
from basicsr.utils.ownership import owned
from basicsr.utils.weights import save_weights

NETWORK = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}


@pytest.fixture
def argv(tmp_path, pairs):
    torch.manual_seed(0)
    save_weights(tmp_path / 'w.pth', {'params': build_network(NETWORK).state_dict(), 'network_g': NETWORK})
    return [
        *map(str, ('--weights', tmp_path / 'w.pth', '--degraded_dir', pairs / 'input', '--clean_dir', pairs / 'target',
                   '--output_dir', tmp_path / 'out')), '--metrics', 'psnr'
    ]


def test_a_folder_in_use_is_refused_before_anything_is_restored(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('basicsr.evaluation.weight_files.build_restorer', None)  # nothing is built
    with owned(tmp_path / 'out', archive=False):
        assert evaluate(argv) == 2
        error = capsys.readouterr().err
        assert f"'{tmp_path}/out' is in use by process" in error and '--output_dir' in error
        assert not list((tmp_path / 'out').glob('*.png'))


def test_a_second_evaluation_that_comes_in_between_is_refused(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('basicsr.evaluation.weight_files.check_free', lambda *args, **kwargs: None)
    with owned(tmp_path / 'out', archive=False):
        assert evaluate(argv) == 2 and 'is in use by process' in capsys.readouterr().err
        assert {path.name for path in (tmp_path / 'out').iterdir()} == {'.lock', '.owner.json'}
    assert evaluate(argv) == 0
    assert [path.name for path in (tmp_path / 'out').glob('.*')] == ['.evaluation.json']


def test_no_picture_of_an_earlier_evaluation_stands_for_a_result_that_is_none(argv, tmp_path, capsys):
    assert evaluate(argv) == 0 and (tmp_path / 'out' / '2.png').is_file()
    state = build_network(NETWORK).state_dict()
    save_weights(tmp_path / 'w.pth', {'params': {k: v * torch.nan for k, v in state.items()}, 'network_g': NETWORK})
    assert evaluate(argv) == 2 and 'not finite' in capsys.readouterr().err
    assert {path.name for path in (tmp_path / 'out').iterdir()
            } == {'.evaluation.json', 'metrics.csv', 'metrics.json', 'metrics.txt'}
    assert (tmp_path / 'out' / 'metrics.csv').read_text().count(',nan') == 4


def test_numbers_of_an_earlier_evaluation_go_before_its_pictures(argv, tmp_path, capsys):
    assert evaluate(argv) == 0
    without = [
        word for word in argv if word not in ('--clean_dir', '--metrics', 'psnr') and not word.endswith('target')
    ]
    assert evaluate(without) == 0
    assert {path.name for path in (tmp_path / 'out').iterdir()
            } == {'.evaluation.json', *(f'{name}.png' for name in (1, 2, 3, 10))}


def test_files_of_others_stay(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    for name in ('tasks.csv', 'test_results.txt', 'mine.txt'):
        (tmp_path / name).write_text('')
    imwrite(picture, tmp_path / 'comparison_0001.png')
    before = set(tmp_path.iterdir())
    forget(tmp_path, [tmp_path])
    assert set(tmp_path.iterdir()) == before
    (tmp_path / 'metrics.json').write_text('{}')
    forget(tmp_path, [tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']
