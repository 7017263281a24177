"""The one loop from samples to results."""
from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import torch

from basicsr.archs import build_network
from basicsr.commands.evaluate import main as evaluate_command
from basicsr.data.samplers import ShardSampler
from basicsr.evaluation import evaluate as module
from basicsr.evaluation.evaluate import Images, Results, evaluate
from basicsr.evaluation.weight_files import own_folders
from basicsr.test import main as run_test
from basicsr.train import main as train_command
from basicsr.utils.errors import UserError
from basicsr.utils.img import imread, imwrite
from basicsr.utils.pretrained import locate
from basicsr.utils.weights import save_weights

METRICS = {'psnr': {'type': 'calculate_psnr'}, 'mae': {'type': 'calculate_mae'}}


def samples(count: int, tasks: tuple[str, ...] = ('', )) -> list[dict]:
    rng = np.random.RandomState(0)
    return [{
        'lq': rng.rand(12, 14, 3), 'gt': rng.rand(12, 14, 3), 'lq_path': [f'{i}.png'], 'task': [tasks[i % len(tasks)]]
    } for i in range(count)]


def restore(sample: dict) -> Images:
    return Images(sample['lq'], sample['lq'] * 0.7, sample['gt'])


@pytest.mark.parametrize('tasks', [('', ), ('derain', 'dehaze', 'derain')])
@pytest.mark.parametrize('world', [2, 3, 5])
def test_shared_out_over_processes_it_is_the_same_to_the_last_digit(monkeypatch, tasks, world):
    everything = samples(7, tasks)
    alone = evaluate(restore, everything, METRICS)
    parts = [
        evaluate(restore, [everything[i] for i in ShardSampler(everything, world, rank)], METRICS).rows
        for rank in range(world)
    ]
    monkeypatch.setattr(module, 'gather', lambda rows: parts)
    shared = evaluate(restore, everything[:1], METRICS)
    assert [row.name for row in shared.rows] == [str(i) for i in range(7)]
    assert shared.rows == alone.rows and shared.means == alone.means and shared.tasks == alone.tasks


def test_without_ground_truth_only_what_needs_none_is_measured():
    given = [{k: v for k, v in s.items() if k != 'gt'} for s in samples(2)]
    found = evaluate(lambda s: Images(s['lq'], s['lq'], None), given, METRICS)
    assert found == Results([], 2) and found.means == {}


def test_images_that_do_not_go_together_are_named():
    sample = samples(1)[0] | {'gt': np.zeros((3, 3, 3))}
    with pytest.raises(UserError, match=r"'0\.png': images differ in shape"):
        evaluate(restore, [sample], METRICS)


def test_images_of_one_name_are_told_since_their_pictures_replace_each_other(messages):
    given = [s | {'lq_path': [f'{folder}/7.png']} for s, folder in zip(samples(3), ('night', 'day', 'day'))]
    evaluate(restore, given[:1] + given[:1], METRICS)  # one image twice
    assert not messages
    evaluate(restore, given, METRICS, title='LOL')
    assert len(messages) == 1 and messages[0].startswith('LOL: ') and messages[0].endswith(': day/7.png')


def test_what_takes_the_place_of_a_result_is_measured_and_shown():
    seen = []
    found = evaluate(restore, samples(1), METRICS, adjust=lambda result, gt: gt, watch=seen.append)
    assert found.means['mae'] == 0 and np.array_equal(seen[0].images.result, seen[0].images.gt)
    assert seen[0].values == found.rows[0].values and seen[0].file == '0.png'


def test_training_testing_and_evaluating_give_the_same_numbers(tiny_options, pairs, tmp_path):
    """One road: the images' sides are no multiples of what the network pads to."""
    for file in pairs.rglob('*.png'):
        (tmp_path / 'odd' / file.parent.name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / 'odd' / file.parent.name / file.name), cv2.imread(str(file))[:21, :27])
    roots = {'dataroot_lq': str(tmp_path / 'odd' / 'input'), 'dataroot_gt': str(tmp_path / 'odd' / 'target')}
    metrics = {label: {'type': f'calculate_{label}', 'protocol': 'retinexformer'} for label in ('psnr', 'ssim')}
    options = str(
        tiny_options('one', datasets={'val': roots}, train={'total_iter': 2}, val={'val_freq': 2, 'metrics': metrics}))
    assert train_command(['--opt', options]) == 0
    weights = tmp_path / 'experiments' / 'one' / 'models' / 'net_g_latest.pth'
    with (tmp_path / 'experiments' / 'one' / 'metrics.csv').open() as file:
        trained = next(csv.DictReader(file))
    assert run_test(['--opt', options, f'path.pretrain_network_g={weights}']) == 0
    tested = json.loads((tmp_path / 'results' / 'one' / 'toy.json').read_text())['metrics']
    assert evaluate_command(['--opt', options, '--weights', str(weights), '--output_dir', str(tmp_path / 'o')]) == 0
    evaluated = json.loads((tmp_path / 'o' / 'metrics.json').read_text())
    for label in metrics:
        assert float(trained[f'toy/{label}']) == tested[label]['mean'] == evaluated[f'{label} retinexformer']


