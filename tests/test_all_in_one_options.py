"""Options of all-in-one data sets, and what check-data says of them."""

import pytest
from all_in_one_trees import ALL, cdd, option_file, tree
from conftest import ROOT, run_python

from basicsr.commands.check_data import main as check_data
from basicsr.config import load_options
from basicsr.data.loader import sample_name
from basicsr.utils.errors import UserError
from basicsr.utils.task_names import spellings


def test_check_data_counts_each_task_and_reads_each_pair_once(tmp_path, capsys):
    block = {
        'type': 'AllInOneDataset', 'dataroot': tree(tmp_path / 'data'), 'de_type': ['denoise', 'derain', 'dehaze'],
        'ratios': {'derain': 2}, 'gt_size': 16
    }
    cdd(tmp_path / 'cdd')
    cdd_block = {'type': 'CDD11Dataset', 'dataroot': 'cdd', 'subset': 'single'}
    file = option_file(tmp_path, train=block, val=dict(block), val_2=cdd_block)
    assert check_data(['--opt', str(file)]) == 0
    out = capsys.readouterr().out
    assert '  denoise_25: 3 images in' in out and '  derain: 1 pair in' in out and '  derain: 2 pairs in' in out
    assert 'datasets.train (AllInOneDataset): 13 samples, 0 mistakes; sizes: 36x40 (13)' in out
    assert 'datasets.val_2 (CDD11Dataset): 12 samples, 0 mistakes; sizes: 8x8 (12)' in out


def test_check_data_lists_the_mistakes_of_all_tasks(tmp_path, capsys):
    root = tree(tmp_path / 'data')
    (tmp_path / 'data/deraining/Rain100L/gt/norain-2.png').unlink()
    (tmp_path / 'data/deblurring/GoPro/test/input/a.png').unlink()
    file = option_file(tmp_path, val={'type': 'AllInOneDataset', 'dataroot': root, 'de_type': ALL})
    assert check_data(['--opt', str(file)]) == 2
    error = capsys.readouterr().err
    assert 'norain-2.png' in error and "there are no images in" in error and '  synllie: 1 pair in' in error


def test_check_data_reads_what_pairs_although_other_images_do_not(tmp_path, capsys):
    root = tree(tmp_path / 'data', splits=('train', ))
    (tmp_path / 'data/deraining/RainTrainL/gt/norain-1.png').unlink()
    broken = tmp_path / 'data/deblurring/GoPro/crop/train/input_crops/b.png'
    broken.write_bytes(broken.read_bytes()[:-9])
    file = option_file(tmp_path,
                       train={'type': 'AllInOneDataset', 'dataroot': root, 'de_type': ['derain', 'deblur', 'dehaze']})
    assert check_data(['--opt', str(file)]) == 2
    captured = capsys.readouterr()
    assert "1 input without ground truth" in captured.err and f"'{broken}' is cut off" in captured.err
    lines = captured.out.splitlines()
    assert lines[-2].startswith('datasets.train (AllInOneDataset): 5 samples, 2 mistakes; sizes: 36x40 (4)')
    assert lines[-1].startswith('datasets.train: 2 folders of the published data not there: ') and 'part4' in lines[-1]


def test_check_data_names_damaged_images_of_a_cdd11_training_set(tmp_path, capsys):
    cdd(tmp_path / 'cdd')
    broken = tmp_path / 'cdd/train/haze_snow/2.png'
    broken.write_bytes(broken.read_bytes()[:-9])
    file = option_file(tmp_path, train={'type': 'CDD11Dataset', 'dataroot': str(tmp_path / 'cdd')})
    assert check_data(['--opt', str(file)]) == 2
    captured = capsys.readouterr()
    assert '33 samples, 1 mistake;' in captured.out and f"'{broken}' is cut off" in captured.err


def test_options_are_checked_and_roots_found_beside_the_file(tmp_path):
    tree(tmp_path / 'data')
    block = {
        'type': 'AllInOneDataset', 'dataroot': 'data', 'de_type': ['derain'],
        'roots': {'derain': 'data/deraining/Rain100L', 'denoise': ['data/denoising/BSD400']}
    }
    opt = load_options(option_file(tmp_path, val=block), is_train=False).opt
    roots = opt['datasets']['val']['roots']
    assert roots == {'derain': f'{tmp_path}/data/deraining/Rain100L', 'denoise': [f'{tmp_path}/data/denoising/BSD400']}
    for changes, words in (({'crop_16': True}, 'crop16'), ({'roots': {'derain': 'no/where'}}, r'roots\.derain'),
                           ({'de_type': 'derain'}, 'de_type'), ({'ratios': {'derain': 'x'}}, r'ratios\.derain')):
        with pytest.raises(UserError, match=words):
            load_options(option_file(tmp_path, val=block | changes), is_train=False)


def test_misspelt_tasks_are_mistakes_of_the_option_file_found_without_torch(tmp_path):
    block = {'type': 'AllInOneDataset', 'dataroot': str(tmp_path), 'de_type': ['LOL', 'deran', 'low_haze', 'Denoising']}
    file = option_file(tmp_path, val=block)
    code = f'import sys; from basicsr.config import load_options; sys.modules["torch"] = None; load_options({str(file)!r})'
    code = code.replace('yml\')', 'yml\', is_train=False)')
    error = run_python('-c', code, cwd=ROOT).stderr
    assert f"UserError: 2 mistakes in {file}" in error
    assert "datasets.val.de_type[1]: 'deran' is not allowed; one of: " in error and "Did you mean 'derain'?" in error
    assert "datasets.val.de_type[2]: 'low_haze' is not allowed" in error  # of CDD-11
    for name in spellings(ALL):
        load_options(option_file(tmp_path, val=block | {'de_type': [name.upper(), name]}), is_train=False)


def test_a_sample_is_called_by_its_file():
    assert sample_name({'lq_path': ['/a/b.c.png']}) == 'b.c'
