"""Evaluating data sets: one as scripts of this family expect it, several, with tasks, and folders without YAML."""
from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate
from basicsr.metrics import calculate_psnr, calculate_ssim, measure
from basicsr.metrics.tasks import AVERAGES, averages, choose, means_by_task
from basicsr.utils.errors import UserError
from basicsr.utils.files import list_images
from basicsr.utils.img import imread, imwrite, to_float
from basicsr.utils.weights import save_weights

NETWORK = {'type': 'RetinexMamba', 'n_feat': 4, 'num_blocks': [1, 1, 1], 'd_state': 2}
LOCAL = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
SSIM, UNIFORM = 'ssim all-in-one', 'ssim all-in-one-uniform'


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_weights(tmp_path / 'w.pth', {'params': build_network(NETWORK).state_dict()})
    return tmp_path / 'w.pth'


# --- one data set


def test_test_from_dataset_prints_what_scripts_read(tiny_options, pairs, weights, tmp_path):
    done = run_python(ROOT / 'Enhancement' / 'test_from_dataset.py', '--opt', tiny_options('LOL_tiny'), '--weights',
                      weights, '--dataset', 'LOL_v1', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, psnr_line, ssim_line = done.stdout.splitlines()
    folder = tmp_path / 'results' / 'LOL_v1' / 'LOL_tiny' / 'w'
    assert {p.name for p in folder.glob('*.png')} == {'1.png', '2.png', '3.png', '10.png'}
    saved = json.loads((folder / 'metrics.json').read_text())
    assert psnr_line == f'PSNR: {saved["psnr retinexformer"]:f} ' and ssim_line == f'SSIM: {saved["ssim retinexformer"]:f} '
    images = [(imread(folder / f'{n}.png'), imread(pairs / 'target' / f'{n}.png')) for n in (1, 2, 3, 10)]
    assert saved['psnr basicsr'] == pytest.approx(np.mean([calculate_psnr(a, b) for a, b in images]), abs=1e-6)
    assert saved['ssim retinexformer'] == pytest.approx(np.mean([calculate_ssim(a, b) for a, b in images]), abs=1e-6)
    assert saved['psnr retinexformer'] != saved['psnr basicsr']  # unrounded against rounded


def test_gt_mean_and_ensemble_are_said(tiny_options, weights, tmp_path, capsys):
    base = [
        '--opt',
        str(tiny_options()), '--weights',
        str(weights), '--dataset', 'toy', '--output_dir',
        str(tmp_path / 'o')
    ]
    scores = []
    for extra in ([], ['--GT_mean'], ['--self_ensemble', '--no_images']):
        assert evaluate([*base, *extra]) == 0
        out = capsys.readouterr().out
        scores.append(json.loads((tmp_path / 'o' / 'metrics.json').read_text())['psnr basicsr'])
    assert 'self-ensemble' in out and len(set(scores)) == 3
    assert scores[1] > scores[0]  # the untrained network is too dark or too bright


@pytest.mark.parametrize(('network', 'tile'), [(NETWORK, 0), (LOCAL, 72)])
def test_the_report_names_tiles_that_were_taken(tmp_path, capsys, network, tile):
    """RetinexMamba works through whole images in strips, whatever tile it is given."""
    save_weights(tmp_path / 'w.pth', {'params': build_network(network).state_dict()})
    imwrite(np.full((24, 80, 3), 90, np.uint8), tmp_path / 'photos' / '1.png')
    folder, out = str(tmp_path / 'photos'), tmp_path / 'o'
    command = [
        '--degraded_dir', folder, '--clean_dir', folder, '--weights',
        str(tmp_path / 'w.pth'), '--output_dir',
        str(out)
    ]
    assert evaluate([*command, '--tile', '72', '--no_images']) == 0
    assert json.loads((out / 'metrics.json').read_text())['tile'] == tile
    assert ('(tiles of 72)' in capsys.readouterr().out) == bool(tile)


def test_images_without_ground_truth(tiny_options, pairs, weights, tmp_path, capsys):
    options = tiny_options(
        datasets={'val': {'type': 'SingleImageDataset', 'dataroot_lq': str(pairs / 'input'), 'name': 'x'}})
    assert evaluate(
        ['--opt',
         str(options), '--weights',
         str(weights), '--dataset', 'x', '--output_dir',
         str(tmp_path / 'o')]) == 0
    assert 'no ground truth; 4 images written' in capsys.readouterr().out
    assert len(list((tmp_path / 'o').glob('*.png'))) == 4


def test_pictures_of_others_are_not_replaced(tiny_options, weights, tmp_path, capsys):
    options, out = tiny_options(), tmp_path / 'o'
    imwrite(np.zeros((4, 4, 3), np.uint8), out / 'mine.png')
    command = ['--opt', str(options), '--weights', str(weights), '--output_dir', str(out)]
    assert evaluate(command) == 2 and 'holds 1 image of no earlier evaluation' in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == ['mine.png']
    assert evaluate([*command, '--overwrite']) == 0
    assert evaluate(command) == 0  # its own by now


def test_an_evaluation_without_numbers_is_its_own_as_well(pairs, weights, tmp_path):
    command = ['--weights', str(weights), '--degraded_dir', str(pairs / 'input'), '--output_dir', str(tmp_path / 'o')]
    assert evaluate(command) == 0 and evaluate(command) == 0


# --- several data sets, and tasks


def run(options, weights, out, *extra):
    assert evaluate(['--opt', str(options), '--weights', str(weights), '--output_dir', str(out), *extra]) == 0
    return json.loads((out / 'metrics.json').read_text())


FIVE = {'derain': 2, 'denoise_25': 1, 'dehaze': 3, 'LOL': 1, 'gopro': 2}


def test_tasks_are_columns_and_the_average_is_one_of_columns(task_options, weights, tmp_path, capsys):
    found = run(task_options(FIVE), weights, tmp_path / 'o')
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == 'mixed: 9 images' and (tmp_path / 'o' / 'metrics.txt').read_text() == printed
    with (tmp_path / 'o' / 'tasks.csv').open(newline='') as file:
        table = list(csv.DictReader(file))
    assert [row['task'] for row in table] == ['dehaze', 'derain', 'denoise_25', 'gopro', 'LOL', 'AIO-5 average']
    assert [row['images'] for row in table] == ['3', '2', '1', '2', '1', ''] and table[0]['benchmark'] == 'SOTS'
    for row, means in zip(table, [*found['tasks'].values(), found['averages']['AIO-5']]):
        assert float(row['psnr all-in-one']) == pytest.approx(means['psnr all-in-one'], abs=1e-6)
    assert [line.split()[0] for line in lines[2:7]] == ['dehaze', 'derain', 'denoise_25', 'gopro', 'LOL']
    assert lines[2].startswith('dehaze (SOTS)') and lines[4].startswith('denoise_25 (BSD68 sigma 25)')
    means = found['tasks']
    assert [means[t]['images'] for t in means] == [3, 2, 1, 2, 1] and list(found['averages']) == ['AIO-5']
    # each from the written images, which are rounded: within half a level of the unrounded results
    with (tmp_path / 'o' / 'metrics.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    for task, values in means.items():
        own = [row for row in rows if row['task'] == task]
        for row in own:
            images = [
                to_float(imread(folder / f'{row["image"]}.png'))[..., ::-1]
                for folder in (tmp_path / 'o' / task, tmp_path / 'tasks' / task / 'target')
            ]
            value = measure(*images, {'type': 'calculate_psnr', 'protocol': 'all-in-one'})
            assert float(row['psnr all-in-one']) == pytest.approx(value, abs=0.05)
        for key in ('psnr all-in-one', SSIM, UNIFORM):
            assert values[key] == pytest.approx(np.mean([float(row[key]) for row in own]), abs=1e-6)
    for key in ('psnr all-in-one', SSIM, UNIFORM):
        assert found['averages']['AIO-5'][key] == pytest.approx(np.mean([m[key] for m in means.values()]), abs=1e-9)
    by_image = np.mean([float(row['psnr all-in-one']) for row in rows])
    assert abs(found['averages']['AIO-5']['psnr all-in-one'] - by_image) > 1e-3
    shown = lines[7].split()
    assert shown[:2] == ['AIO-5', 'average'] and shown[2] == f'{found["averages"]["AIO-5"]["psnr all-in-one"]:.4f}'
    assert lines[8].startswith('PSNR, SSIM by protocol all-in-one: ')
    assert lines[9].startswith('SSIM uniform by protocol all-in-one-uniform: ')
    assert lines[-2] == f'PSNR: {found["psnr retinexformer"]:f} '
    assert found['psnr retinexformer'] == pytest.approx(np.mean([m['psnr retinexformer'] for m in means.values()]))


def test_averages_only_with_all_their_columns():
    one = {'psnr': 1.}
    assert list(averages(dict.fromkeys(AVERAGES['AIO-3'], one))) == ['AIO-3']
    both = {*AVERAGES['AIO-3'], *AVERAGES['AIO-5']}
    assert list(averages(dict.fromkeys(both, one))) == ['AIO-3', 'AIO-5']
    assert list(averages(dict.fromkeys(AVERAGES['CDD11'], one))) == ['CDD11'] and len(AVERAGES['CDD11']) == 11
    # sigma 50 is no column of AIO-5, whatever the README of the published project puts there
    values = {task: {'psnr': 30.} for task in AVERAGES['AIO-5']} | {'denoise_50': {'psnr': 0.}}
    assert averages(values) == {'AIO-5': {'psnr': 30.}}
    assert averages({'derain': {'psnr': 30.}, 'x': {'psnr': 20.}}) == {'mean of the tasks present': {'psnr': 25.}}


def test_order_of_tasks():
    rows = [(task, {'psnr': 1.}) for task in ('zebra', 'LOLv1', 'GoPro', 'BSD68_50', 'haze', 'SOTS', 'low_haze')]
    assert list(means_by_task(rows)) == ['SOTS', 'BSD68_50', 'GoPro', 'LOLv1', 'haze', 'low_haze', 'zebra']


def test_benchmarks_restrict_to_tasks(task_options, weights, tmp_path, capsys):
    options = task_options({'denoise_15': 1, 'derain': 2, 'denoise_50': 1, 'dehaze': 1})
    found = run(options, weights, tmp_path / 'o', '--benchmarks', 'Rain100L', 'denoise', 'name=other')
    assert list(found['tasks']) == ['derain', 'denoise_15', 'denoise_50'] and found['images'] == 4
    assert not (tmp_path / 'o' / 'dehaze').exists() and list(found['averages']) == ['mean of the tasks present']
    everything = run(options, weights, tmp_path / 'o')
    assert everything['tasks']['derain'] == found['tasks']['derain']
    capsys.readouterr()
    assert evaluate(['--opt', str(options), '--weights', str(weights), '--benchmarks', 'deran']) == 2
    error = capsys.readouterr().err
    assert "no task 'deran'. Did you mean 'derain'? They have: dehaze, denoise_15, denoise_50, derain" in error


def test_names_of_benchmarks():
    present = {'low', 'low_haze', 'derain', 'denoise_25', 'own task'}
    assert choose(['CDD11'], present) == {'low', 'low_haze'} and choose(['CDD11_low'], present) == {'low'}
    assert choose(['Own_Task', 'DENOISE'], present) == {'own task', 'denoise_25'}
    for name in ('sots', 'denoise_15', 'rain', 'lol'):
        with pytest.raises(UserError, match=f"no task '{name}'"):
            choose([name], present)
    with pytest.raises(UserError, match=r"no task 'SOTZ'\. Did you mean 'SOTS'"):
        choose(['SOTZ'], {*present, 'dehaze'})
    with pytest.raises(UserError, match='Their items have no tasks'):
        choose(['derain'], [])


def test_all_data_sets_are_evaluated(task_options, pairs, weights, tmp_path, capsys):
    options = task_options({'derain': 1, 'dehaze': 1})
    plain = {'type': 'PairedImageDataset', 'dataroot_lq': str(pairs / 'input'), 'dataroot_gt': str(pairs / 'target')}
    text = options.read_text().replace(
        '  val:\n', f"""\
  test_b: {{type: SingleImageDataset, name: blind, dataroot_lq: {pairs / 'input'}}}
  test_c: {{type: TaskDataset, name: again, dataroot: {tmp_path / 'tasks'}, tasks: [derain]}}
  val_2: {json.dumps({**plain, 'name': 'pairs'})}
  val:
""")
    options.write_text(text)
    found = run(options, weights, tmp_path / 'o')
    out = capsys.readouterr().out
    assert 'blind: no ground truth; 4 images written' in out and 'pairs: 4 images' in out and 'PSNR: ' not in out
    assert {k: v['images'] for k, v in found['datasets'].items()} == {'again': 1, 'mixed': 2, 'pairs': 4}
    # a task in two data sets is two columns; neither passes for the benchmark of the other
    assert sorted(found['tasks']) == ['dehaze', 'derain', 'derain (mixed)']
    assert len(list((tmp_path / 'o' / 'blind').glob('*.png'))) == 4
    assert (tmp_path / 'o' / 'mixed' / 'derain' / '0.png').is_file()
    rows = (tmp_path / 'o' / 'metrics.csv').read_text().splitlines()
    assert rows[0].startswith('dataset,task,image,psnr basicsr') and len(rows) == 8


# --- folders without YAML


def test_folders_without_yaml(tiny_options, pairs, weights, tmp_path, capsys):
    wanted = run(tiny_options(), weights, tmp_path / 'yaml')
    folders = ['--weights', str(weights), '--degraded_dir', str(pairs / 'input')]
    assert evaluate([*folders, '--clean_dir', str(pairs / 'target'), '--output_dir', str(tmp_path / 'dirs')]) == 0
    found = json.loads((tmp_path / 'dirs' / 'metrics.json').read_text())
    assert found.pop('dataset') == 'input' and wanted.pop('dataset') == 'toy' and found == wanted
    capsys.readouterr()
    assert evaluate([*folders, '--result_dir',
                     str(tmp_path / 'r'), '--dataset', 'mine', '--opt',
                     str(tiny_options())]) == 0
    assert 'mine: no ground truth; 4 images written' in capsys.readouterr().out
    written = tmp_path / 'r' / 'mine' / 'tiny' / 'w'
    assert sorted(p.name for p in written.glob('*.png')) == ['1.png', '10.png', '2.png', '3.png']
    assert not (written / 'metrics.json').exists()
    np.testing.assert_array_equal(imread(written / '3.png'), imread(tmp_path / 'dirs' / '3.png'))


def test_folders_pair_by_name_not_by_position(pairs, weights, tmp_path, capsys):
    (pairs / 'target' / '2.png').rename(pairs / 'target' / '99.png')
    assert evaluate([
        '--weights',
        str(weights), '--degraded_dir',
        str(pairs / 'input'), '--clean_dir',
        str(pairs / 'target'), '--output_dir',
        str(tmp_path / 'o')
    ]) == 2
    error = capsys.readouterr().err
    assert '99.png' in error and '2.png' in error and error.count('\n') == 1


@pytest.mark.parametrize('arguments, message', [
    ([], 'evaluate what? give --opt YAML, or --weights FILE --degraded_dir DIR'),
    (['--degraded_dir', '{data}/input'], 'give --weights FILE'),
    (['--clean_dir', '{data}/target', '--weights', '{w}'], '--clean_dir is the ground truth of --degraded_dir'),
    (['--degraded_dir', '{data}/none', '--weights', '{w}'], "--degraded_dir: '{data}/none' is not a folder"),
    (['--degraded_dir', '{data}/input', '--weights', '{w}', 'a=1'], "'a=1' overrides an option file"),
    (['--degraded_dir', '{data}/input', '--weights', '{w}', '--benchmarks', 'SOTS'], 'Their items have no tasks'),
])
def test_mistakes_are_one_sentence(pairs, weights, capsys, arguments, message):
    words = {'data': pairs, 'w': weights}
    assert evaluate([a.format(**words) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message.format(**words) in error and error.count('\n') == 1


@pytest.mark.parametrize('names', [('rain-1', 'norain-1', 'rain-2', 'norain-2'),
                                   ('0001_1', '0001', '0001_0.8', '0001')])
def test_folders_of_known_benchmarks_pair_by_their_names(names, weights, tmp_path, capsys):
    for i, (lq, gt) in enumerate(zip(names[::2], names[1::2])):
        for side, name in (('in', lq), ('gt', gt)):
            imwrite(np.full((16, 16, 3), 40 * i + 60, np.uint8), tmp_path / side / f'{name}.png')
    assert evaluate([
        '--weights',
        str(weights), '--degraded_dir',
        str(tmp_path / 'in'), '--clean_dir',
        str(tmp_path / 'gt'), '--output_dir',
        str(tmp_path / 'o')
    ]) == 0
    assert 'in: 2 pairs' in capsys.readouterr().out
    assert [p.stem for p in list_images(tmp_path / 'o' / 'in')] == sorted(names[::2])


def test_folders_that_do_not_pair_get_no_hint_for_option_files(weights, tmp_path, capsys):
    for path in (tmp_path / 'in' / 'a.png', tmp_path / 'gt' / 'b.png'):
        imwrite(np.zeros((16, 16, 3), np.uint8), path)
    assert evaluate(
        ['--weights',
         str(weights), '--degraded_dir',
         str(tmp_path / 'in'), '--clean_dir',
         str(tmp_path / 'gt')]) == 2
    error = capsys.readouterr().err
    assert 'do not pair by name' in error and 'filename_tmpl' not in error