def test_two_weight_files_of_one_name_never_share_a_folder(tmp_path):
    files = [tmp_path / run / 'models' / 'net_g_latest.pth'
             for run in ('a', 'b')] + [tmp_path / 'x' / 'a' / 'models' / 'net_g_latest.pth']
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_bytes(b'')
    above = tmp_path / 'results'
    homes = [own_folders(above, [locate(file)])[0] for file in files]
    assert [h.name for h in homes[:2]] == ['net_g_latest', 'b_net_g_latest'] and len(set(homes)) == 3
    assert own_folders(above, list(map(locate, files[::-1]))) == homes[::-1]  # each comes back to its own
    homes = own_folders(tmp_path / 'new', list(map(locate, files)))
    assert len(set(homes)) == 3 and own_folders(tmp_path / 'new', list(map(locate, files))) == homes


def test_a_pair_whose_sizes_differ_is_named(pairs, tmp_path, capsys):
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    save_weights(tmp_path / 'w.pth', {'params': build_network(network).state_dict(), 'network_g': network})
    for file in (pairs / 'target').iterdir():
        imwrite(imread(file).repeat(2, axis=0).repeat(2, axis=1), file)
    argv = ['--weights', tmp_path / 'w.pth', '--degraded_dir', pairs / 'input', '--clean_dir', pairs / 'target']
    assert evaluate_command([*map(str, argv), '--output_dir', str(tmp_path / 'o')]) == 2
    assert (f"'{pairs}/input/1.png': the network makes 28x24 pixels of 28x24, and the ground truth has 56x48"
            in capsys.readouterr().err)


def test_all_weight_files_are_tried_before_anything_is_written(pairs, tmp_path, capsys):
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 1}
    content = {'params': build_network(network).state_dict(), 'network_g': network}
    save_weights(tmp_path / 'good.pth', content)
    (tmp_path / 'bad.pth').write_bytes((tmp_path / 'good.pth').read_bytes()[:500])
    argv = [
        '--weights',
        str(tmp_path / 'good.pth'),
        str(tmp_path / 'bad.pth'), '--degraded_dir',
        str(pairs / 'input'), '--clean_dir',
        str(pairs / 'target'), '--result_dir',
        str(tmp_path / 'results'), '--metrics', 'psnr'
    ]
    assert evaluate_command(argv) == 2
    assert 'bad.pth' in capsys.readouterr().err and not (tmp_path / 'results').exists()
    argv.remove(str(tmp_path / 'bad.pth'))
    argv[argv.index('--clean_dir') + 1] = str(tmp_path / 'nowhere')
    assert evaluate_command(argv) == 2 and not (tmp_path / 'results').exists()


def test_several_weight_files_make_one_table(tiny_options, tmp_path, capsys):
    options = str(tiny_options('two', train={'total_iter': 2}))
    assert train_command(['--opt', options]) == 0
    first = tmp_path / 'experiments' / 'two' / 'models' / 'net_g_latest.pth'
    second = tmp_path / 'epoch=1.pth'
    content = torch.load(first, weights_only=True)
    content['params'] = {k: v * 0.5 for k, v in content['params'].items()}
    torch.save(content, second)
    capsys.readouterr()
    assert evaluate_command([
        '--opt', options, '--weights',
        str(first),
        str(second), 'num_gpu=0', '--metrics', 'psnr', 'mae', '--result_dir',
        str(tmp_path / 'r')
    ]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index(next(line for line in reversed(lines) if line.split() == ['psnr', 'mae'])):]
    assert [line.split()[0] for line in table[1:4]] == [str(first), str(second), 'better']
    means = [
        json.loads((tmp_path / 'r' / 'toy' / 'two' / stem / 'metrics.json').read_text())['psnr']
        for stem in ('net_g_latest', 'epoch=1')
    ]
    assert [float(line.split()[1]) for line in table[1:3]] == [round(m, 4) for m in means] and means[0] != means[1]
    refused = ['--opt', options, '--weights', str(first), str(second), '--output_dir', str(tmp_path / 'o')]
    assert evaluate_command(refused) == 2 and '--output_dir is the folder of one' in capsys.readouterr().err
